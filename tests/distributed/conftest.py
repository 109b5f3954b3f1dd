"""The processes of these tests, which are started once and run all cases."""

import fcntl
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
    size, base = request.param, tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # once for all workers: the others wait
        base = base.parent
    folder = base / f"ranks-{size}"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "codes").exists():
            (folder / "codes").write_text(str(played(size, folder)))
    logs = "\n".join((folder / f"{rank}.log").read_text()[-3000:] for rank in range(size))
    assert (folder / "codes").read_text() == str([0] * max(size - 1, 1)), logs
    return size, folder


def played(size, folder):
    """The exit statuses of the processes, but for the last one, which stops and is killed."""
    processes = [started(folder, HERE / "rank.py", size, folder, rank) for rank in range(size)]
    try:
        # The others wait for the last one until their time is up.
        return [process.wait(timeout=400) for process in processes[:-1] or processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def found(ranks):
    """What each rank has found, by case: a list of dicts."""
    size, folder = ranks
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]
