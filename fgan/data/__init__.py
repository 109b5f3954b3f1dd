"""Data sets by name, held on the device, and the stream of batches that rounds are made of."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgan.data.data_set import DataSet, check_content, condition_of, kind_of, normalise
from fgan.data.devices import as_device
from fgan.data.embedded import glyphs, grid, rings, swiss_roll
from fgan.data.folders import Progress, folder
from fgan.data.identity import Fingerprint, fingerprint
from fgan.data.iterables import Batches, Iterables, Keys, Rows, adapted
from fgan.data.picture_files import MOST_PIXELS
from fgan.data.real import DataError, cifar10, default_root, fashion_mnist, mnist
from fgan.data.stream import Grouped, Rounds, RoundSource, Size, check_size, numbered
from fgan.scalars import check_count, check_flag
from fgan.scores import describe
from fgan.shares import Share, part_of
from fgan.types import CriticUpdates

__all__ = [
    "GENERATED",
    "NAMES",
    "TESTED",
    "Batches",
    "DataError",
    "DataSet",
    "Fingerprint",
    "Rounds",
    "Rows",
    "adapted",
    "batches",
    "condition_of",
    "fingerprint",
    "load",
    "normalise",
    "to_uint8",
]

_EMBEDDED = {"rings": rings, "grid": grid, "swiss-roll": swiss_roll, "glyphs": glyphs}
_REAL = {"fashion-mnist": fashion_mnist, "mnist": mnist, "cifar10": cifar10}

GENERATED = tuple(_EMBEDDED)
"""Data sets that are made on the spot: their last bits may differ from machine to machine."""

NAMES = (*_EMBEDDED, *_REAL, "folder:PATH")
"""What `load` knows; PATH stands for a folder of images, or with a sub-folder of them per class."""

TESTED = tuple(_REAL)
"""Those with a test split."""


def load(
    name: str,
    root: str | Path | None = None,
    device: torch.device | str = "cpu",
    image_size: int | None = None,
    train: bool = True,
    *,
    skip_broken: bool = False,
    mapped: bool | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """The training split of the data set called `name`, one of `NAMES`, on `device`.

    `rings`, `grid`, `swiss-roll` and `glyphs` are made on the spot. The others are looked for
    under `root` (default: `$FGAN_DATA`, or `~/.cache/fgan`) in torchvision's layout, Fashion-MNIST
    then among Debian's files, and are downloaded into `root` at last. With `train=False` the data
    set is the test split, which those of `TESTED` have.

    `folder:PATH` reads PNG, JPEG, WebP, BMP, GIF, TIFF and PPM, told by their contents. Pictures
    are turned upright as their EXIF data say, and what is transparent is put on white. Hidden files
    and folders are left out, and `left_out` of the result counts them. A folder without sub-folders
    has no labels. For `folder:PATH` alone are

    - `image_size`: the middle square of every image, resized to that many pixels;
    - `skip_broken`: files that cannot be read are left out and counted, and are no error;
    - `mapped`: the images are one file of bytes below `root`, made at the first call and mapped
      into memory, so that they may be larger than it; they are moved to a device batch by batch. By
      default where they would take more than half of the memory;
    - `progress`: a function that is told how many files are read, and how many there are.

    Raises ValueError for an unknown name, DataError (a ValueError) for what cannot be had or read.

    Example:
        >>> rings = fgan.data.load("rings")
        >>> rings.sample_shape, rings.class_names
        ((2,), ('radius 0.5', 'radius 1.0', 'radius 1.5'))
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
    for option, flag in (("skip_broken", skip_broken), ("mapped", mapped)):
        if flag is not None:
            check_flag(option, flag)
        if flag and kind != "folder":
            raise ValueError(f"{option} is for folder:PATH alone, and the data set is {name!r}")
    labels: Tensor | None
    left_out, in_file = "", False
    with torch.device("cpu"):  # whatever the default device is: random numbers are the CPU's
        if name in _EMBEDDED:
            samples, labels, class_names = _EMBEDDED[name]()
        elif name in _REAL:
            place = default_root() if root is None else Path(root).expanduser()
            samples, labels, class_names = _REAL[name](place, train)
        elif kind == "folder" and path:
            place = Path(path).expanduser()
            cache = None if root is None else Path(root).expanduser()
            samples, labels, class_names, left_out, in_file = folder(
                place, image_size, skip_broken, mapped, cache, progress
            )
        else:
            raise ValueError(f"unknown data set {name!r}; known are {', '.join(NAMES)}")
    if not in_file:
        samples, labels = samples.to(target), None if labels is None else labels.to(target)
    return DataSet(name, samples, labels, class_names, left_out, in_file)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, rounded, whatever lies outside clamped: `normalise` undone.

    Example:
        >>> fgan.data.to_uint8(torch.tensor([-1.0, 1.0, 7.0]))
        tensor([  0, 255, 255], dtype=torch.uint8)
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise ValueError(
            "to_uint8 takes a tensor of floating-point images in [-1, 1], and "
            f"{kind_of(images)} was given"
        )
    return ((images.to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def batches(
    data: str | DataSet | Iterables | Rows | Batches,
    batch_size: int | None = None,
    n_critic: CriticUpdates = 1,
    rounds: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    conditional: bool | None = None,
    root: str | Path | None = None,
    start: int = 0,
    share: Share | None = None,
    *,
    flip: bool = False,
    keys: Keys | None = None,
    position: Mapping[str, Any] | None = None,
) -> Rounds:
    """One `Batch` per round, without end or for `rounds` rounds, beginning with round `start`.

    `real` is [n_critic, batch_size, ...], float32, images in [-1, 1]; `condition` is the labels,
    such as int64 [n_critic, batch_size], or None. `conditional`: whether there are conditions; by
    default where the data have labels. `n_critic` may be a function of the round's index (WGAN's
    critic warm-up). `flip`: images are mirrored left to right, each with probability 1/2, drawn
    anew from `seed` and the round; conditions that are images with them.

    `data` is

    - a `DataSet` or the name of one, then loaded from `root`; it is put on `device` (default: where
      it is, or the CPU) once and as a whole;
    - a data set with rows by number (`torch.utils.data.Dataset`, `datasets.Dataset` in the format
      torch), whose rows are fetched one by one, in the order that a `DataSet` has;
    - any iterable of batches, such as a `DataLoader` or a list, or a function that makes one for
      each epoch. A batch is a tensor [B, ...], a pair (samples, conditions), or a dict, of which
      `keys` names the two entries. It keeps its own order, and its own batch size, which
      `batch_size` need not repeat. Batches that are shorter than the first are left out.

    The samples of the first two kinds are those of epoch after epoch, each in an order of its own:
    a batch may run over from one epoch into the next, and no sample is lost. The batch of round i
    depends on `seed` and i alone (and the sizes), so `start=i` resumes a run; the global generator
    is not touched, and no batch makes the host wait for the device. An iterable is resumed where it
    has a fixed order, by leaving batches out, or where it says its own position (`state_dict` and
    `load_state_dict`), from `position`; a warning says where it is not. The result has `epoch`,
    passes over the data so far, and `position()`, for a checkpoint.

    With `share=(rank, size)` each update has one of `size` equal parts of its batch, of which
    `batch_size` is the whole: `batches(..., share=algorithm.share)` for `fgan.data_parallel`. Every
    rank makes the same permutation, and the parts of all ranks, one after another, are the batch.

    Raises ValueError at once, not at the first batch, for counts out of range, for labels outside
    [0, num_classes), for samples that are not finite, for `conditional=True` without labels, and
    for all that `load` raises; of an iterable, the first batch alone is looked at.

    Example:
        >>> for batch in fgan.data.batches("rings", batch_size=16, n_critic=5, rounds=2):
        ...     print(batch.real.shape, batch.condition.shape)
        torch.Size([5, 16, 2]) torch.Size([5, 16])
        torch.Size([5, 16, 2]) torch.Size([5, 16])
    """
    start = check_count("start", start, 0)
    if conditional is not None:
        check_flag("conditional", conditional)
    check_flag("flip", flip)
    if rounds is not None:
        rounds = check_count("rounds", rounds, 0)
    target = None if device is None else as_device(device)

    def updates(round_index: int) -> int:
        count = n_critic(round_index) if callable(n_critic) else n_critic
        return check_count("n_critic", count)

    before = sum(map(updates, range(start))) if callable(n_critic) else start * updates(start)
    updates(start)  # a wrong schedule is to fail here, before data are loaded, not in the loop
    if batch_size is not None:
        batch_size = check_count("batch_size", batch_size)
        part_of(share, "batch_size", batch_size)
    if isinstance(data, str):
        data = load(data, root, "cpu" if target is None else target)
    elif not isinstance(data, DataSet):
        data = adapted(data, keys)
    if isinstance(data, DataSet):
        data = placed(data, target)
    preview = data if isinstance(data, DataSet) else data.preview
    size = _batch_size(data, batch_size)
    part = part_of(share, "batch_size", size)
    _check_use(preview, conditional, flip)
    check_size(preview.name, preview.sample_shape, (updates(start), size))
    source: RoundSource
    if isinstance(data, Batches):
        data.resume(before, position)
        source = Grouped(data, target)
    else:
        source = numbered(data, seed, before * size, target)

    def sizes() -> Iterator[tuple[int, Size]]:
        for i in itertools.count(start) if rounds is None else range(start, start + rounds):
            now = updates(i), size
            check_size(preview.name, preview.sample_shape, now)
            yield i, now

    return Rounds(source, sizes(), seed, conditional is not False, part, flip)


def _batch_size(data: DataSet | Rows | Batches, given: int | None) -> int:
    if isinstance(data, Batches):
        if given not in (None, data.batch_size):
            raise ValueError(
                f"batch_size is {given}, and the batches of {data.name} have {data.batch_size} "
                "samples: leave batch_size out, or make both equal"
            )
        return data.batch_size
    if given is None:
        raise ValueError("batch_size is a whole number from 1, and none was given")
    return given


def _check_use(data: DataSet, conditional: bool | None, flip: bool) -> None:
    if conditional and data.labels is None:
        raise ValueError(
            f"conditional is True, and {data.name} has no labels: give the DataSet labels, or "
            "leave conditional out"
        )
    if flip and len(data.sample_shape) != 3:
        raise ValueError(
            f"flip is for images [C, H, W], and a sample of {data.name} is "
            f"{list(data.sample_shape)}"
        )


def placed(data: DataSet, device: torch.device | None) -> DataSet:
    """The data set as a whole on `device`, if it is not mapped from a file; its content checked."""
    check_content(data)
    labels = data.labels
    if device is not None and not data.mapped:
        labels = None if labels is None else labels.to(device)
        return replace(data, samples=data.samples.to(device), labels=labels)
    if labels is not None and data.samples.device != labels.device:  # pragma: no cover (a GPU)
        raise ValueError(
            f"{data.name}: the samples are on {data.samples.device} and the labels on "
            f"{labels.device}: device= puts both on one"
        )
    return data
