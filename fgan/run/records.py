"""What a run writes down: its figures, pictures and checkpoints, whole and in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import torch
from torch import Tensor

from fgan.data import DataSet, Rounds
from fgan.evaluation.inputs import NotFiniteError
from fgan.run import checkpoints, positions
from fgan.run.best import Best
from fgan.run.curves import CURVES, Curves
from fgan.run.evaluating import Evaluations
from fgan.run.history import History
from fgan.run.loggers import Logger
from fgan.run.metrics import MetricsFile
from fgan.run.origin import replay_hint
from fgan.run.ranks import Ranks
from fgan.run.samples import draw_samples, picture_path, save_samples
from fgan.types import Algorithm, GANInfo, GANState

if TYPE_CHECKING:
    from fgan.run.progress import Display

T = TypeVar("T")


class DivergenceError(RuntimeError):
    """A figure or a state of the run is no longer finite.

    Example:
        >>> generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
        >>> rash = fgan.wgan_gp(generator, critic, latent_dim=4, critic_optimizer=fgan.sgd(1e30))
        >>> points = fgan.data.DataSet("points", torch.randn(100, 2))
        >>> fgan.train(rash, points, rounds=3, out="runs/rash")
        Traceback (most recent call last):
        fgan.run.records.DivergenceError: ...
    """


class SaveError(OSError):
    """A file of the run could not be written, as on a full disk.

    Example:
        >>> issubclass(fgan.run.loop.SaveError, OSError)  # `except OSError` takes it too
        True
    """


@contextmanager
def writing(history: History, path: Path) -> Iterator[None]:
    """Say which file could not be written, and which round is left. Raises SaveError."""
    try:
        yield
    except OSError as error:
        if history.saved is None:
            rest = "nothing has been saved yet: make room, and begin again"
        else:
            rest = f"the run is kept up to round {history.saved}: make room, and resume it there"
        failed = SaveError(f"{error.filename or path} was not written ({error.strerror}); {rest}")
        failed.errno = error.errno
        raise failed from error


class Records:
    """The files of a run, and its figures on the screen."""

    def __init__(
        self,
        algorithm: Algorithm,
        data: DataSet,
        fixed: tuple[Tensor, Tensor | None],
        history: History,
        metrics: MetricsFile,
        screen: Display,
        pictures: Path,
        excused: frozenset[str],
        done: int = 0,
        loggers: tuple[Logger, ...] = (),
        best_by: str | None = None,
        best: Best | None = None,
    ) -> None:
        """excused: the leaves of the state that may hold numbers that are not finite.

        best_by: the figure of an evaluation that tells which checkpoint is the best.
        """
        self._algorithm, self._data, self._fixed = algorithm, data, fixed
        self._history, self._metrics, self._screen = history, metrics, screen
        self._pictures, self._excused = pictures, excused
        self._curves = Curves(pictures.parent / CURVES, metrics.path)
        self._done, self._loggers = done, loggers
        self._best_by, self._best = best_by, best
        self._evaluated: dict[str, float] = {}
        self.stream: Rounds | None = None
        """The batches of the run, whose epoch is shown and whose position is kept."""

    def advance(self, done: int) -> None:
        """Show that `done` rounds are complete."""
        self._evaluated = {}
        if self.stream is not None:
            self._screen.epoch = self.stream.epoch
        self._screen.advance(done)
        self._done = done

    def end(self) -> None:
        """Tell every logger that the run has ended, whatever the others raise."""
        with ExitStack() as stack:
            for logger in (self._curves, *self._loggers):
                stack.callback(logger.on_end, self._done)

    def check_finite(self, done: int, info: GANInfo, state: GANState) -> None:
        """Raise DivergenceError where a figure of round `done` or the state is not finite."""
        self._figures(done, info)
        self._check_finite(done, state)

    def evaluate(self, done: int, take: Callable[[], tuple[dict[str, float], str]]) -> None:
        """Keep the figures of an evaluation for `log` and `save`, and say what it has cost.

        take: `Evaluations.take` of the state. Raises DivergenceError where a generated sample or a
            figure is not finite.
        """
        try:
            self._evaluated, line = take()
        except NotFiniteError as error:
            self._diverged(done, str(error))
        self._screen.say(f"evaluated  round {done}: {line}")

    def log(self, done: int, info: GANInfo) -> None:
        """Write the figures of round `done` and show them, with those of its evaluation.

        Raises DivergenceError where one is not finite, SaveError where they cannot be written.
        """
        figures = self._figures(done, info) | self._evaluated
        with writing(self._history, self._metrics.path):
            self._metrics.on_round(done, figures)
        self._screen.show(done, figures)
        for logger in (self._curves, *self._loggers):
            logger.on_round(done, dict(figures))

    def save(self, done: int, info: GANInfo, state: GANState) -> None:
        """Save the picture and the state after round `done`.

        What a checkpoint counts on is on the disk before it: a run that is resumed from it has
        every figure and every picture up to its round. A state with numbers that are not finite
        is not saved.

        Raises DivergenceError and SaveError as `log` does.
        """
        self.check_finite(done, info, state)
        latent, labels = self._fixed
        samples = draw_samples(self._algorithm, state, latent, labels, self._data)
        path = picture_path(self._pictures, done)
        with writing(self._history, self._pictures):
            self._curves.on_samples(done, samples, labels, None)
            self._metrics.on_samples(done, samples, labels, None)
            if self.stream is not None:
                here = self.stream.position()
                positions.save(self._pictures.parent, done, here, self._history.keep)
            save_samples(path, samples, labels, self._data)
            self._history.save(state, done)
            if self._best is not None and self._best_by in self._evaluated:
                self._best.offer(self._evaluated[self._best_by])
        picture = path if path.exists() else None
        for logger in self._loggers:
            logger.on_samples(done, samples.detach(), labels, picture)

    def _figures(self, done: int, info: GANInfo) -> dict[str, float]:
        """The round's figures as numbers; the host waits for the device."""
        named = {name: value for name, value in info._asdict().items() if name != "terms"}
        named |= info.terms
        # In their own dtype, which holds them exactly: not every device has float64.
        values = torch.stack(list(named.values())).tolist()
        figures = dict(zip(named, values, strict=True))
        for name, value in figures.items():
            if not math.isfinite(value):
                self._diverged(done, f"{name} is {value}")
        return figures

    def _check_finite(self, done: int, state: GANState) -> None:
        wrong = [name for name in checkpoints.not_finite(state) if name not in self._excused]
        if wrong:
            self._diverged(done, f"the state's {wrong[0]} is not finite")

    def _diverged(self, done: int, what: str) -> NoReturn:
        saved = self._history.saved
        kept = "Nothing has been saved yet" if saved is None else f"Round {saved} is kept"
        raise DivergenceError(
            f"round {done}: {what}. {kept}. To see where the first such number arose: "
            f"{replay_hint(self._pictures.parent, done)}. Then start a run with a smaller learning "
            "rate or a stronger constraint"
        )


class SharedRecords:
    """The records of rank 0, as all ranks of a run write them down: what it raises ends all."""

    def __init__(
        self,
        ranks: Ranks,
        records: Records | None,
        stream: Rounds,
        evaluations: Evaluations | None,
        is_evaluated: Callable[[int], bool],
    ) -> None:
        """records: None in the other ranks. stream: the batches of the run.

        is_evaluated: whether the state after a round is evaluated.
        """
        self._ranks, self._records = ranks, records
        self._evaluations, self._is_evaluated = evaluations, is_evaluated
        if records is not None:
            records.stream = stream

    def advance(self, done: int) -> None:
        """Show that `done` rounds are complete."""
        if self._records is not None:
            self._records.advance(done)

    def evaluate(self, done: int, info: GANInfo, algorithm: Algorithm, state: GANState) -> bool:
        """Evaluate the state where that is due, and say whether it was."""
        if self._evaluations is None or not self._is_evaluated(done):
            return False
        self._watch(info)
        self._on_rank_0(lambda records: records.check_finite(done, info, state))
        measure = partial(self._evaluations.take, algorithm, state)
        # What all have measured, or what has gone wrong, is told by rank 0.
        take = _outcome(measure) if self._evaluations.by_all_ranks else measure
        self._on_rank_0(lambda records: records.evaluate(done, take))
        return True

    def log(self, done: int, info: GANInfo) -> None:
        """`Records.log` in rank 0."""
        self._watch(info)
        self._on_rank_0(lambda records: records.log(done, info))

    def save(self, done: int, info: GANInfo, state: GANState) -> None:
        """`Records.save` in rank 0, where all ranks have the same state.

        Raises RankError where one has another, and what `Records.save` raises.
        """
        self._watch(info)
        self._ranks.check_same(state, done)
        self._on_rank_0(lambda records: records.save(done, info, state))

    def _watch(self, info: GANInfo) -> None:
        """Call `ranks.watch`, which has to come before any wait for the device."""
        self._ranks.watch(info.critic_loss.device)

    def _on_rank_0(self, function: Callable[[Records], None]) -> None:
        records = self._records
        self._ranks.on_rank_0(lambda: None if records is None else function(records))


def _outcome(function: Callable[[], T]) -> Callable[[], T]:
    """Call the function now; the result returns what it returned, or raises what it raised."""
    try:
        found = function()
    except Exception as error:
        raised = error

        def fail() -> T:
            raise raised

        return fail
    return lambda: found
