"""The noise of a round: every random tensor that it uses, as a pure function of seed and round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan.objectives import Draw
from fgan.scalars import check_count
from fgan.seeds import mix_seed
from fgan.shares import Share, part_of
from fgan.types import CriticUpdates, Extra, Noise

_NOISE = 2  # keeps these random streams apart from those of a run's first parameters

BLOCK = 256
"""Samples of a batch that are drawn from one seed."""


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
        stay those of the whole batch: the parts of all ranks, one after another, are its bits. Each
        block of 256 samples has a seed of its own, and a rank draws the blocks that its part lies
        in, so the cost does not grow with the number of ranks. Raises ValueError where there are no
        equal parts, and for a generator's batch that is no multiple of the critic's: a latent of
        the generator's update takes the condition or real sample of one place in the critic's
        batches, and both have to be in the same process.
    """
    batch_size = check_count("batch_size", batch_size)
    rows = batch_size
    if generator_batch_size is not None:
        rows = check_count("generator_batch_size", generator_batch_size)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype is floating point such as torch.float32, and {dtype!r} was given")
    part = part_of(share, "batch_size", batch_size)
    if share is not None and rows % batch_size:
        raise ValueError(
            f"generator_batch_size is {rows} and batch_size {batch_size}: with a share it is a "
            "multiple of batch_size"
        )
    first = shape.parameter()
    source = _source(first.device if device is None else device)
    options = dict(generator=source, device=source.device, dtype=dtype or first.dtype)
    blocks = list(_blocks(part, batch_size, rows))
    seeds = [mix_seed(seed, _NOISE, round_index, *block.seed) for block in blocks]
    updates = shape.n_critic(round_index) if callable(shape.n_critic) else shape.n_critic
    updates = check_count("n_critic(round_index)", updates)
    drawn = []
    for block, of_block in zip(blocks, seeds, strict=True):
        source.manual_seed(of_block)
        drawn.append(_drawn(shape, block, updates, options))
    latent, mix, *critic = (
        _joined(parts, 1) for parts in zip(*(each.critic for each in drawn), strict=True)
    )
    generator_latent, *generator = (
        _joined(_in_order(parts), 0)
        for parts in zip(*(each.generator for each in drawn), strict=True)
    )
    extra: Extra = {}
    if shape.critic_draws or shape.lazy:
        due = [name for name, every in shape.lazy.items() if round_index % every == 0]
        marks = {name: torch.zeros(updates, 0, device=source.device) for name in due}
        extra["critic"] = dict(zip(shape.critic_draws, critic, strict=True)) | marks
    if shape.generator_draws:
        extra["generator"] = dict(zip(shape.generator_draws, generator, strict=True))
    return Noise(latent, generator_latent, mix, extra)


class _Block(NamedTuple):
    """Samples of a batch that are drawn from one seed."""

    seed: tuple[int, ...]
    """Numbers that are mixed into the round's seed: none for the first block, else its index."""
    size: int
    own: slice
    """The samples that belong to this process, counted in the block."""
    rows: list[int]
    """The number of the generator's latents in this block, once for each pass over the batch."""


def _blocks(part: slice, batch_size: int, rows: int) -> Iterator[_Block]:
    """The blocks that a part of the batch lies in."""
    for begin in range(part.start - part.start % BLOCK, part.stop, BLOCK):
        size = min(BLOCK, batch_size - begin)
        own = slice(max(part.start - begin, 0), min(part.stop - begin, size))
        seed = (begin // BLOCK,) if begin else ()
        yield _Block(seed, size, own, [min(size, n) for n in range(rows - begin, 0, -batch_size)])


class _Drawn(NamedTuple):
    """This process's part of the random tensors of a block."""

    critic: list[Tensor]
    """[n_critic, samples, ...]: latent, mix, and what the objective declares"""
    generator: list[list[Tensor]]
    """latent, and what the objective declares: [samples, ...], one for each of the block's
    `rows`"""


def _drawn(shape: NoiseShape, block: _Block, updates: int, options: dict[str, Any]) -> _Drawn:
    def tensor(draw: Draw, *lead: int) -> Tensor:
        rest = shape.sample_shape if draw.shape is None else draw.shape
        function = torch.randn if draw.distribution == "normal" else torch.rand
        return function(*lead, *(rest or ()), **options)

    of_critic, of_generator = (updates, block.size), (sum(block.rows),)
    latent = Draw("normal", (shape.latent_dim,))
    critic, generator = [tensor(latent, *of_critic)], [tensor(latent, *of_generator)]
    critic.append(tensor(Draw("uniform", ()), *of_critic))
    critic += [tensor(draw, *of_critic) for draw in shape.critic_draws.values()]
    generator += [tensor(draw, *of_generator) for draw in shape.generator_draws.values()]
    return _Drawn(
        [_own(x, block, 1) for x in critic],
        [[_own(part, block, 0) for part in x.split(block.rows)] for x in generator],
    )


def _own(x: Tensor, block: _Block, dim: int) -> Tensor:
    """The part of a block that belongs to this process, in memory of its own."""
    if block.own == slice(0, block.size):
        return x
    return x[block.own].clone() if dim == 0 else x[:, block.own].clone()


def _in_order(blocks: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The generator's samples of every block, in the order of the batch."""
    return [x for x in chain.from_iterable(zip_longest(*blocks)) if x is not None]


def _joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)


def _source(device: torch.device | str) -> torch.Generator:
    try:
        return torch.Generator(torch.device(device))
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"device is one that torch has here, such as 'cpu', and {device!r} was given "
            f"({str(error).partition(chr(10))[0]})"
        ) from error
