"""The battery for a pair of adversarial losses."""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from fgan.testing.claims import check_claims
from fgan.testing.engine import (
    InvariantError,
    demand,
    demand_close,
    hold,
    name_of,
    show,
    slopes_of,
    untouched,
)
from fgan.testing.strategies import score_pairs

Loss = Callable[[Tensor, Tensor], Tensor]

# Slopes are taken here: densely where losses bend, sparsely out to the largest scores.
_FAR = [60.0, 100.0, 1e3, 1e5, 3e7]
_GRID = [*[-s for s in reversed(_FAR)], *[i / 2 for i in range(-100, 101)], *_FAR]


def check_loss(
    critic_loss: Loss,
    generator_loss: Loss,
    *,
    offset_invariant: bool = False,
    antisymmetric: bool = False,
    homogeneous: bool = False,
    mirrored: bool = False,
    monotone: bool = False,
    non_negative: bool = False,
    blind_value: float | None = None,
    saturating: bool = False,
    transformable: bool = False,
    max_examples: int = 25,
) -> None:
    """Put a pair of losses `(real_scores [B], fake_scores [B]) -> [B]` through every invariant.

    Of both: shape and dtype kept, inputs and global generators untouched, finite with finite
    gradients up to scores of 3e7, sample i's loss a function of pair i alone, the gradient that of
    the value (by central differences), float32 and float64 in agreement, the critic's loss convex
    in each score (or a critic that is sure and wrong would stop learning), the generator's slope
    monotone. Both are minimised with a critic that is high on real samples.

    offset_invariant: a constant added to all scores changes neither the critic's loss nor the
        generator's gradient (Wasserstein, relativistic).
    antisymmetric: the critic's loss changes its sign when real and fake are swapped (Wasserstein).
    homogeneous: scores scaled by c > 0 scale both losses by c (Wasserstein).
    mirrored: L(r, f) = L(-f, -r) for the critic's loss (standard, hinge, Wasserstein).
    monotone: the critic's loss never rises with a real score or falls with a fake one, the
        generator's never rises with a fake one (all but least squares).
    non_negative: the critic's loss is at least 0 (standard, hinge, least squares).
    blind_value: the critic's loss where all scores are 0 (2 log 2 for the standard loss).
    saturating: allow slopes that flatten out on both sides, as that of tanh (total variation).
    transformable: both losses run under `vmap` too.
    max_examples: how many examples Hypothesis draws for each invariant.

    Raises AssertionError with the invariant's name and the smallest example. The invariants are
    those of Goodfellow et al. 2014 (arXiv 1406.2661) and Arjovsky et al. 2017 (1701.07875) that all
    losses in `fgan.losses` share.
    """
    losses = {
        name_of(critic_loss, "critic_loss"): critic_loss,
        name_of(generator_loss, "generator_loss"): generator_loss,
    }
    if len(losses) == 1:  # two lambdas, say
        losses = {"critic_loss": critic_loss, "generator_loss": generator_loss}
    dtypes = st.sampled_from([torch.float32, torch.float64])

    def shape(scores: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
        """two batches of scores [B] give losses [B] of the same dtype."""
        for name, loss in losses.items():
            out = loss(*(s.to(dtype) for s in scores))
            demand(isinstance(out, Tensor), f"{name} gave a {type(out).__name__}, not a tensor")
            demand(
                out.shape == scores[0].shape and out.dtype == dtype,
                f"{name} gave {list(out.shape)} {out.dtype} for {list(scores[0].shape)} {dtype}",
            )

    def pure(scores: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
        """losses write to nothing, draw no random numbers, and give the same answer twice."""
        for name, loss in losses.items():
            given = tuple(s.to(dtype, copy=True) for s in scores)
            try:
                with untouched(given):
                    first, second = (loss(*given) for _ in range(2))
            except InvariantError as error:
                raise InvariantError(f"{name}: {error}") from None
            demand_close(second, first, f"{name} twice on the same scores", rtol=0)

    def finite(scores: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
        """losses and their gradients are finite for scores up to 3e7."""
        for name, loss in losses.items():
            given = tuple(s.to(dtype) for s in scores)
            value, slopes = slopes_of(loss, *given)
            demand(value.isfinite().all(), f"{name} is {show(value)}")
            for slope in slopes:
                demand(slope.isfinite().all(), f"the gradient of {name} is {show(slope)}")

    def per_sample(scores: tuple[Tensor, Tensor]) -> None:
        """the loss of sample i depends on the scores of pair i alone."""
        real, fake = scores
        for name, loss in losses.items():
            together = loss(real, fake)
            alone = torch.cat([loss(r[None], f[None]) for r, f in zip(real, fake, strict=True)])
            demand_close(together, alone, f"{name} of the batch, and of its pairs one by one")

    def gradient(scores: tuple[Tensor, Tensor]) -> None:
        """the gradient that autograd gives is that of the value (float64, central differences)."""
        real, fake = scores
        step = 1e-5
        for name, loss in losses.items():
            of_real, of_fake = slopes_of(loss, real, fake)[1]
            by_fake = (loss(real, fake + step) - loss(real, fake - step)) / (2 * step)
            demand_close(of_fake, by_fake, f"{name}, gradient by the fake scores", rtol=1e-6)
            # The generator has no hand in the real scores, so its loss may detach them.
            if loss is critic_loss:
                by_real = (loss(real + step, fake) - loss(real - step, fake)) / (2 * step)
                demand_close(of_real, by_real, f"{name}, gradient by the real scores", rtol=1e-6)

    def precision(scores: tuple[Tensor, Tensor]) -> None:
        """float32 gives the loss and gradient of float64 to five digits."""
        for name, loss in losses.items():
            value, slopes = slopes_of(loss, *scores)
            single, single_slopes = slopes_of(loss, *(s.float() for s in scores))
            demand_close(single, value, f"{name} in float32, and in float64", rtol=2e-5)
            for slope, expected in zip(single_slopes, slopes, strict=True):
                demand_close(slope, expected, f"the gradient of {name} in float32", rtol=1e-4)

    def high_on_real(low: Tensor, high: Tensor) -> None:
        """the critic learns to score real samples high, the generator to raise its fakes."""
        of_real, of_fake = slopes_of(critic_loss, low, high)[1]
        demand(
            (of_real < 0).all() and (of_fake > 0).all(),
            "a critic that scores real samples low and fakes high should raise the one and lower "
            f"the other; the gradients of its loss are {show(of_real)} and {show(of_fake)}",
        )
        right, wrong = critic_loss(high, low), critic_loss(low, high)
        demand(
            (right < wrong).all(),
            f"the critic's loss is {show(right)} with the real scores high and the fake low, and "
            f"{show(wrong)} the other way round",
        )
        of_fake = slopes_of(generator_loss, high, low)[1][1]
        demand(
            (of_fake < 0).all(),
            f"a generator whose fakes score low should raise their scores; the gradient of its "
            f"loss is {show(of_fake)}",
        )

    def bends_one_way(other: float) -> None:
        """every slope is monotone, and the critic's rises: it learns as long as it is wrong."""
        grid = torch.tensor(_GRID, dtype=torch.float64)
        held = torch.full_like(grid, other)
        for which, slope in [
            ("the critic's loss in the real score", slopes_of(critic_loss, grid, held)[1][0]),
            ("the critic's loss in the fake score", slopes_of(critic_loss, held, grid)[1][1]),
            ("the generator's loss in the fake score", slopes_of(generator_loss, held, grid)[1][1]),
        ]:
            change = slope.diff()
            noise = 1e-6 * (1 + torch.maximum(slope[1:].abs(), slope[:-1].abs()))
            up, down = change > noise, change < -noise
            if down.any() and (up.any() or "critic's" in which):
                peak = int(slope.abs().argmax())
                bend = "rises and falls" if up.any() else "falls"
                raise InvariantError(
                    f"the slope of {which} {bend}: {slope[0]:.3g} at -3e7, "
                    f"{slope[peak]:.3g} at {grid[peak]:.3g}, {slope[-1]:.3g} at 3e7 (an epsilon "
                    "in a logarithm does this; pass saturating=True if it is meant to)"
                )

    anything = score_pairs(), dtypes
    hold("shape and dtype", shape, score_pairs(limit=1.0), dtypes, max_examples=max_examples)
    hold("pure", pure, score_pairs(limit=1e3), dtypes, max_examples=max_examples)
    hold("finite", finite, *anything, max_examples=max_examples)
    hold("per sample", per_sample, score_pairs(limit=1e3), max_examples=max_examples)
    hold("gradient", gradient, _pairs_off_kinks(10), max_examples=max_examples)
    hold("precision", precision, _pairs_off_kinks(40), max_examples=max_examples)
    wrong, right = _vectors(-2.0, -0.25), _vectors(0.25, 2.0)
    hold("high on real", high_on_real, wrong, right, max_examples=max_examples)
    if not saturating:
        hold("bends one way", bends_one_way, st.integers(-5, 5).map(float), max_examples=10)

    check_claims(
        critic_loss,
        generator_loss,
        offset_invariant=offset_invariant,
        antisymmetric=antisymmetric,
        homogeneous=homogeneous,
        mirrored=mirrored,
        monotone=monotone,
        non_negative=non_negative,
        blind_value=blind_value,
        transformable=transformable,
        max_examples=max_examples,
    )


def _vectors(low: float, high: float) -> st.SearchStrategy[Tensor]:
    number = st.floats(low, high, width=32)
    return st.lists(number, min_size=2, max_size=2).map(
        lambda values: torch.tensor(values, dtype=torch.float64)
    )


def _pairs_off_kinks(limit: int) -> st.SearchStrategy[tuple[Tensor, Tensor]]:
    """Scores that stay clear of round numbers, and so do their differences: losses bend there."""
    sixteenths = st.lists(st.integers(-16 * limit, 16 * limit), min_size=3, max_size=3)

    def scores(numbers: list[int], shift: float) -> Tensor:
        single = torch.tensor(numbers, dtype=torch.float32) / 16 + shift
        return single.double()

    return st.tuples(
        sixteenths.map(lambda numbers: scores(numbers, 0.0123)),
        sixteenths.map(lambda numbers: scores(numbers, 0.0317)),
    )
