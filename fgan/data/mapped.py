"""Pictures as one file of bytes that is mapped into memory: for folders larger than the memory.

The file is made once and kept below the data root. Its name is a hash of all that it depends on:
the paths, sizes and times of the pictures, and how they are read.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan.data.files import make_folder, replacing

FOLDER = "folders"
"""Below the data root."""

_FORMAT = "fgan folder 1"


class Known(NamedTuple):
    """What is kept beside the bytes."""

    shape: list[int]
    """[N, C, H, W]"""
    labels: list[int]
    left_out: str


class MappedFile:
    """Where the bytes of a folder's pictures are kept, and what is known of them."""

    def __init__(self, root: Path, files: Sequence[str], settings: Iterable[object]) -> None:
        name = _key(files, settings)
        self._bytes = root / FOLDER / f"{name}.uint8"
        self._notes = root / FOLDER / f"{name}.json"

    def read(self) -> Known | None:
        """What was kept, if it is whole; None otherwise."""
        try:
            content: Any = json.loads(self._notes.read_text(encoding="utf-8"))
            known = Known(content["shape"], content["labels"], content["left_out"])
            whole = self._bytes.stat().st_size == math.prod(known.shape)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return known if whole else None

    def write(self, images: Iterator[Tensor], labels: list[int]) -> Known:
        """Write images, uint8 [C, H, W] each, one after another, and grey ones again in colour.

        labels: grows while the images are read.
        """
        make_folder(self._bytes.parent)
        shape: list[int] = []
        grey = 0
        with replacing(self._bytes) as temporary:
            with temporary.open("w+b") as file:
                count = 0
                for image in images:
                    if not shape:
                        shape = list(image.shape)
                    if shape[0] == 1 and image.shape[0] == 3:
                        grey, shape[0] = count, 3
                    file.write(_content(image.expand(shape[0], -1, -1)))
                    count += 1
            if grey:
                _colour(temporary, grey, math.prod(shape[1:]))
        return Known([count, *shape], labels, "")

    def note(self, known: Known) -> None:
        """Keep what is known, once the bytes are whole."""
        with replacing(self._notes) as temporary:
            temporary.write_text(json.dumps(known._asdict()), encoding="utf-8")

    def samples(self, known: Known) -> Tensor:
        """uint8 [N, C, H, W]: pages of the file, read when they are looked at."""
        size = math.prod(known.shape)
        return torch.from_file(
            str(self._bytes), shared=False, size=size, dtype=torch.uint8, device="cpu"
        ).view(known.shape)


def _key(files: Sequence[str], settings: Iterable[object]) -> str:
    known = hashlib.blake2b(repr((_FORMAT, *settings)).encode(), digest_size=16)
    for file in files:
        found = os.stat(file)
        known.update(os.fsencode(file) + f"\0{found.st_size} {found.st_mtime_ns}\0".encode())
    return known.hexdigest()


def _colour(path: Path, grey: int, pixels: int) -> None:
    """Repeat the channel of the first `grey` images thrice; all others have three already."""
    wide = path.with_name(f".{path.name}.wide.{os.getpid()}.tmp")
    try:
        with path.open("rb") as source, wide.open("wb") as target:
            for _ in range(grey):
                target.write(source.read(pixels) * 3)
            while piece := source.read(2**24):
                target.write(piece)
        wide.replace(path)
    finally:
        wide.unlink(missing_ok=True)


def _content(image: Tensor) -> memoryview:
    return image.contiguous().reshape(-1).numpy().data
