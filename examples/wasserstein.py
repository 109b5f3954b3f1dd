"""WGAN: W1 grows with the distance of two lines where JS is stuck at log 2, and critics measure it.

Lines (0, z) and (θ, z) have W1 = |θ|, and JS = log 2 for any θ ≠ 0 (Arjovsky et al. 2017, arXiv
1701.07875, example 1). The critic's E D(x) - E D(G(z)) is K · W1 (eq. 2): K is unknown under weight
clipping, 1 under the penalty. It follows the samples' quality (figure 3), unlike the GAN's (4).

    python examples/wasserstein.py
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from common import COLORS, main, plt
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import vmap

import fgan
from fgan import tree
from fgan.measures import jensen_shannon_estimate, wasserstein_estimate

RECIPES = {"gan": fgan.gan, "wgan-gp": fgan.wgan_gp, "wgan": partial(fgan.wgan, clip=0.1)}
THETA = torch.arange(-4, 5) / 4


class Found(NamedTuple):
    js_least: float
    penalty_k_least: float
    penalty_k_most: float
    clipping_k_least: float
    clipping_k_most: float  # K is what a critic says over W1 = |θ|, for all θ ≠ 0
    wgan_gp_rank_correlation: float
    gan_rank_correlation: float
    """Of the estimate in the loss with the sliced W1 of the samples in training; mean of seeds."""
    estimates: dict[str, Tensor]  # [THETA]
    training: dict[str, Tensor]  # [2, seeds, rounds], as `train` returns it


def game(name: str, size: int, lr: float) -> fgan.Algorithm:
    return RECIPES[name](
        fgan.models.mlp_generator((size,), latent_dim=2, hidden=(64, 64), norm="none"),
        fgan.models.mlp_critic((size,), hidden=(64, 64)),
        n_critic=lambda i: 3 if i else 60,  # many at first: a critic that measures from the start
        generator_optimizer=fgan.adam(lr, betas=(0.5, 0.9)),
        critic_optimizer=fgan.adam(5e-3, betas=(0.5, 0.9)),
    )


def ask(name: str, updates: int) -> Tensor:
    """Train a critic for each θ, all of them at once, and ask each for its distance: [THETA]."""
    algorithm = game(name, size=2, lr=0.0)
    estimate = jensen_shannon_estimate if name == "gan" else wasserstein_estimate
    z = torch.linspace(0, 1, 64)
    real = torch.stack([torch.zeros(64), z], dim=-1)  # [64, 2]
    fake = torch.stack(torch.broadcast_tensors(THETA[:, None], z.flip(0)), dim=-1)  # [θ, 64, 2]
    states = tree.stack([algorithm.init(seed=0) for _ in THETA])
    update = vmap(algorithm.critic_update, in_dims=(0, None, None, None, None, 0))
    for i in range(updates):
        latent, _, mix, _ = algorithm.noise(0, i, 64)
        states, _ = update(states, real, None, latent[0], mix[0], fake)
    return vmap(lambda state, x: estimate(partial(algorithm.score, state), real, x))(states, fake)


def train(name: str, seeds: int, rounds: int, lr: float) -> Tensor:
    """Learn a spiral in a plane of R³²; [sliced W1 or estimate in the loss, seeds, rounds]."""
    randn = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    plane, latent = torch.linalg.qr(randn(32, 2)).Q.T, randn(1000, 2)
    directions = torch.nn.functional.normalize(randn(32, 64), dim=0)
    real = (fgan.data.load("swiss-roll").samples[:1000] @ plane @ directions).sort(dim=0).values
    algorithm = game(name, size=32, lr=lr)
    step = vmap(algorithm.step, in_dims=(0, fgan.Batch(None, None), 0))
    states, seen = tree.stack([algorithm.init(seed) for seed in range(seeds)]), []
    for i, batch in enumerate(fgan.data.batches("swiss-roll", 128, algorithm.n_critic, rounds)):
        fake = vmap(algorithm.generate, in_dims=(0, None))(states, latent) @ directions
        sliced_w1 = (fake.sort(dim=1).values - real).abs().mean(dim=(1, 2))
        noise = tree.stack([algorithm.noise(seed, i, 128) for seed in range(seeds)])
        states, info = step(states, fgan.Batch(batch.real @ plane), noise)
        seen.append(torch.stack([sliced_w1, info.distance]))
    return torch.stack(seen, dim=-1)


def measure(quick: bool) -> Found:
    updates, *sizes = (45, 1, 12, 1e-3) if quick else (400, 3, 200, 1e-4)
    estimates = {name: ask(name, updates) for name in RECIPES}
    training = {name: train(name, *sizes) for name in ("wgan-gp", "gan")}
    js, *claimed = (estimate[THETA != 0] for estimate in estimates.values())
    k = (bound for x in claimed for bound in (x / THETA[THETA != 0].abs()).aminmax())
    ranks = torch.stack(list(training.values())).argsort().argsort().double()
    correlations = vmap(vmap(torch.corrcoef, in_dims=1))(ranks)[..., 0, 1].mean(dim=1)
    return Found(*map(float, [js.min(), *k, *correlations]), estimates, training)


def draw(found: Found) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
    left.plot(THETA, THETA.abs(), color="black", label="W1 = |θ|")
    left.axhline(math.log(2), color="black", linestyle="--", label="JS = log 2, but 0 at θ = 0")
    for name, estimate in found.estimates.items():
        left.scatter(THETA, estimate, color=COLORS[name], label=f"{name.upper()}'s critic")
    left.set(xlabel="θ", ylabel="distance", title="JS does not see how far apart two lines are")
    left.legend(loc="upper center")
    for name, (quality, estimate) in found.training.items():
        right.scatter(quality, estimate, s=4, color=COLORS[name], label=name.upper())
    right.set(xlabel="sliced W1 of the samples (less is better)", ylabel="estimate in the loss")
    right.set_title("WGAN-GP's loss follows the samples, GAN's does not")
    right.legend(loc="upper left")
    return figure


def check(found: Found) -> None:
    js, low, high, clip_low, clip_high, gp, gan = found[:7]
    assert abs(js - math.log(2)) < 0.1, f"a discriminator saw a JS of {js:.2f}"
    assert 0.8 < low < high < 1.25, f"with the penalty, K goes from {low:.2f} to {high:.2f}"
    assert 1.5 < clip_low < clip_high < 1.5 * clip_low, f"clipped, {clip_low:.2f}, {clip_high:.2f}"
    assert 0.8 < gp > gan + 0.2, f"loss and quality have rank correlations {gp:.2f}, {gan:.2f}"


if __name__ == "__main__":
    main(measure, draw, check)
