"""How a WGAN-GP round grows with batch size, critic updates, width and depth.

    python bench/growth.py

Starts from points in the plane, three hidden layers of 256 in both networks, batch 128, five critic
updates, and changes one of the four at a time; the imperative round, `torch.compile` and
`fgan.compile`, all in turn. `torch.compile` unrolls the critic's updates, and so takes minutes.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
from imperative import imperative_step
from rich.console import Console
from rich.table import Table
from rounds import Play, functional, in_turn, machine
from workloads import Workload

import fgan

BASE = {"batch": 128, "n_critic": 5, "width": 256, "depth": 3}
SWEEPS = {
    "batch": [32, 128, 512],
    "n_critic": [1, 5, 25],
    "width": [16, 64, 256, 1024],
    "depth": [2, 3, 6],
}
WAYS = ("imperative", "torch.compile", "fgan.compile")


def workload(batch: int, n_critic: int, width: int, depth: int) -> Workload:
    """The pair of networks at one place of the sweep."""
    hidden = (width,) * depth
    return Workload(
        "points",
        lambda: fgan.models.mlp_generator((2,), 2, hidden=hidden, norm="none"),
        lambda: fgan.models.mlp_critic((2,), hidden=hidden),
        (2,),
        batch,
        n_critic,
    )


def contestants(work: Workload, device: str) -> tuple[dict[str, Play], fgan.Batch, fgan.Noise]:
    """All ways to play the round, from the same weights, and what they are given."""
    torch.manual_seed(0)
    generator, critic = work.generator().to(device), work.critic().to(device)
    algorithm = fgan.wgan_gp(generator, critic, n_critic=work.n_critic)
    whole = torch.compile(algorithm.step, fullgraph=True)
    ways = {
        "fgan.compile": functional(fgan.compile(algorithm)),
        "torch.compile": functional(algorithm._replace(step=whole)),
        "imperative": imperative_step("wgan-gp", generator, critic),
    }
    batch = fgan.Batch(torch.rand(work.n_critic, work.batch_size, 2, device=device))
    return ways, batch, algorithm.noise(0, 0, work.batch_size)


def measure(work: Workload, device: str, rounds: int) -> dict[str, float]:
    """Median milliseconds of every way, all in turn."""
    torch.compiler.reset()  # what it has compiled before takes time at every call
    ways, batch, noise = contestants(work, device)
    times = in_turn(ways, batch, [noise], rounds, device)
    return {way: statistics.median(measured) for way, measured in times.items()}


def main() -> None:
    """Print the table and write it to bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="default: bench/results/growth-DEVICE.json")
    options = parser.parse_args()
    picture = Table(title="WGAN-GP, ms per round")
    for heading in ("what", "value", *WAYS, "imperative / fgan.compile"):
        picture.add_column(heading, justify="left" if heading == "what" else "right")
    rows: dict[tuple[int, ...], dict[str, float]] = {}  # all sweeps meet in one place
    results = []
    for what, values in SWEEPS.items():
        for value in values:
            place = BASE | {what: value}
            key = tuple(place.values())
            if key not in rows:
                rows[key] = measure(workload(**place), options.device, options.rounds)
            row = rows[key]
            results.append({"what": what, "value": value} | row)
            ratio = row["imperative"] / row["fgan.compile"]
            picture.add_row(what, str(value), *(f"{row[way]:.2f}" for way in WAYS), f"{ratio:.2f}")
    Console(width=100).print(picture)
    out = options.out or Path(__file__).parent / "results" / f"growth-{options.device}.json"
    out.write_text(
        json.dumps({"machine": machine(options.device), "rows": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
