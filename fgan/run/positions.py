"""Where the data were at each checkpoint, for data that say their own position."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fgan.data.files import replacing

POSITIONS = "positions.pt"

_FORMAT = "fgan positions 1"


def load(folder: Path) -> dict[int, Mapping[str, Any]]:
    """The positions by the rounds completed; {} where none can be read, with a warning."""
    path = folder / POSITIONS
    if not path.is_file():
        return {}
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        known = content["rounds"] if content["format"] == _FORMAT else {}
        return {int(done): dict(position) for done, position in known.items()}
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        warnings.warn(
            f"{path} cannot be read ({type(error).__name__}), so the data begin anew", stacklevel=2
        )
        return {}


def save(folder: Path, done: int, position: Mapping[str, Any] | None, keep: int) -> None:
    """Add the position after round `done`, and keep those of the `keep` checkpoints before it.

    Later ones are of a lost continuation. Nothing is written where the data say no position.
    """
    if position is None:
        return
    known = {n: p for n, p in load(folder).items() if n < done}
    kept = dict(sorted(known.items())[-(keep + 1) :]) | {done: position}
    content = io.BytesIO()
    torch.save({"format": _FORMAT, "rounds": kept}, content)
    with replacing(folder / POSITIONS) as temporary, temporary.open("wb") as file:
        file.write(content.getbuffer())
