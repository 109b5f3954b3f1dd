"""Who converges? The eigenvalues of a training round, at the equilibrium of the smallest GAN.

Data at 0, a generator G = θ, a critic D(x) = ψx. A round is a map (θ, ψ) ← F(θ, ψ); it converges to
(0, 0) from nearby if all eigenvalues of F', by `jacrev`, lie inside the unit circle. Those of GAN
and WGAN lie outside for simultaneous updates and on it for alternating ones; a zero-centred penalty
draws them in (Mescheder et al. 2018, arXiv 1801.04406, sections 2 and 3).

    python examples/dirac.py
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from common import COLORS, main, plt
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import jacrev

import fgan
from fgan import losses, penalties

DESCENT = dict(generator_optimizer=fgan.sgd(0.4), critic_optimizer=fgan.sgd(0.4))
UPDATES = "simultaneous", "alternating"
zeros = partial(torch.zeros, dtype=torch.float64)
BATCH, NOISE = fgan.Batch(zeros(1, 1, 1)), fgan.Noise(zeros(1, 1, 1), zeros(1, 1), zeros(1, 1))
MINIMAX = dict(critic_loss=losses.minimax_critic_loss, generator_loss=losses.minimax_generator_loss)
# (γ/2)‖∇D(x)‖² with γ = 0.5, equation 9. R2, equation 10, is taken at the fake points.
R1 = dict(penalty=penalties.zero_centered_penalty, penalty_weight=0.25, sample_at="real")
METHODS: dict[str, Callable[..., fgan.Algorithm]] = {
    "GAN": partial(fgan.gan, loss="minimax"),
    "WGAN": partial(fgan.wgan, clip=1.0),
    "WGAN-GP": partial(fgan.wgan_gp, penalty_weight=0.5),
    "WGAN-div, p = 6": fgan.wgan_div,
    "WGAN-div, p = 2": partial(fgan.wgan_div, k=0.5, p=2),
    "GAN + R1": partial(fgan.algorithm.adversarial, **MINIMAX, **R1),
}


class Found(NamedTuple):
    eigenvalues: dict[tuple[str, str], Tensor]
    """Of F' at (0, 0), by method and updates; none for WGAN-GP, whose F has a kink there."""
    paths: dict[tuple[str, str], Tensor]
    """The points (θ, ψ) that the rounds visit, from (1, 0) on."""
    distances: dict[tuple[str, str], float]
    """From (0, 0), the mean over the last 32 rounds: about a turn."""
    wgan_gp_rest: float
    """|θ| where WGAN-GP with λ = 1.5 ends: its slope ψ, shrunk to 0, leans on the kink."""


def one_round(method: str, update: str, **options) -> Callable[[Tensor], Tensor]:
    """F: one round of plain gradient descent, as a function of the point (θ, ψ) alone."""
    players = nn.Linear(1, 1).double(), nn.Linear(1, 1, bias=False).double()  # wz + θ, and ψx
    algorithm = METHODS[method](*players, latent_dim=1, update=update, **DESCENT, **options)
    start = algorithm.init()

    def step(point: Tensor) -> Tensor:
        generator = start.generator._replace(params={"weight": zeros(1, 1), "bias": point[:1]})
        critic = start.critic._replace(params={"weight": point[1:, None]})
        state, _ = algorithm.step(start._replace(generator=generator, critic=critic), BATCH, NOISE)
        return torch.cat([state.generator.params["bias"], state.critic.params["weight"][0]])

    return step


def path(step: Callable[[Tensor], Tensor], rounds: int) -> Tensor:
    point = torch.tensor([1.0, 0.0]).double()
    return torch.stack([point, *(point := step(point) for _ in range(rounds))])


def measure(quick: bool) -> Found:
    played = {key: one_round(*key) for key in product(METHODS, UPDATES)}
    jacobians = {key: jacrev(F)(zeros(2)) for key, F in played.items() if key[0] != "WGAN-GP"}
    eigenvalues = {key: torch.linalg.eigvals(jacobian) for key, jacobian in jacobians.items()}
    paths = {key: path(F, 60 if quick else 600) for key, F in played.items()}
    distances = {key: points[-32:].norm(dim=1).mean().item() for key, points in paths.items()}
    rest = path(one_round("WGAN-GP", "alternating", penalty_weight=1.5), 60)[-1, 0].abs().item()
    return Found(eigenvalues, paths, distances, rest)


def draw(found: Found) -> Figure:
    figure, axes = plt.subplots(2, len(METHODS), figsize=(9.6, 4.1), sharex="row", sharey="row")
    axes[0, 0].set(xlim=(-2.8, 2.8), ylim=(-2.4, 3.2), ylabel="ψ")
    axes[1, 0].set(xlim=(0.6, 1.15), ylim=(0, 0.55), ylabel="imaginary part")
    figure.supxlabel("simultaneous: black ×   alternating: coloured ●   →: final distance", size=9)
    for (above, below), method in zip(axes.T, METHODS, strict=True):
        above.set(title=method, xlabel="θ", aspect="equal")
        below.set(xlabel="real part", aspect="equal")
        below.add_patch(plt.Circle((0, 0), 1, color="0.93"))
        for row, update in enumerate(UPDATES):
            color = ("black", COLORS.get(method.split(",")[0].lower(), "tab:cyan"))[row]
            points, far = found.paths[method, update], found.distances[method, update]
            above.plot(*points[:150].T, color=color, lw=0.7)
            above.text(2.8 * row - 2.7, 2.6, f"→ {far:.2f}", color=color)
            if method != "WGAN-GP":
                values = found.eigenvalues[method, update]
                below.plot(values.real, values.imag, "xo"[row], color=color, ms=5)
                below.text(0.62, 0.09 - 0.07 * row, f"|λ| = {values.abs().max():.3f}", color=color)
        above.plot(0, 0, "+", color="black", ms=7)
    axes[1, 2].text(0.62, 0.02, "no F': kink at ψ = 0")
    return figure


def check(found: Found) -> None:
    modulus = {key: values.abs().max().item() for key, values in found.eigenvalues.items()}
    for method in ("GAN", "WGAN", "WGAN-div, p = 6"):
        assert modulus[method, "simultaneous"] > 1.01, f"inside the circle: {modulus}"
        assert abs(modulus[method, "alternating"] - 1) < 1e-9, f"not on the circle: {modulus}"
    for key in product(("WGAN-div, p = 2", "GAN + R1"), UPDATES):
        assert modulus[key] < 0.95, f"barely inside the circle: {modulus}"
        assert found.distances[key] < 0.1, f"still on its way: {found.distances}"
    for key in product(("GAN", "WGAN", "WGAN-GP"), UPDATES):
        assert found.distances[key] > 0.5, f"it came close: {found.distances}"
    assert abs(found.wgan_gp_rest - 3) < 0.1, f"|θ| = {found.wgan_gp_rest}, not 2λ"


if __name__ == "__main__":
    main(measure, draw, check)
