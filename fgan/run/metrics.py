"""The figures of a run on disk, as JSON lines."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fgan.data.files import replacing
from fgan.run.json_files import parse_object

Figures = Mapping[str, float]


class MetricsFile:
    """`metrics.jsonl`: one object per logged round, its `round` first. A logger."""

    def __init__(self, path: Path, rounds_done: int = 0) -> None:
        """Go on after round `rounds_done`; what a lost continuation wrote beyond it is dropped.

        Raises ValueError where a line that belongs to the rounds done cannot be read, and leaves
        the file as it is.
        """
        there = path.exists() or path.is_symlink()
        if there and not path.is_file():  # a pipe or a device would keep the reader waiting
            raise ValueError(f"{path} cannot be read: it is no file; move it away")
        before = path.read_bytes() if there else None
        kept = b"" if before is None else _kept(path, before, rounds_done)
        if kept != before:
            with replacing(path) as temporary:
                temporary.write_bytes(kept)
        self.path = path
        # Without a buffer: what could not be written is not tried again when the file is closed.
        self._file = path.open("ab", buffering=0)

    def on_round(self, done: int, figures: Figures) -> None:
        """Append a line, at once."""
        line = json.dumps({"round": done, **figures}).encode() + b"\n"
        while line:  # a disk that is nearly full takes a part, and refuses the rest
            line = line[self._file.write(line) :]

    def on_samples(
        self, done: int, samples: Tensor, labels: Tensor | None, picture: Path | None
    ) -> None:
        """Let every line reach the disk: before a checkpoint that counts on them is saved."""
        os.fsync(self._file.fileno())

    def on_end(self, done: int) -> None:
        """Close the file."""
        self._file.close()


def scores(path: Path, name: str | None) -> dict[int, float]:
    """The figure `name` by round, in the whole lines of `metrics.jsonl` that have it."""
    found: dict[int, float] = {}
    if name is None or not path.is_file():
        return found
    for line in path.read_bytes().splitlines(keepends=True):
        number = _round_of(line)
        value = None if number is None else parse_object(line.decode()).get(name)
        if number is not None and isinstance(value, int | float):
            found[number] = float(value)
    return found


def _kept(path: Path, content: bytes, rounds_done: int) -> bytes:
    """The lines of the rounds up to `rounds_done`."""
    lines = content.splitlines(keepends=True)
    rounds = [_round_of(line) for line in lines]
    mine = [at for at, number in enumerate(rounds) if number is not None and number <= rounds_done]
    for at in range(max(mine, default=0)):
        # A crash damages what was written last, never what has a later round of the run behind it.
        if rounds[at] is None:
            raise ValueError(
                f"{path}, line {at + 1}, is {lines[at][:40]!r}, expected an object with a round: "
                "remove that line, or move the file away"
            )
    return b"".join(lines[at] for at in mine)


def _round_of(line: bytes) -> int | None:
    """The round of a whole line; None for anything else, such as a line that a crash cut short."""
    try:
        number = parse_object(line.decode()).get("round")
    except ValueError:  # also of bytes that are no text
        return None
    whole = type(number) is int and line.endswith(b"\n")
    return number if whole else None
