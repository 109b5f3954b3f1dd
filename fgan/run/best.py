"""The best checkpoint of a run that evaluates itself: `best.pt`, beside the latest one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from fgan.data.files import replacing
from fgan.run import checkpoints
from fgan.run.checkpoints import CheckpointError
from fgan.run.history import CHECKPOINT, link, read_latest

BEST = "best.pt"
Found = TypeVar("Found")


class Best:
    """`best.pt`: the checkpoint with the smallest score so far, a second name of its file.

    Every score belongs to a round whose checkpoint is saved, and is in the run's figures, so a run
    that is resumed knows which one it has.
    """

    def __init__(
        self, folder: Path, done: int, scores: Mapping[int, float], is_whole: bool
    ) -> None:
        """Go on after round `done`.

        scores: of the rounds up to `done`.
        is_whole: whether `checkpoint.pt` holds the state after round `done`.
        """
        self._folder = folder
        self._score: float | None = None
        kept = _round_of(folder / BEST)
        if kept is not None and kept > done:  # of a continuation that was lost
            (folder / BEST).unlink()
        elif kept is not None:
            self._score = scores.get(kept)
        if is_whole and done in scores:  # a crash between the checkpoint and its second name
            self.offer(scores[done])

    def offer(self, score: float) -> None:
        """Keep the latest checkpoint as the best one where its score is smaller."""
        if self._score is None or score < self._score:
            with replacing(self._folder / BEST) as temporary:
                link(self._folder / CHECKPOINT, temporary)
            self._score = score


def read_checkpoint(folder: Path, best: bool, read: Callable[[Path], Found]) -> Found:
    """What `read` makes of the latest whole checkpoint in a run's folder, or of the best one.

    Raises CheckpointError where there is none, and what `read` raises.
    """
    if not best:
        return read_latest(folder, read)[0]
    path = folder / BEST
    if not path.exists():
        raise CheckpointError(
            f"there is no {BEST} in {folder}: a run that evaluates itself keeps one (fgan train "
            "--evaluate-every N, fgan.train(evaluate_every=N))"
        )
    return read(path)


def _round_of(path: Path) -> int | None:
    """The round of a checkpoint; None where there is none that can be read."""
    try:
        return int(checkpoints.read(path)[".round"])
    except (KeyError, RuntimeError, TypeError, ValueError):  # a CheckpointError is a ValueError
        return None
