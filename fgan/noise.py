"""The noise of a round: every random tensor that it uses, as a pure function of seed and round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan import tree
from fgan.objectives import Draw
from fgan.scalars import check_count
from fgan.seeds import mix_seed
from fgan.shares import Share, part_of
from fgan.types import CriticUpdates, Extra, Noise

_NOISE = 2  # keeps these random streams apart from those of a run's first parameters


class NoiseShape(NamedTuple):
    """What the randomness of a round looks like."""

    latent_dim: int
    n_critic: CriticUpdates
    critic_draws: dict[str, Draw]
    generator_draws: dict[str, Draw]
    lazy: dict[str, int]
    sample_shape: tuple[int, ...] | None
    parameter: Callable[[], Tensor]
    """The generator's first parameter: the noise has its device and dtype."""


def noise(
    shape: NoiseShape,
    seed: int,
    round_index: int,
    batch_size: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator_batch_size: int | None = None,
    share: Share | None = None,
) -> Noise:
    """All randomness of round `round_index`: a pure function of these arguments.

    On the generator's device and in its dtype unless told otherwise. Raises ValueError for batch
    sizes below 1, and for a dtype that is not floating point.

    share: (rank, size); the result is then this rank's part of the whole batch's noise. Batch sizes
        stay those of the whole batch, which is drawn and taken apart: the parts of all ranks, one
        after another, are its bits. Raises ValueError where there are no equal parts, and for a
        generator's batch that is no multiple of the critic's: a latent of the generator's update
        takes the condition or real sample of one place in the critic's batches, and both have to be
        in the same process.
    """
    batch_size = check_count("batch_size", batch_size)
    rows = batch_size
    if generator_batch_size is not None:
        rows = check_count("generator_batch_size", generator_batch_size)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype is floating point such as torch.float32, and {dtype!r} was given")
    first = shape.parameter()
    seed = mix_seed(seed, _NOISE, round_index)
    device, source = _source(first.device if device is None else device, seed)
    options: dict[str, Any] = dict(generator=source, device=device, dtype=dtype or first.dtype)
    updates = shape.n_critic(round_index) if callable(shape.n_critic) else shape.n_critic
    updates = check_count("n_critic(round_index)", updates)

    def drawn(draw: Draw, *lead: int) -> Tensor:
        rest = shape.sample_shape if draw.shape is None else draw.shape
        function = torch.randn if draw.distribution == "normal" else torch.rand
        return function(*lead, *(rest or ()), **options)

    latents = (
        torch.randn(updates, batch_size, shape.latent_dim, **options),
        torch.randn(rows, shape.latent_dim, **options),
        torch.rand(updates, batch_size, **options),
    )
    extra: Extra = {}
    due = [name for name, every in shape.lazy.items() if round_index % every == 0]
    if shape.critic_draws or shape.lazy:
        extra["critic"] = {
            name: drawn(draw, updates, batch_size) for name, draw in shape.critic_draws.items()
        } | {name: torch.zeros(updates, 0, device=device) for name in due}
    if shape.generator_draws:
        extra["generator"] = {n: drawn(draw, rows) for n, draw in shape.generator_draws.items()}
    whole = Noise(*latents, extra)
    return whole if share is None else _part_of_noise(whole, share, batch_size)


def _part_of_noise(whole: Noise, share: Share, batch_size: int) -> Noise:
    """A rank's part of a batch's noise, in memory of its own."""
    part, rows = part_of(share, "batch_size", batch_size), whole.generator_latent.shape[0]
    if rows % batch_size:
        raise ValueError(
            f"generator_batch_size is {rows} and batch_size {batch_size}: with a share it is a "
            "multiple of batch_size"
        )

    def of_critic(x: Tensor) -> Tensor:  # a lazy penalty's mark has no entries
        return x[:, part].clone() if x.numel() else x

    def of_generator(x: Tensor) -> Tensor:  # as many times the batch as there are
        return x.unflatten(0, (-1, batch_size))[:, part].flatten(0, 1).clone()

    own = {"critic": of_critic, "generator": of_generator}
    return Noise(
        of_critic(whole.critic_latent),
        of_generator(whole.generator_latent),
        of_critic(whole.mix),
        {player: tree.map(own[player], drawn) for player, drawn in whole.extra.items()},
    )


def _source(device: torch.device | str, seed: int) -> tuple[torch.device, torch.Generator]:
    try:
        device = torch.device(device)
        return device, torch.Generator(device).manual_seed(seed)
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"device is one that torch has here, such as 'cpu', and {device!r} was given "
            f"({str(error).partition(chr(10))[0]})"
        ) from error
