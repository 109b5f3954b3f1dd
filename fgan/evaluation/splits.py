"""Data in two parts: what a classifier is trained on, and what samples are compared with."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fgan.data import TESTED, DataError, DataSet, load, placed
from fgan.data.devices import as_device
from fgan.evaluation.inputs import generator

HELD_OUT = 10_000
"""Samples, at most, that are held out of a data set without a test split."""
_CHOOSING, _SPLITTING = 0xE5, 0xE7  # keep the random streams apart


class Parts(NamedTuple):
    """A data set in two parts that share no sample."""

    training: DataSet
    """What the classifier is trained on."""
    reference: DataSet
    """What generated samples are compared with."""
    origin: str
    """Where the reference is from, in words."""


def load_parts(
    name: str,
    root: str | Path | None = None,
    device: torch.device | str = "cpu",
    image_size: int | None = None,
    skip_broken: bool = False,
    training: DataSet | None = None,
) -> Parts:
    """The training split and the test split of the data set called `name`.

    Where it has no test split, or the files of the test split cannot be had, `held_out` parts of
    the training split. The arguments, and what is raised, are those of `fgan.data.load`.

    training: the training split, where it has been loaded already.

    Example:
        >>> training, reference, origin = fgan.evaluation.load_parts("rings")
        >>> origin
        'held out of the training split'
    """
    if training is None:
        training = load(name, root, device, image_size, skip_broken=skip_broken)
    if name in TESTED:
        try:
            return Parts(training, load(name, root, device, train=False), "the test split")
        except DataError:  # only the training files are there
            pass
    return held_out(training, device)


def held_out(data: DataSet, device: torch.device | str | None = None) -> Parts:
    """Two random parts, the same at every call; the reference is half, at most 10,000 samples.

    device: where the parts of a data set go that is mapped from a file; others are placed already.

    Example:
        >>> data = fgan.data.DataSet("points", torch.randn(10, 2))
        >>> parts = fgan.evaluation.held_out(data)
        >>> len(parts.training), len(parts.reference)
        (5, 5)
    """
    order = torch.randperm(len(data), generator=generator(0, _SPLITTING), device="cpu")
    size = min(HELD_OUT, len(data) // 2)
    origin = "held out of the training split"
    # Parts are copies in memory, which may not hold all of a data set that is mapped from a file.
    end = size + HELD_OUT if data.mapped else len(data)
    training, reference = _subset(data, order[size:end]), _subset(data, order[:size])
    if data.mapped and device is not None:
        target = as_device(device)
        training, reference = placed(training, target), placed(reference, target)
    return Parts(training, reference, origin)


def chosen(data: DataSet, count: int, seed: int = 0, skip: int = 0) -> DataSet:
    """`count` random samples of `data`, or as many as it has, after the first `skip` of them."""
    order = torch.randperm(len(data), generator=generator(seed, _CHOOSING), device="cpu")
    return _subset(data, order[skip : skip + count])


def _subset(data: DataSet, index: Tensor) -> DataSet:
    index = index.to(data.samples.device)
    labels = None if data.labels is None else data.labels[index]
    return replace(data, samples=data.samples[index], labels=labels, mapped=False)
