"""Samples in memory, labelled or not, and what must hold of them before they are trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fgan.scores import describe


@dataclass(frozen=True, eq=False)
class DataSet:
    """Samples in memory, and what each is generated under where the networks take a condition.

    name: what the set is called.
    samples: uint8 [N, C, H, W] for images, which are trained on in [-1, 1]; float [N, ...] for
        anything: points [N, 2], tables [N, F], signals [N, C, L], images, volumes [N, C, D, H, W].
    labels: the condition of each sample, on the same device; None for samples without. With
        `class_names` int64 [N], each in [0, num_classes). Without, any tensor of N rows: integers
        [N] or [N, K], which reach the networks as int64, numbers [N, V] as float32, images
        [N, C, H, W] as the samples do, uint8 ones in [-1, 1].
    class_names: one per class, for integer classes alone.
    left_out: in words, what `load` found in a folder and left out; empty where there was nothing.
    mapped: the samples are a file that is mapped into memory, and are moved batch by batch.

    Example:
        >>> table = fgan.data.DataSet("people", torch.randn(100, 5))
        >>> digits = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
        >>> data = fgan.data.DataSet("digits", digits, torch.arange(20) % 2, ("zero", "one"))
        >>> len(data), data.sample_shape, data.num_classes
        (20, (1, 8, 8), 2)
    """

    name: str
    samples: Tensor
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    left_out: str = ""
    mapped: bool = False

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def num_classes(self) -> int:
        """How many classes there are, whether or not each has a sample; 0 without class names."""
        return len(self.class_names)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W), or (2,) for points."""
        return tuple(self.samples.shape[1:])

    @property
    def class_labels(self) -> Tensor:
        """The labels, int64 [N], of a data set of classes; raises ValueError where it has none."""
        if self.labels is None or not self.class_names:
            raise ValueError(f"{self.name} has no classes: no labels, or no class_names")
        return self.labels


def condition_of(labels: Tensor) -> Tensor:
    """Labels as networks are given them: int64, float32, or images in [-1, 1], of one shape.

    Example:
        >>> fgan.data.condition_of(torch.tensor([3, 1], dtype=torch.int32)).dtype
        torch.int64
    """
    if labels.dtype == torch.uint8 and labels.ndim > 3:
        return normalise(labels)
    if labels.is_floating_point() or labels.dtype == torch.bool:
        return labels.float()
    return labels.long()


def normalise(images: Tensor) -> Tensor:
    """uint8 images as float32 in [-1, 1], of the same shape: 0 becomes -1 and 255 becomes 1.

    Example:
        >>> fgan.data.normalise(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([-1.,  1.])
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        raise ValueError(
            f"normalise takes a tensor of uint8 images, and {kind_of(images)} was given"
        )
    return images.to(torch.float32) / 127.5 - 1


def kind_of(value: object) -> str:
    """What was given in place of a tensor, with its kind where it looks like one."""
    text = describe(value)
    return text if isinstance(value, Tensor) else f"{text} ({type(value).__name__})"


def check_content(data: object) -> None:
    """Raise ValueError unless the samples and labels can be trained on; each is looked at once.

    Samples: uint8, or floating and finite as float32, which they are trained in. Labels, where
    there are any: one row per sample; int64, each in [0, num_classes), where classes have names.
    """
    if not isinstance(data, DataSet):
        raise ValueError(
            f"data is a fgan.data.DataSet or the name of one, or an iterable of batches, and "
            f"{type(data).__name__} was given: DataSet(name, samples, labels, class_names) makes "
            "one of tensors"
        )
    samples, labels = data.samples, data.labels
    for name, tensor in (("samples", samples), ("labels", labels)):
        if name == "labels" and tensor is None:
            continue
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
    if samples.ndim == 0 or len(samples) == 0:
        raise ValueError(f"{data.name}: there is at least one sample, and {_rows(data)} were given")
    if samples.numel() == 0:
        raise ValueError(f"{data.name}: samples of shape {list(data.sample_shape)} hold no numbers")
    if names:
        _check_classes(data)
    elif labels is not None:
        _check_conditions(data, labels)
    if samples.is_floating_point():
        _check_finite(data, samples, "samples")


def _rows(data: DataSet) -> str:
    labels = "no labels" if data.labels is None else f"labels {tuple(data.labels.shape)}"
    return f"samples {tuple(data.samples.shape)} and {labels}"


def _check_classes(data: DataSet) -> None:
    labels, samples = data.labels, data.samples
    if labels is None:
        raise ValueError(
            f"{data.name}: there are {data.num_classes} class_names, and labels is None: labels "
            "are a tensor, int64, one for each sample"
        )
    if labels.dtype != torch.int64 or labels.shape != samples.shape[:1]:
        raise ValueError(
            f"{data.name}: labels must be int64, one for each of the (at least one) samples; got "
            f"{labels.dtype} {tuple(labels.shape)} for samples {tuple(samples.shape)}; conditions "
            "of another kind have no class_names"
        )
    _check_labels(data, labels)


def _check_conditions(data: DataSet, labels: Tensor) -> None:
    if labels.ndim == 0 or len(labels) != len(data.samples) or labels.numel() == 0:
        raise ValueError(
            f"{data.name}: labels have one row for each of the samples, and {_rows(data)} were "
            "given"
        )
    if labels.is_complex():
        raise ValueError(f"{data.name}: labels are real numbers, and {labels.dtype} was given")
    if labels.is_floating_point():
        _check_finite(data, labels, "labels")


def _check_labels(data: DataSet, labels: Tensor) -> None:
    low, high = (int(end) for end in labels.aminmax())
    if low < 0 or high >= data.num_classes:
        outside = (labels < 0) | (labels >= data.num_classes)
        first = int(outside.nonzero()[0])
        from_one = ": labels that begin with 1 need 1 subtracted"
        raise ValueError(
            f"{data.name}: labels must lie in [0, {data.num_classes}), as there are "
            f"{data.num_classes} class names; they go from {low} to {high}, and that of sample "
            f"{first} is {int(labels[first])}"
            + (from_one if (low, high) == (1, data.num_classes) else "")
        )


def _check_finite(data: DataSet, tensor: Tensor, what: str) -> None:
    most = torch.finfo(torch.float32).max
    # The smallest and the largest number, without a copy: NaN, if there is one, is both.
    wide = tensor if tensor.element_size() > 1 else tensor.float()
    low, high = (float(end) for end in wide.aminmax())
    if -most <= low and high <= most:
        return
    rows = wide.reshape(len(data), -1)
    flawed = ~rows.float().isfinite()
    row, column = (int(i) for i in flawed.nonzero()[0])
    one = what.removesuffix("s")
    raise ValueError(
        f"{data.name}: {int(flawed.any(1).sum())} of {len(data)} {what} hold NaN, inf or numbers "
        f"beyond float32; the first is {one} {row}, with {float(rows[row, column])}: leave such "
        "samples out, or repair them"
    )
