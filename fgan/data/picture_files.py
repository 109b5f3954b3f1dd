"""One picture file as a tensor: told by its content, upright, opaque, and bounded in size."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fgan.data.real import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is read, by Pillow's names."""

MOST_PIXELS = 2**28 // 3
"""Of one picture: 89 million, 256 MiB in colours. A file of a few bytes can announce far more."""

MOST_BYTES = 2**30
"""Of one file; some decoders read a file as a whole."""

_ORIENTATION = 0x0112  # the tag of EXIF


class NoPictureError(DataError):
    """A file whose content is in none of `FORMATS`."""


def read_picture(path: str, image_size: int | None = None) -> Tensor:
    """uint8 [1, H, W] for a grayscale file, [3, H, W] for any other; `path` is that of a file.

    The format is told by the content. Of an animation, or of several pictures in one file, the
    first is read. It is turned upright as its EXIF orientation says, and what is transparent is
    put on white. Given `image_size`, the middle square is resized to it.

    Raises NoPictureError for another format, and DataError for a damaged or truncated file, more
    than 8 bits a channel, `MOST_PIXELS` or `MOST_BYTES`. Each message begins with the path.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise DataError(f"{path} is larger than {MOST_BYTES // 2**20} MiB: make it smaller")
        with _quiet(path), Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise DataError(
                    f"{path} announces {opened.width}x{opened.height} pixels, and at most "
                    f"{MOST_PIXELS} are read: make it smaller"
                )
            if opened.mode.startswith(("I", "F")):  # PIL would clip these at 255, not rescale them
                raise DataError(f"{path} has more than 8 bits a channel; convert it to 8 bits")
            opened.load()
            image = _upright(_opaque(opened), opened)
        if image_size is not None:
            image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.LANCZOS)
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise NoPictureError(
            f"{path} cannot be read: it is no picture in one of the formats {', '.join(FORMATS)}"
        ) from error
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        raise DataError(f"{path} cannot be read: {_reason(error)}") from error
    return pixels.view(image.height, image.width, -1).permute(2, 0, 1)


def _opaque(image: "Image") -> "Image":
    """The picture as "L" or "RGB", on white where it is transparent."""
    from PIL import Image

    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert(mode)


def _upright(image: "Image", source: "Image") -> "Image":
    """`image`, turned or mirrored as the EXIF data of `source` say.

    `source` is loaded: Pillow turns TIFF files itself, and then takes the tag away. EXIF data that
    cannot be read say nothing, as for every other program that shows pictures.
    """
    from PIL.Image import Transpose

    try:
        orientation = source.getexif().get(_ORIENTATION)
    except Exception:  # as many kinds as above
        return image
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


@contextmanager
def _quiet(path: str) -> Iterator[None]:
    """Nothing on standard error while a TIFF file is read.

    libtiff writes there by itself what Pillow then raises, or reads all the same, and Pillow's log
    goes there too where nobody has asked for it elsewhere.
    """
    with open(path, "rb") as file:
        is_tiff = file.read(2) in (b"II", b"MM")
    try:
        before = os.dup(2) if is_tiff else None
    except OSError:  # there is no standard error
        before = None
    if before is None:
        yield
        return
    log = logging.getLogger("PIL.TiffImagePlugin")
    disabled = log.disabled
    try:
        log.disabled = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        log.disabled = disabled
        os.dup2(before, 2)
        os.close(before)


def _reason(error: Exception) -> str:
    """The error in one line, with its kind where the text alone says little."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError | SyntaxError | ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
