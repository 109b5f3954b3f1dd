"""The checkpoints of a run: the latest one, and the last few before it."""

import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fgan.data.files import make_folder, replacing
from fgan.run import checkpoints
from fgan.run.checkpoints import CheckpointError, DamagedError
from fgan.types import GANState

CHECKPOINT, EARLIER = "checkpoint.pt", "checkpoints"
State = TypeVar("State")

_NAME = re.compile(r"round-(\d{6,})\.pt")


class History:
    """`checkpoint.pt`, the latest checkpoint, and `checkpoints/round-NNNNNN.pt`, those before it.

    `keep` earlier ones stay beside the latest. The best one has a file of its own (`run.best`).
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self.keep = folder, keep
        self.latest_is_whole = False
        """Whether `checkpoint.pt` holds the state after round `saved`."""
        self.saved: int | None = None
        """The round that a resumed run would go on from; None before the first checkpoint."""

    def __bool__(self) -> bool:
        """Whether there is any checkpoint, whole or not."""
        return (self._folder / CHECKPOINT).exists() or bool(earlier(self._folder))

    def load(self, like: GANState) -> GANState:
        """The latest whole state; see `load_latest`."""
        state, self.latest_is_whole = load_latest(self._folder, like)
        self.saved = int(state.round)
        if self.latest_is_whole:  # else one of those before it holds this very state
            self._prune(self.saved)
        return state

    def save(self, state: GANState, done: int) -> None:
        """Save the state after round `done` as the latest one."""
        latest = self._folder / CHECKPOINT
        if self.keep and self.latest_is_whole:
            make_folder(self._folder / EARLIER)
            with replacing(self._folder / EARLIER / f"round-{self.saved:06d}.pt") as temporary:
                link(latest, temporary)
        checkpoints.save(latest, state)
        self.saved, self.latest_is_whole = done, True
        self._prune(done)

    def _prune(self, done: int) -> None:
        """Remove what is older than the last few, and what a lost continuation left behind."""
        known = earlier(self._folder)
        before = sorted(number for number in known if number < done)
        kept = before[-self.keep :] if self.keep else []
        for number in known.keys() - set(kept):
            known[number].unlink(missing_ok=True)


def earlier(folder: Path) -> dict[int, Path]:
    """The checkpoints before the latest one, by their round."""
    named = ((_NAME.fullmatch(path.name), path) for path in (folder / EARLIER).glob("round-*.pt"))
    return {int(match[1]): path for match, path in named if match}


def load_latest(folder: Path, like: State) -> tuple[State, bool]:
    """The latest state in a run's folder that is whole, and whether `checkpoint.pt` holds it.

    Where `checkpoint.pt` is damaged, the checkpoint before it is read, with a warning. Raises
    CheckpointError where no checkpoint is whole, or where one is of another model.
    """
    return read_latest(folder, lambda path: checkpoints.load(path, like))


def read_latest(folder: Path, read: Callable[[Path], State]) -> tuple[State, bool]:
    """`load_latest` of whatever `read` makes of a checkpoint's file."""
    latest, older = folder / CHECKPOINT, earlier(folder)
    if not latest.exists() and not older:
        raise no_checkpoint(folder)
    try:
        return read(latest), True
    except DamagedError as damage:
        for number in sorted(older, reverse=True):
            try:
                state = read(older[number])
            except DamagedError:
                continue
            warnings.warn(
                f"{damage}. {older[number]} is used in its place, the state after round {number}",
                stacklevel=3,
            )
            return state, False
        raise


def no_checkpoint(folder: Path) -> CheckpointError:
    """What is wrong with a run that cannot be resumed, and what to do."""
    return CheckpointError(
        f"there is no checkpoint in {folder}: no run got as far as its first one there. Begin "
        "again in the same folder, without resume (on the command line: without --resume)"
    )


def link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system knows no second names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
