"""What tells one data set from another: classes, shape, and hashes of the contents."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from fgan.data.data_set import DataSet, check_content

_PIECE = 2**24  # bytes that are copied and hashed at a time


class Fingerprint(NamedTuple):
    """A data set's identity, small enough to be kept with a run.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1])
        >>> data = fgan.data.DataSet("points", torch.zeros(4, 2), labels, ("left", "right"))
        >>> fgan.data.fingerprint(data).class_counts
        (3, 1)
    """

    name: str
    """What the set is called; not compared, as a folder may be moved."""
    sample_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    """Empty without classes."""
    class_counts: tuple[int, ...]
    """How many samples each class has."""
    class_hashes: tuple[str, ...]
    """Of the samples of each class, in their order."""
    contents: str
    """Of the samples' dtype and shape, of all labels in their order, and of the classes' hashes:
    equal for equal samples and labels alone. Empty where nobody has read all of them, as of a
    loader."""


def fingerprint(data: DataSet) -> Fingerprint:
    """The identity of `data`, which does not depend on the device. Each sample is read once.

    Raises ValueError for contents that cannot be trained on, as `batches` does.

    Example:
        >>> zeros, ones = (fgan.data.DataSet("points", torch.full((4, 2), x)) for x in (0.0, 1.0))
        >>> fgan.data.fingerprint(zeros).contents == fgan.data.fingerprint(ones).contents
        False
    """
    check_content(data)
    known = _hash()
    known.update(f"{data.samples.dtype} {data.sample_shape} {len(data)}".encode())
    if data.labels is not None:
        labels = data.labels.cpu()
        if not data.class_names:
            known.update(f"{labels.dtype} {tuple(labels.shape)}".encode())
        known.update(_bytes(labels))
    counts: list[int] = []
    if data.class_names:
        labels = data.class_labels.cpu()
        counts = labels.bincount(minlength=data.num_classes).tolist()
        hashes = [
            _hash_of(data.samples, members) for members in labels.argsort(stable=True).split(counts)
        ]
        known.update("".join(hashes).encode())
    else:
        hashes = []
        known.update(_hash_of(data.samples, torch.arange(len(data), device="cpu")).encode())
    return Fingerprint(
        data.name,
        data.sample_shape,
        tuple(data.class_names),
        tuple(counts),
        tuple(hashes),
        known.hexdigest(),
    )


def _hash_of(samples: Tensor, members: Tensor) -> str:
    """Of some samples in their order, copied piece by piece."""
    size = samples[0].numel() * samples.element_size()
    known = _hash()
    for piece in members.split(max(1, _PIECE // size)):
        known.update(_bytes(samples[piece.to(samples.device)]))
    return known.hexdigest()


def _hash() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=16)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
