"""The W-divergence: zero for equal distributions, symmetric, near W1, little moved by its Pu.

W_{k,p} = sup E D(x) - E D(x̃) - k E_u‖∇D‖^p (Wu et al. 2018, arXiv 1712.01026, in its mirrored
sign). On a line E D(x) - E D(x̃) = ∫ D'(F̃ - F), so the best slope is known at every point: W_{k,p}
is (1 - 1/p) ∫ |F̃ - F|^(p/(p-1)) / (k p u)^(1/(p-1)), and the objective of WGAN-GP, with
λ E_u(‖∇D‖ - 1)² in its place, is W1 + ∫ (F̃ - F)² / (4 λ u).

    python examples/w_divergence.py
"""

from functools import partial
from typing import NamedTuple

import torch
from common import COLORS, main, plt
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap
from torch.special import ndtr, ndtri

import fgan
from fgan import tree
from fgan.measures import w_divergence
from fgan.penalties import SAMPLE_AT, gradient_penalty, w_divergence_penalty

K, P, WEIGHT = 2.0, 6.0, 10.0  # k and p of WGAN-div, λ of WGAN-GP: the papers' values
THETA = torch.arange(-4, 5) / 2  # real is N(0, 1), fake N(θ, 1), so W1 = |θ|
X = torch.linspace(-10, 12, 1101).double()
SLOPES = torch.linspace(0, 2, 401)


class Found(NamedTuple):
    worst_error: float
    """Of trained critics, which see no interpolates, against W_{2,6}: the worst ratio less 1."""
    at_equal: float  # what they say about two samples of one distribution
    asymmetry: float  # of theirs between N(0, 1) and N(0, 1.5²), taken both ways: the ratio less 1
    w1_gap_p_2: float
    w1_gap_p_50: float  # |W_{1,p} / W1 - 1| at θ = 1
    spread_w_divergence: float
    spread_penalty: float  # largest over least of the six choices of Pu, at θ = 4
    penalty_at_equal: float  # WGAN-GP's objective for equal sets of angles, D = a sin φ, best a
    learnt: Tensor  # [THETA]
    choices: dict[str, Tensor]  # [6] each
    on_angles: dict[str, Tensor]  # [SLOPES] each


def exact(theta: float, u: Tensor, k: float = K, p: float = P) -> Tensor:
    gap = (ndtr(X) - ndtr(X - theta)).abs()
    return (1 - 1 / p) * torch.trapezoid((gap**p / (k * p * u)) ** (1 / (p - 1)), X)


def exact_penalised(theta: float, u: Tensor) -> Tensor:
    gap = (ndtr(X) - ndtr(X - theta)).abs()
    return torch.trapezoid(gap + gap**2 / (4 * WEIGHT * u), X)


def densities(theta: float) -> list[Tensor]:
    """That of Pu on X, for all choices in SAMPLE_AT."""
    mix = torch.linspace(0, 1, 101).double()[:, None]
    own, spread = torch.ones_like(mix), (mix**2 + (1 - mix) ** 2).sqrt()
    means = 0, theta, 0, theta, (1 - mix) * theta
    deviations = own, own, spread, spread, spread
    normals = (torch.distributions.Normal(*at) for at in zip(means, deviations, strict=True))
    real, fake, of_real, of_fake, across = (n.log_prob(X).exp().mean(dim=0) for n in normals)
    within = (of_real + of_fake) / 2
    return [real, fake, (real + fake) / 2, across, within, (across + within) / 2]


def learn(updates: int, size: int) -> Tensor:
    """Train a WGAN-div critic for each pair of samples, all at once, and ask each: [THETA + 2].

    Real N(0, 1) and fake N(θ, 1) for each θ, then N(0, 1) and N(0, 1.5²) and the two exchanged.
    """
    networks = fgan.models.mlp_generator((1,), 1), fgan.models.mlp_critic((1,), hidden=(64, 64))
    algorithm = fgan.wgan_div(*networks, k=K, p=P, critic_optimizer=fgan.adam(5e-3, (0.5, 0.9)))
    # Quantiles, of which the two take turns: nowhere the same points, and on average the same.
    quantiles = ndtri((torch.arange(2 * size).view(-1, 4) + 0.5) / (2 * size))
    one, other = quantiles[:, [0, 3]].reshape(-1, 1), quantiles[:, [1, 2]].reshape(-1, 1)
    real = torch.stack([*[one] * len(THETA), one, 1.5 * other])
    fake = torch.stack([*(other + theta for theta in THETA), 1.5 * other, one])
    states = tree.stack([algorithm.init(seed=0) for _ in real])
    update = vmap(algorithm.critic_update, in_dims=(0, 0, None, None, None, 0))
    for _ in range(updates):
        states, _ = update(states, real, None, None, torch.zeros(size), fake)
    ask = vmap(lambda s, x, y: w_divergence(partial(algorithm.score, s), x, y, K, P))
    return ask(states, real, fake)


def at_equal_angles(slope: Tensor) -> tuple[Tensor, Tensor]:
    """Both objectives for D = a sin φ and two equal sets of angles: minus the penalties."""
    angles = torch.linspace(0, 2 * torch.pi, 721)[1:, None]
    given = lambda phi: slope * phi.sin().squeeze(-1), angles
    return -WEIGHT * gradient_penalty(*given).mean(), -w_divergence_penalty(*given, K, P).mean()


def measure(quick: bool) -> Found:
    learnt, (there, back) = learn(*((150, 128) if quick else (800, 512))).split([len(THETA), 2])
    apart = THETA != 0
    truth = torch.stack([exact(theta, densities(theta)[2]) for theta in THETA.tolist()]).float()
    choices = {
        "wgan-div": torch.stack([exact(4.0, u) for u in densities(4.0)]),
        "wgan-gp": torch.stack([exact_penalised(4.0, u) for u in densities(4.0)]),
    }
    on_angles = dict(zip(("wgan-gp", "wgan-div"), vmap(at_equal_angles)(SLOPES), strict=True))
    figures = (
        (learnt / truth - 1)[apart].abs().max(),
        learnt[~apart].abs().max(),
        (there / back - 1).abs(),
        *(abs(exact(1.0, densities(1.0)[2], k=1.0, p=p) - 1) for p in (2.0, 50.0)),
        *(values.max() / values.min() for values in choices.values()),
        on_angles["wgan-gp"].max(),
    )
    return Found(*map(float, figures), learnt, choices, on_angles)


def draw(found: Found) -> Figure:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 3.4))
    theta = torch.linspace(-2, 2, 21).tolist()
    for p, style in (2.0, ":"), (6.0, "-"), (50.0, "--"):
        line = [exact(t, densities(t)[2], K, p) for t in theta]
        left.plot(theta, line, style, color=COLORS["wgan-div"], label=f"W, k = 2, p = {p:.0f}")
    left.plot(theta, [abs(t) for t in theta], color="black", lw=0.8, label="W1 = |θ|")
    left.plot(THETA, found.learnt, "o", color=COLORS["wgan-div"], label="trained critics, p = 6")
    left.set(xlabel="θ", ylim=(-0.1, 3.2), title="N(0, 1) and N(θ, 1)")
    left.legend(loc="upper center", fontsize=8)
    for name, values in found.choices.items():
        middle.semilogx(values, list(SAMPLE_AT), "o", color=COLORS[name], label=name.upper())
        right.plot(SLOPES, found.on_angles[name], color=COLORS[name], label=name.upper())
    middle.set(xlabel="best of the objective, θ = 4", title="Six choices of Pu")
    right.set(
        xlabel="a, in D = a sin φ", ylim=(-11, 1), title="Objective, two equal sets of angles"
    )
    middle.legend()
    return figure


def check(found: Found) -> None:
    assert found.worst_error < 0.15, f"a trained critic is off by {found.worst_error:.0%}"
    assert found.at_equal < 0.02, f"{found.at_equal:.3f} between equal distributions"
    assert found.asymmetry < 0.06, f"{found.asymmetry:.0%} apart, taken both ways"
    assert found.w1_gap_p_50 < 0.1 < found.w1_gap_p_2, "no nearer to W1 with a larger p"
    assert found.spread_w_divergence < 3 < 100 < found.spread_penalty, "Pu matters alike to both"
    assert found.penalty_at_equal < -1, f"{found.penalty_at_equal:.2f} is not below zero"


if __name__ == "__main__":
    main(measure, draw, check)
