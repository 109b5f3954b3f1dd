"""A run's progress and figures on the screen."""

import math
import time
from collections.abc import Iterable
from types import TracebackType
from typing import IO, Self, cast

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fgan.run.metrics import Figures
from fgan.run.outlet import Outlet


class _Lines(Progress):
    """A progress line, and one of figures below it: 80 columns do not hold both."""

    figures = Text()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield self.figures


class Display:
    """Progress, time left, rounds per second and the running losses.

    Two live lines on a terminal; elsewhere a plain line at most every two seconds.
    """

    epoch: float | None = None
    """Passes over the data so far; None where nobody has said."""

    _QUIET = 2.0  # seconds between plain lines

    def __init__(self, rounds: int, start: int = 0, console: Console | None = None) -> None:
        self._console = console or Console(file=cast(IO[str], Outlet()), markup=False, emoji=False)
        self._rounds, self._start = rounds, start
        self._began = self._spoke = time.monotonic()
        self._progress = _Lines(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=rounds, completed=start, speed="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def advance(self, done: int) -> None:
        """Say that `done` rounds are complete."""
        self._progress.update(self._task, completed=done, speed=self._pace(done))

    def show(self, done: int, figures: Figures) -> None:
        """Show the figures of round `done`."""
        summary = "  ".join(
            f"{label} {figures[name]:.3f}"
            for label, name in (
                ("critic", "critic_loss"),
                ("generator", "generator_loss"),
                ("distance", "distance"),
                ("penalty", "penalty"),
            )
        )
        self._progress.figures = Text("  " + summary, no_wrap=True, overflow="ellipsis")
        now = time.monotonic()
        quiet = now - self._spoke < self._QUIET and done != self._rounds
        if not self._console.is_terminal and not quiet:
            self._spoke = now
            speed = self._speed(done)
            left = (self._rounds - done) / speed if speed else math.inf
            self._console.print(
                f"round {done}/{self._rounds}  {self._pace(done)}  {left:.0f} s left  {summary}",
                soft_wrap=True,
                highlight=False,
            )

    def say(self, line: str) -> None:
        """Show a line that stays."""
        self._console.print(line, soft_wrap=True, highlight=False)

    def _pace(self, done: int) -> str:
        epoch = "" if self.epoch is None else f"epoch {self.epoch:.1f}  "
        return f"{epoch}{self._speed(done):.1f} rounds/s"

    def _speed(self, done: int) -> float:
        elapsed = time.monotonic() - self._began
        return (done - self._start) / elapsed if elapsed > 0 else 0.0
