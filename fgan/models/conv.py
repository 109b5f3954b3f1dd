"""Convolutional networks in the style of DCGAN (Radford 2015, arXiv 1511.06434)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from fgan.models.layers import (
    Critic,
    Generator,
    UpsampleConv2d,
    check_norm,
    constrain,
    normalization,
    unflatten,
)
from fgan.models.sizes import check_classes, check_image, wrong_image
from fgan.scalars import check_count

# How often each image size is halved: 28-14-7, 32-16-8-4, 64-32-16-8-4.
_STAGES = {28: 2, 32: 3, 64: 4}


def conv_generator(
    image_shape: Sequence[int],
    latent_dim: int = 64,
    num_classes: int | None = None,
    width: int = 32,
    norm: str = "batch",
) -> Generator:
    """A generator `[B, latent_dim]` -> images `[B, *image_shape]` in [-1, 1].

    `image_shape` is (channels, size, size) with a size of 28, 32 or 64. `width` is the number of
    channels before the last layer; it doubles with every halving of the image.

    Raises ValueError for another size, for counts below 1 and for an unknown `norm`.
    """
    check_norm(norm)
    channels, size, stages = _check_image(image_shape)
    latent_dim, width = check_count("latent_dim", latent_dim), check_count("width", width)
    num_classes = check_classes(num_classes)
    widths = [width * 2**i for i in reversed(range(stages))]
    start = (widths[0], size >> stages, size >> stages)
    layers = [
        nn.Linear(latent_dim + (num_classes or 0), start[0] * start[1] * start[2]),
        unflatten(start),
    ]
    for inputs, outputs in pairwise([*widths, channels]):
        layers += [*normalization(norm, inputs), nn.ReLU(), UpsampleConv2d(inputs, outputs)]
    model = Generator(nn.Sequential(*layers, nn.Tanh()), image_shape, latent_dim, num_classes)
    return constrain(model, norm)


def conv_critic(
    image_shape: Sequence[int],
    num_classes: int | None = None,
    width: int = 16,
    norm: str = "none",
) -> Critic:
    """A critic: images `[B, *image_shape]` -> scores `[B]`.

    `image_shape` is (channels, size, size) with a size of 28, 32 or 64. `width` is the number of
    channels after the first layer; it doubles with every halving of the image. The first layer has
    no norm but `spectral` and `weight`, which are on every layer.

    Raises ValueError for another size, for counts below 1 and for an unknown `norm`.
    """
    check_norm(norm)
    channels, size, stages = _check_image(image_shape)
    width, num_classes = check_count("width", width), check_classes(num_classes)
    widths = [width * 2**i for i in range(stages)]
    layers: list[nn.Module] = [nn.LeakyReLU(0.2)]
    for inputs, outputs in pairwise(widths):
        downsample = nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
        layers += [downsample, *normalization(norm, outputs), nn.LeakyReLU(0.2)]
    features = widths[-1] * (size >> stages) ** 2
    layers += [Rearrange("b c h w -> b (c h w)"), nn.Linear(features, 1)]
    stem = LabelConv2d(channels, num_classes or 0, width)
    return constrain(Critic(stem, nn.Sequential(*layers), image_shape, num_classes), norm)


class LabelConv2d(nn.Conv2d):
    """The strided convolution of an image joined with its one-hot label as constant channels.

    `[B, channels, H, W]` and `[B, num_classes]` (or None) -> `[B, width, H/2, W/2]`. The constant
    channels are convolved once per class instead of once per sample. The result is the same, and
    with ten classes the critic takes two thirds of the time.
    """

    per_sample = True  # see `fgan.networks.is_per_sample`

    def __init__(self, channels: int, num_classes: int, width: int) -> None:
        super().__init__(channels + num_classes, width, kernel_size=4, stride=2, padding=1)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        if label is None:
            return super().forward(x)
        of_image, of_label = torch.split(self.weight, [x.shape[1], label.shape[1]], dim=1)
        kernels = rearrange(of_label, "c n i j -> (n c) 1 i j")
        plane = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
        planes = F.conv2d(plane, kernels, None, self.stride, self.padding)  # [1, n c, H/2, W/2]
        planes = rearrange(planes, "1 (n c) h w -> n c h w", n=label.shape[1])
        image = F.conv2d(x, of_image, self.bias, self.stride, self.padding)
        return image + einsum(label, planes, "b n, n c h w -> b c h w")


def _check_image(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """The channels, size and number of stages of an image shape that the networks can take."""
    sizes = "a size of 28, 32 or 64"
    others = "resnet_generator and resnet_critic take powers of two from 32"
    channels, size = check_image(image_shape, sizes, others)
    if size not in _STAGES:
        raise ValueError(wrong_image(image_shape, sizes, others))
    return channels, size, _STAGES[size]
