"""How far the reading of a folder of pictures is."""

import time
from collections.abc import Callable


class Reading:
    """Says how many pictures of a folder are read, in a line at most every two seconds."""

    _QUIET = 2.0  # seconds between lines, and before the first

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._spoke = say, time.monotonic()

    def __call__(self, done: int, count: int) -> None:
        """`done` of `count` are read."""
        now = time.monotonic()
        if now - self._spoke >= self._QUIET:
            self._spoke = now
            self._say(f"reading    {done:,} of {count:,} pictures")
