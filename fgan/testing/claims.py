"""What is true of some losses only, and checked where it is claimed."""

from collections.abc import Callable
from functools import partial

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

from fgan.testing.engine import demand, demand_close, hold, show, slopes_of
from fgan.testing.strategies import score_pairs

Loss = Callable[[Tensor, Tensor], Tensor]
Pair = tuple[Tensor, Tensor]


def check_claims(
    critic_loss: Loss,
    generator_loss: Loss,
    *,
    offset_invariant: bool,
    antisymmetric: bool,
    homogeneous: bool,
    mirrored: bool,
    monotone: bool,
    non_negative: bool,
    blind_value: float | None,
    transformable: bool,
    max_examples: int,
) -> None:
    """The opt-in part of `check_loss`, which explains the keywords."""

    def offset(scores: Pair, shift: float) -> None:
        """a constant added to all scores changes no critic loss and no generator gradient."""
        shifted = tuple(s + shift for s in scores)
        demand_close(critic_loss(*shifted), critic_loss(*scores), "critic loss, shifted")
        moved, still = (slopes_of(generator_loss, *s)[1][1] for s in (shifted, scores))
        demand_close(moved, still, "the generator's gradient, shifted")

    def swap(scores: Pair) -> None:
        """the critic's loss changes its sign when real and fake are swapped."""
        real, fake = scores
        demand_close(critic_loss(fake, real), -critic_loss(real, fake), "swapped, and negated")

    def scale(scores: Pair, factor: float) -> None:
        """scores scaled by c > 0 scale both losses by c."""
        for loss in (critic_loss, generator_loss):
            got, expected = loss(*(factor * s for s in scores)), factor * loss(*scores)
            demand_close(got, expected, f"scores times {factor}, and loss times {factor}")

    def mirror(scores: Pair) -> None:
        """the critic's loss is the same for (r, f) and (-f, -r)."""
        real, fake = scores
        demand_close(critic_loss(-fake, -real), critic_loss(real, fake), "mirrored")

    def rising(scores: Pair, more: float) -> None:
        """no loss is the worse for a better score."""
        real, fake = scores
        at = critic_loss(real, fake)
        noise = 1e-9 * (1 + at.abs())
        for better in (critic_loss(real + more, fake), critic_loss(real, fake - more)):
            demand(
                (better <= at + noise).all(),
                f"the critic's loss rises from {show(at)} to {show(better)} as it judges better",
            )
        before, after = generator_loss(real, fake), generator_loss(real, fake + more)
        demand(
            (after <= before + 1e-9 * (1 + before.abs())).all(),
            f"the generator's loss rises from {show(before)} to {show(after)} with its scores",
        )

    def positive(scores: Pair) -> None:
        """the critic's loss is at least 0."""
        value = critic_loss(*scores)
        demand((value >= 0).all(), f"the critic's loss is {show(value)}")

    def blind(size: int) -> None:
        """the loss of a critic that scores everything 0 is the value claimed."""
        zero = torch.zeros(size, dtype=torch.float64)
        expected = torch.full_like(zero, blind_value or 0.0)
        demand_close(critic_loss(zero, zero), expected, "the blind critic's loss, and the claim")

    def mapped(scores: Pair) -> None:
        """vmap over the pairs equals the batch."""
        for loss in (critic_loss, generator_loss):
            one = partial(_of_one, loss)
            demand_close(vmap(one)(*scores), loss(*scores), "under vmap, and as a batch")

    pairs = score_pairs(limit=1e3)
    factors = st.integers(1, 64).map(lambda n: n / 8)
    for claimed, name, prop, drawn in [
        (offset_invariant, "offset invariant", offset, (pairs, st.integers(-99, 99).map(float))),
        (antisymmetric, "antisymmetric", swap, (pairs,)),
        (homogeneous, "homogeneous", scale, (pairs, factors)),
        (mirrored, "mirrored", mirror, (pairs,)),
        (monotone, "monotone", rising, (pairs, factors)),
        (non_negative, "non-negative", positive, (pairs,)),
        (blind_value is not None, "blind value", blind, (st.integers(1, 3),)),
        (transformable, "transformable", mapped, (pairs,)),
    ]:
        if claimed:
            hold(name, prop, *drawn, max_examples=max_examples)  # type: ignore[arg-type]


def _of_one(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    return loss(real[None], fake[None]).squeeze(0)
