"""The figures of a run as a picture: `curves.png`, a panel for each figure over the rounds."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fgan.data.files import replacing
from fgan.run.json_files import parse_object

CURVES = "curves.png"
BESIDE = (
    "evaluation_fid",
    "evaluation_frechet_distance",
    "evaluation_sliced_wasserstein",
    "evaluation_patch_sliced_wasserstein",
)
"""The first of them that a run has is drawn in one panel with the critic's distance."""
_OF_CRITIC = "evaluation_critic_distance"

_COLUMNS, _WIDTH, _HEIGHT = 3, 360, 200  # panels in a row, and the pixels of a panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 24, 22  # around the curve in a panel
_MOST = 1e300
_INK, _FAINT, _LINE, _SPREAD = (40, 40, 40), (220, 220, 220), (31, 95, 191), (176, 200, 232)
_SECOND = (196, 98, 16)

Rows = list[tuple[int, float]]


class Curves:
    """A logger that draws every figure over the rounds, after each checkpoint and at the end."""

    def __init__(self, path: Path, metrics: Path) -> None:
        """metrics: the JSON lines of the rounds so far, where a run is resumed."""
        self._path = path
        self._figures: dict[str, Rows] = {}
        self._is_drawn = True
        for row in _rows(metrics):
            self.on_round(row.pop("round"), row)

    def on_round(self, done: int, figures: Mapping[str, float]) -> None:
        """Keep the figures."""
        for name, value in figures.items():
            kept = max(-_MOST, min(_MOST, value))  # so that their differences are finite
            self._figures.setdefault(name, []).append((done, kept))
            self._is_drawn = False

    def on_samples(
        self, done: int, samples: Tensor, labels: Tensor | None, picture: Path | None
    ) -> None:
        """Draw all rounds so far."""
        self._draw()

    def on_end(self, done: int) -> None:
        """Draw what the last checkpoint lacks, as in a run that diverged."""
        with suppress(OSError):  # what ended the run, such as a full disk, is what is reported
            self._draw()

    def _draw(self) -> None:
        if not self._is_drawn:
            save_curves(self._path, self._figures)
            self._is_drawn = True


def save_curves(path: Path, figures: Mapping[str, Rows]) -> None:
    """Write a PNG with a panel for each figure: its (round, value) pairs, in order of the rounds.

    Where rounds outnumber pixels, the line is the mean over the rounds of a pixel, and the pale
    band behind it goes from the smallest to the largest. The critic's distance of an evaluation is
    in the panel of the distance that was measured, with an axis of its own on the right.
    """
    beside = next((name for name in BESIDE if name in figures and _OF_CRITIC in figures), None)
    panels = [name for name in figures if beside is None or name != _OF_CRITIC]
    count = max(1, len(panels))
    rows = -(-count // _COLUMNS)
    size = (min(count, _COLUMNS) * _WIDTH, rows * _HEIGHT)
    picture = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    draw.font = ImageFont.load_default(11)
    for index, name in enumerate(panels):
        row, column = divmod(index, _COLUMNS)
        corner = (column * _WIDTH, row * _HEIGHT)
        second = figures[_OF_CRITIC] if name == beside else None
        _panel(draw, corner, name, figures[name], second)
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def _panel(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    name: str,
    pairs: Rows,
    second: Rows | None = None,
) -> None:
    """A figure over the rounds; `second` is the critic's distance, with an axis on the right."""
    margin = _RIGHT if second is None else _LEFT
    left, right = corner[0] + _LEFT, corner[0] + _WIDTH - margin
    top, bottom = corner[1] + _TOP, corner[1] + _HEIGHT - _BOTTOM
    frame, ends = (left, top, right, bottom), (pairs[0][0], pairs[-1][0])
    title = name.replace("_", " ")
    draw.text((left, corner[1] + 6), title, fill=_INK if second is None else _LINE)
    draw.text((left, bottom + 4), f"round {ends[0]}", fill=_INK)
    draw.text((right, bottom + 4), str(ends[1]), fill=_INK, anchor="ra")
    _curve(draw, frame, ends, pairs, _LINE, _SPREAD)
    if second is not None:
        draw.text((right, corner[1] + 6), "critic distance", fill=_SECOND, anchor="ra")
        _curve(draw, frame, ends, second, _SECOND, _SECOND, on_the_right=True)


def _curve(
    draw: ImageDraw.ImageDraw,
    frame: tuple[int, int, int, int],
    ends: tuple[int, int],
    pairs: Rows,
    colour: tuple[int, int, int],
    spread: tuple[int, int, int],
    on_the_right: bool = False,
) -> None:
    """A line with its axis; the first axis has lines across the frame too."""
    left, top, right, bottom = frame
    rounds, means, lows, highs = _columns(pairs, right - left)
    low, high = _range(min(lows), max(highs))

    def x(at: float) -> float:
        return left + (right - left) * (at - ends[0]) / max(1, ends[1] - ends[0])

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    for value in (low, (low + high) / 2, high):
        if on_the_right:
            draw.text((right + 4, y(value)), f"{value:.3g}", fill=colour, anchor="lm")
        else:
            draw.line([left, y(value), right, y(value)], fill=_FAINT)
            draw.text((left - 4, y(value)), f"{value:.3g}", fill=_INK, anchor="rm")
    for at, smallest, largest in zip(rounds, lows, highs, strict=True):
        if smallest < largest:
            draw.line([x(at), y(smallest), x(at), y(largest)], fill=spread)
    points = [(x(at), y(value)) for at, value in zip(rounds, means, strict=True)]
    draw.line(points, fill=colour, width=1)
    if len(points) < 40:
        for across, down in points:
            draw.ellipse([across - 1.5, down - 1.5, across + 1.5, down + 1.5], fill=colour)


def _columns(pairs: Rows, width: int) -> tuple[list[float], list[float], list[float], list[float]]:
    """(rounds, means, minima, maxima) of at most `width` groups of neighbouring pairs."""
    groups = np.array_split(np.array(pairs, dtype=float), min(width, len(pairs)))
    means = [group.mean(0).tolist() for group in groups]
    return (
        [mean[0] for mean in means],
        [mean[1] for mean in means],
        [float(group[:, 1].min()) for group in groups],
        [float(group[:, 1].max()) for group in groups],
    )


def _range(low: float, high: float) -> tuple[float, float]:
    """The ends of the axis: never equal, also where a figure does not change."""
    margin = (high - low) / 20 or max(abs(high), 1e-12) / 10
    return low - margin, high + margin


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    """The figures in the JSON lines of a run, round by round."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        row = parse_object(line)
        yield {name: value for name, value in row.items() if isinstance(value, int | float)}
