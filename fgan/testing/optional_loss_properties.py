"""Invariants that some losses have; `check_loss` checks one where its keyword asks for it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

from fgan.testing.engine import check_property, gradients_of, require, require_close, show
from fgan.testing.strategies import score_pairs

Loss = Callable[[Tensor, Tensor], Tensor]
Scores = tuple[Tensor, Tensor]
"""(real scores [B], fake scores [B])."""


class Losses(NamedTuple):
    """The two losses of a game."""

    critic: Loss
    generator: Loss


class LossOptions(NamedTuple):
    """The keywords of `check_loss` that ask for an invariant."""

    offset_invariant: bool
    antisymmetric: bool
    homogeneous: bool
    mirrored: bool
    monotone: bool
    non_negative: bool
    blind_value: float | None
    transformable: bool


def check_optional_properties(losses: Losses, options: LossOptions, max_examples: int) -> None:
    """Check the invariants that `options` asks for."""
    pairs = score_pairs(limit=1e3)
    shifts = st.integers(-99, 99).map(float)
    factors = st.integers(1, 64).map(lambda n: n / 8)
    blind = options.blind_value
    values = st.just(0.0 if blind is None else blind)
    battery: list[tuple[Any, ...]] = [
        (options.offset_invariant, "offset invariant", _offset_invariant, pairs, shifts),
        (options.antisymmetric, "antisymmetric", _antisymmetric, pairs),
        (options.homogeneous, "homogeneous", _homogeneous, pairs, factors),
        (options.mirrored, "mirrored", _mirrored, pairs),
        (options.monotone, "monotone", _monotone, pairs, factors),
        (options.non_negative, "non-negative", _non_negative, pairs),
        (blind is not None, "blind value", _blind_value, st.integers(1, 3), values),
        (options.transformable, "transformable", _transformable, pairs),
    ]
    for wanted, name, test, *strategies in battery:
        if wanted:
            check_property(name, test, (losses,), *strategies, max_examples=max_examples)


def _offset_invariant(losses: Losses, scores: Scores, offset: float) -> None:
    """a constant added to all scores changes no critic loss and no generator gradient."""
    shifted = tuple(s + offset for s in scores)
    require_close(losses.critic(*shifted), losses.critic(*scores), "critic loss, shifted or not")
    got, expected = (gradients_of(losses.generator, *s)[1][1] for s in (shifted, scores))
    require_close(got, expected, "the generator's gradient, shifted or not")


def _antisymmetric(losses: Losses, scores: Scores) -> None:
    """the critic's loss changes its sign when real and fake are swapped."""
    real, fake = scores
    swapped, negated = losses.critic(fake, real), -losses.critic(real, fake)
    require_close(swapped, negated, "the critic's loss swapped, and negated")


def _homogeneous(losses: Losses, scores: Scores, factor: float) -> None:
    """scores times a factor c > 0 give both losses times c."""
    for loss in losses:
        got, expected = loss(*(factor * s for s in scores)), factor * loss(*scores)
        require_close(got, expected, f"scores times {factor}, and loss times {factor}")


def _mirrored(losses: Losses, scores: Scores) -> None:
    """the critic's loss is the same for (r, f) and (-f, -r)."""
    real, fake = scores
    require_close(losses.critic(-fake, -real), losses.critic(real, fake), "(-f, -r), and (r, f)")


def _monotone(losses: Losses, scores: Scores, increase: float) -> None:
    """no loss rises when a score becomes better."""
    real, fake = scores
    before = losses.critic(real, fake)
    rounding = 1e-9 * (1 + before.abs())
    for after in (losses.critic(real + increase, fake), losses.critic(real, fake - increase)):
        require(
            (after <= before + rounding).all(),
            f"the critic's loss rises from {show(before)} to {show(after)} with a better score",
        )
    before, after = losses.generator(real, fake), losses.generator(real, fake + increase)
    require(
        (after <= before + 1e-9 * (1 + before.abs())).all(),
        f"the generator's loss rises from {show(before)} to {show(after)} with its scores",
    )


def _non_negative(losses: Losses, scores: Scores) -> None:
    """the critic's loss is at least 0."""
    value = losses.critic(*scores)
    require((value >= 0).all(), f"the critic's loss is {show(value)}")


def _blind_value(losses: Losses, size: int, value: float) -> None:
    """the critic's loss where all scores are 0 is `blind_value`."""
    zero = torch.zeros(size, dtype=torch.float64)
    expected = torch.full_like(zero, value)
    require_close(losses.critic(zero, zero), expected, "the loss at scores of 0, and blind_value")


def _transformable(losses: Losses, scores: Scores) -> None:
    """vmap over the pairs equals the batch."""
    for loss in losses:
        require_close(vmap(partial(_one_pair, loss))(*scores), loss(*scores), "vmap, and batch")


def _one_pair(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    return loss(real[None], fake[None]).squeeze(0)
