"""A small run for the drills: started, killed and resumed in forks of one process.

A fork is fast, since torch is imported once, and it can be given hooks that the program itself
knows nothing of. The parent must not have used more than one thread of torch before.
"""

import contextlib
import functools
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from fgan.cli import main

ROUNDS, EVERY = 12, 2
SETTINGS = [
    *("wgan-gp", "--data", "rings", "--rounds", str(ROUNDS), "--sample-every", str(EVERY)),
    *("--log-every", "1", "--width", "8", "--latent-dim", "2", "--batch-size", "8"),
    *("--n-critic", "1", "--device", "cpu"),
]
"""Rings of points, three pictures, and more checkpoints than are kept."""

Row = tuple[str, int, int, str]
"""What was tried, how often it held, how often it was tried, and a remark."""

Files = dict[str, bytes]


HUNG = 124
"""The status of a process that did not end in time."""


class Ended:
    """How a forked process ended: its exit status (negative: the signal) and what it printed."""

    def __init__(self, status: int, output: str) -> None:
        self.status, self.output = status, output

    @property
    def traceback(self) -> bool:
        """Whether a traceback was printed."""
        return "Traceback" in self.output

    def __repr__(self) -> str:
        return f"status {self.status}: {self.output[-300:]!r}"


class Fork:
    """A process of its own that calls a function, whose result is its exit status."""

    def __init__(self, function: Callable[[], int | None], output: Path | None = None) -> None:
        torch.set_num_threads(1)
        self._output = output or Path(tempfile.mkstemp(suffix=".txt")[1])
        self._own = output is None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._child(function)

    def _child(self, function: Callable[[], int | None]) -> None:
        status = 70
        try:
            target = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(target, 1)
            os.dup2(target, 2)
            # Not what a test runner has put in their place.
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                ordinary = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, ordinary)
            status = int(function() or 0)
            sys.stdout.flush()
        except BaseException:  # a test runner in the parent must not go on in the child
            import traceback

            with contextlib.suppress(OSError):
                traceback.print_exc(file=sys.stderr)
                sys.stderr.flush()
        finally:
            os._exit(status)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, if the process is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = 60) -> Ended:
        """Wait for the end; a process that hangs is killed, and its status is HUNG."""
        until, is_late = time.monotonic() + seconds, False
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > until:
                is_late = True
                self.kill()
            time.sleep(0.002)
        text = self._output.read_text(errors="replace")
        if self._own:
            self._output.unlink()
        return Ended(HUNG if is_late else os.waitstatus_to_exitcode(status), text)


def command(*arguments: object) -> int:
    """The command line in this process."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def begin(out: Path) -> int:
    """Train the small run into a folder."""
    return command("train", *SETTINGS, "--out", out)


def resume(out: Path) -> int:
    """Go on with it; a run that was cut off before its first checkpoint begins again."""
    there = has_checkpoint(out)
    status = command("train", "--resume", "--out", out, "--device", "cpu")
    return status if there or status != 2 else begin(out)


def has_checkpoint(out: Path) -> bool:
    """Whether there is something to resume from."""
    return (out / "checkpoint.pt").exists() or any((out / "checkpoints").glob("*.pt"))


def files(out: Path) -> Files:
    """Every file of a folder, hidden ones too, by its path."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@functools.cache
def unbroken() -> Files:
    """The files of a run that nothing interrupted.

    In this process: the forks then find imported and prepared what a first run takes a second for.
    """
    torch.set_num_threads(1)
    with folder() as out, contextlib.redirect_stdout(io.StringIO()) as output:
        status = begin(out)
        assert status == 0, output.getvalue()
        return files(out)


def difference(found: Files, expected: Files) -> str:
    """The first file that differs, or an empty string."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is left over"
        if found[name] != expected[name]:
            return f"{name} differs"
    return ""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A new folder for one run, in a temporary one."""
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary) / "run"


def row(label: str, problems: list[str]) -> Row:
    """A row of the table, from what went wrong at each try (empty: nothing)."""
    wrong = [problem for problem in problems if problem]
    return label, len(problems) - len(wrong), len(problems), wrong[0] if wrong else ""
