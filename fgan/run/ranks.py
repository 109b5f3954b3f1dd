"""What the processes of one data-parallel run agree on: when to stop, what failed, equal states.

Rank 0 writes the files, and every rank plays the rounds. The loop asks a `Ranks` where the two
meet, and for a run of one process that answers at once.
"""

from __future__ import annotations

import pickle
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fgan import tree
from fgan.run.rank_errors import RankError, is_shared_error, packed, shared_error
from fgan.run.signals import interruptible
from fgan.types import Algorithm, Batch, GANState

T = TypeVar("T")

_GO_ON, _STOP, _NO_BATCH = 0, 1, 2

_TRANSPORT = re.compile(
    r"gloo|NCCL|TCPStore|FileStore|Broken pipe|Connection (reset|closed)|pair closure|[Tt]imed out"
)
"""In what torch raises where another process does not answer, which has no type of its own."""

_BEAT = 0.5
"""Seconds between the signs of life of a rank."""


class Ranks:
    """A run of this process alone: there is nobody to agree with."""

    rank, size = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Around all that the ranks do together: what ends one of them ends all.

        Raises RankError where another rank has failed, or does not answer within the time-out of
        the process group.
        """
        yield

    def on_rank_0(self, function: Callable[[], T]) -> T | None:
        """What the function returns, which rank 0 alone calls; None in the others.

        All ranks raise what it raises.
        """
        return function()

    def from_rank_0(self, function: Callable[[], T]) -> T:
        """What the function returns, which rank 0 alone calls, in all ranks."""
        return function()

    def spread(self, state: GANState) -> GANState:
        """Rank 0's state, in every rank; each gives one of that form."""
        return state

    def batches_for_all(
        self, stream: Iterable[Batch], asked: Event, may_end: bool = False
    ) -> Iterable[Batch]:
        """The batches, which end for all ranks when they end for one.

        asked: set where this process was asked to stop. may_end: whether the batches may be fewer
            than the rounds.
        """
        return stream

    def stopped(self, asked: Event) -> bool:
        """Whether any rank was asked to stop: the same answer in all, once for each batch."""
        return asked.is_set()

    def watch(self, device: torch.device) -> None:
        """Let NCCL's watchdog see whether the rounds so far come to an end on this device.

        The watchdog does not see collectives in a CUDA graph. An all-reduce after the graph ends
        only when the graph has ended, and the watchdog sees that one.
        """

    def check_same(self, state: GANState, done: int) -> None:
        """Raise RankError, naming the first leaf, unless all ranks have the bits of this state."""

    def check_equal(self, settings: Mapping[str, object]) -> None:
        """Raise ValueError, naming the first setting, unless all ranks have the same."""


class Several(Ranks):
    """One of several processes, which all call every method in the same order.

    What they tell each other are tensors on the CPU, so no device is waited for.
    """

    _runs = 0

    def __init__(self) -> None:
        """All processes have to make one at the same time, with a process group of them all."""
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._has_own = "cpu:" not in dist.get_backend_config()
        self._group: Any = dist.new_group(backend="gloo") if self._has_own else dist.group.WORLD
        Several._runs += 1  # keys of an earlier run in this process are others
        self._run = Several._runs
        self._pending: tuple[Tensor, Any] | None = None
        self._asked = Event()

    # --- what ends one ends all -------------------------------------------------------------------

    @contextmanager
    def guarded(self) -> Iterator[None]:
        ended = Event()
        beating = Thread(target=self._beat, args=(ended,), daemon=True)
        beating.start()
        try:
            # torchrun sends SIGTERM to the others when one ends; they have to say why first.
            with interruptible() as self._asked:
                yield from self._watched()
        finally:
            ended.set()
            beating.join()
            if self._has_own:  # pragma: no cover (needs a GPU)
                dist.destroy_process_group(self._group)

    def _watched(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if is_shared_error(error):
                raise
            if _TRANSPORT.search(str(error)):
                raise self._lost(error) from error
            self._count("failed", self.rank)
            self._count("reported")
            raise

    def on_rank_0(self, function: Callable[[], T]) -> T | None:
        error, value = None, None
        if self.is_first:
            try:
                value = function()
            except Exception as raised:
                error = raised
        failed = self._spread_bytes(b"" if error is None else packed(error))
        if failed:
            raise shared_error(error if error is not None else pickle.loads(failed))
        return value

    def _beat(self, ended: Event) -> None:
        """Count as long as this process lives, so that the others can tell who does not."""
        while not ended.wait(_BEAT):
            self._count("beat", self.rank)

    def _lost(self, error: Exception) -> RankError:
        """What to raise where another rank did not answer; the first that is asked tells it."""
        before = self._counts("beat")
        if not (failed := [rank for rank, n in self._counts("failed").items() if n]):
            time.sleep(3 * _BEAT)
        after = self._counts("beat")
        self._count("left", self.rank)  # its beats end
        left = self._counts("left")
        silent = [rank for rank in after if after[rank] == before[rank] and not left[rank]]
        names = ", ".join(map(str, failed or silent))
        what = "failed" if failed else "ended, or hangs"
        who = f"rank {names} of the {self.size} processes {what}"
        if not names:
            who = f"the connections between the {self.size} processes broke"
        said = str(error).partition("\n")[0].rpartition("] ")[2].partition(". This is")[0]
        return shared_error(
            RankError(f"{who} ({said}). Resume the run from its last checkpoint, if it has one"),
            # A rank that failed has told why itself.
            reported=self._count("reported") > 1,
        )

    def _count(self, what: str, rank: int | str = "", by: int = 1) -> int:
        """Add to a number that all ranks see, also where they cannot reach each other; 0 if none.

        It is kept where the processes found each other.
        """
        find = getattr(dist.distributed_c10d, "_get_default_store", None)
        try:
            return 0 if find is None else int(find().add(f"fgan/{self._run}/{what}/{rank}", by))
        except RuntimeError:  # the process that kept the numbers has ended
            return 0

    def _counts(self, what: str) -> dict[int, int]:
        return {rank: self._count(what, rank, by=0) for rank in range(self.size)}

    # --- the same in all --------------------------------------------------------------------------

    def from_rank_0(self, function: Callable[[], T]) -> T:
        value = self.on_rank_0(function)
        told: T = pickle.loads(self._spread_bytes(pickle.dumps(value)))
        return told

    def spread(self, state: GANState) -> GANState:
        copied = tree.map(lambda x: x.detach().clone(memory_format=torch.contiguous_format), state)
        for leaf in tree.leaves(copied):
            dist.broadcast(leaf, group_src=0)
        return GANState(*copied)

    def _spread_bytes(self, content: bytes) -> bytes:
        """Rank 0's bytes; where there are none, one short message."""
        size = torch.tensor([len(content)], device="cpu")
        dist.broadcast(size, group=self._group, group_src=0)
        if not size.item():
            return b""
        kept = torch.empty(int(size), dtype=torch.uint8, device="cpu")
        if self.is_first:
            kept = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        dist.broadcast(kept, group=self._group, group_src=0)
        return kept.numpy().tobytes()

    # --- the rounds -------------------------------------------------------------------------------

    def batches_for_all(
        self, stream: Iterable[Batch], asked: Event, may_end: bool = False
    ) -> Iterator[Batch]:
        source = iter(stream)
        while True:
            batch = next(source, None)
            if batch is None and not may_end:
                return
            code = _STOP if asked.is_set() or self._asked.is_set() else _GO_ON
            self._begin(_NO_BATCH if batch is None else code)
            if may_end and self._end() == _NO_BATCH:
                return
            assert batch is not None
            yield batch

    def stopped(self, asked: Event) -> bool:
        # What was asked for while the round was played is sent with the next one.
        return self._end() == _STOP

    def _begin(self, code: int) -> None:
        """Send a code; the round is played before the answer is needed."""
        highest = torch.tensor([code], device="cpu")
        work = dist.all_reduce(highest, dist.ReduceOp.MAX, group=self._group, async_op=True)
        self._pending = highest, work

    def _end(self) -> int:
        """The highest code of all ranks."""
        assert self._pending is not None
        highest, work = self._pending
        if work is not None:
            work.wait()
            self._pending = highest, None
        return int(highest)

    def watch(self, device: torch.device) -> None:
        if device.type != "cpu":  # gloo has no watchdog: each of its collectives has the time-out
            dist.all_reduce(torch.zeros(1, device=device))

    # --- checks -----------------------------------------------------------------------------------

    def check_same(self, state: GANState, done: int) -> None:
        named = {
            name: leaf for name, leaf in tree.named_leaves(state).items() if _is_shared(name, leaf)
        }
        mine = torch.stack([checksum(leaf) for leaf in named.values()]).cpu()
        every = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(every, mine, group=self._group)
        for rank, other in enumerate(every):
            differing = (other != every[0]).nonzero().flatten().tolist()
            if differing:
                name = list(named)[differing[0]]
                raise shared_error(
                    RankError(
                        f"round {done}: rank {rank} has another state than rank 0, in "
                        f"{len(differing)} of {len(named)} leaves, the first {name}. Every rank "
                        "has to run the same code on devices of one kind. Resume the run from its "
                        "last checkpoint, if it has one"
                    )
                )

    def check_equal(self, settings: Mapping[str, object]) -> None:
        mine = {name: repr(value) for name, value in settings.items()}
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, mine, group=self._group)
        for rank, other in enumerate(every):
            for name, value in every[0].items():
                if other[name] != value:
                    raise shared_error(
                        ValueError(
                            f"rank {rank} has {name} = {other[name]}, and rank 0 has {value}: "
                            "every process is started with the same settings and data"
                        )
                    )


def ranks_of(algorithm: Algorithm) -> Ranks:
    """The processes that train an algorithm: this one alone, unless it is data-parallel.

    Raises ValueError for a data-parallel algorithm of some of the processes only.
    """
    if algorithm.share is None:
        return Ranks()
    if not dist.is_initialized():
        raise ValueError("the process group of this data-parallel algorithm has been destroyed")
    everyone = dist.get_rank(), dist.get_world_size()
    if algorithm.share != everyone:
        raise ValueError(
            f"fgan.train takes a data-parallel algorithm of all processes: its share is "
            f"{algorithm.share}, and this is process {everyone[0]} of {everyone[1]}"
        )
    return Several()


def checksum(leaf: Tensor) -> Tensor:
    """A 0-d int64 tensor of the bits of a tensor: one changed or moved element changes it.

    A sum of integers, so that the order of adding, another one on every device, changes nothing.
    """
    flat = leaf.detach().reshape(-1)
    flat = torch.view_as_real(flat).reshape(-1) if flat.is_complex() else flat
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    numbers = flat.view(kind).to(torch.int64)
    odd = torch.arange(1, 2 * len(numbers), 2, device=flat.device)
    return (numbers * (odd * 0x2545F4914F6CDD1D)).sum()


def _is_shared(name: str, leaf: Tensor) -> bool:
    """Whether a leaf is the same in all ranks; integer buffers are each process's own."""
    return leaf.is_floating_point() or leaf.is_complex() or "buffers" not in name
