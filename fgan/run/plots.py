"""Samples that are no images as pictures: signals as lines, tables as histograms."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fgan.run import pictures

MOST_CHANNELS = 8
"""Of a signal, drawn as lines of different colours; further ones are left out, and counted."""
MOST_HISTOGRAMS = 16
"""Columns of a table; further ones are left out, and counted."""

_CELL, _MARGIN = (192, 96), 6  # pixels of one plot, and around it
_BINS = 48
_UNLIKE = 8
"""The ratio of two channels' ranges from which on a common scale would make one of them flat."""


def save_lines(
    path: str | Path,
    signals: Tensor,
    columns: int,
    headings: Sequence[str] = (),
    real: Tensor | None = None,
) -> None:
    """Write signals [N, C, L] as a grid of line plots in PNG, row by row, a colour per channel.

    real: signals of the data, drawn in grey behind, one a plot; the scale is theirs. It is the same
        for all channels, unless their ranges are of very different sizes. A line below says so.
    """
    shown = signals.detach().cpu().float()[:, :MOST_CHANNELS]
    behind = shown if real is None else real.detach().cpu().float()[:, :MOST_CHANNELS]
    scales = _scales(behind)
    picture, cells = _sheet(len(shown), columns)
    draw = ImageDraw.Draw(picture)
    for i, (left, top) in enumerate(cells):
        _frame(draw, left, top)
        if real is not None:
            for channel, scale in zip(behind[i % len(behind)], scales, strict=True):
                draw.line(_trace(channel, *scale, left, top), fill=pictures.FAINT)
        for c, (channel, scale) in enumerate(zip(shown[i], scales, strict=True)):
            colour = pictures.hue(0.6 + c / len(shown[i]))
            draw.line(_trace(channel, *scale, left, top), fill=colour, width=2)
    if headings:
        picture = pictures.headed(picture, headings, picture.width // columns)
    note = _note_of_lines(scales, signals.shape[1], real is not None)
    pictures.write(pictures.captioned(picture, note), path)


def save_histograms(path: str | Path, table: Tensor, real: Tensor | None = None) -> None:
    """Write a table [N, F] as a histogram of each column in PNG, over that of the `real` in grey.

    The range is that of the real table, where there is one; what lies outside is counted in the
    first and the last bin.
    """
    count = min(table.shape[1], MOST_HISTOGRAMS)
    columns = min(count, 4)
    picture, cells = _sheet(count, columns, title=14)
    draw = ImageDraw.Draw(picture)
    for i, (left, top) in enumerate(cells):
        mine = table[:, i].detach().cpu().float()
        known = mine if real is None else real[:, i].detach().cpu().float()
        low, high = _range(known)
        _frame(draw, left, top)
        pictures.text(draw, (left, top - 13), f"column {i + 1}: {low:.3g} to {high:.3g}")
        heights = [_shares(x, low, high) for x in (known, mine)]
        tallest = max(float(h.max()) for h in heights) or 1.0
        width, height = _CELL
        for b in range(_BINS if real is not None else 0):
            x0, x1 = (left + width * k / _BINS for k in (b, b + 1))
            y = top + height * (1 - float(heights[0][b]) / tallest)
            draw.rectangle([x0, y, x1, top + height], fill=pictures.FAINT)
        steps = []
        for b in range(_BINS):
            y = top + height * (1 - float(heights[1][b]) / tallest)
            steps += [(left + width * b / _BINS, y), (left + width * (b + 1) / _BINS, y)]
        draw.line(steps, fill=pictures.BLUE, width=2)
    note = _note_of_histograms(count, table.shape[1], real is not None)
    pictures.write(pictures.captioned(picture, note), path)


def _note_of_lines(scales: list[tuple[float, float]], channels: int, has_real: bool) -> str:
    """What a reader of line plots has to know."""
    parts = ["grey: real"] if has_real else []
    if len(set(scales)) == 1:
        parts.append(f"scale: {scales[0][0]:.3g} to {scales[0][1]:.3g}")
    else:
        parts.append("every channel on a scale of its own")
    if channels > len(scales):
        parts.append(f"channels 1 to {len(scales)} of {channels}")
    return "; ".join(parts)


def _note_of_histograms(shown: int, columns: int, has_real: bool) -> str:
    """What a reader of histograms has to know."""
    parts = ["blue: generated, grey: real"] if has_real else []
    if columns > shown:
        parts.append(f"columns 1 to {shown} of {columns}")
    return "; ".join(parts)


def _sheet(
    count: int, columns: int, title: int = 0
) -> tuple[Image.Image, list[tuple[float, float]]]:
    """A page for `count` plots, and the upper left corner of each."""
    width, height = _CELL[0] + 2 * _MARGIN, _CELL[1] + 2 * _MARGIN + title
    rows = -(-count // columns)
    page = Image.new("RGB", (columns * width, rows * height), pictures.PAPER)
    corners = [
        (i % columns * width + _MARGIN, i // columns * height + _MARGIN + title)
        for i in range(count)
    ]
    return page, [(float(x), float(y)) for x, y in corners]


def _frame(draw: ImageDraw.ImageDraw, left: float, top: float) -> None:
    corners = [left - 1, top - 1, left + _CELL[0] + 1, top + _CELL[1] + 1]
    draw.rectangle(corners, outline=pictures.FAINT)


def _range(values: Tensor) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def _scales(signals: Tensor) -> list[tuple[float, float]]:
    """The range of each channel of signals [N, C, L]; that of all where they are alike in size."""
    own = [_range(signals[:, c]) for c in range(signals.shape[1])]
    spans = [high - low for low, high in own]
    if max(spans) > _UNLIKE * min(spans):
        return own
    return [_range(signals)] * len(own)


def _trace(
    line: Tensor, low: float, high: float, left: float, top: float
) -> list[tuple[float, float]]:
    """The points of a line in its plot; a single value is a level line."""
    values = line if len(line) > 1 else line.repeat(2)
    y = top + _CELL[1] * (1 - ((values - low) / (high - low)).clamp(0, 1))
    x = torch.linspace(left, left + _CELL[0], len(values), device="cpu")
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _shares(values: Tensor, low: float, high: float) -> Tensor:
    """The share of the values in each bin."""
    return torch.histc(values.clamp(low, high), _BINS, low, high) / max(1, len(values))
