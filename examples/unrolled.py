"""Unrolled GAN: a generator that looks k steps of the discriminator ahead does not collapse.

G descends its loss against ψ_k, where ψ_{i+1} is ψ_i after one more critic update against the G of
now, and the gradient goes through all of them (Metz et al. 2017, arXiv 1611.02163, section 2, with
the game's value for a loss; here it is the non-saturating one). The update is a pure function of
the state, so that is `grad` through k calls of it.

    python examples/unrolled.py
"""

import math
from typing import NamedTuple

import torch
from common import FAKE, REAL, main, plt
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import grad, vmap

import fgan
from fgan import tree
from fgan.losses import non_saturating_generator_loss
from fgan.types import Gradient

ANGLES = torch.arange(8) * math.pi / 4
CENTRES = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=-1)
ADAM_G, ADAM_D = fgan.adam(3e-3, betas=(0.5, 0.999)), fgan.adam(1e-3, betas=(0.5, 0.999))


class Found(NamedTuple):
    modes_plain: float
    modes_unrolled: float
    """Of 8, mean over the runs and the last quarter of the training."""
    modes_plain_longest: float
    """The same of plain runs that computed as many critic updates as the unrolled ones."""
    worst_plain_longest: float
    worst_unrolled: float  # these two for the run where it is least
    near_plain_longest: float
    near_unrolled: float  # share of all samples within 0.3 of a mode, at the end
    covered: dict[str, tuple[Tensor, Tensor]]
    """Critic updates computed so far, [times], and modes covered, [times, runs]."""
    samples: dict[str, Tensor]  # [times, runs, 500, 2]


def unrolled(algorithm: fgan.Algorithm, k: int, state: fgan.GANState, real: Tensor, z: Tensor):
    """The gradient of a generator that meets the critic as it will be, k updates on."""

    def loss(params: dict[str, Tensor]) -> Tensor:
        ahead = state._replace(generator=state.generator._replace(params=params))
        fake = algorithm.fakes(ahead, z)
        for _ in range(k):
            ahead, _ = algorithm.critic_update(ahead, real, None, None, None, fake)
        scores = algorithm.score(ahead, fake)
        return non_saturating_generator_loss(scores, scores).mean()

    return Gradient(grad(loss)(state.generator.params), state.generator.buffers, {})


def modes(samples: Tensor) -> Tensor:
    """How many of the 8 have at least 1 % of the samples within 0.3: [runs, N, 2] -> [runs]."""
    near = torch.cdist(samples, CENTRES) < 0.3
    return (near.double().mean(dim=1) > 0.01).sum(dim=-1).double()


def train(k: int, rounds: int, every: int, width: int, size: int, runs: int):
    """Runs with other seeds, all at once: updates computed [times], modes, samples."""
    networks = (
        fgan.models.mlp_generator((2,), latent_dim=16, hidden=(width, width), norm="none"),
        fgan.models.mlp_critic((2,), hidden=(width, width)),
    )
    algorithm = fgan.gan(*networks, generator_optimizer=ADAM_G, critic_optimizer=ADAM_D)
    source = torch.Generator().manual_seed(0)

    def one_round(state: fgan.GANState, real: Tensor, noise: fgan.Noise) -> fgan.GANState:
        state, _ = algorithm.critic_update(state, real, None, noise.critic_latent[0], None)
        gradient = unrolled(algorithm, k, state, real, noise.generator_latent)
        return algorithm.parts.apply_generator(state, gradient)

    states = tree.stack([algorithm.init(seed) for seed in range(runs)])
    latent, covered, samples = torch.randn(500, 16, generator=source), [], []
    for i in range(rounds + 1):
        if i % every == 0:
            made = vmap(algorithm.generate, in_dims=(0, None))(states, latent)
            covered.append(modes(made))
            samples.append(made)
        which = torch.randint(8, (runs, size), generator=source)
        real = CENTRES[which] + 0.05 * torch.randn(runs, size, 2, generator=source)
        noise = tree.stack([algorithm.noise(seed, i, size) for seed in range(runs)])
        states = vmap(one_round)(states, real, noise)
    updates = torch.arange(len(covered)) * every * (1 + k)
    return updates, torch.stack(covered), torch.stack(samples)


def measure(quick: bool) -> Found:
    k, rounds, *sizes = (5, 45, 5, 64, 32, 2) if quick else (5, 480, 20, 64, 64, 4)
    found = {
        "plain": train(0, rounds * (1 + k), *sizes),
        "unrolled": train(k, rounds, *sizes),
    }
    _, plain, _ = found["plain"]
    _, ahead, _ = found["unrolled"]
    last = len(ahead) // 4
    early = plain[len(ahead) - last : len(ahead)]
    late = plain[-(len(plain) // 4) :]
    means = (x.mean().item() for x in (early, ahead[-last:], late))
    worst = (x.mean(dim=0).min().item() for x in (late, ahead[-last:]))
    covered = {name: (updates, modes) for name, (updates, modes, _) in found.items()}
    samples = {name: samples for name, (_, _, samples) in found.items()}
    near = [(torch.cdist(x[-1], CENTRES).amin(-1) < 0.3) for x in samples.values()]
    return Found(*means, *worst, *(float(x.double().mean()) for x in near), covered, samples)


def draw(found: Found) -> Figure:
    figure, axes = plt.subplot_mosaic("0123c;4567c", figsize=(10, 3.6), width_ratios=[1] * 4 + [2])
    unlucky = found.covered["plain"][1][-1].argmin()
    for row, (name, samples) in enumerate(found.samples.items()):
        updates, _ = found.covered[name]
        for column, share in enumerate((0.1, 0.4, 0.7, 1.0)):
            panel, index = axes[str(4 * row + column)], round(share * (len(samples) - 1))
            panel.scatter(*CENTRES.T, s=120, color=REAL, alpha=0.25)
            panel.scatter(*samples[index, unlucky].T, s=1, color=FAKE)
            panel.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
            panel.set_title(f"{name}, {int(updates[index])}", fontsize=8)
    for (name, (updates, modes)), color in zip(found.covered.items(), ("gray", FAKE), strict=True):
        axes["c"].plot(updates, modes, color=color, alpha=0.2, lw=0.7)
        axes["c"].plot(updates, modes.mean(dim=1), color=color, label=name)
    axes["c"].set(xlabel="critic updates computed", ylabel="modes covered, of 8", ylim=(-0.2, 8.2))
    axes["c"].legend()
    return figure


def check(found: Found) -> None:
    plain, ahead, _, worst_plain, worst_ahead, *_ = found
    assert ahead > plain + 1, f"modes covered: {ahead:.1f} unrolled, {plain:.1f} plain"
    assert worst_ahead > worst_plain + 1, f"worst run: {worst_ahead:.1f}, plain {worst_plain:.1f}"


if __name__ == "__main__":
    main(measure, draw, check)
