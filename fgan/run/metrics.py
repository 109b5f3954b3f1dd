"""The figures of a run on disk, as JSON lines."""

import json
from collections.abc import Mapping
from pathlib import Path

from fgan.data.files import replacing

Figures = Mapping[str, float]


class MetricsFile:
    """`metrics.jsonl`: one object per logged round, its `round` first."""

    def __init__(self, path: Path, rounds_done: int = 0) -> None:
        """Go on after round `rounds_done`; what a lost continuation wrote beyond it is dropped."""
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    if json.loads(line)["round"] <= rounds_done:
                        kept.append(line + "\n")
                except (json.JSONDecodeError, KeyError):
                    continue  # a line that a crash cut short
        with replacing(path) as temporary:
            temporary.write_text("".join(kept))
        self._file = path.open("a")

    def write(self, round_index: int, figures: Figures) -> None:
        """Append a line, at once."""
        self._file.write(json.dumps({"round": round_index, **figures}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
