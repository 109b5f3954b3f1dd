"""Data sets that live in files: MNIST and Fashion-MNIST, CIFAR-10.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What `apt install dataset-fashion-mnist` leaves. The gzip files differ from torchvision's (and so
# do their checksums), the contents do not.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

_DEFLATE_RATIO = 1032  # the most bytes that gzip makes of one

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class DataError(ValueError):
    """A data set that cannot be found, downloaded or read; the message says what to do.

    Example:
        >>> fgan.data.load("folder:no/such/folder")
        Traceback (most recent call last):
        fgan.data.real.DataError: ...
    """


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
    if (highest := int(labels.max())) > 9:
        raise DataError(f"{found[1]} holds the label {highest}, and the classes are 0 to 9")
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

    No more is read than the file announces, however far its contents would unpack. Raises
    DataError, naming the file, where it is truncated, corrupt, empty or not of `ndim` dimensions.
    """
    if not path.is_file():  # a pipe would keep the reader waiting
        raise DataError(f"{path} cannot be read: it is no file; replace or delete it")
    start = 4 * (1 + ndim)  # two zero bytes, the type (8: uint8), the dimensions and their sizes
    try:
        packed = path.stat().st_size
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(start)
            if len(header) < start or tuple(header[:4]) != (0, 0, 8, ndim):
                raise DataError(
                    f"{path} is not an idx file of {ndim}-d uint8; replace or delete it"
                )
            shape = struct.unpack(f">{ndim}I", header[4:])
            announced = math.prod(shape)
            # Nothing is read that was not announced, nor announced that cannot be there.
            most = packed * _DEFLATE_RATIO if path.suffix == ".gz" else packed - start
            content = _read_at_most(file.read, announced + 1) if announced <= most else b""
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; replace or delete it") from error
    if len(content) != announced:
        held = "more" if len(content) > announced else "fewer"
        raise DataError(
            f"{path} is truncated or corrupt: it announces {announced} bytes, of shape "
            f"{list(shape)}, and holds {held}; replace or delete it"
        )
    if not announced:
        raise DataError(f"{path} is empty: its shape is {list(shape)}; replace or delete it")
    return torch.frombuffer(content, dtype=torch.uint8).view(shape)


def _read_at_most(read: Callable[[int], bytes], count: int) -> bytearray:
    """The next `count` bytes, or all that there are; the memory grows with what is there."""
    content = bytearray()
    while len(content) < count and (piece := read(min(2**20, count - len(content)))):
        content += piece
    return content


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
