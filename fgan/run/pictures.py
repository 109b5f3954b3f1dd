"""Samples as pictures: images in a grid, points in the plane."""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fgan.data import to_uint8
from fgan.data.files import replacing

PAPER, _INK, FAINT, BLUE = (255, 255, 255), (40, 40, 40), (200, 200, 200), (31, 95, 191)
_GAP = 2  # pixels between images
_SIDE = 120  # pixels of the names of rows, at most
_SMALL = 11  # size of small type


def save_images(
    path: str | Path,
    images: Tensor,
    columns: int,
    headings: Sequence[str] = (),
    rows: Sequence[str] = (),
) -> None:
    """Write images [N, C, H, W] in [-1, 1] as a grid, row by row, as PNG.

    headings: one word above each column. rows: one word before each row. One channel is drawn grey,
    three in colour; of any other number the first is shown, and a line below says so.
    """
    channels = images.shape[1]
    pixels = to_uint8(images.detach().cpu())
    pixels = pixels if pixels.shape[1] == 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    zoom = max(1, 64 // pixels.shape[-1])
    pixels = pixels.repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    missing = -len(pixels) % columns
    blank = torch.full((missing, *pixels.shape[1:]), 255, dtype=torch.uint8, device="cpu")
    padded = torch.nn.functional.pad(torch.cat([pixels, blank]), [_GAP] * 4, value=255)
    grid = rearrange(padded, "(r c) ch h w -> (r h) (c w) ch", c=columns)
    picture = Image.fromarray(grid.numpy())
    height = picture.height
    if headings:
        picture = headed(picture, headings, picture.width // columns)
    if rows:
        picture = _with_rows(picture, rows, height, top=picture.height - height)
    note = "" if channels in (1, 3) else f"channel 1 of {channels}"
    write(captioned(picture, note), path)


def save_points(
    path: str | Path, points: Tensor, labels: Tensor | None = None, real: Tensor | None = None
) -> None:
    """Write points [N, 2] as a scatter plot in PNG, coloured by label, over `real` ones in grey."""
    side = 512
    picture = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(picture)
    frame = points if real is None else real
    extent = 1.2 * float(frame.detach().abs().max().clamp(min=1e-6))

    def dots(where: Tensor, colours: list[tuple[int, int, int]], radius: float) -> None:
        upwards = torch.tensor([1.0, -1.0], device="cpu")
        spots = (where.detach().cpu().float() / extent * upwards + 1) * side / 2
        for (x, y), colour in zip(spots.tolist(), colours, strict=True):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)

    if real is not None:
        dots(real, [FAINT] * len(real), 2)
    if labels is None:
        dots(points, [BLUE] * len(points), 1.5)
    else:
        classes = int(labels.max()) + 1
        dots(points, [hue(label / classes) for label in labels.tolist()], 1.5)
    write(picture, path)


def _drawable(heading: str) -> str:
    """The word as a font can draw it: the name of a folder may hold line breaks or broken bytes."""
    return "".join(letter if letter.isprintable() else "?" for letter in heading)


def headed(picture: Image.Image, headings: Sequence[str], width: int) -> Image.Image:
    """The picture under a line of column headings, in the largest type that fits all of them.

    Type smaller than can be read is not used: longer words are cut.
    """
    headings = [_drawable(heading) for heading in headings]
    for size in range(14, 8, -1):
        font = ImageFont.load_default(size)
        if all(font.getlength(word) <= width - 2 for word in headings):
            break
    headings = [_cut(heading, width - 2, font) for heading in headings]
    top = size + 6
    page = Image.new("RGB", (picture.width, picture.height + top), PAPER)
    page.paste(picture, (0, top))
    draw = ImageDraw.Draw(page)
    for column, word in enumerate(headings):
        middle = (column * width + width / 2, top / 2)
        draw.text(middle, word, fill=_INK, font=font, anchor="mm")
    return page


def _with_rows(picture: Image.Image, words: Sequence[str], height: int, top: int) -> Image.Image:
    """The picture beside a column of words, one for each row of the grid of `height` below `top`.

    Row names longer than a fixed width are cut.
    """
    font = ImageFont.load_default(12)
    names = [_cut(_drawable(word), _SIDE, font) for word in words]
    left = round(max(font.getlength(name) for name in names)) + 8
    page = Image.new("RGB", (picture.width + left, picture.height), PAPER)
    page.paste(picture, (left, 0))
    draw = ImageDraw.Draw(page)
    for row, name in enumerate(names):
        middle = (left - 4, top + (row + 0.5) * height / len(names))
        draw.text(middle, name, fill=_INK, font=font, anchor="rm")
    return page


def _cut(word: str, width: float, font: Any) -> str:
    """The word as it is, or as much of its beginning as fits, with dots."""
    if font.getlength(word) <= width:
        return word
    while word and font.getlength(word + "…") > width:
        word = word[:-1]
    return word + "…"


def captioned(picture: Image.Image, note: str) -> Image.Image:
    """The picture over a line of text; as it is where the text is empty."""
    if not note:
        return picture
    width = max(picture.width, round(ImageFont.load_default(_SMALL).getlength(note)) + 4)
    page = Image.new("RGB", (width, picture.height + 16), PAPER)
    page.paste(picture, (0, 0))
    text(ImageDraw.Draw(page), (2, picture.height + 1), note)
    return page


def text(draw: ImageDraw.ImageDraw, place: tuple[float, float], words: str) -> None:
    """Words in small type; `place` is their upper left corner."""
    draw.text(place, words, fill=_INK, font=ImageFont.load_default(_SMALL))


def hue(turn: float) -> tuple[int, int, int]:
    """A colour of the circle, which has one turn."""
    red, green, blue = colorsys.hsv_to_rgb(turn % 1, 0.85, 0.8)
    return round(red * 255), round(green * 255), round(blue * 255)


def write(picture: Image.Image, path: str | Path) -> None:
    """Write as PNG, atomically, so that whoever watches the folder never opens half a picture."""
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
