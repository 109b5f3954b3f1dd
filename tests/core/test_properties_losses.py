"""Losses: the kit's battery on all of fgan's, and the exact values that pin each of them down."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import score_pairs, scores
from torch.func import grad, vmap
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from fgan import losses
from fgan.testing import check_loss

ALWAYS = dict(transformable=True)
CLAIMS = {
    "minimax": dict(mirrored=True, monotone=True, non_negative=True, blind_value=2 * math.log(2)),
    "non_saturating": dict(
        mirrored=True, monotone=True, non_negative=True, blind_value=2 * math.log(2)
    ),
    "wasserstein": dict(
        offset_invariant=True,
        antisymmetric=True,
        homogeneous=True,
        mirrored=True,
        monotone=True,
        blind_value=0.0,
    ),
    "hinge": dict(mirrored=True, monotone=True, non_negative=True, blind_value=2.0),
    "least_squares": dict(non_negative=True, blind_value=0.5),
    "relativistic": dict(
        offset_invariant=True,
        mirrored=True,
        monotone=True,
        non_negative=True,
        blind_value=math.log(2),
    ),
}
"""What is true of each loss by its paper."""


def pair(name):
    """(critic's loss, generator's loss)"""
    return getattr(losses, f"{name}_critic_loss"), getattr(losses, f"{name}_generator_loss")


def exactly(got, expected, tolerance=1e-12):
    """Equal to rounding, relative to the larger of 1 and the value."""
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_every_loss_is_covered():
    """A loss that is added without claims of its own fails here."""
    names = {n.removesuffix("_critic_loss") for n in dir(losses) if n.endswith("_critic_loss")}
    assert names == set(CLAIMS)


@pytest.mark.parametrize("name", list(CLAIMS))
def test_passes_the_battery(name):
    """Groups 1 to 3 of the invariants, with all that the paper's loss can claim."""
    check_loss(*pair(name), **ALWAYS | CLAIMS[name])


# softplus at 1, 2, 3 and -1: log(1 + e^s), worked out with 30 digits elsewhere.
SOFTPLUS = {1: 1.3132616875182228, 2: 2.1269280110429727, -1: 0.31326168751822286}


@pytest.mark.parametrize(
    ("name", "critic", "generator"),
    [
        ("minimax", 2.1269280110429727 + SOFTPLUS[-1], -SOFTPLUS[-1]),
        ("non_saturating", 2.1269280110429727 + SOFTPLUS[-1], SOFTPLUS[1]),
        ("wasserstein", 1.0, 1.0),
        ("hinge", 3.0, 1.0),
        ("least_squares", 5.0, 2.0),
        ("relativistic", SOFTPLUS[1], SOFTPLUS[-1]),
    ],
)
def test_value_at_one_point(name, critic, generator):
    """Real score -2 and fake score -1, by hand."""
    real, fake = torch.tensor([-2.0]).double(), torch.tensor([-1.0]).double()
    of_critic, of_generator = pair(name)
    assert of_critic(real, fake).item() == pytest.approx(critic, rel=1e-15)
    assert of_generator(real, fake).item() == pytest.approx(generator, rel=1e-15)


@given(score_pairs())
def test_wasserstein_is_a_difference(pair_of_scores):
    """fake - real and -fake, to the bit, also for enormous scores."""
    real, fake = pair_of_scores
    assert torch.equal(losses.wasserstein_critic_loss(real, fake), fake - real)
    assert torch.equal(losses.wasserstein_generator_loss(real, fake), -fake)


@given(score_pairs(limit=1e4))
def test_standard_loss_is_cross_entropy(pair_of_scores):
    """BCE with logits, real samples labelled 1 and fakes 0 (the generator's: fakes labelled 1)."""
    real, fake = pair_of_scores
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    expected = bce(real, one, reduction="none") + bce(fake, zero, reduction="none")
    for name in ("minimax", "non_saturating"):
        exactly(pair(name)[0](real, fake), expected)
    exactly(losses.non_saturating_generator_loss(real, fake), bce(fake, one, reduction="none"))
    exactly(losses.minimax_generator_loss(real, fake), -bce(fake, zero, reduction="none"))


@given(scores())
def test_generator_gradients_of_the_standard_game(fake):
    """-σ(-s) for the non-saturating loss, -σ(s) for minimax, at any score."""
    real = torch.zeros_like(fake)
    for loss, expected in [
        (losses.non_saturating_generator_loss, -torch.sigmoid(-fake)),
        (losses.minimax_generator_loss, -torch.sigmoid(fake)),
    ]:
        slope = grad(lambda s, loss=loss: loss(real, s).sum())(fake)
        exactly(slope, expected, 1e-8)  # softplus is linear above 20, where 1 - σ is 2e-9


@given(scores(limit=1e3), st.sampled_from(list(CLAIMS)))
def test_gradients_per_sample_are_the_batchs(fake, name):
    """vmap(grad) over pairs is the gradient of the sum."""
    real = fake.flip(0) / 3
    for loss in pair(name):
        alone = vmap(grad(lambda r, f, loss=loss: loss(r, f), argnums=(0, 1)))(real, fake)
        batch = grad(lambda r, f, loss=loss: loss(r, f).sum(), argnums=(0, 1))(real, fake)
        for one, other in zip(alone, batch, strict=True):
            exactly(one, other)


@given(scores(limit=30.0))
def test_least_squares_about_its_targets(score):
    """Real scores aim at 1, fakes at 0 and the generator's at 1, with curvature 1 everywhere."""
    critic, generator = pair("least_squares")
    one, zero = torch.ones_like(score), torch.zeros_like(score)
    exactly(critic(one + score, zero), score.square() / 2)
    exactly(critic(one, score), score.square() / 2)
    exactly(generator(score, one + score), score.square() / 2)


@given(scores(limit=1e3))
def test_hinge_stops_at_its_margin(score):
    """Beyond the margin 1 the critic's loss is 0 and flat; within it, linear."""
    critic = losses.hinge_critic_loss
    beyond = 1 + score.abs()
    assert not critic(beyond, -beyond).any()
    exactly(critic(1 - score.abs(), -beyond), score.abs())
    exactly(critic(beyond, score.abs() - 1), score.abs())


@given(score_pairs(limit=1e3), st.floats(-100, 100))
def test_relativistic_sees_differences_alone(pair_of_scores, shift):
    """The generator's loss is the critic's with real and fake in each other's place."""
    real, fake = pair_of_scores
    critic, generator = pair("relativistic")
    exactly(generator(real, fake), critic(fake, real))
    exactly(generator(real + shift, fake + shift), generator(real, fake), 1e-9)


@pytest.mark.parametrize("name", list(CLAIMS))
def test_float16_scores_of_training_size_are_finite(name):
    """Half precision holds the losses of scores that training meets."""
    score = torch.tensor([-90.0, -1.0, 0.0, 1.0, 90.0], dtype=torch.float16)
    for loss in pair(name):
        out = loss(score, score.flip(0))
        assert out.dtype == torch.float16
        assert out.isfinite().all()
