"""Building blocks of the example networks, for samples `[B, C, ...]` with 1, 2 or 3 axes.

An axis that is scaled has the factor 2, any other the factor 1. `grid` chooses them.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor, nn

from fgan.models.sizes import check_sizes

CONV: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
_CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONVOLVE_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}

Size = tuple[int, ...]
"""The numbers of positions along the axes behind the channels."""


def grid(size: Sequence[int], coarsest: int) -> list[Size]:
    """The sizes of a network's feature maps, from `size` to the coarsest.

    Each axis is halved, and rounded up, until it has at most `coarsest` positions. The list has two
    sizes at least; they are the same where there is nothing to halve.
    """
    sizes = [tuple(size)]
    while max(sizes[-1]) > coarsest:
        sizes.append(tuple(-(-n // 2) if n > coarsest else n for n in sizes[-1]))
    return sizes if len(sizes) > 1 else sizes * 2


def factors(fine: Size, coarse: Size) -> Size:
    """2 for every axis that is halved between two sizes of a `grid`, 1 for the others."""
    return tuple(1 if n == m else 2 for n, m in zip(fine, coarse, strict=True))


ATTENDED = 1024
"""The most positions that attention is used at: 32 x 32, as in SAGAN. Its cost is their square."""


def attended(sizes: list[Size]) -> Size:
    """The finest size of a `grid`, below the sample's own, that attention is used at."""
    return next((size for size in sizes[1:] if math.prod(size) <= ATTENDED), sizes[-1])


def check_shape(name: str, axes: str, shape: Sequence[int]) -> tuple[int, Size]:
    """The channels and the size of a sample's shape.

    Raises ValueError unless `shape` is channels and one whole number from 1 for each of `axes`, the
    names of the axes separated by commas.
    """
    sizes = check_sizes(name, shape)
    if len(sizes) != len(axes.split(", ")) + 1:
        raise ValueError(
            f"expected {name} (channels, {axes}), got {sizes}: "
            "conv1d_generator and conv1d_critic take signals (channels, length), conv_generator, "
            "conv_critic, resnet_generator and resnet_critic images (channels, height, width), "
            "conv3d_generator and conv3d_critic volumes (channels, depth, height, width), "
            "mlp_generator and mlp_critic any shape"
        )
    return sizes[0], sizes[1:]


class _UpsampleConv(nn.Module):
    """Nearest-neighbour upsampling, then a convolution with windows of three positions.

    `[B, in, ...]` -> `[B, out, ...]`, with every axis as many times larger as its factor says, and
    then cut to `size` where one is given: a size of 7 comes from 4.

    Unlike a transposed convolution with free weights it makes no checkerboard pattern (Odena 2016).
    It is computed as a transposed convolution of stride 2. In two dimensions a 3x3 window of the
    upsampled image has 2x2 different values, so the kernel is 4x4, with sums of neighbouring
    weights. An output takes 4 products instead of 9.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, inputs: int, outputs: int, scale: Size | None = None, size: Size | None = None
    ) -> None:
        super().__init__(inputs, outputs, kernel_size=3, padding=1)
        self.scale = (2,) * (self.weight.ndim - 2) if scale is None else scale
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if max(self.scale) == 1:
            unscaled: Tensor = super().forward(x)
            return unscaled
        # The padding of the last axis comes first.
        choices = [((0, 1), (1, 0)) if s == 2 else ((0, 0),) for s in reversed(self.scale)]
        shifts = [sum(shift, start=()) for shift in product(*choices)]
        kernel = torch.stack([F.pad(self.weight, shift) for shift in shifts]).sum(dim=0)
        flipped = kernel.flip([2 + axis for axis in range(len(self.scale))])
        kernel = rearrange(flipped, "o i ... -> i o ...")
        convolve = _CONVOLVE_TRANSPOSED[len(self.scale)]
        scaled = convolve(x, kernel, self.bias, stride=self.scale, padding=1)
        return cut(scaled, self.size)


class UpsampleConv1d(_UpsampleConv, nn.Conv1d):
    """Of signals: `[B, in, L]` -> `[B, out, 2L]`."""

    per_sample = True  # see `fgan.networks.is_per_sample`


class UpsampleConv2d(_UpsampleConv, nn.Conv2d):
    """Of images: `[B, in, H, W]` -> `[B, out, 2H, 2W]`."""

    per_sample = True


class UpsampleConv3d(_UpsampleConv, nn.Conv3d):
    """Of volumes: `[B, in, D, H, W]` -> `[B, out, 2D, 2H, 2W]`."""

    per_sample = True


UPSAMPLE_CONV = {1: UpsampleConv1d, 2: UpsampleConv2d, 3: UpsampleConv3d}


def cut(x: Tensor, size: Size | None) -> Tensor:
    """The first `size` positions of `[B, C, ...]`."""
    if size is None or tuple(x.shape[2:]) == size:
        return x
    kept: tuple[Any, ...] = (..., *(slice(n) for n in size))
    return x[kept]


def window(scale: Size) -> dict[str, Any]:
    """Kernel, stride and padding of a convolution that divides every axis by its factor."""
    return dict(kernel_size=tuple(4 if s == 2 else 3 for s in scale), stride=scale, padding=1)


class _LabelConv(nn.Module):
    """The strided convolution of a sample joined with its one-hot label as constant channels.

    `[B, channels, ...]` and `[B, num_classes]` (or None) -> `[B, width, ...]`, with every axis
    divided by its factor. The constant channels are convolved once per class instead of once per
    sample. The result is the same, and with ten classes the critic takes two thirds of the time.
    """

    weight: Tensor
    bias: Tensor | None
    stride: Size
    padding: Any

    def __init__(self, channels: int, num_classes: int, width: int, scale: Size):
        super().__init__(channels + num_classes, width, **window(scale))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if label is None:
            unlabelled: Tensor = super().forward(x)
            return unlabelled
        convolve = _CONVOLVE[x.ndim - 2]
        of_image, of_label = torch.split(self.weight, [x.shape[1], label.shape[1]], dim=1)
        kernels = rearrange(of_label, "c n ... -> (n c) 1 ...")
        plane = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
        planes = convolve(plane, kernels, None, self.stride, self.padding)
        planes = rearrange(planes, "1 (n c) ... -> n c ...", n=label.shape[1])
        image = convolve(x, of_image, self.bias, self.stride, self.padding)
        return image + einsum(label, planes, "b n, n c ... -> b c ...")


class LabelConv1d(_LabelConv, nn.Conv1d):
    """Of signals `[B, channels, L]`."""

    per_sample = True


class LabelConv2d(_LabelConv, nn.Conv2d):
    """Of images `[B, channels, H, W]`."""

    per_sample = True


class LabelConv3d(_LabelConv, nn.Conv3d):
    """Of volumes `[B, channels, D, H, W]`."""

    per_sample = True


LABEL_CONV = {1: LabelConv1d, 2: LabelConv2d, 3: LabelConv3d}


class SelfAttention(nn.Module):
    """x + γ · attention(x) over positions (SAGAN, Zhang et al. 2019, arXiv 1805.08318, eq. 1 to 3).

    `[B, C, ...]` -> the same, for any number of axes: position j takes the values of all positions
    i, weighted by softmax over i of f(x_i)·g(x_j). f and g have C/8 channels, as in the paper, and
    the values C/2; all three are 1x1 convolutions. The gain γ, one number, starts at 0, so at first
    the layer is the identity.

    It is written as two matmuls and a softmax: torch's fused attention has no second derivative,
    which a penalty needs. Memory grows with the square of the number of positions.

    Example:
        >>> x = torch.randn(4, 16, 8, 8)
        >>> torch.equal(fgan.models.SelfAttention(channels=16)(x), x)  # at first, the identity
        True
    """

    per_sample = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, values = max(channels // 8, 1), max(channels // 2, 1)
        self.keys = nn.Conv1d(channels, inner, kernel_size=1)
        self.queries = nn.Conv1d(channels, inner, kernel_size=1)
        self.values = nn.Conv1d(channels, values, kernel_size=1)
        self.output = nn.Conv1d(values, channels, kernel_size=1)
        self.gain = nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        """The gain; the convolutions have resets of their own."""
        nn.init.zeros_(self.gain)

    def forward(self, x: Tensor) -> Tensor:
        positions = rearrange(x, "b c ... -> b c (...)")
        keys, queries = self.keys(positions), self.queries(positions)
        weights = torch.softmax(queries.mT @ keys, dim=-1)  # [B, to, from]
        attention: Tensor = self.output(self.values(positions) @ weights.mT)
        return x + self.gain * attention.reshape(x.shape)


class Upsample(nn.Module):
    """Every position repeated by its axis's factor, then cut to `size`: `[B, C, H, W]`."""

    def __init__(self, scale: Size, size: Size | None = None) -> None:
        super().__init__()
        self.scale, self.size = scale, size

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.scale
        scaled = repeat(x, "b c h w -> b c (h i) (w j)", i=height, j=width)
        return cut(scaled, self.size)


class MeanPool(nn.Module):
    """Every axis divided by its factor by averaging: `[B, C, H, W]`.

    The last position of an odd axis is repeated, so the size is rounded up.
    """

    per_sample = True

    def __init__(self, scale: Size) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.scale
        if x.shape[2] % height:
            x = torch.cat([x, x[:, :, -1:]], dim=2)
        if x.shape[3] % width:
            x = torch.cat([x, x[..., -1:]], dim=3)
        return reduce(x, "b c (h i) (w j) -> b c h w", "mean", i=height, j=width)
