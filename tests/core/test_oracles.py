"""Games that can be worked out on paper, and fgan's answers to them.

Data and generator are fixed, so that training a critic to optimality by fgan's own critic update
has a known end. The derivations are in the docstrings.
"""

import math

import pytest
import torch
from games import Fixed, Linear, sgd, trained
from hypothesis import given
from hypothesis import strategies as st
from strategies import normal, seeds
from torch import nn

import fgan
from fgan.losses import wasserstein_critic_loss
from fgan.measures import w_divergence, wasserstein_estimate

# --- Wasserstein-1 in one dimension


def w1(real, fake):
    """W1 of two samples of one size on the line: the mean distance of the sorted samples.

    In one dimension the monotone coupling is optimal, so W1 = ∫|F⁻¹ - G⁻¹| (Vallender 1974).
    """
    return (real.sort().values - fake.sort().values).abs().mean()


@given(seeds, st.floats(-5, 5))
def test_translation_in_one_dimension(seed, shift):
    """W1(P + t, P) = |t|, which the critic sign(t)·x, 1-Lipschitz, attains exactly.

    Kantorovich-Rubinstein: W1 = sup over 1-Lipschitz D of E D(x) - E D(x̃); for D(x) = sign(t) x
    the difference is sign(t) t = |t|, and the coupling x̃ -> x̃ + t costs |t| too.
    """
    fake = normal(seed, 8, 1)
    real = fake + shift

    def critic(x):
        return math.copysign(1.0, shift) * x.squeeze(1)

    torch.testing.assert_close(
        wasserstein_estimate(critic, real, fake), w1(real[:, 0], fake[:, 0]), rtol=0, atol=1e-12
    )
    assert wasserstein_estimate(critic, real, fake).item() == pytest.approx(abs(shift), abs=1e-12)


@given(seeds, st.floats(0.1, 4.0))
def test_scaling_in_one_dimension(seed, scale):
    """W1(sP, P) = |s - 1| E|x|, attained by ±|x|.

    The coupling x̃ -> s x̃ is monotone, so optimal, and costs |s - 1| |x̃|. D(x) = |x| (for s > 1,
    else -|x|) is 1-Lipschitz and gives E|s x̃| - E|x̃| = (s - 1) E|x̃|.
    """
    fake = normal(seed, 8, 1)
    real = scale * fake

    def critic(x):
        return math.copysign(1.0, scale - 1) * x.squeeze(1).abs()

    expected = abs(scale - 1) * fake.abs().mean()
    torch.testing.assert_close(wasserstein_estimate(critic, real, fake), expected)
    torch.testing.assert_close(w1(real[:, 0], fake[:, 0]), expected)


@given(seeds, st.floats(0.1, 1.0))
def test_no_lipschitz_critic_exceeds_w1(seed, slope):
    """K-Lipschitz critics estimate at most K·W1: here K·tanh(x + c), for any samples."""
    real, fake, c = normal(seed, 8, 1), 2 * normal(seed + 1, 8, 1), normal(seed + 2)
    estimate = wasserstein_estimate(lambda x: slope * torch.tanh(x + c).squeeze(1), real, fake)
    bound = slope * w1(real[:, 0], fake[:, 0])
    assert -bound <= estimate <= bound
    loss = wasserstein_critic_loss(*(slope * torch.tanh(x + c).squeeze(1) for x in (real, fake)))
    assert loss.mean().item() == pytest.approx(-estimate.item(), rel=1e-12)


def moved_apart(size=64, mean=(1.5, -2.0)):
    """(real, fake) [size, 2] with means exactly `mean` apart."""
    fake = normal(0, size, 2)
    return fake + torch.tensor(mean, dtype=torch.float64), fake


def test_clipped_linear_critic_sits_in_a_corner():
    """With |w_i| ≤ c the best w·x is c·sign(m), m the difference of the means: estimate c‖m‖₁.

    E D(x) - E D(x̃) = w·m is linear in w, so its maximum over the box lies in a corner.
    """
    real, fake = moved_apart()
    algorithm = fgan.wgan(Fixed(2), Linear(2), clip=0.3, **sgd(0.05))
    state, info = trained(algorithm, real, fake, 50)
    assert state.critic.params["weight"].tolist() == [0.3, -0.3]
    assert info.distance.item() == pytest.approx(0.3 * 3.5, rel=1e-12)


@pytest.mark.parametrize(("weight", "target"), [(10.0, 1.0), (2.0, 0.5)])
def test_penalised_linear_critic_overshoots_by_its_weight(weight, target):
    """Under λ(‖w‖ - t)² the best w·x has direction m and norm t + ‖m‖/(2λ).

    Maximise w·m - λ(‖w‖ - t)²: w = s m/‖m‖, and s‖m‖ - λ(s - t)² is largest at s = t + ‖m‖/(2λ),
    where it is t‖m‖ + ‖m‖²/(4λ). The estimate s‖m‖ exceeds W1 = ‖m‖ (t = 1) by ‖m‖²/(2λ).
    """
    real, fake = moved_apart()
    algorithm = fgan.wgan_gp(Fixed(2), Linear(2), penalty_weight=weight, target=target, **sgd(0.01))
    state, info = trained(algorithm, real, fake, 500)
    m = torch.tensor([1.5, -2.0], dtype=torch.float64)  # norm 2.5
    s = target + 2.5 / (2 * weight)
    torch.testing.assert_close(state.critic.params["weight"], s * m / 2.5, rtol=1e-8, atol=0)
    assert info.distance.item() == pytest.approx(2.5 * s, rel=1e-8)
    assert info.critic_loss.item() == pytest.approx(
        -(target * 2.5 + 2.5**2 / (4 * weight)), rel=1e-8
    )


def test_translation_in_one_dimension_by_training():
    """A penalised MLP on P and P + t nears W1 = t from training alone, within 5 %.

    The penalty holds on the segments between the samples only, and lets the slope exceed 1 by
    t/(2λ) (see the linear critic): with t = 2, λ = 100 by 1 %.
    """
    fake = torch.linspace(-1, 1, 64, dtype=torch.float64)[:, None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(1, 16), nn.Softplus(), nn.Linear(16, 1)).double()
    algorithm = fgan.wgan_gp(
        Fixed(), critic, penalty_weight=100.0, critic_optimizer=fgan.adam(0.01, (0.5, 0.9))
    )
    _, info = trained(algorithm, fake + 2, fake, 400)
    assert info.distance.item() == pytest.approx(2.0, rel=0.05)


# --- W-divergence


def best_w_divergence(m, k, p):
    """(slope, value) of the best linear critic.

    Maximise w·m - k‖w‖^p: w = s m/‖m‖ and s‖m‖ - k s^p; the derivative ‖m‖ - k p s^(p-1) vanishes
    at s = (‖m‖/(kp))^(1/(p-1)), where k s^p = s‖m‖/p, so the value is s‖m‖(1 - 1/p).
    """
    s = (m / (k * p)) ** (1 / (p - 1))
    return s, s * m * (1 - 1 / p)


@pytest.mark.parametrize(("k", "p"), [(2.0, 6.0), (1.0, 2.0), (0.5, 3.0)])
def test_w_divergence_of_a_linear_critic(k, p):
    """Training reaches the slope and value on paper, and `w_divergence` gives that value.

    It is the best linear critic's. Another may do better: this is the W-divergence of a translation
    only for u uniform along the segments, by Jensen's inequality.
    """
    real, fake = moved_apart()
    s, value = best_w_divergence(2.5, k, p)
    algorithm = fgan.wgan_div(Fixed(2), Linear(2), k=k, p=p, **sgd(0.01))
    state, info = trained(algorithm, real, fake, 800)
    w = state.critic.params["weight"]
    assert w.norm().item() == pytest.approx(s, rel=1e-8)
    assert info.critic_loss.item() == pytest.approx(-value, rel=1e-8)
    assert info.penalty.item() == pytest.approx(k * s**p, rel=1e-7)
    assert w_divergence(lambda x: x @ w, real, fake, k, p).item() == pytest.approx(value, rel=1e-8)


@given(seeds, st.floats(1.5, 8), st.floats(0.2, 4))
def test_no_linear_critic_exceeds_the_optimum(seed, p, k):
    """Any w gives at most the value on paper, the optimal one exactly that."""
    real, fake = moved_apart(8)
    s, value = best_w_divergence(2.5, k, p)
    w = normal(seed, 2)
    assert w_divergence(lambda x: x @ w, real, fake, k, p) <= value + 1e-12
    best = s * torch.tensor([0.6, -0.8], dtype=torch.float64)
    found = w_divergence(lambda x: x @ best, real, fake, k, p)
    assert found.item() == pytest.approx(value, rel=1e-10)


def test_w_divergence_takes_both_halves():
    """D = x²/2 has slope |x|: k/2 (E|x|^p + E|x̃|^p), with batches of different sizes."""
    real, fake = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])

    def critic(x):
        return x.square().sum(1) / 2

    estimate = (0.5 + 2.0) / 2 - 4.5
    expected = estimate - (3.0 / 2) * ((1 + 8) / 2 + 27)
    assert w_divergence(critic, real, fake, k=3.0, p=3.0).item() == pytest.approx(expected)
