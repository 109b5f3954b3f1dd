"""Differentiable augmentations, as pure functions of samples and uniform random numbers.

Zhao et al. 2020 (DiffAugment, arXiv 2006.10738): a critic with few training samples learns them by
heart, and sees augmented ones instead, real and fake alike. The generator learns through the
augmentation, so every function here has derivatives by the samples. Samples are `[B, C, ...]` in
[-1, 1], such as images `[B, C, H, W]`. `uniform` is `[B, n]` on [0, 1): row i is all that the
augmentation of sample i depends on, beside the sample.

`colour`, `translation`, `cutout` and `flip` make an `Augmentation`, `chain` one of several, and
`fgan.augmented.augmented` an objective under one. With strength 0 each is the identity.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan.scalars import check_count

__all__ = [
    "Augmentation",
    "adjust_colour",
    "chain",
    "colour",
    "cut_out",
    "cutout",
    "flip",
    "flip_last_axis",
    "translate",
    "translation",
]


class Augmentation(NamedTuple):
    """A function of samples and uniform numbers, and how many numbers it takes for a sample.

    Example:
        >>> def negate(samples, uniform):  # each sample with probability ½
        ...     return torch.where(uniform[:, :, None] < 0.5, -samples, samples)
        >>> negation = fgan.augment.Augmentation(negate, numbers=1)
        >>> negation.function(torch.ones(1, 1, 2), torch.zeros(1, 1))
        tensor([[[-1., -1.]]])
    """

    function: Callable[[Tensor, Tensor], Tensor]
    """(samples [B, C, ...], uniform [B, numbers]) -> samples of the same shape."""
    numbers: int


def colour(strength: float = 1.0) -> Augmentation:
    """`adjust_colour` as an augmentation. Raises ValueError for a strength outside [0, 1].

    Example:
        >>> fgan.augment.colour(strength=0.5).numbers  # uniform numbers for each sample
        3
    """
    _check_share("strength", strength)
    return Augmentation(partial(adjust_colour, strength=strength), 3)


def translation(ratio: float = 0.125, axes: int = 2) -> Augmentation:
    """`translate` as an augmentation of samples with `axes` axes, two for images.

    Raises ValueError for a ratio outside [0, 1].

    Example:
        >>> shift = fgan.augment.translation(ratio=0.25)
        >>> shift.function(torch.ones(8, 3, 32, 32), torch.rand(8, shift.numbers)).shape
        torch.Size([8, 3, 32, 32])
    """
    _check_share("ratio", ratio)
    check_count("axes", axes)
    return Augmentation(partial(translate, ratio=ratio), axes)


def cutout(ratio: float = 0.5, axes: int = 2) -> Augmentation:
    """`cut_out` as an augmentation of samples with `axes` axes, two for images.

    Raises ValueError for a ratio outside [0, 1].

    Example:
        >>> hole = fgan.augment.cutout(ratio=0.5, axes=1)  # of signals [B, C, L]
        >>> hole.function(torch.ones(1, 1, 4), torch.full((1, hole.numbers), 0.5))
        tensor([[[1., 0., 0., 1.]]])
    """
    _check_share("ratio", ratio)
    check_count("axes", axes)
    return Augmentation(partial(cut_out, ratio=ratio), axes)


def flip(probability: float = 0.5) -> Augmentation:
    """`flip_last_axis` as an augmentation: images from left to right.

    Raises ValueError for a probability outside [0, 1].

    Example:
        >>> mirror = fgan.augment.flip()
        >>> mirror.function(torch.tensor([[[1.0, 2.0]]]), torch.zeros(1, mirror.numbers))
        tensor([[[2., 1.]]])
    """
    _check_share("probability", probability)
    return Augmentation(partial(flip_last_axis, probability=probability), 1)


def chain(*augmentations: Augmentation) -> Augmentation:
    """One after another; the paper's is `chain(colour(), translation(), cutout())`.

    Raises ValueError where there is none.

    Example:
        >>> from fgan.augment import chain, colour, cutout, translation
        >>> chain(colour(), translation(), cutout()).numbers
        7
    """
    if not augmentations:
        raise ValueError("a chain has at least one augmentation")
    numbers = tuple(each.numbers for each in augmentations)
    functions = (each.function for each in augmentations)
    return Augmentation(partial(_chained, *functions, numbers=numbers), sum(numbers))


def _chained(*arguments: Any, numbers: tuple[int, ...]) -> Tensor:
    *functions, samples, uniform = arguments
    for function, part in zip(functions, uniform.split(numbers, dim=1), strict=True):
        samples = function(samples, part)
    result: Tensor = samples
    return result


def adjust_colour(samples: Tensor, uniform: Tensor, *, strength: float = 1.0) -> Tensor:
    """Brightness, saturation and contrast of each sample: `[B, C, ...]`, `[B, 3]` -> the same.

    In this order, with u of each: x + s (u - ½); the differences from the mean over channels times
    1 + s (2u - 1); those from the mean over the sample times 1 + s (u - ½). s is `strength`.

    Example:
        >>> uniform = torch.tensor([[1.0, 0.5, 0.5]])  # brighter by ½, and no more
        >>> fgan.augment.adjust_colour(torch.zeros(1, 1, 2), uniform)
        tensor([[[0.5000, 0.5000]]])
    """
    check_uniform(samples, uniform, 3)
    ones = [1] * (samples.ndim - 1)
    brightness, saturation, contrast = (
        strength * (column - 0.5).to(samples.dtype).reshape(-1, *ones) for column in uniform.mT
    )
    # As x + (factor - 1) · difference, so that strength 0 changes no bit.
    samples = samples + brightness
    samples = samples + 2 * saturation * (samples - samples.mean(dim=1, keepdim=True))
    all_axes = tuple(range(1, samples.ndim))
    return samples + contrast * (samples - samples.mean(dim=all_axes, keepdim=True))


def translate(samples: Tensor, uniform: Tensor, *, ratio: float = 0.125) -> Tensor:
    """A shift by whole positions along each axis: `[B, C, ...]`, `[B, axes]` -> the same.

    Along an axis of n positions every shift from -m to m is as likely, with m = ratio · n, rounded.
    Zeros come in at the border.

    Example:
        >>> signal = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
        >>> fgan.augment.translate(signal, torch.tensor([[0.9]]), ratio=0.25)
        tensor([[[0., 1., 2., 3.]]])
    """
    check_uniform(samples, uniform, samples.ndim - 2)
    for axis, column in enumerate(uniform.mT, start=2):
        size = samples.shape[axis]
        most = int(size * ratio + 0.5)
        shift = _whole(column, 2 * most + 1) - most
        source = _positions(samples, axis) - _rows(shift, samples)
        inside = (source >= 0) & (source < size)
        index = source.clamp(0, size - 1).expand_as(samples)
        samples = torch.where(inside, samples.gather(axis, index), 0.0)
    return samples


def cut_out(samples: Tensor, uniform: Tensor, *, ratio: float = 0.5) -> Tensor:
    """A box of zeros in each sample: `[B, C, ...]`, `[B, axes]` -> the same.

    Along an axis of n positions the box has ratio · n, rounded, and its centre is anywhere in the
    sample, so that a part of the box may lie outside (DeVries and Taylor 2017, arXiv 1708.04552).

    Example:
        >>> fgan.augment.cut_out(torch.ones(1, 1, 4), torch.tensor([[0.5]]))
        tensor([[[1., 0., 0., 1.]]])
    """
    check_uniform(samples, uniform, samples.ndim - 2)
    inside = torch.ones((), dtype=torch.bool, device=samples.device)
    for axis, column in enumerate(uniform.mT, start=2):
        size = samples.shape[axis]
        length = int(size * ratio + 0.5)
        first = _whole(column, size + 1 - length % 2) - length // 2
        offset = _positions(samples, axis) - _rows(first, samples)
        inside = inside & (offset >= 0) & (offset < length)
    return torch.where(inside, 0.0, samples)


def flip_last_axis(samples: Tensor, uniform: Tensor, *, probability: float = 0.5) -> Tensor:
    """The last axis reversed where u < `probability`: `[B, C, ...]`, `[B, 1]` -> the same.

    Example:
        >>> samples = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
        >>> fgan.augment.flip_last_axis(samples, torch.tensor([[0.2], [0.8]])).tolist()
        [[[2.0, 1.0]], [[3.0, 4.0]]]
    """
    check_uniform(samples, uniform, 1)
    return torch.where(_rows(uniform[:, 0] < probability, samples), samples.flip(-1), samples)


def check_uniform(samples: Tensor, uniform: Tensor, numbers: int) -> None:
    """Raise ValueError unless there is a row of as many numbers for every sample."""
    if samples.ndim < 3 or uniform.shape != (samples.shape[0], numbers):
        raise ValueError(
            "an augmentation takes samples [B, channels, ...] and uniform numbers [B, n], here "
            f"n = {numbers}; samples {list(samples.shape)} and numbers {list(uniform.shape)} were "
            "given: samples with another number of axes need axes=..."
        )


def _whole(uniform: Tensor, count: int) -> Tensor:
    """The whole numbers 0 to count - 1, each as likely: [B] -> [B]."""
    return (uniform * count).long().clamp(max=count - 1)


def _rows(values: Tensor, samples: Tensor) -> Tensor:
    """[B] -> [B, 1, ...], one value a sample."""
    return values.reshape(-1, *[1] * (samples.ndim - 1))


def _positions(samples: Tensor, axis: int) -> Tensor:
    """0, 1, ... along one axis of the samples: [1, ..., n, ..., 1]."""
    positions = torch.arange(samples.shape[axis], device=samples.device)
    return positions.reshape([-1 if i == axis else 1 for i in range(samples.ndim)])


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value <= 1:
        raise ValueError(f"{name} is a number in [0, 1], and {value!r} was given")
