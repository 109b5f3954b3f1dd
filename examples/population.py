"""A whole sweep trained at once: a population of values, each of them a population of seeds.

A round is a pure function of (λ, state, batch, noise), so it can be vmapped over seeds and over
values, and each member is the run that it would have been alone. The sweep asks how much the bound
c of WGAN and the weight λ of WGAN-GP matter: below some c, clipping lets nothing be learnt
(Gulrajani et al. 2017, arXiv 1704.00028, section 3), and λ too can be too large, if more gently.

    python examples/population.py
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from common import COLORS, main, plt
from matplotlib.figure import Figure
from torch import Tensor

import fgan
from fgan import tree

DATA = fgan.data.load("swiss-roll")
GENERATOR = fgan.models.mlp_generator((2,), latent_dim=2, hidden=(32, 32), norm="none").double()
CRITIC = fgan.models.mlp_critic((2,), hidden=(32,) * 4).double()
LATENT = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1)).double()


class Found(NamedTuple):
    difference: float
    """The largest between any number of a member's state, a round on, and of the run alone."""
    members: int
    speedup_wgan_gp: float
    speedup_wgan: float  # seconds of a round one member after another, over that of all at once
    untrained: float  # sliced W1 from the data; those below are after training, median of seeds
    wgan_gp_best: float
    wgan_gp_worst: float
    wgan_best: float
    wgan_worst: float
    sweeps: dict[str, tuple[Tensor, Tensor]]  # values of λ or c, [V], and distances, [V, S]


def rounds_of(algorithm: fgan.Algorithm, seeds: list[range], rounds: int):
    """What the rounds take: one batch for all members, and noise for each of them."""
    for i, batch in enumerate(fgan.data.batches(DATA, 64, algorithm.n_critic, rounds)):
        yield fgan.Batch(batch.real.double()), algorithm.noise(seeds, i, 64, dtype=torch.float64)


def sliced_w1(algorithm: fgan.Algorithm, states: fgan.GANState) -> Tensor:
    """The mean of W1 from the data along 32 directions of the plane, [V, S]."""
    angles = torch.arange(32).double() * torch.pi / 32
    directions = torch.stack([angles.cos(), angles.sin()])
    fake = algorithm.generate(states, LATENT) @ directions
    real = DATA.samples[: len(LATENT)].double() @ directions
    return (fake.sort(dim=-2).values - real.sort(dim=-2).values).abs().mean(dim=(-1, -2))


def against_running_alone(
    algorithm: fgan.Algorithm,
    recipe: Callable[[Tensor], fgan.Algorithm],
    values: Tensor,
    seeds: list[range],
    states: fgan.GANState,
) -> tuple[float, float]:
    """A round more: the largest difference from the same runs one by one, and the speed-up."""
    ((batch, noise),) = rounds_of(algorithm, seeds, rounds=1)
    runs = [recipe(value) for value, row in zip(values, seeds, strict=True) for _ in row]
    noises = [runs[0].noise(seed, 0, 64, dtype=torch.float64) for row in seeds for seed in row]
    given = list(zip(runs, one_by_one(states), noises, strict=True))
    start = time.perf_counter()
    together, _ = algorithm.step(states, batch, noise)
    middle = time.perf_counter()
    alone = [run.step(state, batch, own)[0] for run, state, own in given]
    end = time.perf_counter()
    pairs = zip(tree.leaves(one_by_one(together)), tree.leaves(alone), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs), (end - middle) / (middle - start)


def one_by_one(states: fgan.GANState) -> list[fgan.GANState]:
    """The members of a state [V, S, ...]."""
    return [member for row in tree.unstack(states) for member in tree.unstack(row)]


def measure(quick: bool) -> Found:
    rate, n_critic, rounds, seeds = (6e-3, 2, 40, 2) if quick else (2e-3, 3, 300, 3)
    shared = dict(n_critic=n_critic, ema_decay=0.8 if quick else 0.95)
    adam, rmsprop = fgan.adam(rate, betas=(0.0, 0.9)), fgan.rmsprop(rate)
    by_adam = dict(generator_optimizer=adam, critic_optimizer=adam)
    by_rmsprop = dict(generator_optimizer=rmsprop, critic_optimizer=rmsprop)
    pair = GENERATOR, CRITIC
    recipes = {
        "wgan-gp": lambda weight: fgan.wgan_gp(*pair, penalty_weight=weight, **by_adam, **shared),
        "wgan": lambda clip: fgan.wgan(*pair, clip=clip, **by_rmsprop, **shared),
    }
    grids = {"wgan-gp": torch.logspace(-1, 1, 3 if quick else 5).double()}
    grids["wgan"] = torch.logspace(-3, 0, 4 if quick else 7).double()
    sweeps, differences, speedups = {}, [], []
    for name, recipe in recipes.items():
        values, rows = grids[name], [range(seeds)] * len(grids[name])
        algorithm = fgan.population(lambda value, r=recipe: fgan.population(r(value)), values)
        states = algorithm.init(rows)
        untrained = sliced_w1(algorithm, states).median().item()
        for batch, noise in rounds_of(algorithm, rows, rounds):
            states, _ = algorithm.step(states, batch, noise)
        sweeps[name] = values, sliced_w1(algorithm, states)
        found = against_running_alone(algorithm, recipe, values, rows, states)
        differences, speedups = [*differences, found[0]], [*speedups, found[1]]
    middle = [distances.median(dim=1).values for _, distances in sweeps.values()]
    members = sum(distances.numel() for _, distances in sweeps.values())
    ranges = (float(bound) for m in middle for bound in (m.min(), m.max()))
    return Found(max(differences), members, *speedups, untrained, *ranges, sweeps)


def draw(found: Found) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for panel, (name, (values, distances)) in zip(panels, found.sweeps.items(), strict=True):
        panel.axhline(found.untrained, color="black", linestyle="--", label="untrained")
        panel.semilogx(values, distances, ".", color=COLORS[name], alpha=0.6)
        panel.semilogx(values, distances.median(dim=1).values, color=COLORS[name], label=name)
        panel.legend()
    panels[0].set(xlabel="penalty weight λ", ylabel="sliced W1 from the data", title="WGAN-GP")
    panels[1].set(xlabel="clip bound c", title="WGAN", ylim=(0, None))
    return figure


def check(found: Found) -> None:
    assert found.difference < 1e-9, f"a member is {found.difference:.0e} away from the run alone"
    learnt = max(found.wgan_gp_best, found.wgan_best)
    assert learnt < 0.5 * found.untrained, f"{learnt:.2f} from {found.untrained:.2f}"
    clipped_hardest = found.sweeps["wgan"][1][0].median()
    assert clipped_hardest > 0.9 * found.untrained, f"c = 0.001 learns: {clipped_hardest:.2f}"
    _, distances = found.sweeps["wgan-gp"]
    steepest = distances.median(dim=1).values.argmax()
    assert steepest == len(distances) - 1, "the largest λ is not the one that learns least"
    assert found.wgan_gp_worst > 1.2 * found.wgan_gp_best, "λ hardly matters"


if __name__ == "__main__":
    main(measure, draw, check)
