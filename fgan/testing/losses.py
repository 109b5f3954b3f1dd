"""The properties of a pair of adversarial losses."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from fgan.testing.engine import (
    InvariantError,
    check_property,
    gradients_of,
    name_of,
    require,
    require_close,
    require_pure,
    show,
)
from fgan.testing.optional_loss_properties import (
    Loss,
    Losses,
    LossOptions,
    Scores,
    check_optional_properties,
)
from fgan.testing.strategies import score_pairs

# The scores at which gradients are compared: dense where losses curve, sparse up to the largest.
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
    """Check the invariants of a pair of losses `(real_scores [B], fake_scores [B]) -> [B]`.

    Of both losses: shape and dtype are kept, inputs and global generators stay unchanged, losses
    and gradients are finite for scores up to 3e7, the loss of sample i depends on pair i alone, the
    gradient is that of the value (by central differences), and float32 agrees with float64. The
    critic's loss is convex in each score: otherwise a critic that is confident and wrong stops
    learning. The gradient of the generator's loss is monotone. Both losses are minimised with a
    critic that is high on real samples.

    offset_invariant: a constant added to all scores changes neither the critic's loss nor the
        generator's gradient (Wasserstein, relativistic).
    antisymmetric: the critic's loss changes its sign when real and fake are swapped (Wasserstein).
    homogeneous: scores times c > 0 give both losses times c (Wasserstein).
    mirrored: L(r, f) = L(-f, -r) for the critic's loss (standard, hinge, Wasserstein).
    monotone: the critic's loss never rises with a real score or falls with a fake one, the
        generator's never rises with a fake one (all but least squares).
    non_negative: the critic's loss is at least 0 (standard, hinge, least squares).
    blind_value: the critic's loss where all scores are 0 (2 log 2 for the standard loss).
    saturating: allow gradients that vanish on both sides, as that of tanh (total variation).
    transformable: both losses run under `vmap` too.
    max_examples: how many examples Hypothesis draws for each invariant.

    Raises AssertionError with the invariant's name and the smallest example. The invariants are
    those of Goodfellow et al. 2014 (arXiv 1406.2661) and Arjovsky et al. 2017 (1701.07875) that all
    losses in `fgan.losses` have in common.

    Example:
        >>> from fgan.testing import check_loss
        >>> check_loss(
        ...     fgan.losses.hinge_critic_loss,
        ...     fgan.losses.hinge_generator_loss,
        ...     non_negative=True,
        ...     blind_value=2.0,
        ...     max_examples=2,
        ... )
    """
    losses = Losses(critic_loss, generator_loss)
    dtypes = st.sampled_from([torch.float32, torch.float64])
    moderate = score_pairs(limit=1e3)
    low, high = _vectors(-2.0, -0.25), _vectors(0.25, 2.0)
    others = st.integers(-5, 5).map(float)
    battery: list[tuple[Any, ...]] = [
        (True, "shape and dtype", _shape_and_dtype, score_pairs(limit=1.0), dtypes),
        (True, "pure", _pure, moderate, dtypes),
        (True, "finite", _finite, score_pairs(), dtypes),
        (True, "per sample", _per_sample, moderate),
        (True, "gradient", _gradient, _pairs_off_kinks(10)),
        (True, "precision", _precision, _pairs_off_kinks(40)),
        (True, "high on real", _high_on_real, low, high),
        (not saturating, "monotone gradient", _monotone_gradient, others),
    ]
    for wanted, name, test, *strategies in battery:
        if wanted:
            check_property(name, test, (losses,), *strategies, max_examples=max_examples)
    options = LossOptions(
        offset_invariant=offset_invariant,
        antisymmetric=antisymmetric,
        homogeneous=homogeneous,
        mirrored=mirrored,
        monotone=monotone,
        non_negative=non_negative,
        blind_value=blind_value,
        transformable=transformable,
    )
    check_optional_properties(losses, options, max_examples)


def _named(losses: Losses) -> dict[str, Loss]:
    """The two losses by their names; two lambdas have one name, so it tells nothing."""
    named = {name_of(loss, role): loss for role, loss in _roles(losses).items()}
    return named if len(named) == len(losses) else _roles(losses)


def _roles(losses: Losses) -> dict[str, Loss]:
    return {"critic_loss": losses.critic, "generator_loss": losses.generator}


def _shape_and_dtype(losses: Losses, scores: Scores, dtype: torch.dtype) -> None:
    """two batches of scores [B] give losses [B] of the same dtype."""
    for name, loss in _named(losses).items():
        value = loss(*(s.to(dtype) for s in scores))
        require(isinstance(value, Tensor), f"{name} gave a {type(value).__name__}, not a tensor")
        require(
            value.shape == scores[0].shape and value.dtype == dtype,
            f"{name} gave {list(value.shape)} {value.dtype} for {list(scores[0].shape)} {dtype}",
        )


def _pure(losses: Losses, scores: Scores, dtype: torch.dtype) -> None:
    """losses change no tensor, draw no random numbers, and give the same value twice."""
    for name, loss in _named(losses).items():
        inputs = tuple(s.to(dtype, copy=True) for s in scores)
        try:
            with require_pure(inputs):
                first, second = (loss(*inputs) for _ in range(2))
        except InvariantError as error:
            raise InvariantError(f"{name}: {error}") from None
        require_close(second, first, f"{name} twice on the same scores", rtol=0)


def _finite(losses: Losses, scores: Scores, dtype: torch.dtype) -> None:
    """losses and their gradients are finite for scores up to 3e7."""
    for name, loss in _named(losses).items():
        value, gradients = gradients_of(loss, *(s.to(dtype) for s in scores))
        require(value.isfinite().all(), f"{name} is {show(value)}")
        for gradient in gradients:
            require(gradient.isfinite().all(), f"the gradient of {name} is {show(gradient)}")


def _per_sample(losses: Losses, scores: Scores) -> None:
    """the loss of sample i depends on the scores of pair i alone."""
    real, fake = scores
    for name, loss in _named(losses).items():
        alone = torch.cat([loss(r[None], f[None]) for r, f in zip(real, fake, strict=True)])
        require_close(loss(real, fake), alone, f"{name} of the batch, and of its pairs one by one")


def _gradient(losses: Losses, scores: Scores) -> None:
    """the gradient that autograd gives is that of the value (float64, central differences)."""
    real, fake = scores
    step = 1e-5
    for name, loss in _named(losses).items():
        of_real, of_fake = gradients_of(loss, real, fake)[1]
        by_fake = (loss(real, fake + step) - loss(real, fake - step)) / (2 * step)
        require_close(of_fake, by_fake, f"{name}, gradient by the fake scores", rtol=1e-6)
        # Real scores do not depend on the generator, so the generator's loss may detach them.
        if loss is losses.critic:
            by_real = (loss(real + step, fake) - loss(real - step, fake)) / (2 * step)
            require_close(of_real, by_real, f"{name}, gradient by the real scores", rtol=1e-6)


def _precision(losses: Losses, scores: Scores) -> None:
    """float32 gives the loss and gradient of float64 to five digits."""
    for name, loss in _named(losses).items():
        expected, expected_gradients = gradients_of(loss, *scores)
        value, gradients = gradients_of(loss, *(s.float() for s in scores))
        require_close(value, expected, f"{name} in float32, and in float64", rtol=2e-5)
        for got, wanted in zip(gradients, expected_gradients, strict=True):
            require_close(got, wanted, f"the gradient of {name} in float32", rtol=1e-4)


def _high_on_real(losses: Losses, low: Tensor, high: Tensor) -> None:
    """the critic learns to score real samples high, the generator to raise its fakes' scores."""
    of_real, of_fake = gradients_of(losses.critic, low, high)[1]
    require(
        (of_real < 0).all() and (of_fake > 0).all(),
        "a critic that scores real samples low and fakes high should raise the real scores and "
        f"lower the fake scores; the gradients of its loss are {show(of_real)} and {show(of_fake)}",
    )
    right, wrong = losses.critic(high, low), losses.critic(low, high)
    require(
        (right < wrong).all(),
        f"the critic's loss is {show(right)} with high real and low fake scores, and "
        f"{show(wrong)} with low real and high fake scores",
    )
    of_fake = gradients_of(losses.generator, high, low)[1][1]
    require(
        (of_fake < 0).all(),
        "a generator whose fakes score low should raise their scores; the gradient of its loss is "
        f"{show(of_fake)}",
    )


def _monotone_gradient(losses: Losses, other_score: float) -> None:
    """every gradient is monotone in its score, and that of the critic's loss rises (convexity)."""
    grid = torch.tensor(_GRID, dtype=torch.float64)
    other = torch.full_like(grid, other_score)
    for name, gradient in [
        ("the critic's loss by the real score", gradients_of(losses.critic, grid, other)[1][0]),
        ("the critic's loss by the fake score", gradients_of(losses.critic, other, grid)[1][1]),
        (
            "the generator's loss by the fake score",
            gradients_of(losses.generator, other, grid)[1][1],
        ),
    ]:
        change = gradient.diff()
        rounding = 1e-6 * (1 + torch.maximum(gradient[1:].abs(), gradient[:-1].abs()))
        rises, falls = (change > rounding).any(), (change < -rounding).any()
        if falls and (rises or "critic's" in name):
            peak = int(gradient.abs().argmax())
            course = "rises and falls" if rises else "falls"
            raise InvariantError(
                f"the gradient of {name} {course}: {gradient[0]:.3g} at -3e7, "
                f"{gradient[peak]:.3g} at {grid[peak]:.3g}, {gradient[-1]:.3g} at 3e7 (an epsilon "
                "in a logarithm does this; if the gradient is meant to vanish on both sides, pass "
                "saturating=True)"
            )


def _vectors(low: float, high: float) -> st.SearchStrategy[Tensor]:
    """Vectors [2] of numbers between `low` and `high`."""
    number = st.floats(low, high, width=32)
    return st.lists(number, min_size=2, max_size=2).map(
        lambda values: torch.tensor(values, dtype=torch.float64)
    )


def _pairs_off_kinks(limit: int) -> st.SearchStrategy[Scores]:
    """Scores that differ from round numbers, and from each other by no round number.

    Losses such as the hinge have kinks at round numbers, where a central difference is no gradient.
    """
    sixteenths = st.lists(st.integers(-16 * limit, 16 * limit), min_size=3, max_size=3)

    def scores(numbers: list[int], shift: float) -> Tensor:
        single = torch.tensor(numbers, dtype=torch.float32) / 16 + shift
        return single.double()

    return st.tuples(
        sixteenths.map(lambda numbers: scores(numbers, 0.0123)),
        sixteenths.map(lambda numbers: scores(numbers, 0.0317)),
    )
