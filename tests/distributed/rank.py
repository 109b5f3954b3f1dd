"""One process of the tests here: it runs every case, and writes down what it found.

    python tests/distributed/rank.py SIZE FOLDER RANK

FOLDER holds the file by which the processes find each other, and takes the results.
"""

import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from parallel_cases import CASES, OTHERS, in_parallel
from run_cases import RUNS, stop


def main(size, folder, rank):
    """Run all cases in order; an error ends this process, and the others by their time-out."""
    torch.set_num_threads(1)
    join = partial(group, folder, rank, size)
    join("store", timeout=60)
    functions = {name: partial(in_parallel, case) for name, case in CASES.items()} | OTHERS
    for name, function in RUNS.items():
        (folder / name).mkdir(exist_ok=True)
        functions[name] = partial(function, folder=folder / name)
    found = {}
    for name, function in functions.items():
        began = time.perf_counter()
        print(name, flush=True)
        found[name] = function(rank, size)
        print(f"{name}: {time.perf_counter() - began:.2f} s", flush=True)
    dist.destroy_process_group()
    # The last case: one rank stops for good, and has to have written its results before.
    torch.save(found, folder / f"{rank}.pt")
    if size > 1:
        join("last store", timeout=10)
        found["stopped"] = stop(rank, size, folder / "stopped")
        torch.save(found, folder / f"{rank}.pt")


def group(folder, rank, size, name, timeout):
    """Join the process group of all."""
    store, wait = dist.FileStore(str(folder / name), size), timedelta(seconds=timeout)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=wait)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
