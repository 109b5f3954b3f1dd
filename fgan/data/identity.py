"""What tells one data set from another: classes, shape, and hashes of the contents."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from fgan.data.data_set import DataSet, check_content

_PIECE = 2**24  # bytes that are copied and hashed at a time


class Fingerprint(NamedTuple):
    """A data set's identity, small enough to be kept with a run."""

    name: str
    """What the set is called; not compared, as a folder may be moved."""
    sample_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    """How many samples each class has."""
    class_hashes: tuple[str, ...]
    """Of the samples of each class, in their order."""
    contents: str
    """Of the samples' dtype and shape, of all labels in their order, and of the classes' hashes:
    equal for equal samples and labels alone."""


def fingerprint(data: DataSet) -> Fingerprint:
    """The identity of `data`, which does not depend on the device. Each sample is read once.

    Raises ValueError for contents that cannot be trained on, as `batches` does.
    """
    check_content(data)
    labels = data.labels.cpu()
    order = labels.argsort(stable=True)
    counts = labels.bincount(minlength=data.num_classes).tolist()
    size = data.samples[0].numel() * data.samples.element_size()
    hashes = []
    for members in order.split(counts):
        known = _hash()
        for piece in members.split(max(1, _PIECE // size)):
            known.update(_bytes(data.samples[piece]))
        hashes.append(known.hexdigest())
    known = _hash()
    known.update(f"{data.samples.dtype} {data.sample_shape} {len(data)}".encode())
    known.update(_bytes(labels))
    known.update("".join(hashes).encode())
    return Fingerprint(
        data.name,
        data.sample_shape,
        tuple(data.class_names),
        tuple(counts),
        tuple(hashes),
        known.hexdigest(),
    )


def _hash() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=16)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
