"""One run a folder: a lock that is held for as long as a run lasts."""

import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


class FolderInUseError(ValueError):
    """Another run writes into the folder."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold an existing folder for one run.

    The lock is advisory: `flock` on the file `.lock`, which the system releases when the process
    ends, however it ends. Where there is no `flock` (Windows), nothing is locked; where the file
    system has no locks, a warning says so.

    Raises FolderInUseError, a ValueError, where another run holds the folder, naming its process,
    its host and since when.
    """
    if fcntl is None:  # pragma: no cover (Windows)
        yield
        return
    path = folder / LOCK
    with _locked(path) as file:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        try:
            yield
        finally:
            path.unlink(
                missing_ok=True
            )  # while it is held: nobody else can have it open and locked


@contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """The lock's file, open and locked, and still the one that has the name `path`."""
    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FolderInUseError(
                    f"{path.parent} is in use by another run{_holder(file)}: wait until it ends, "
                    "or choose another folder"
                ) from error
            except OSError as error:
                warnings.warn(
                    f"{path.parent} cannot be locked ({error.strerror}): take care that no second "
                    "run writes into it",
                    stacklevel=4,
                )
            if _has_name(file, path):
                yield file
                return
        # The run that held it has just ended and removed the file: try again with a new one.


def _has_name(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one that stands at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(file: IO[str]) -> str:
    """Who holds the lock, as the end of a clause; empty where the file does not say."""
    try:
        file.seek(0)
        holder = json.load(file)
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (ValueError, KeyError, TypeError):
        return ""  # it has been locked, and not been written yet
