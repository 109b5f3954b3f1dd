"""Data sets by name, held on the device, and the stream of batches that rounds are made of."""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from fgan.data.data_set import DataSet, check_content
from fgan.data.devices import as_device
from fgan.data.embedded import glyphs, grid, rings, swiss_roll
from fgan.data.folders import folder
from fgan.data.identity import Fingerprint, fingerprint
from fgan.data.memory import gib, machine_memory
from fgan.data.picture_files import MOST_PIXELS
from fgan.data.real import DataError, cifar10, default_root, fashion_mnist, mnist
from fgan.scalars import check_count, check_flag
from fgan.scores import describe
from fgan.seeds import mix_seed
from fgan.shares import Share, part_of
from fgan.types import Batch, CriticUpdates

__all__ = [
    "GENERATED",
    "NAMES",
    "TESTED",
    "DataError",
    "DataSet",
    "Fingerprint",
    "batches",
    "fingerprint",
    "load",
    "normalise",
    "to_uint8",
]

_EMBEDDED = {"rings": rings, "grid": grid, "swiss-roll": swiss_roll, "glyphs": glyphs}
_REAL = {"fashion-mnist": fashion_mnist, "mnist": mnist, "cifar10": cifar10}

_SHUFFLING = 0xDA7A  # keeps these seeds apart from those that rounds draw their noise from

GENERATED = tuple(_EMBEDDED)
"""Data sets that are made on the spot: their last bits may differ from machine to machine."""

NAMES = (*_EMBEDDED, *_REAL, "folder:PATH")
"""What `load` knows; PATH stands for a folder with one sub-folder of images per class."""

TESTED = tuple(_REAL)
"""Those with a test split."""


def load(
    name: str,
    root: str | Path | None = None,
    device: torch.device | str = "cpu",
    image_size: int | None = None,
    train: bool = True,
) -> DataSet:
    """The training split of the data set called `name`, one of `NAMES`, on `device`.

    `rings`, `grid`, `swiss-roll` and `glyphs` are made on the spot. The others are looked for
    under `root` (default: `$FGAN_DATA`, or `~/.cache/fgan`) in torchvision's layout, Fashion-MNIST
    then among Debian's files, and are downloaded into `root` at last. With `train=False` the data
    set is the test split, which those of `TESTED` have.

    `folder:PATH` reads PNG, JPEG, WebP, BMP, GIF, TIFF and PPM, told by their contents. Pictures
    are turned upright as their EXIF data say, and what is transparent is put on white. Hidden files
    and folders are left out, and `left_out` of the result counts them. `image_size` is for
    `folder:PATH` alone: the middle square of every image, resized to that many pixels.

    Raises ValueError for an unknown name, DataError (a ValueError) for what cannot be had or read.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"the name of a data set is one of {', '.join(NAMES)}, and {describe(name)} was given"
        )
    target = as_device(device)
    check_flag("train", train)
    kind, _, path = name.partition(":")
    if image_size is not None:
        if kind != "folder":
            raise ValueError(f"image_size is for folder:PATH alone; {name!r} has a size of its own")
        check_count("image_size", image_size)
        if image_size**2 > MOST_PIXELS:
            raise ValueError(
                f"image_size is below {int(MOST_PIXELS**0.5)}, and {image_size} was given"
            )
    if not train and name not in TESTED:
        raise ValueError(f"{name!r} has no test split; those that have one: {', '.join(TESTED)}")
    left_out = ""
    with torch.device("cpu"):  # whatever the default device is: random numbers are the CPU's
        if name in _EMBEDDED:
            samples, labels, class_names = _EMBEDDED[name]()
        elif name in _REAL:
            place = default_root() if root is None else Path(root).expanduser()
            samples, labels, class_names = _REAL[name](place, train)
        elif kind == "folder" and path:
            place = Path(path).expanduser()
            samples, labels, class_names, left_out = folder(place, image_size)
        else:
            raise ValueError(f"unknown data set {name!r}; known are {', '.join(NAMES)}")
    return DataSet(name, samples.to(target), labels.to(target), class_names, left_out)


def normalise(images: Tensor) -> Tensor:
    """uint8 images as float32 in [-1, 1], of the same shape: 0 becomes -1 and 255 becomes 1."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        raise ValueError(f"normalise takes a tensor of uint8 images, and {_kind(images)} was given")
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, rounded, whatever lies outside clamped: `normalise` undone."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise ValueError(
            f"to_uint8 takes a tensor of floating-point images in [-1, 1], and {_kind(images)} was "
            "given"
        )
    return ((images.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _kind(value: object) -> str:
    """What was given in place of a tensor, with its kind where it looks like one."""
    text = describe(value)
    return text if isinstance(value, Tensor) else f"{text} ({type(value).__name__})"


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
    [0, num_classes), for samples that are not finite, and for all that `load` raises.
    """
    batch_size = check_count("batch_size", batch_size)
    start = check_count("start", start, 0)
    check_flag("conditional", conditional)
    part = part_of(share, "batch_size", batch_size)
    if rounds is not None:
        rounds = check_count("rounds", rounds, 0)
    target = None if device is None else as_device(device)

    def updates(round_index: int) -> int:
        count = n_critic(round_index) if callable(n_critic) else n_critic
        return check_count("n_critic", count)

    before = sum(map(updates, range(start))) if callable(n_critic) else start * updates(start)
    updates(start)  # a wrong schedule is to fail here, before data are loaded, not in the loop
    if isinstance(data, str):
        data = load(data, root, "cpu" if target is None else target)
    check_content(data)
    if target is not None:
        data = replace(data, samples=data.samples.to(target), labels=data.labels.to(target))
    elif data.samples.device != data.labels.device:
        raise ValueError(
            f"{data.name}: the samples are on {data.samples.device} and the labels on "
            f"{data.labels.device}: device= puts both on one"
        )
    _check_size(data, (updates(start), batch_size))
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
        _check_size(data, size)
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


def _check_size(data: DataSet, size: tuple[int, int]) -> None:
    """Raise ValueError for a round whose float32 samples are more than the machine's memory."""
    needed = 4.0 * math.prod(size) * math.prod(data.sample_shape)
    if needed > (there := machine_memory()):
        raise ValueError(
            f"{size[0]} batches of {size[1]} samples {list(data.sample_shape)} take {gib(needed)}, "
            f"and this machine has {gib(there)}: make batch_size or n_critic smaller"
        )


def _order(size: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """The epoch's permutation, on `device`; drawn on the CPU, so that every device has the same."""
    generator = Generator().manual_seed(mix_seed(seed, _SHUFFLING, epoch))
    order = torch.randperm(size, generator=generator, device="cpu")
    if device.type == "cuda":  # pragma: no cover (needs a GPU); pinned, the copy does not wait
        return order.pin_memory().to(device, non_blocking=True)
    return order.to(device)
