"""The standard discriminator between known densities: its optimum, its loss, its generators.

The derivations are in the docstrings.
"""

import math
from functools import partial

import pytest
import torch
from games import Fixed, Linear, Table, jsd, on_points, sgd, trained
from hypothesis import given
from hypothesis import strategies as st
from strategies import normal, seeds

import fgan
from fgan.losses import minimax_critic_loss
from fgan.measures import jensen_shannon_estimate, wasserstein_estimate

COUNTS = [6, 3, 2, 1], [1, 2, 3, 6]


@given(st.permutations([1, 2, 5]), st.permutations([1, 3, 4]), seeds)
def test_optimal_discriminator_of_known_densities(real_counts, fake_counts, seed):
    """The score log(p/q) has loss 2 log 2 - 2 JSD, exactly, and any other a larger one.

    For densities p, q the loss is Σ p softplus(-s) + q softplus(s); its derivative
    -p σ(-s) + q σ(s) vanishes where σ(s) = p/(p + q), that is s = log p - log q. There the loss is
    -Σ p log(p/(p+q)) - Σ q log(q/(p+q)) = 2 log 2 - 2 JSD (Goodfellow et al. 2014, theorem 1).
    """
    p, q = (torch.tensor(c).double() / sum(c) for c in (real_counts, fake_counts))
    real, fake = on_points(real_counts), on_points(fake_counts)

    def loss(scores):
        by_point = torch.stack([minimax_critic_loss(s, s * 0) for s in scores]) - math.log(2)
        other = torch.stack([minimax_critic_loss(s * 0, s) for s in scores]) - math.log(2)
        return (p * by_point).sum() + (q * other).sum()

    best = p.log() - q.log()
    assert loss(best).item() == pytest.approx(2 * math.log(2) - 2 * jsd(p, q).item(), abs=1e-12)
    assert loss(best + normal(seed, 3)) >= loss(best)
    estimate = jensen_shannon_estimate(lambda x: best[x.squeeze(1).long()], real, fake)
    assert estimate.item() == pytest.approx(jsd(p, q).item(), abs=1e-12)


def test_estimates_take_batches_of_different_sizes():
    """Every measure is of two distributions, whatever the numbers of samples."""
    real, fake = on_points([4, 2]), on_points([1, 2])

    def critic(x):
        return math.log(2) - 2 * math.log(2) * x.squeeze(1)  # log p/q = ±log 2

    p, q = torch.tensor([2, 1]).double() / 3, torch.tensor([1, 2]).double() / 3
    assert wasserstein_estimate(critic, real, fake).item() == pytest.approx(math.log(4) / 3)
    assert jensen_shannon_estimate(critic, real, fake).item() == pytest.approx(jsd(p, q).item())


@pytest.mark.parametrize("loss", ["non_saturating", "minimax"])
def test_training_finds_the_optimal_discriminator(loss):
    """A free score per point ends at log(p/q), and `info` at 2 log 2 - 2 JSD and at JSD itself."""
    p, q = (torch.tensor(c).double() / 12 for c in COUNTS)
    algorithm = fgan.gan(Fixed(), Table(4), loss=loss, **sgd(1.0))
    state, info = trained(algorithm, *map(on_points, COUNTS), 400)
    torch.testing.assert_close(state.critic.params["scores"], p.log() - q.log(), rtol=0, atol=1e-7)
    expected = jsd(p, q).item()
    assert info.critic_loss.item() == pytest.approx(2 * math.log(2) - 2 * expected, abs=1e-10)
    assert info.distance.item() == pytest.approx(expected, abs=1e-10)


def begun(critic, parameter, start):
    """The critic, from another start."""
    getattr(critic, parameter).data.copy_(start)
    return critic


def test_equal_distributions_are_unlearnt():
    """For p = q a critic that saw a difference forgets it; WGAN-GP alone keeps its slope of 1."""
    same = on_points([2, 2, 2, 2])
    scores = begun(Table(4), "scores", normal(0, 4))
    state, info = trained(fgan.gan(Fixed(), scores, **sgd(1.0)), same, same, 400)
    assert state.critic.params["scores"].abs().max() < 1e-7
    assert info.critic_loss.item() == pytest.approx(2 * math.log(2), abs=1e-12)
    for recipe, slope in [(partial(fgan.wgan_div, p=2.0), 0), (fgan.wgan_gp, 1)]:
        linear = begun(Linear(1), "weight", torch.tensor([3.0]))
        state, _ = trained(recipe(Fixed(), linear, **sgd(0.01)), same, same, 800)
        assert abs(state.critic.params["weight"].item()) == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize(
    ("recipe", "slope"),
    [
        (fgan.gan, lambda s: -torch.sigmoid(-s).mean()),
        (lambda *a, **k: fgan.gan(*a, loss="minimax", **k), lambda s: -torch.sigmoid(s).mean()),
        (fgan.wgan, lambda s: torch.tensor(-1.0)),
        (fgan.wgan_gp, lambda s: torch.tensor(-1.0)),
        (fgan.wgan_div, lambda s: torch.tensor(-1.0)),
    ],
)
def test_the_generator_follows_the_critics_slope(recipe, slope):
    """Against D = w·x + b a generator z + θ moves by -lr E[ℓ'(s)] w, exactly.

    dℓ(D(z + θ))/dθ = ℓ'(s) w, with ℓ' = -σ(-s), -σ(s) or -1.
    """
    critic = Linear(2)
    algorithm = recipe(Fixed(2), critic, generator_optimizer=fgan.sgd(0.5))
    state = algorithm.init()
    z = normal(0, 16, 2)
    moved, info = algorithm.generator_update(state, z)
    w = critic.weight.detach()
    expected = -0.5 * slope(z @ w).double() * w
    torch.testing.assert_close(moved.generator.params["shift"], expected, rtol=1e-9, atol=0)
    assert info.generator_grad_norm.item() == pytest.approx(expected.norm().item() / 0.5)
