"""Hooks on what a process does to files, for processes that are to be cut off there."""

import builtins
import io
import os
from collections.abc import Callable
from typing import Any

Event = Callable[[str], None]


def on_file_events(event: Event, part: Callable[[], bool] | None = None) -> None:
    """Call `event(name)` before and after every call that changes a file, from now on.

    part: asked before each write; where it says yes, half of the content is written, and `event` is
    called in the middle.
    """
    for name in ("replace", "rename", "link", "unlink", "remove", "mkdir", "fsync"):
        setattr(os, name, _around(getattr(os, name), name, event))
    opened = io.open

    def opening(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+"):
            return opened(file, mode, *more, **named)
        event(f"open {file}")
        found = opened(file, mode, *more, **named)
        event(f"opened {file}")
        return _Watched(found, event, part)

    builtins.open = opening
    io.open = opening


def _around(call: Callable[..., Any], name: str, event: Event) -> Callable[..., Any]:
    def around(*arguments: Any, **named: Any) -> Any:
        event(f"{name} {arguments[0]}")
        result = call(*arguments, **named)
        event(f"{name} {arguments[0]} done")
        return result

    return around


class _Watched:
    """A file whose writes are events; all else is the file's own."""

    def __init__(self, file: Any, event: Event, part: Callable[[], bool] | None) -> None:
        self._file, self._event, self._part = file, event, part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Watched":
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)

    def write(self, content: Any) -> int:
        if self._part is not None and len(content) > 1 and self._part():
            half = len(content) // 2
            self._file.write(content[:half])
            self._file.flush()
            self._event("in a write")
            return half + int(self._file.write(content[half:]))
        self._event("write")
        return int(self._file.write(content))
