"""A folder of pictures as a data set: one sub-folder per class, every fault with its file's name.

Only files are opened. A pipe, a socket or a device would keep a reader waiting, and a link that
leads to a folder above it would never end: both are refused by name.
"""

import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fgan.data.picture_files import NoPictureError, read_picture
from fgan.data.real import DataError

LISTED = 5
"""Faults that a message lists; the others are counted."""

_PICTURE_NAMES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif",
    ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl",
    ".psd", ".svg", ".ico", ".eps", ".tga", ".dng", ".cr2", ".nef", ".arw",
)  # fmt: skip
"""Endings of pictures' names. A file that holds no picture is a fault with such a name, also where
its format is not read, and is left out with any other name."""

_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass
class _Notes:
    """What reading a folder brought up, beside its pictures."""

    faults: list[str] = field(default_factory=list)
    hidden: int = 0
    others: int = 0

    def left_out(self) -> str:
        counted = (
            (self.hidden, "hidden (their names begin with a dot)"),
            (self.others, "without a picture or outside the sub-folders"),
        )
        return ", ".join(f"{count} {what}" for count, what in counted if count)

    def refuse_faults(self, path: Path) -> None:
        if len(self.faults) == 1:
            raise DataError(self.faults[0])
        if self.faults:
            more = len(self.faults) - LISTED
            listed = "; ".join(self.faults[:LISTED]) + (f"; and {more} more" if more > 0 else "")
            raise DataError(f"{len(self.faults)} faults in {path}: {listed}")


def folder(path: Path, image_size: int | None) -> tuple[Tensor, Tensor, tuple[str, ...], str]:
    """The pictures under `path`, one sub-folder per class, in the order of their names.

    Returns `(samples, labels, class_names, left_out)`: uint8 [N, 1, H, W] where every file is
    grayscale, else [N, 3, H, W]; int64 [N]; and in words, how many files and folders were left out:
    hidden ones (`.ipynb_checkpoints`, `._0.png`), files that hold no picture and have no picture's
    name, and files outside the sub-folders. `read_picture` says how each file is read. Given
    `image_size`, the middle square of each is resized to it; without, all must have one size.

    Raises DataError for a folder without classes, a class without pictures, pictures of several
    sizes, and for what cannot be read: all such files at once, the first `LISTED` by name.
    """
    notes = _Notes()
    images: list[Tensor] = []
    sources: list[str] = []
    labels: list[int] = []
    classes = _classes(path, notes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on files that it reads all the same
        for label, name in enumerate(classes):
            before = len(images) + len(notes.faults)
            for file in _files(os.path.join(path, name), notes):
                image = _read(file, image_size, notes)
                if image is not None:
                    images.append(image)
                    sources.append(file)
                    labels.append(label)
            if len(images) + len(notes.faults) == before:
                notes.faults.append(f"the class {os.path.join(path, name)} holds no picture")
    notes.refuse_faults(path)
    _check_sizes(images, sources)
    channels = max(image.shape[0] for image in images)
    samples = torch.stack([image.expand(channels, -1, -1) for image in images])
    return samples, torch.tensor(labels), tuple(classes), notes.left_out()


def _classes(path: Path, notes: _Notes) -> list[str]:
    """The names of the sub-folders, sorted. Files beside them belong to no class."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise DataError(
            f"no images in {path}: {error.strerror} (expected one sub-folder of images per class)"
        ) from error
    classes = []
    for name in names:
        if name.startswith("."):
            notes.hidden += 1
        elif (mode := _mode(os.path.join(path, name), notes)) and stat.S_ISDIR(mode):
            classes.append(name)
        elif mode:
            notes.others += 1
    if not classes:
        notes.refuse_faults(path)
        raise DataError(
            f"no images in {path}: it has no sub-folders (expected one sub-folder of images per "
            "class)"
        )
    return classes


def _files(top: str, notes: _Notes) -> Iterator[str]:
    """The files below a class's folder: folder by folder, each in the order of the names."""
    below: dict[str, list[str]] = {}
    _walk(top, frozenset(), below, notes)
    for place in sorted(below):
        yield from (os.path.join(place, name) for name in below[place])


def _walk(
    place: str, above: frozenset[tuple[int, int]], below: dict[str, list[str]], notes: _Notes
) -> None:
    """Collect the names of the files in `place` and in its sub-folders, links to folders too."""
    try:
        here = os.stat(place)
        names = sorted(os.listdir(place))
    except OSError as error:
        notes.faults.append(f"{place} cannot be read: {error.strerror}")
        return
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        notes.faults.append(f"{place} is a link to a folder that it lies in: remove the link")
        return
    below[place] = []
    for name in names:
        path = os.path.join(place, name)
        if name.startswith("."):
            notes.hidden += 1
        elif (mode := _mode(path, notes)) and stat.S_ISDIR(mode):
            _walk(path, above | {identity}, below, notes)
        elif mode:
            below[place].append(name)


def _mode(path: str, notes: _Notes) -> int:
    """What stands at `path`, a file or a folder, links followed; for anything else 0 and a fault.

    Nothing is opened.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:  # a link that leads in a circle or nowhere
        link = "is a symbolic link that" if os.path.islink(path) else "is a file that"
        notes.faults.append(f"{path} {link} cannot be followed: {error.strerror}")
        return 0
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return mode
    kind = _SPECIAL.get(stat.S_IFMT(mode), "no file")
    notes.faults.append(f"{path} is {kind} and not a picture: remove it")
    return 0


def _read(file: str, image_size: int | None, notes: _Notes) -> Tensor | None:
    """The picture in `file`; None where there is none, which is noted."""
    try:
        return read_picture(file, image_size)
    except NoPictureError as error:
        if file.lower().endswith(_PICTURE_NAMES):
            notes.faults.append(str(error))
        else:
            notes.others += 1
    except DataError as error:
        notes.faults.append(str(error))
    return None


def _check_sizes(images: list[Tensor], sources: list[str]) -> None:
    first = images[0].shape[1:]
    others = [i for i, image in enumerate(images) if image.shape[1:] != first]
    if others:
        more = f", and {len(others) - 1} more differ" if len(others) > 1 else ""
        raise DataError(
            f"{sources[others[0]]} is {_size(images[others[0]])} pixels, but {sources[0]} is "
            f"{_size(images[0])}{more}: all must have one size; image_size=64, say "
            "(--image-size 64), crops and resizes them"
        )


def _size(image: Tensor) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"
