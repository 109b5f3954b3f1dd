"""How a WGAN-GP round grows with batch size, critic updates, width and depth.

    python bench/growth.py

Starts from points in the plane, three hidden layers of 256 in both networks, batch 128, five critic
updates, and changes one of the four at a time; imperative against `fgan.compile`, all in turn.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from imperative import imperative_step
from rich.console import Console
from rich.table import Table
from rounds import WARM_UP, Play, functional, machine, synchronize
from workloads import Workload

import fgan

BASE = {"batch": 128, "n_critic": 5, "width": 256, "depth": 3}
SWEEPS = {
    "batch": [32, 128, 512],
    "n_critic": [1, 5, 25],
    "width": [64, 256, 1024],
    "depth": [2, 3, 6],
}


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
    """Both ways to play the round, from the same weights, and what they are given."""
    torch.manual_seed(0)
    generator, critic = work.generator().to(device), work.critic().to(device)
    algorithm = fgan.wgan_gp(generator, critic, n_critic=work.n_critic)
    ways = {
        "fgan.compile": functional(fgan.compile(algorithm)),
        "imperative": imperative_step("wgan-gp", generator, critic),
    }
    batch = fgan.Batch(torch.rand(work.n_critic, work.batch_size, 2, device=device))
    return ways, batch, algorithm.noise(0, 0, work.batch_size)


def main() -> None:
    """Print the table and write it to bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="default: bench/results/growth-DEVICE.json")
    options = parser.parse_args()
    places = [BASE | {what: value} for what, values in SWEEPS.items() for value in values]
    games = {tuple(place.values()): workload(**place) for place in places}
    playing = {key: contestants(work, options.device) for key, work in games.items()}
    times: dict[tuple[int, ...], dict[str, list[float]]] = {
        key: {"imperative": [], "fgan.compile": []} for key in games
    }
    # One round of each, and again, so that a drift of the machine bends no curve.
    for index in range(WARM_UP + options.rounds):
        for key, (ways, batch, noise) in playing.items():
            for way, play in ways.items():
                synchronize(options.device)
                begin = time.perf_counter()
                play(batch, noise)
                synchronize(options.device)
                if index >= WARM_UP:
                    times[key][way].append(1e3 * (time.perf_counter() - begin))
    picture = Table(title="WGAN-GP, ms per round")
    for heading in ("what", "value", "imperative", "fgan.compile", "ratio"):
        picture.add_column(heading, justify="left" if heading == "what" else "right")
    results = []
    for what, values in SWEEPS.items():
        for value in values:
            found = times[tuple((BASE | {what: value}).values())]
            row = {way: statistics.median(measured) for way, measured in found.items()}
            results.append({"what": what, "value": value} | row)
            usual, ours = row["imperative"], row["fgan.compile"]
            picture.add_row(what, str(value), f"{usual:.1f}", f"{ours:.1f}", f"{usual / ours:.2f}")
    Console(width=100).print(picture)
    out = options.out or Path(__file__).parent / "results" / f"growth-{options.device}.json"
    out.write_text(
        json.dumps({"machine": machine(options.device), "rows": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
