"""The processes of these tests, which are started once and run all cases."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fgan

HERE = Path(__file__).parent
RANKS = [int(number) for number in os.environ.get("FGAN_RANKS", "2").split()]


def started(folder, *command):
    """A process of Python with one thread, whose output goes to a file named by its last word."""
    paths = [str(HERE), str(HERE.parent), str(Path(fgan.__file__).parents[1])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    with open(folder / f"{Path(str(command[-1])).name}.log", "w") as log:
        return subprocess.Popen(
            [sys.executable, *map(str, command)], env=environment, stdout=log, stderr=log
        )


@pytest.fixture(scope="session", params=RANKS, ids="{} ranks".format)
def ranks(request, tmp_path_factory):
    """The number of processes, and the folder that they have written to."""
    size, folder = request.param, tmp_path_factory.mktemp("ranks")
    processes = [started(folder, HERE / "rank.py", size, folder, rank) for rank in range(size)]
    try:
        # The last one stops, and is waited for by the others until their time is up.
        codes = [process.wait(timeout=400) for process in processes[:-1]]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    logs = "\n".join((folder / f"{rank}.log").read_text()[-3000:] for rank in range(size))
    assert codes == [0] * (size - 1), logs
    return size, folder


@pytest.fixture(scope="session")
def found(ranks):
    """What each rank has found, by case: a list of dicts."""
    size, folder = ranks
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]
