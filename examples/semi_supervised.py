"""A discriminator that learns to classify, from two labels a class and points that have none.

It has K logits l(x), one for each class, and "fake" has the logit 0, so that "real" has the logit
log Σ exp l(x): every point without a label, and every fake, teaches the network that classifies. G
matches the mean of D's features on the data (Salimans et al. 2016, arXiv 1606.03498, sections 3.1
and 5). That classifier beats the same network trained on the labels alone.

    python examples/semi_supervised.py
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from common import FAKE, main, plt
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import vmap

import fgan
from fgan import losses, tree
from fgan.objectives import CriticObjective, GeneratorObjective
from fgan.types import Data

METHODS = {"labels alone": 0.0, "with the generator": 3.0}  # and the weight of the game
COLORS = "tab:gray", "tab:green"
GRID = torch.cartesian_prod(torch.linspace(-2, 2, 80), torch.linspace(-1.5, 1.5, 60))


class Classifier(nn.Module):
    """x -> its K logits, and the features that they are read from."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        layers = [nn.Linear(2, width), *(nn.Linear(width, width) for _ in range(2))]
        self.features = nn.Sequential(*(part for x in layers for part in (x, nn.LeakyReLU(0.2))))
        self.logits = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return self.logits(features), features


D = Classifier(classes=2, width=100)
G = fgan.models.mlp_generator((2,), latent_dim=8, hidden=(64, 64), norm="none")


def classify(critic: Any, data: Data) -> tuple[Tensor, Any, dict[str, Tensor]]:
    """Cross entropy of the labelled points, and the weighted game of points without a label."""
    x, y, weight = (data.extra[name] for name in ("x", "y", "weight"))
    (logits, _), buffers = critic(torch.cat([x, data.real, data.fake]))
    on_labelled, on_real, on_fake = logits.split([len(x), len(data.real), len(data.fake)])
    game = losses.minimax_critic_loss(on_real.logsumexp(dim=1), on_fake.logsumexp(dim=1))
    return F.cross_entropy(on_labelled, y) + weight * game.mean(), buffers, {}


def match_features(critic: Any, fake: Tensor, data: Data) -> tuple[Tensor, dict[str, Tensor]]:
    """The squared distance of the features' means (Salimans et al. 2016, section 3.1)."""
    on_real, on_fake = (critic(x)[0][1].mean(dim=0) for x in (data.real, fake))
    return (on_real - on_fake).square().sum(), {}


def make(generator_optimizer: Any, critic_optimizer: Any) -> fgan.Algorithm:
    objectives = CriticObjective(classify), GeneratorObjective(match_features, uses_real=True)
    optimizers = dict(generator_optimizer=generator_optimizer, critic_optimizer=critic_optimizer)
    return fgan.make_algorithm(G, D, *objectives, **optimizers)


def moons(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two half circles that reach into each other: points [n, 2], classes [n]."""
    source = torch.Generator().manual_seed(seed)
    classes, angle = torch.arange(n) % 2, math.pi * torch.rand(n, generator=source)
    arc = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    noise = 0.1 * torch.randn(n, 2, generator=source)
    return arc * (1 - 2 * classes[:, None]) + noise, classes


class Found(NamedTuple):
    labels_alone: float  # accuracy on 2000 points that no run has seen, mean over the runs
    with_generator: float
    gain: float  # mean over the runs, each against its twin with the same labels and start
    gain_error: float  # its standard error
    gain_least: float
    accuracy: Tensor  # [times, methods, runs]
    example: tuple[Tensor, ...]


def measure(quick: bool) -> Found:
    runs, rounds, every, size, rate = (6, 140, 70, 64, 1e-2) if quick else (10, 600, 20, 128, 3e-3)
    (points, classes), (unseen, answers) = moons(4000, seed=0), moons(2000, seed=1)
    optimizers = [fgan.adam(r, betas=(0.5, 0.999)) for r in (rate / 3, rate)]
    algorithm = make(*optimizers)

    def step(state: Any, weight: Tensor, x: Tensor, y: Tensor, real: Tensor, z: Tensor) -> Any:
        extra = {"x": x, "y": y, "weight": weight}
        state, _ = algorithm.critic_update(state, real, None, z, None, extra=extra)
        return algorithm.generator_update(state, z, real=real)[0]

    d_at = fgan.make_functional(D).apply
    # All runs of a method at once, and of both methods: twins see the same points and noise.
    all_runs = vmap(step, in_dims=(0, None, 0, 0, 0, 0))
    both = vmap(all_runs, in_dims=(0, 0, None, None, None, None))
    source = torch.Generator().manual_seed(2)
    labelled = 2 * torch.randint(2000, (runs, 2, 1), generator=source) + torch.arange(2)
    labelled = labelled.flatten(start_dim=1)  # [runs, 4]: two points of each class
    state = tree.stack([tree.stack([algorithm.init(seed) for seed in range(runs)])] * 2)
    accuracy = []
    for i in range(rounds + 1):
        if i % every == 0:
            logits = vmap(vmap(lambda d: d_at(d, {}, unseen)[0][0]))(state.critic.params)
            accuracy.append((logits.argmax(dim=-1) == answers).double().mean(dim=-1))
        real = points[torch.randint(len(points), (runs, size), generator=source)]
        z = torch.randn(runs, size, G.latent_dim, generator=source)
        x, y = points[labelled], classes[labelled]
        state = both(state, torch.tensor([*METHODS.values()]), x, y, real, z)

    gains = accuracy[-1][1] - accuracy[-1][0]
    middle = int(gains.argsort()[runs // 2])
    state = tree.map(lambda leaf: leaf[:, middle], state)
    regions = vmap(lambda d: d_at(d, {}, GRID)[0][0].softmax(dim=1)[:, 1])(state.critic.params)
    fakes = vmap(algorithm.generate, in_dims=(0, None))(state, z[middle])[1]
    return Found(
        *accuracy[-1].mean(dim=1).tolist(),
        gains.mean().item(),
        gains.std().item() / runs**0.5,
        gains.min().item(),
        torch.stack(accuracy),
        (points[:500], x[middle], y[middle], regions, fakes),
    )


def draw(found: Found) -> Figure:
    figure, (*maps, curves) = plt.subplots(1, 3, figsize=(9.6, 3))
    points, x, y, regions, fakes = found.example
    for panel, region, name in zip(maps, regions, METHODS, strict=True):
        panel.contourf(*(axis.view(80, 60) for axis in (*GRID.T, region)), 10, cmap="coolwarm")
        panel.scatter(*points.T, s=1, color="black")
        panel.scatter(*x.T, s=70, c=y, cmap="coolwarm", edgecolors="black", linewidths=1.5)
        panel.set(title=name, xticks=[], yticks=[], xlim=(-2, 2), ylim=(-1.5, 1.5))
    maps[1].scatter(*fakes.T, s=6, color=FAKE, label="G's points")
    maps[1].legend(loc="lower left", handletextpad=0)
    time = torch.linspace(0, 1, len(found.accuracy))
    for name, color, values in zip(METHODS, COLORS, found.accuracy.unbind(1), strict=True):
        curves.plot(time, values, color=color, alpha=0.25, lw=0.8)
        curves.plot(time, values.mean(dim=1), color=color, label=name)
    curves.set(xlabel="share of the training", ylabel="accuracy", title="Unseen points, all runs")
    curves.legend(loc="lower right")
    return figure


def check(found: Found) -> None:
    assert found.gain > 0.05, f"the generator's help is worth {found.gain:.3f} of accuracy"
    assert found.gain > 3 * found.gain_error, f"{found.gain:.3f} ± {found.gain_error:.3f} is luck"


if __name__ == "__main__":
    main(measure, draw, check)
