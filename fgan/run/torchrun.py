"""A command that torchrun has started several times: one run, whose rank 0 goes first.

Rank 0 reads the command line, the data and the folder before the others do, so a mistake is told
once. Then all train together.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from fgan.distributed import data_parallel
from fgan.run.rank_errors import is_reported_elsewhere
from fgan.shares import part_of
from fgan.types import Algorithm

TIMEOUT = "FGAN_TIMEOUT"
"""The environment variable with the seconds that a process waits for the others."""
DEFAULT_TIMEOUT = 600.0

_READY = -1
_PREPARATION = timedelta(days=7)
"""A download, or the conversion of a large folder, has no time-out that anybody could choose."""


class Launch:
    """A command that was started once."""

    rank, size = 0, 1
    restarted = False
    """Whether torchrun has started the command anew, after a process had failed."""

    def report(self, error: BaseException, text: str | None = None) -> None:
        """Print why the command ends, unless another process prints it."""
        print(f"fgan: {error if text is None else text}", file=sys.stderr)

    def check(self, device: torch.device) -> None:
        """Raise ValueError for a device that not every process has to itself."""

    def check_batch(self, batch_size: int, parts: int) -> None:
        """Raise ValueError for a batch that has no equal parts for all processes.

        parts: that each process takes its own part in.
        """

    def parallel(self, algorithm: Algorithm) -> Algorithm:
        """The algorithm that is trained; the processes that wait for rank 0 go on."""
        return algorithm


class _Several(Launch):
    """One of the processes that torchrun started."""

    def __init__(self) -> None:
        """Wait for all others. Raises ValueError for a time-out that is none."""
        seconds, self._is_ours = _timeout(), not dist.is_initialized()
        has_cuda = torch.cuda.is_available() and dist.is_nccl_available()
        if has_cuda and (local := int(os.environ["LOCAL_RANK"])) < torch.cuda.device_count():
            torch.cuda.set_device(local)
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        if self._is_ours:
            backend = "cpu:gloo,cuda:nccl" if has_cuda else "gloo"
            _make_group(backend, timedelta(seconds=seconds), restarts)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.restarted = restarts > 0
        self._turn: Any = dist.new_group(backend="gloo", timeout=_PREPARATION)
        self._is_preparing = True

    def wait_for_first(self) -> int | None:
        """None when it is this process's turn; the exit status of rank 0 where it has ended."""
        if self.rank == 0:
            return None
        said = torch.empty((), dtype=torch.int64, device="cpu")
        dist.broadcast(said, group=self._turn, group_src=0)
        return None if said == _READY else int(said)

    def end(self, status: int) -> None:
        """Leave: tell the processes that wait, if there are any."""
        if self.rank == 0 and self._is_preparing:
            with contextlib.suppress(RuntimeError):  # they have ended already
                self._say(status)
        if status == 0:  # after an error, some connection may be broken
            dist.destroy_process_group(self._turn)
            if self._is_ours:
                dist.destroy_process_group()

    def _say(self, status: int) -> None:
        dist.broadcast(torch.tensor(status, device="cpu"), group=self._turn, group_src=0)
        self._is_preparing = False

    def report(self, error: BaseException, text: str | None = None) -> None:
        if not is_reported_elsewhere(error, self.rank):
            who = f"rank {self.rank}: " if self.rank else ""
            super().report(error, f"{who}{error if text is None else text}")

    def check(self, device: torch.device) -> None:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if device.type != "cuda" or here == 1:
            return
        if device.index is not None:  # pragma: no cover (needs a GPU)
            raise ValueError(
                f"each of the {here} processes has a GPU of its own, and {device} was given: leave "
                "--device out, or give cuda"
            )
        if here > (there := torch.cuda.device_count()):  # pragma: no cover (needs a GPU)
            raise ValueError(
                f"{here} processes need as many GPUs, and {there} are here: give torchrun "
                f"--nproc-per-node {there}, or --device cpu"
            )

    def check_batch(self, batch_size: int, parts: int) -> None:
        part_of((self.rank, self.size), "batch_size", batch_size)
        if batch_size // self.size % parts:
            raise ValueError(
                f"accumulate is {parts}, and each of {self.size} processes has "
                f"{batch_size // self.size} samples of a batch, which have no {parts} equal parts"
            )

    def parallel(self, algorithm: Algorithm) -> Algorithm:
        algorithm = data_parallel(algorithm)
        if self.rank == 0:
            self._say(_READY)
        return algorithm


def _make_group(backend: str, timeout: timedelta, restarts: int) -> None:
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    # torchrun may keep its store over restarts, and with it the addresses of processes that ended.
    own = PrefixStore(f"fgan/{restarts}/{size}", store)
    dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=timeout)


def launched(command: Callable[[Launch], int]) -> int:
    """The exit status of a command, as one process or as one of those that torchrun started.

    The processes of torchrun find each other by what it puts into the environment. They use gloo on
    the CPU and NCCL on CUDA, where each has the GPU of its local rank. Rank 0 alone prints, but for
    errors of one process.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return command(Launch())
    try:
        launch = _Several()
    except ValueError as error:
        Launch().report(error)
        return 2
    status = 1
    with _quiet(launch.rank > 0):
        try:
            ended = launch.wait_for_first()
            status = command(launch) if ended is None else ended
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
            raise
        except Exception as error:
            if not is_reported_elsewhere(error, launch.rank):
                raise
        finally:
            launch.end(status)
    return status


@contextlib.contextmanager
def _quiet(is_quiet: bool) -> Iterator[None]:
    """Without standard output and warnings, which are those of rank 0."""
    if not is_quiet:
        yield
        return
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _timeout() -> float:
    """Seconds that a process waits for the others. Raises ValueError, in rank 0."""
    given = os.environ.get(TIMEOUT, "")
    try:
        seconds = float(given) if given else DEFAULT_TIMEOUT
    except ValueError:
        seconds = math.nan
    if 0 < seconds < math.inf:
        return seconds
    if int(os.environ["RANK"]):  # rank 0 tells it, and ends all
        return DEFAULT_TIMEOUT
    raise ValueError(f"{TIMEOUT} is a number of seconds above 0, and {given!r} was given")
