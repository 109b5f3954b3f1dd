"""Milliseconds per round of a whole population: all members at once, or one after another.

    python bench/population.py

WGAN-GP on points in the plane, three hidden layers of 32 in both networks, batch 64, five critic
updates: members of one batch, with parameters and noise of their own. All ways first play the same
two rounds and must find the same critic losses for every member; then they play in turn.
"""

import argparse
import importlib.util
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from imperative import imperative_step
from rich.console import Console
from rich.table import Table
from rounds import Play, first_rounds, functional, in_turn, machine
from torch.func import vmap
from workloads import Workload

import fgan

HIDDEN = (32, 32, 32)
WORK = Workload(
    "points",
    lambda: fgan.models.mlp_generator((2,), 2, hidden=HIDDEN, norm="none"),
    lambda: fgan.models.mlp_critic((2,), hidden=HIDDEN),
    (2,),
    batch_size=64,
)
MEMBERS = [1, 4, 16, 64]
WAYS = (
    "imperative, one by one",
    "fgan.compile, one by one",
    "population, eager",
    "torch.compile(vmap)",
    "jax.jit(vmap)",
    "population, fgan.compile",
)


def one_by_one(plays: list[Play]) -> Play:
    """Every member's own round, after the one before it; it takes the noise of a population."""

    def play(batch: fgan.Batch, noise: fgan.Noise) -> tuple[torch.Tensor, torch.Tensor]:
        made = [
            member(batch, fgan.Noise(noise[0][:, i], noise[1][i], noise[2][:, i]))
            for i, member in enumerate(plays)
        ]
        critic, generator = zip(*made, strict=True)
        return torch.stack(critic), torch.stack(generator)

    return play


def contestants(
    work: Workload, members: int, device: str, wanted: tuple[str, ...] = WAYS
) -> dict[str, Play]:
    """The wanted ways to play the population's round, from the same weights."""
    single = fgan.wgan_gp(work.generator().to(device), work.critic().to(device))
    population, seeds = fgan.population(single), range(members)

    def from_seeds(algorithm: fgan.Algorithm, seeds: object) -> Play:
        return functional(algorithm._replace(init=lambda: algorithm.init(seeds)))

    def modules(seed: int) -> tuple[torch.nn.Module, torch.nn.Module]:
        pair = work.generator().to(device), work.critic().to(device)
        for module, player in zip(pair, single.init(seed)[:2], strict=True):
            module.load_state_dict(player.params)
        return pair

    compiled = fgan.compile(single)
    axes = fgan.Noise(critic_latent=1, generator_latent=0, mix=1)
    vmapped = torch.compile(vmap(single.step, in_dims=(0, None, axes)), fullgraph=True)

    def jax() -> Play:
        from jax_round import jax_population

        return jax_population("wgan-gp", [modules(seed) for seed in seeds])

    ways: dict[str, Callable[[], Play]] = {
        "imperative, one by one": lambda: one_by_one(
            [imperative_step("wgan-gp", *modules(seed)) for seed in seeds]
        ),
        "fgan.compile, one by one": lambda: one_by_one(
            [from_seeds(compiled, seed) for seed in seeds]
        ),
        "population, eager": lambda: from_seeds(population, seeds),
        "torch.compile(vmap)": lambda: from_seeds(population._replace(step=vmapped), seeds),
        "population, fgan.compile": lambda: from_seeds(fgan.compile(population), seeds),
        "jax.jit(vmap)": jax,
    }
    missing = set()
    if device == "cuda":  # each state would be recorded anew
        missing.add("fgan.compile, one by one")
    if not (importlib.util.find_spec("jax") and importlib.util.find_spec("optax")):
        missing.add("jax.jit(vmap)")
    return {way: make() for way, make in ways.items() if way in wanted and way not in missing}


def inputs(members: int, device: str) -> tuple[fgan.Batch, list[fgan.Noise]]:
    """One batch for all, and the noises of four rounds."""
    drawer = fgan.population(fgan.wgan_gp(WORK.generator(), WORK.critic()))
    noises = [drawer.noise(range(members), index, WORK.batch_size, device) for index in range(4)]
    source = torch.Generator().manual_seed(0)
    real = torch.rand(WORK.n_critic, WORK.batch_size, 2, generator=source) * 2 - 1
    return fgan.Batch(real.to(device)), noises


def measure(
    members: int, device: str, rounds: int, wanted: tuple[str, ...] = WAYS, warm_up: int = 5
) -> dict[str, float]:
    """Median milliseconds of every way, round by round in turn."""
    torch.compiler.reset()
    ways = contestants(WORK, members, device, wanted)
    batch, noises = inputs(members, device)
    first_rounds(ways, batch, noises)
    times = in_turn(ways, batch, noises, rounds, device, warm_up)
    return {way: statistics.median(measured) for way, measured in times.items()}


def main() -> None:
    """Print the table and write it to bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", nargs="+", type=int, default=MEMBERS)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="default: bench/results/population-DEVICE.json")
    options = parser.parse_args()
    results = []
    picture = Table(title="WGAN-GP on points, ms per round of the population")
    for heading in ("members", *WAYS):
        picture.add_column(heading, justify="right")
    for members in options.members:
        row = measure(members, options.device, options.rounds)
        results.append({"members": members} | row)
        picture.add_row(str(members), *(f"{row[way]:.2f}" if way in row else "" for way in WAYS))
    where = machine(options.device)
    console = Console(width=150)
    console.print(where)
    console.print(picture)
    out = options.out or Path(__file__).parent / "results" / f"population-{options.device}.json"
    out.parent.mkdir(exist_ok=True, parents=True)
    out.write_text(json.dumps({"machine": where, "rows": results}, indent=1) + "\n")
    console.print(f"written to {out}")


if __name__ == "__main__":
    main()
