"""Labelled samples in memory, and what must hold of them before they are trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fgan.scores import describe


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled samples, all in memory.

    name: what the set is called.
    samples: uint8 [N, C, H, W] for images, float [N, ...] for anything else, such as points [N, 2].
    labels: int64 [N], each in [0, num_classes), on the same device.
    class_names: one per class.
    left_out: in words, what `load` found in a folder and left out; empty where there was nothing.
    """

    name: str
    samples: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    left_out: str = ""

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


def check_content(data: object) -> None:
    """Raise ValueError unless the samples and labels can be trained on; each is looked at once.

    Samples: uint8, or floating and finite as float32, which they are trained in. Labels: int64, one
    per sample, each in [0, num_classes).
    """
    if not isinstance(data, DataSet):
        raise ValueError(
            f"data is a fgan.data.DataSet or the name of one, and {type(data).__name__} was given: "
            "DataSet(name, samples, labels, class_names) makes one of tensors"
        )
    samples, labels = data.samples, data.labels
    for name, tensor in (("samples", samples), ("labels", labels)):
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"{data.name}: {name} is a tensor, and {type(tensor).__name__} was given: "
                "torch.as_tensor makes one"
            )
        if tensor.layout != torch.strided or tensor.is_meta:
            kind = "on the device meta" if tensor.is_meta else f"of layout {tensor.layout}"
            raise ValueError(f"{data.name}: {name} holds numbers, and a tensor {kind} was given")
    names = data.class_names
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{data.name}: class_names is a tuple of strings, and {describe(names)} was given"
        )
    if samples.dtype != torch.uint8 and not samples.is_floating_point():
        raise ValueError(f"{data.name}: samples must be uint8 or floating, not {samples.dtype}")
    if labels.dtype != torch.int64 or labels.shape != samples.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"{data.name}: labels must be int64, one for each of the (at least one) samples; got "
            f"{labels.dtype} {tuple(labels.shape)} for samples {tuple(samples.shape)}"
        )
    if samples.numel() == 0:
        raise ValueError(f"{data.name}: samples of shape {list(data.sample_shape)} hold no numbers")
    _check_labels(data)
    if samples.is_floating_point():
        _check_finite(data)


def _check_labels(data: DataSet) -> None:
    low, high = (int(end) for end in data.labels.aminmax())
    if low < 0 or high >= data.num_classes:
        outside = (data.labels < 0) | (data.labels >= data.num_classes)
        first = int(outside.nonzero()[0])
        from_one = ": labels that begin with 1 need 1 subtracted"
        raise ValueError(
            f"{data.name}: labels must lie in [0, {data.num_classes}), as there are "
            f"{data.num_classes} class names; they go from {low} to {high}, and that of sample "
            f"{first} is {int(data.labels[first])}"
            + (from_one if (low, high) == (1, data.num_classes) else "")
        )


def _check_finite(data: DataSet) -> None:
    most = torch.finfo(torch.float32).max
    # The smallest and the largest number, without a copy: NaN, if there is one, is both.
    wide = data.samples if data.samples.element_size() > 1 else data.samples.float()
    low, high = (float(end) for end in wide.aminmax())
    if -most <= low and high <= most:
        return
    flawed = ~wide.reshape(len(data), -1).float().isfinite()
    row, column = (int(i) for i in flawed.nonzero()[0])
    raise ValueError(
        f"{data.name}: {int(flawed.any(1).sum())} of {len(data)} samples hold NaN, inf or numbers "
        f"beyond float32; the first is sample {row}, with "
        f"{float(wide.reshape(len(data), -1)[row, column])}: leave such samples out, or repair them"
    )
