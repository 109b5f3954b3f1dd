"""Signals that ask a run to end: after the round in progress, and without a traceback.

Importing this module has an effect where the process is the command line: see `_leave`.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C ended, as shells write it: 128 and the signal."""


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into an event, so that no round is cut in half.

    The first of them sets the event. After that a Ctrl-C cuts, and SIGTERM and SIGHUP change
    nothing: a terminal that closes and `timeout` send theirs more than once. Where SIGTERM or
    SIGHUP is ignored already, as under `nohup`, it stays so.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may handle signals
        return
    before: dict[signal.Signals, Any] = {}

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is None:  # pragma: no cover (Windows)
                continue
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.getsignal(number)
                signal.signal(number, ask)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def take_over() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again: the imports are done, and the caller catches it."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(signum: int, frame: FrameType | None) -> None:
    """Ctrl-C while a command imports torch, which takes seconds: there is nothing to save."""
    os._exit(INTERRUPTED)


def _is_command() -> bool:
    """Whether this process is `fgan` or `python -m fgan`, whose `main` will call `take_over`."""
    called = sys.argv[0] if getattr(sys, "argv", None) else ""
    if called == "-m":  # what Python puts there while it imports the package
        options = sys.orig_argv
        return options[options.index("-m") + 1] == "fgan" if "-m" in options else False
    return Path(called).stem == "fgan"


if (
    _is_command()
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _leave)
