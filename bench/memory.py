"""Peak memory of a round: parameters, moments, gradients and everything that is made on the way.

    python bench/memory.py

On CUDA the allocator's own peak; on the CPU the peak of what torch's allocator had handed out, from
the profiler's events. Batch and noise, which all contestants share, are not in it.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from imperative import imperative_step
from rich.console import Console
from rich.table import Table
from rounds import Play, functional, machine
from torch.profiler import ProfilerActivity, profile, record_function
from workloads import RECIPES, WORKLOADS, Workload

import fgan

WARM_UP = 3


def peak(
    make: Callable[[], Play], batch: fgan.Batch, noise: fgan.Noise, device: str
) -> tuple[int, Play]:
    """The most bytes that a contestant holds during a round, all that is its own; and the play."""
    if device == "cuda":
        torch.mm(*torch.ones(2, 2, 2, device=device))  # cuBLAS takes its workspace
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        play = make()
        play(batch, noise)  # and the compiler tries its kernels out
        torch.cuda.reset_peak_memory_stats()
        for _ in range(WARM_UP):  # recording allocates what a launch uses
            play(batch, noise)
        return torch.cuda.max_memory_allocated() - before, play
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        play = make()
        for _ in range(WARM_UP):
            play(batch, noise)
        with record_function("measured"):
            play(batch, noise)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    window = next(event for event in events if event.get("name") == "measured")
    allocations = sorted(
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    )
    held, most = 0, 0
    for time, size in allocations:
        held += size
        if window["ts"] <= time <= window["ts"] + window["dur"]:
            most = max(most, held)
    return most, play


def peaks(
    recipe: str, work: Workload, device: str, autocast: torch.dtype | None
) -> dict[str, float]:
    """Megabytes of every contestant."""
    torch.manual_seed(0)
    networks = work.generator().to(device), work.critic().to(device)
    algorithm = RECIPES[recipe](*networks, n_critic=work.n_critic, autocast=autocast)
    shape = (work.n_critic, work.batch_size, *work.sample_shape)
    batch = fgan.Batch(torch.rand(shape, device=device))
    noise = algorithm.noise(0, 0, work.batch_size)
    ways: dict[str, Callable[[], Play]] = {
        "imperative": lambda: imperative_step(recipe, *copy.deepcopy(networks), autocast),
        "eager": lambda: functional(algorithm),
        "fgan.compile": lambda: functional(fgan.compile(algorithm)),
        "fgan.compile, pure": lambda: functional(fgan.compile(algorithm, donate=False)),
    }
    return {way: peak(make, batch, noise, device)[0] / 1e6 for way, make in ways.items()}


def main() -> None:
    """Print the table and write it to bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["mlp", "conv", "toy"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=["wgan-gp"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, help="(default: the workload's own)")
    parser.add_argument("--autocast", action="store_true", help="networks in bfloat16")
    parser.add_argument("--out", type=Path, help="default: bench/results/memory-DEVICE[-bf16].json")
    options = parser.parse_args()
    autocast = torch.bfloat16 if options.autocast else None
    rows = []
    for name in options.workloads:
        for recipe in options.recipes:
            work = WORKLOADS[name]
            if options.batch_size:
                work = work._replace(batch_size=options.batch_size)
            found = peaks(recipe, work, options.device, autocast)
            rows.append({"workload": name, "recipe": recipe} | found)
    picture = Table(*rows[0], title="peak memory of a round, MB")
    for row in rows:
        picture.add_row(
            *(f"{cell:.1f}" if isinstance(cell, float) else cell for cell in row.values())
        )
    Console(width=100).print(picture)
    name = f"memory-{options.device}{'-bf16' * options.autocast}.json"
    out = options.out or Path(__file__).parent / "results" / name
    result = {"machine": machine(options.device), "unit": "MB", "rows": rows}
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
