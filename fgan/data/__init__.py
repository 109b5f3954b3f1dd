"""Data sets by name, held on the device, and the stream of batches that rounds are made of."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from fgan.data.embedded import glyphs, grid, rings, swiss_roll
from fgan.data.real import DataError, cifar10, default_root, fashion_mnist, folder, mnist
from fgan.scalars import check_count
from fgan.seeds import mix_seed
from fgan.shares import Share, part_of
from fgan.types import Batch, CriticUpdates

__all__ = ["NAMES", "DataError", "DataSet", "batches", "load", "normalise", "to_uint8"]

_EMBEDDED = {"rings": rings, "grid": grid, "swiss-roll": swiss_roll, "glyphs": glyphs}
_REAL = {"fashion-mnist": fashion_mnist, "mnist": mnist, "cifar10": cifar10}

_SHUFFLING = 0xDA7A  # keeps these seeds apart from those that rounds draw their noise from

NAMES = (*_EMBEDDED, *_REAL, "folder:PATH")
"""What `load` knows; PATH stands for a folder with one sub-folder of images per class."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled samples, all in memory.

    name: what the set is called.
    samples: uint8 [N, C, H, W] for images, float [N, ...] for anything else, such as points [N, 2].
    labels: int64 [N], each in [0, num_classes), on the same device.
    class_names: one per class.
    """

    name: str
    samples: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def num_classes(self) -> int:
        """How many classes there are, whether or not each has a sample."""
        return len(self.class_names)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W), or (2,) for points."""
        return tuple(self.samples.shape[1:])


def load(
    name: str,
    root: str | Path | None = None,
    device: torch.device | str = "cpu",
    image_size: int | None = None,
) -> DataSet:
    """The training split of the data set called `name`, one of `NAMES`, on `device`.

    `rings`, `grid`, `swiss-roll` and `glyphs` are made on the spot. The others are looked for
    under `root` (default: `$FGAN_DATA`, or `~/.cache/fgan`) in torchvision's layout, Fashion-MNIST
    then among Debian's files, and are downloaded into `root` at last. `image_size` is for
    `folder:PATH` alone: the middle square of every image, resized to that many pixels.

    Raises ValueError for an unknown name, DataError (a ValueError) for what cannot be had or read.
    """
    kind, _, path = name.partition(":")
    if image_size is not None:
        if kind != "folder":
            raise ValueError(f"image_size is for folder:PATH alone; {name!r} has a size of its own")
        check_count("image_size", image_size)
    if name in _EMBEDDED:
        content = _EMBEDDED[name]()
    elif name in _REAL:
        content = _REAL[name](default_root() if root is None else Path(root).expanduser())
    elif kind == "folder" and path:
        content = folder(Path(path).expanduser(), image_size)
    else:
        raise ValueError(f"unknown data set {name!r}; known are {', '.join(NAMES)}")
    samples, labels, class_names = content
    return DataSet(name, samples.to(device), labels.to(device), class_names)


def normalise(images: Tensor) -> Tensor:
    """uint8 images as float32 in [-1, 1], of the same shape: 0 becomes -1 and 255 becomes 1."""
    if images.dtype != torch.uint8:
        raise ValueError(f"normalise takes uint8 images, got {images.dtype}")
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, rounded, whatever lies outside clamped: `normalise` undone."""
    if not images.is_floating_point():
        raise ValueError(f"to_uint8 takes floating-point images in [-1, 1], got {images.dtype}")
    return ((images.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def batches(
    data: str | DataSet,
    batch_size: int,
    n_critic: CriticUpdates = 1,
    rounds: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    conditional: bool = True,
    root: str | Path | None = None,
    start: int = 0,
    share: Share | None = None,
) -> Iterator[Batch]:
    """One `Batch` per round, without end or for `rounds` rounds, beginning with round `start`.

    `real` is [n_critic, batch_size, ...], float32, images in [-1, 1]; `condition` is the labels,
    int64 [n_critic, batch_size], or None unless `conditional`. `n_critic` may be a function of the
    round's index (WGAN's critic warm-up). `data` is a `DataSet` or the name of one, then loaded
    from `root`; it is put on `device` (default: where it is, or the CPU) once and as a whole.

    The samples are those of epoch after epoch, each in an order of its own: a batch may run over
    from one epoch into the next, and no sample is lost. The batch of round i depends on
    `seed` and i alone (and the sizes), so `start=i` resumes a run; the global generator is not
    touched, and no batch makes the host wait for the device.

    With `share=(rank, size)` each update has one of `size` equal parts of its batch, of which
    `batch_size` is the whole: `batches(..., share=algorithm.share)` for `fgan.data_parallel`. Every
    rank makes the same permutation, and the parts of all ranks, one after another, are the batch.

    Raises ValueError at once, not at the first batch, for counts out of range, for labels outside
    [0, num_classes), and for all that `load` raises.
    """
    check_count("batch_size", batch_size)
    check_count("start", start, 0)
    part = part_of(share, "batch_size", batch_size)
    if rounds is not None:
        check_count("rounds", rounds, 0)

    def updates(round_index: int) -> int:
        count = n_critic(round_index) if callable(n_critic) else n_critic
        check_count("n_critic", count)
        return count

    before = sum(map(updates, range(start))) if callable(n_critic) else start * updates(start)
    updates(start)  # a wrong schedule is to fail here, not in the loop
    if isinstance(data, str):
        data = load(data, root, "cpu" if device is None else device)
    elif device is not None:
        data = replace(data, samples=data.samples.to(device), labels=data.labels.to(device))
    _check_content(data)
    indices = itertools.count(start) if rounds is None else range(start, start + rounds)
    sizes = ((updates(i), batch_size) for i in indices)
    return _stream(data, sizes, seed, before * batch_size, conditional, part)


def _stream(
    data: DataSet,
    sizes: Iterable[tuple[int, int]],
    seed: int,
    position: int,
    conditional: bool,
    part: slice,
) -> Iterator[Batch]:
    """Batches of the given sizes from the endless stream of shuffled epochs, from `position` on.

    part: which samples of each update.
    """
    as_real = normalise if data.samples.dtype == torch.uint8 else Tensor.float
    epoch, order = -1, data.labels[:0]
    for size in sizes:
        missing, parts = math.prod(size), []
        while missing:
            now, offset = divmod(position, len(data))
            if now != epoch:
                epoch, order = now, _order(len(data), seed, now, data.samples.device)
            parts.append(order[offset : offset + missing])
            position += len(parts[-1])
            missing -= len(parts[-1])
        index = torch.cat(parts).view(size)[:, part]  # [n_critic, B]
        samples = as_real(data.samples.index_select(0, index.flatten()))
        yield Batch(
            samples.view(*index.shape, *data.sample_shape),  # [n_critic, B, ...]
            data.labels[index] if conditional else None,
        )


def _order(size: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """The epoch's permutation, on `device`; drawn on the CPU, so that every device has the same."""
    generator = Generator().manual_seed(mix_seed(seed, _SHUFFLING, epoch))
    order = torch.randperm(size, generator=generator)
    if device.type == "cuda":  # pragma: no cover (needs a GPU); pinned, the copy does not wait
        return order.pin_memory().to(device, non_blocking=True)
    return order.to(device)


def _check_content(data: DataSet) -> None:
    samples, labels = data.samples, data.labels
    if samples.dtype != torch.uint8 and not samples.is_floating_point():
        raise ValueError(f"{data.name}: samples must be uint8 or floating, not {samples.dtype}")
    if labels.dtype != torch.int64 or labels.shape != samples.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"{data.name}: labels must be int64, one for each of the (at least one) samples; got "
            f"{labels.dtype} {tuple(labels.shape)} for samples {tuple(samples.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= data.num_classes:
        raise ValueError(
            f"{data.name}: labels must lie in [0, {data.num_classes}), as there are "
            f"{data.num_classes} class names; they go from {low} to {high}"
        )
