"""Seconds until a process has played its first compiled round, with a cold and a warm cache.

    python bench/startup.py

Each figure is that of a process of its own. Cold: the compiler's cache is an empty folder; warm:
the same folder again. torch's import is not in it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from workloads import RECIPES, WORKLOADS

CHILD = """
import sys, time, torch, fgan
from workloads import RECIPES, WORKLOADS
name, recipe, device = sys.argv[1:]
work = WORKLOADS[name]
torch.manual_seed(0)
generator, critic = work.generator().to(device), work.critic().to(device)
algorithm = fgan.compile(RECIPES[recipe](generator, critic, n_critic=work.n_critic))
batch = fgan.Batch(torch.rand(work.n_critic, work.batch_size, *work.sample_shape, device=device))
noise = algorithm.noise(0, 0, work.batch_size)
state = algorithm.init()
begin = time.perf_counter()
state, info = algorithm.step(state, batch, noise)
info.critic_loss.item()
print(time.perf_counter() - begin)
"""


def first_call(name: str, recipe: str, device: str, cache: str) -> float:
    """Seconds of the first call in a new process with this cache folder."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parent), str(here), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache, "PYTHONPATH": paths}
    command = [sys.executable, "-c", CHILD, name, recipe, device]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table and write it to bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["mlp", "conv", "toy"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=["wgan-gp"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="default: bench/results/startup-DEVICE.json")
    options = parser.parse_args()
    picture = Table(title="seconds of the first call")
    for heading in ("workload", "recipe", "cold", "warm"):
        picture.add_column(heading)
    results = []
    for name in options.workloads:
        for recipe in options.recipes:
            with tempfile.TemporaryDirectory() as cache:
                cold, warm = (first_call(name, recipe, options.device, cache) for _ in range(2))
            results.append({"workload": name, "recipe": recipe, "cold_s": cold, "warm_s": warm})
            picture.add_row(name, recipe, f"{cold:.1f}", f"{warm:.1f}")
    Console(width=100).print(picture)
    out = options.out or Path(__file__).parent / "results" / f"startup-{options.device}.json"
    out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
