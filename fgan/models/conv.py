"""Convolutional networks in the style of DCGAN (Radford 2015, arXiv 1511.06434).

One implementation makes networks for signals, images and volumes of any size. Every axis of more
than 7 positions is halved until it has at most 7: 28-14-7, 64-32-16-8-4, and 12 x 20 by 6 x 10 to
6 x 5. The number of channels doubles with every halving, up to 8 times the `width`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from einops.layers.torch import Rearrange
from torch import nn

from fgan.models.blocks import (
    CONV,
    LABEL_CONV,
    UPSAMPLE_CONV,
    SelfAttention,
    Size,
    attended,
    check_shape,
    factors,
    grid,
    window,
)
from fgan.models.layers import (
    Critic,
    Generator,
    Layers,
    check_conditioning,
    output_layer,
    unflatten,
)
from fgan.models.norms import check_norm, constrain, norm_layers
from fgan.models.sizes import check_classes
from fgan.scalars import check_count, check_flag

_AXES = {
    1: ("signal_shape", "length"),
    2: ("image_shape", "height, width"),
    3: ("volume_shape", "depth, height, width"),
}
_COARSEST = 7


def conv_generator(
    image_shape: Sequence[int],
    latent_dim: int = 64,
    num_classes: int | None = None,
    width: int = 32,
    norm: str = "batch",
    *,
    conditioning: str = "one_hot",
    full_resolution: bool = False,
    attention: bool = False,
) -> Generator:
    """A generator `[B, latent_dim]` -> images `[B, *image_shape]` in [-1, 1].

    image_shape: (channels, height, width), of any size.
    width: channels before the last layer.
    conditioning: how labels enter, `one_hot` or `batch_norm` (see `fgan.models.Generator`).
        Conditional BatchNorm takes the place of BatchNorm, and goes with the norms `batch`,
        `spectral` and `weight`.
    full_resolution: a further stage of `width // 2` channels at the image's own size. Without it
        the last layer both upsamples and makes the image.
    attention: a `SelfAttention` at the finest feature map below the image's size with at most
        32 x 32 positions.

    Raises ValueError for a shape of another kind, an unknown `norm` or `conditioning`, and for a
    conditioning that does not go with the norm or needs classes.

    Example:
        >>> generator = fgan.models.conv_generator((1, 12, 20), num_classes=10, width=4)
        >>> generator(torch.randn(4, 64), torch.arange(4)).shape
        torch.Size([4, 1, 12, 20])
    """
    options = (conditioning, full_resolution, attention)
    return _generator(2, image_shape, latent_dim, num_classes, width, norm, "tanh", *options)


def conv_critic(
    image_shape: Sequence[int],
    num_classes: int | None = None,
    width: int = 16,
    norm: str = "none",
    *,
    conditioning: str = "one_hot",
    attention: bool = False,
) -> Critic:
    """A critic: images `[B, *image_shape]` -> scores `[B]`.

    image_shape: (channels, height, width), of any size.
    width: channels after the first layer.
    norm: of all layers but the first, which has none but `spectral` and `weight`.
    conditioning: how labels enter, `one_hot`, `projection` or `classifier` (see
        `fgan.models.Critic`).
    attention: as in `conv_generator`.

    Raises ValueError for a shape of another kind, an unknown `norm` or `conditioning`, and for a
    conditioning that needs classes where there are none.

    Example:
        >>> critic = fgan.models.conv_critic((1, 12, 20), width=4)
        >>> critic(torch.randn(4, 1, 12, 20)).shape
        torch.Size([4])
    """
    return _critic(2, image_shape, num_classes, width, norm, conditioning, attention)


def conv1d_generator(
    signal_shape: Sequence[int],
    latent_dim: int = 64,
    num_classes: int | None = None,
    width: int = 32,
    norm: str = "batch",
    output: str = "linear",
    *,
    conditioning: str = "one_hot",
    full_resolution: bool = False,
    attention: bool = False,
) -> Generator:
    """`conv_generator` for signals (channels, length).

    output: `linear`, or `tanh` for signals in [-1, 1].

    Example:
        >>> generator = fgan.models.conv1d_generator((2, 128), width=4)
        >>> generator(torch.randn(4, 64)).shape
        torch.Size([4, 2, 128])
    """
    options = (conditioning, full_resolution, attention)
    return _generator(1, signal_shape, latent_dim, num_classes, width, norm, output, *options)


def conv1d_critic(
    signal_shape: Sequence[int],
    num_classes: int | None = None,
    width: int = 16,
    norm: str = "none",
    *,
    conditioning: str = "one_hot",
    attention: bool = False,
) -> Critic:
    """`conv_critic` for signals (channels, length).

    Example:
        >>> critic = fgan.models.conv1d_critic((2, 128), width=4)
        >>> critic(torch.randn(4, 2, 128)).shape
        torch.Size([4])
    """
    return _critic(1, signal_shape, num_classes, width, norm, conditioning, attention)


def conv3d_generator(
    volume_shape: Sequence[int],
    latent_dim: int = 64,
    num_classes: int | None = None,
    width: int = 32,
    norm: str = "batch",
    output: str = "linear",
    *,
    conditioning: str = "one_hot",
    full_resolution: bool = False,
    attention: bool = False,
) -> Generator:
    """`conv1d_generator` for volumes (channels, depth, height, width).

    Example:
        >>> generator = fgan.models.conv3d_generator((1, 8, 8, 8), width=4)
        >>> generator(torch.randn(4, 64)).shape
        torch.Size([4, 1, 8, 8, 8])
    """
    options = (conditioning, full_resolution, attention)
    return _generator(3, volume_shape, latent_dim, num_classes, width, norm, output, *options)


def conv3d_critic(
    volume_shape: Sequence[int],
    num_classes: int | None = None,
    width: int = 16,
    norm: str = "none",
    *,
    conditioning: str = "one_hot",
    attention: bool = False,
) -> Critic:
    """`conv1d_critic` for volumes (channels, depth, height, width).

    Example:
        >>> critic = fgan.models.conv3d_critic((1, 8, 8, 8), width=4)
        >>> critic(torch.randn(4, 1, 8, 8, 8)).shape
        torch.Size([4])
    """
    return _critic(3, volume_shape, num_classes, width, norm, conditioning, attention)


def _generator(
    axes: int,
    shape: Sequence[int],
    latent_dim: int,
    num_classes: int | None,
    width: int,
    norm: str,
    output: str,
    conditioning: str,
    full_resolution: bool,
    attention: bool,
) -> Generator:
    check_norm(norm)
    latent_dim, width = check_count("latent_dim", latent_dim), check_count("width", width)
    num_classes = check_classes(num_classes)
    check_flag("full_resolution", full_resolution)
    check_flag("attention", attention)
    check_conditioning(conditioning, ("one_hot", "batch_norm"), num_classes)
    channels, size = check_shape(*_AXES[axes], shape)
    sizes = grid(size, _COARSEST)
    classes = num_classes if conditioning == "batch_norm" else None

    def activation(inputs: int, at: Size) -> list[nn.Module]:
        layers = [*norm_layers(norm, inputs, axes, classes), nn.ReLU()]
        at_attention = attention and at == attended(sizes)
        return [*layers, SelfAttention(inputs)] if at_attention else layers

    widths = _widths(width, len(sizes) - 1)[::-1]
    last = max(width // 2, 1) if full_resolution else channels
    joined = latent_dim + (num_classes or 0 if conditioning == "one_hot" else 0)
    layers: list[nn.Module] = [
        nn.Linear(joined, widths[0] * math.prod(sizes[-1])),
        unflatten((widths[0], *sizes[-1])),
    ]
    ways = zip(pairwise([*widths, last]), pairwise(sizes[::-1]), strict=True)
    for (inputs, outputs), (coarse, fine) in ways:
        upsample = UPSAMPLE_CONV[axes](inputs, outputs, factors(fine, coarse), fine)
        layers += [*activation(inputs, coarse), upsample]
    if full_resolution:
        to_sample = CONV[axes](last, channels, kernel_size=3, padding=1)
        layers += [*norm_layers(norm, last, axes, classes), nn.ReLU(), to_sample]
    layers += output_layer(output)
    make = nn.Sequential if classes is None else Layers
    model = Generator(make(*layers), shape, latent_dim, num_classes, conditioning)
    return constrain(model, norm)


def _critic(
    axes: int,
    shape: Sequence[int],
    num_classes: int | None,
    width: int,
    norm: str,
    conditioning: str,
    attention: bool,
) -> Critic:
    check_norm(norm)
    width, num_classes = check_count("width", width), check_classes(num_classes)
    check_flag("attention", attention)
    channels, size = check_shape(*_AXES[axes], shape)
    sizes = grid(size, _COARSEST)
    scales = [factors(fine, coarse) for fine, coarse in pairwise(sizes)]
    widths = _widths(width, len(scales))

    def activation(outputs: int, at: Size) -> list[nn.Module]:
        at_attention = attention and at == attended(sizes)
        return [nn.LeakyReLU(0.2), *([SelfAttention(outputs)] if at_attention else [])]

    layers = activation(width, sizes[1])
    for (inputs, outputs), scale, at in zip(pairwise(widths), scales[1:], sizes[2:], strict=True):
        downsample = CONV[axes](inputs, outputs, **window(scale))
        layers += [downsample, *norm_layers(norm, outputs, axes), *activation(outputs, at)]
    # Unlike the grid, a convolution of stride 2 rounds an odd size down.
    end = [
        n // math.prod(of_axis) for n, of_axis in zip(size, zip(*scales, strict=True), strict=True)
    ]
    names = " ".join(f"axis{i}" for i in range(axes))
    flatten = Rearrange(f"b c {names} -> b (c {names})")
    layers += [flatten, nn.Linear(widths[-1] * math.prod(end), 1)]
    joined = num_classes or 0 if conditioning == "one_hot" else 0
    stem = LABEL_CONV[axes](channels, joined, width, scales[0])
    return constrain(Critic(stem, nn.Sequential(*layers), shape, num_classes, conditioning), norm)


def _widths(width: int, stages: int) -> list[int]:
    """The channels of every stage, from the finest on."""
    return [width * min(2**i, 8) for i in range(stages)]
