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
from fgan import losses
from fgan.objectives import Penalty, adversarial, adversarial_generator
from fgan.penalties import zero_centered_penalty

DESCENT = dict(generator_optimizer=fgan.sgd(0.4), critic_optimizer=fgan.sgd(0.4))
UPDATES = "simultaneous", "alternating"
zeros = partial(torch.zeros, dtype=torch.float64)
BATCH, NOISE = fgan.Batch(zeros(1, 1, 1)), fgan.Noise(zeros(1, 1, 1), zeros(1, 1), zeros(1, 1))
# (γ/2)‖∇D(x)‖² with γ = 0.5, equation 9. R2, equation 10, is taken at the fake points.
R1 = Penalty(zero_centered_penalty, weight=0.25, at="real")
MINIMAX = dict(
    critic_objective=adversarial(losses.minimax_critic_loss, R1),
    generator_objective=adversarial_generator(losses.minimax_generator_loss),
)
METHODS: dict[str, Callable[..., fgan.Algorithm]] = {
    "GAN": partial(fgan.gan, loss="minimax"),
    "WGAN": partial(fgan.wgan, clip=1.0),
    "WGAN-GP": partial(fgan.wgan_gp, penalty_weight=0.5),
    "WGAN-div, p = 6": fgan.wgan_div,
    "WGAN-div, p = 2": partial(fgan.wgan_div, k=0.5, p=2),
    "GAN + R1": partial(fgan.make_algorithm, **MINIMAX),
}


class Found(NamedTuple):
    gan_alternating: float  # the largest |λ|, of all eigenvalues λ of F' at (0, 0)
    r1_alternating: float
    wgan_gp_rest: float  # |θ| where WGAN-GP with weight 1.5 ends: ψ, shrunk to 0, leans on a kink
    eigenvalues: dict[tuple[str, str], Tensor]
    """By method and updates; none for WGAN-GP, whose F has that kink at (0, 0)."""
    paths: dict[tuple[str, str], Tensor]  # the points (θ, ψ) that the rounds visit, from (1, 0) on


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
    moduli = (eigenvalues[m, "alternating"].abs().max().item() for m in ("GAN", "GAN + R1"))
    paths = {key: path(F, 45 if quick else 600) for key, F in played.items()}
    rest = path(one_round("WGAN-GP", "alternating", penalty_weight=1.5), 60)[-1, 0].abs().item()
    return Found(*moduli, rest, eigenvalues, paths)


def draw(found: Found) -> Figure:
    figure, axes = plt.subplots(3, len(METHODS), figsize=(9.4, 5.4), sharex="row", sharey="row")
    axes[0, 0].set(xlim=(-3.8, 3.8), ylim=(-3.4, 3.4), ylabel="critic ψ")
    axes[1, 0].set(xlim=(1, 600), ylim=(1e-3, 9), ylabel="distance to (0, 0)")
    axes[2, 0].set(xlim=(0.56, 1.14), ylim=(0, 0.5), ylabel="imaginary part of λ")
    for (visited, distance, plane), method in zip(axes.T, METHODS, strict=True):
        visited.set(title=method, xlabel="generator θ", aspect="equal")
        distance.set(xlabel="round", xscale="log", yscale="log")
        distance.minorticks_off()
        plane.set(xlabel="real part of λ", aspect="equal")
        plane.add_patch(plt.Circle((0, 0), 1, color="0.92"))
        for row, update in enumerate(UPDATES):
            color = ("black", COLORS.get(method.split(",")[0].lower(), "tab:cyan"))[row]
            points = found.paths[method, update]
            visited.plot(*points.T, color=color, lw=0.7)
            distance.plot(points.norm(dim=1), color=color, lw=1.2)
            if method != "WGAN-GP":
                values = found.eigenvalues[method, update]
                plane.plot(values.real, values.imag, "xo"[row], color=color, ms=5, label=update)
                plane.text(0.58, 0.1 - 0.08 * row, f"|λ| {values.abs().max():.3f}", color=color)
        visited.plot(0, 0, "+", color="black", ms=7)
    axes[2, 2].text(0.58, 0.02, "a kink, no F'")
    figure.legend(*axes[2, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def check(found: Found) -> None:
    modulus = {key: values.abs().max().item() for key, values in found.eigenvalues.items()}
    distance = {key: points[-10:].norm(dim=1).mean() for key, points in found.paths.items()}
    for method in ("GAN", "WGAN", "WGAN-div, p = 6"):
        assert modulus[method, "simultaneous"] > 1.01, f"inside the circle: {modulus}"
        assert abs(modulus[method, "alternating"] - 1) < 1e-9, f"not on the circle: {modulus}"
    for key in product(("WGAN-div, p = 2", "GAN + R1"), UPDATES):
        assert modulus[key] < 0.95, f"barely inside the circle: {modulus}"
        assert distance[key] < 0.1, f"still on its way: {distance}"
    for key in product(("GAN", "WGAN", "WGAN-GP"), UPDATES):
        assert distance[key] > 0.5, f"it came close: {distance}"
    assert abs(found.wgan_gp_rest - 3) < 0.1, f"|θ| = {found.wgan_gp_rest}, not twice the weight"


if __name__ == "__main__":
    main(measure, draw, check)
