"""A batch in equal parts, whose gradients are averaged before they are applied.

A batch that does not fit into memory is taken in parts: the gradient of its mean loss is the mean
of the parts' gradients. Parameters, moments, EMA, `round` and spectral norm's vectors advance once
an update, as with the whole batch, since gradients are averaged before they are applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fgan import tree
from fgan.algorithm import of_parts
from fgan.compiler.compile import check_one_eager_run
from fgan.scalars import check_count
from fgan.shares import check_no_whole_batch
from fgan.types import Algorithm, Batch, Data, GANState, Gradient, Noise


def accumulate(algorithm: Algorithm, parts: int) -> Algorithm:
    """The same algorithm with every gradient computed over `parts` equal parts of its batch.

    Equal to the algorithm on the whole batch, up to the rounding of reordered sums, where the loss
    is a mean over samples and no layer mixes the samples of a batch. BatchNorm normalises each part
    by itself, and its running statistics are the parts' average.

    Raises ValueError for parts below 1, for a population, for a compiled and for a data-parallel
    algorithm: all three are to be made of the accumulated one; and for a penalty whose
    points depend on the whole batch. The step raises ValueError for a batch without equal parts.

    Example:
        >>> algorithm = fgan.wgan_gp(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> in_parts = fgan.accumulate(algorithm, parts=2)
        >>> noise = algorithm.noise(seed=0, round_index=0, batch_size=8)
        >>> batch = fgan.Batch(torch.ones(5, 8, 2))
        >>> _, whole = algorithm.step(algorithm.init(seed=0), batch, noise)
        >>> _, parts = in_parts.step(algorithm.init(seed=0), batch, noise)
        >>> torch.allclose(parts.critic_loss, whole.critic_loss, atol=1e-5)
        True
    """
    parts = check_count("parts", parts)
    check_one_eager_run(algorithm, "accumulate", "algorithm, parts", "accumulated")
    if algorithm.share is not None:
        raise ValueError(
            "accumulate would send every part's gradient: make the accumulated algorithm "
            "data-parallel, fgan.data_parallel(fgan.accumulate(algorithm, parts))"
        )
    check_no_whole_batch(algorithm.parts.whole_batch, "accumulate")
    whole = algorithm.parts

    def check(state: GANState, batch: Batch, noise: Noise) -> None:
        whole.check(state, batch, noise)
        sizes = {"batch.real": batch.real.shape[1]}
        sizes["noise.generator_latent"] = noise.generator_latent.shape[0]
        for name, size in sizes.items():
            if size % parts:
                raise ValueError(_no_equal_parts(name, size, parts))

    def critic_gradient(state: GANState, data: Data) -> Gradient:
        assert data.real is not None
        split = _split(data, parts, len(data.real))
        return _mean([whole.critic_gradient(state, part) for part in split])

    def generator_gradient(state: GANState, latent: Tensor, data: Data) -> Gradient:
        split = _split(data, parts, len(latent))
        pairs = zip(_chunks("latent", latent, parts), split, strict=True)
        return _mean([whole.generator_gradient(state, *pair) for pair in pairs])

    changed = whole._replace(
        check=check, critic_gradient=critic_gradient, generator_gradient=generator_gradient
    )
    return algorithm._replace(**of_parts(changed))


def _split(data: Data, parts: int, size: int) -> list[Data]:
    """Equal parts of everything that has one entry for each of `size` samples."""

    def split(value: Any) -> Sequence[Any]:
        return [None] * parts if value is None else _chunks("a batch", value, parts)

    extras = {
        # Others, such as a lazy penalty's mark without entries, belong to the whole update.
        name: split(value) if value.ndim and len(value) == size else [value] * parts
        for name, value in data.extra.items()
    }
    real, fake, condition, mix = (split(value) for value in data[:4])
    return [
        Data(
            real[i],
            fake[i],
            condition[i],
            mix[i],
            {name: values[i] for name, values in extras.items()},
            data.round,
        )
        for i in range(parts)
    ]


def _chunks(name: str, value: Tensor, parts: int) -> Sequence[Tensor]:
    if len(value) % parts:
        raise ValueError(_no_equal_parts(name, len(value), parts))
    return value.chunk(parts)


def _no_equal_parts(name: str, size: int, parts: int) -> str:
    return f"{name} has {size} samples, which cannot be split into {parts} equal parts"


def _mean(gradients: list[Gradient]) -> Gradient:
    """The mean gradient, buffers and figures; of counters, the first."""

    def mean(first: Tensor, *others: Tensor) -> Tensor:
        if not first.is_floating_point():
            return first
        return torch.stack([first, *others]).mean(dim=0)

    made: Gradient = tree.map(mean, *gradients)
    return made
