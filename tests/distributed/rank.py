"""One process of the tests here: it runs every case, and writes down what it found.

    python tests/distributed/rank.py RANK SIZE FOLDER

FOLDER holds the file by which the processes find each other, and takes the results.
"""

import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from parallel_cases import CASES, OTHERS, in_parallel


def main(rank, size, folder):
    """Run all cases in order; an error ends this process, and the others by their time-out."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), size)
    wait = timedelta(seconds=60)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=wait)
    functions = {name: partial(in_parallel, case) for name, case in CASES.items()} | OTHERS
    found = {}
    for name, function in functions.items():
        print(name, flush=True)
        found[name] = function(rank, size)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
