"""Data sets that live in files: MNIST and Fashion-MNIST, CIFAR-10, a folder of images.

Each function returns `(samples, labels, class_names)` with uint8 samples [N, C, H, W] and int64
labels [N], on the CPU.
"""

import gzip
import http.client
import math
import os
import socket
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What `apt install dataset-fashion-mnist` leaves. The gzip files differ from torchvision's (and so
# do their checksums), the contents do not.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class DataError(ValueError):
    """A data set that cannot be found, downloaded or read; the message says what to do."""


def default_root() -> Path:
    """Where data sets are looked for and downloaded to: `$FGAN_DATA`, or `~/.cache/fgan`."""
    return Path(os.environ.get("FGAN_DATA") or "~/.cache/fgan").expanduser()


def mnist(root: Path, train: bool = True) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """MNIST's 60,000 training digits, [N, 1, 28, 28], from `root` or torchvision's download.

    The 10,000 test digits unless `train`.
    """
    return *_idx_pair("MNIST", root, train=train), _DIGITS


def fashion_mnist(root: Path, train: bool = True) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Fashion-MNIST's 60,000 training images (arXiv 1708.07747), [N, 1, 28, 28].

    The 10,000 test images unless `train`. From `root` in torchvision's layout, from Debian's
    package, or by torchvision's download.
    """
    return *_idx_pair("FashionMNIST", root, DEBIAN_FASHION_MNIST, train=train), _CLOTHES


def cifar10(root: Path, train: bool = True) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """CIFAR-10's 50,000 training images, [N, 3, 32, 32], from `root` or torchvision's download.

    The 10,000 test images unless `train`.
    """
    from torchvision.datasets import CIFAR10

    try:
        found = CIFAR10(root, train=train)
    except RuntimeError:  # absent, or a checksum is wrong
        _download("CIFAR10", root, tried=[f"{root / CIFAR10.base_folder} (torchvision's layout)"])
        found = CIFAR10(root, train=train)
    samples = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    return samples, torch.tensor(found.targets), tuple(found.classes)


def folder(path: Path, image_size: int | None) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The images under `path`, one sub-folder per class, in the order of their names.

    [N, 1, H, W] where every file is grayscale, else [N, 3, H, W]. Given `image_size`, the middle
    square of each image is resized to it; without, all must have one size already.
    """
    from torchvision.datasets import ImageFolder

    try:
        files = ImageFolder(path)
    except OSError as error:  # no such folder, no class in it, or a class without images
        raise DataError(
            f"no images in {path}: {error} (expected one sub-folder of images per class)"
        ) from error
    paths = [file for file, _ in files.samples]
    images = [_read_image(file, image_size) for file in paths]
    for file, image in zip(paths, images, strict=True):
        if image.shape[1:] != images[0].shape[1:]:
            raise DataError(
                f"{file} is {_size(image)} pixels, but {paths[0]} is {_size(images[0])}: all must "
                f"have one size; image_size=64, say (--image-size 64), crops and resizes them"
            )
    channels = max(image.shape[0] for image in images)
    samples = torch.stack([image.expand(channels, -1, -1) for image in images])
    return samples, torch.tensor(files.targets), tuple(files.classes)


def _size(image: Tensor) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"


def _read_image(file: str, image_size: int | None) -> Tensor:
    """uint8 [1, H, W] for a grayscale file, [3, H, W] for any other."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            if opened.mode.startswith(("I", "F")):  # PIL would clip these at 255, not rescale them
                raise DataError(f"{file} has more than 8 bits a channel; convert it to 8 bits")
            image = opened.convert("L" if opened.mode in ("1", "L", "LA") else "RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if image_size is not None:
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.LANCZOS)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, -1).permute(2, 0, 1)


def _idx_pair(kind: str, root: Path, *elsewhere: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Images [N, 1, H, W] and labels [N] from the first place that has both files.

    `kind` is the class in torchvision.datasets, whose name is also that of its folder.
    """
    home = root / kind / "raw"
    part = "train" if train else "t10k"
    places = (home, *elsewhere)
    found = next(filter(None, (_idx_files(place, part) for place in places)), None)
    if found is None:
        tried = [f"{home} (torchvision's layout; root= or $FGAN_DATA says where)"]
        tried += [f"{place} (Debian's package dataset-fashion-mnist)" for place in elsewhere]
        _download(kind, root, tried)
        found = _idx_files(home, part)
        assert found is not None, f"torchvision's {kind} has changed its layout"
    images, labels = read_idx(found[0], ndim=3), read_idx(found[1], ndim=1)
    if len(images) != len(labels):
        raise DataError(f"{found[0]} holds {len(images)} images, {found[1]} {len(labels)} labels")
    return images.unsqueeze(1), labels.long()


def _idx_files(place: Path, part: str) -> tuple[Path, Path] | None:
    """The images and labels of `part` in `place`, gzipped or not, if both are there."""
    paths = []
    for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
        present = [path for path in (place / name, place / f"{name}.gz") if path.is_file()]
        if not present:
            return None
        paths.append(present[0])
    return paths[0], paths[1]


def read_idx(path: Path, ndim: int) -> Tensor:
    """The uint8 tensor in an idx file, MNIST's format, gzipped where its name ends in .gz.

    Raises DataError, naming the file, where it is truncated, corrupt or not of `ndim` dimensions.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = bytearray(file.read())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; replace or delete it") from error
    start = 4 * (1 + ndim)  # two zero bytes, the type (8: uint8), the dimensions and their sizes
    if len(content) < start or tuple(content[:4]) != (0, 0, 8, ndim):
        raise DataError(f"{path} is not an idx file of {ndim}-d uint8; replace or delete it")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path} is truncated or corrupt: it announces {math.prod(shape)} bytes "
            f"and holds {len(content) - start}; replace or delete it"
        )
    return torch.frombuffer(content, dtype=torch.uint8)[start:].view(shape)


def _download(kind: str, root: Path, tried: list[str]) -> None:
    """Have torchvision download `kind` into `root`; DataError lists what was `tried` before.

    torchvision later trusts a file that exists, even half of one. So the download goes to a
    temporary folder inside `root`, and only whole files leave it, by renaming.
    """
    import torchvision

    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as scratch, _impatience():
            data_set: Any = getattr(torchvision.datasets, kind)
            data_set(scratch, download=True)
            for path in sorted(Path(scratch).rglob("*")):
                if path.is_file() and path.suffix != ".gz":  # the archives are unpacked by now
                    target = root / path.relative_to(scratch)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(target)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        tried.append(f"torchvision's download into {root}: {' '.join(str(error).split())}")
        listed = "".join(f"\n  {i}. {place}" for i, place in enumerate(tried, start=1))
        raise DataError(
            f"{kind} was not found. Looked in:{listed}\n"
            f"The embedded data set 'glyphs' (28x28 digits) needs no files and no network."
        ) from error


@contextmanager
def _impatience(seconds: float = 20.0) -> Iterator[None]:
    """A time-out for torchvision's connections, which else hang where packets are swallowed."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
