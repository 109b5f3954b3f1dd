"""A folder of pictures as a data set: one sub-folder per class, every fault with its file's name.

Only files are opened. A pipe, a socket or a device would keep a reader waiting, and a link that
leads to a folder above it would never end: both are refused by name.
"""

import os
import stat
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fgan.data.mapped import MappedFile
from fgan.data.memory import machine_memory
from fgan.data.picture_files import NoPictureError, read_picture
from fgan.data.real import DataError, default_root

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


Progress = Callable[[int, int], None]
"""Is told how many pictures are read, and how many there are."""


class Folder(NamedTuple):
    """What a folder holds."""

    samples: Tensor
    """uint8 [N, 1, H, W] where every file is grayscale, else [N, 3, H, W]."""
    labels: Tensor | None
    """int64 [N]; None in a folder without sub-folders."""
    class_names: tuple[str, ...]
    left_out: str
    """In words, how many files and folders were left out: hidden ones (`.ipynb_checkpoints`,
    `._0.png`), files that hold no picture and have no picture's name, files beside sub-folders, and
    broken ones on request."""
    mapped: bool


@dataclass
class _Notes:
    """What reading a folder brought up, beside its pictures."""

    skip_broken: bool
    faults: list[str] = field(default_factory=list)
    hidden: int = 0
    others: int = 0

    def left_out(self) -> str:
        broken = f"broken (first: {self.faults[0]})" if self.faults else ""
        counted = (
            (self.hidden, "hidden (their names begin with a dot)"),
            (self.others, "without a picture or outside the sub-folders"),
            (len(self.faults), broken),
        )
        return ", ".join(f"{count} {what}" for count, what in counted if count)

    def refuse_faults(self, path: Path) -> None:
        if self.skip_broken or not self.faults:
            return
        broken = any(not fault.startswith("the class ") for fault in self.faults)
        advice = "; skip_broken=True (--skip-broken) leaves such files out" if broken else ""
        if len(self.faults) == 1:
            raise DataError(self.faults[0] + advice)
        more = len(self.faults) - LISTED
        listed = "; ".join(self.faults[:LISTED]) + (f"; and {more} more" if more > 0 else "")
        raise DataError(f"{len(self.faults)} faults in {path}: {listed}{advice}")


def folder(
    path: Path,
    image_size: int | None,
    skip_broken: bool = False,
    mapped: bool | None = False,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Folder:
    """The pictures under `path`, one sub-folder per class, in the order of their names.

    A folder without sub-folders has no classes and no labels. `read_picture` says how each file is
    read. Given `image_size`, the middle square of each is resized to it; without, all must have one
    size. `mapped`: the samples are a file below `root` that is mapped into memory, made at the
    first call; None: where they would take more than half of the memory.

    Raises DataError for a folder without pictures, a class without pictures, pictures of several
    sizes, and for what cannot be read: all such files at once, the first `LISTED` by name. With
    `skip_broken` what cannot be read is left out, and counted.
    """
    notes = _Notes(skip_broken)
    classes = _classes(path, notes)
    if classes:
        groups = [list(_files(os.path.join(path, name), notes)) for name in classes]
    else:
        notes = _Notes(skip_broken)
        groups = [list(_files(str(path), notes))]
    files = [(file, label) for label, group in enumerate(groups) for file in group]
    reader = _Reader(path, classes, files, image_size, notes, progress)
    if mapped is None:
        mapped = reader.estimate() > machine_memory() / 2
    if mapped:
        samples, labels, left_out = _mapped(reader, default_root() if root is None else root)
    else:
        images, labels = list(reader.images()), reader.labels
        channels = max(image.shape[0] for image in images)
        samples = torch.stack([image.expand(channels, -1, -1) for image in images])
        left_out = notes.left_out()
    known = torch.tensor(labels) if classes else None
    return Folder(samples, known, tuple(classes), left_out, mapped)


def _mapped(reader: "_Reader", root: Path) -> tuple[Tensor, list[int], str]:
    """Samples in a file below `root`, their labels, and what was left out."""
    settings = (reader.classes, reader.image_size, reader.notes.skip_broken)
    place = MappedFile(root, [file for file, _ in reader.files], settings)
    known = place.read()
    if known is None:
        known = place.write(reader.images(), reader.labels)
        known = known._replace(left_out=reader.notes.left_out())
        place.note(known)
    return place.samples(known), known.labels, known.left_out


class _Reader:
    """Reads the files of a folder one by one, and notes what is wrong with them."""

    def __init__(
        self,
        path: Path,
        classes: list[str],
        files: list[tuple[str, int]],
        image_size: int | None,
        notes: _Notes,
        progress: Progress | None,
    ) -> None:
        self.path, self.classes, self.files = path, classes, files
        self.image_size, self.notes, self._progress = image_size, notes, progress
        self.labels: list[int] = []
        """Of the pictures that were read."""
        self._first: tuple[str, Tensor] | None = None
        self._others: list[tuple[str, str]] = []
        self._present: set[int] = set()
        """The classes that have a picture, also one that is no good."""

    def estimate(self) -> float:
        """Bytes of all pictures, if they are as large as the first that can be read."""
        for file, _ in self.files:
            try:
                return float(len(self.files) * read_picture(file, self.image_size).numel())
            except DataError:
                continue
        return 0.0

    def images(self) -> Iterator[Tensor]:
        """The pictures, in order; at the end DataError for what was wrong with any."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on files that it reads all the same
            for done, (file, label) in enumerate(self.files, start=1):
                faults = len(self.notes.faults)
                image = _read(file, self.image_size, self.notes)
                broken = len(self.notes.faults) > faults
                if image is not None or (broken and not self.notes.skip_broken):
                    self._present.add(label)
                if image is not None and self._has_size(file, image):
                    self.labels.append(label)
                    yield image
                if self._progress is not None:
                    self._progress(done, len(self.files))
        self._check()

    def _has_size(self, file: str, image: Tensor) -> bool:
        if self._first is None:
            self._first = file, image
        if image.shape[1:] != self._first[1].shape[1:]:
            self._others.append((file, _size(image)))
            return False
        return True

    def _check(self) -> None:
        """Raise DataError for what was wrong, once all files are read."""
        notes = self.notes
        for label, name in enumerate(self.classes):
            if label not in self._present:
                empty = f"the class {os.path.join(self.path, name)} holds no picture"
                if notes.skip_broken:
                    raise DataError(f"{empty} that can be read")
                notes.faults.append(empty)
        notes.refuse_faults(self.path)
        if self._first is None:
            raise DataError(
                f"no images in {self.path}: it has no images and no sub-folders (expected images, "
                "or one sub-folder of images per class)"
            )
        if self._others:
            more = f", and {len(self._others) - 1} more differ" if len(self._others) > 1 else ""
            raise DataError(
                f"{self._others[0][0]} is {self._others[0][1]} pixels, but {self._first[0]} is "
                f"{_size(self._first[1])}{more}: all must have one size; image_size=64, say "
                "(--image-size 64), crops and resizes them"
            )


def _classes(path: Path, notes: _Notes) -> list[str]:
    """The names of the sub-folders, sorted. Files beside them belong to no class."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise DataError(
            f"no images in {path}: {error.strerror} (expected images, or one sub-folder of images "
            "per class)"
        ) from error
    classes = []
    for name in names:
        if name.startswith("."):
            notes.hidden += 1
        elif (mode := _mode(os.path.join(path, name), notes)) and stat.S_ISDIR(mode):
            classes.append(name)
        elif mode:
            notes.others += 1
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


def _size(image: Tensor) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"
