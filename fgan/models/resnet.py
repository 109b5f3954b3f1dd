"""Residual networks like those of improved WGAN training (Gulrajani 2017, arXiv 1704.00028)."""

import math
from collections.abc import Sequence
from itertools import pairwise

from einops.layers.torch import Reduce
from torch import nn

from fgan.models.blocks import (
    MeanPool,
    SelfAttention,
    Size,
    Upsample,
    UpsampleConv2d,
    attended,
    check_shape,
    factors,
    grid,
)
from fgan.models.layers import (
    Critic,
    Generator,
    Layers,
    Sum,
    check_conditioning,
    join,
    unflatten,
)
from fgan.models.norms import check_norm, constrain, norm_layers
from fgan.models.sizes import check_classes
from fgan.scalars import check_count, check_flag


def resnet_generator(
    image_shape: Sequence[int],
    latent_dim: int = 128,
    num_classes: int | None = None,
    width: int = 128,
    norm: str = "batch",
    *,
    conditioning: str = "one_hot",
    attention: bool = False,
) -> Generator:
    """A generator `[B, latent_dim]` -> images `[B, *image_shape]` in [-1, 1].

    image_shape: (channels, height, width), of any size. From at most 4 x 4 on, one residual block
        of `width` channels per doubling, as in the paper's CIFAR-10 network.
    conditioning, attention: as in `conv_generator`.

    Raises ValueError as `conv_generator` does.

    Example:
        >>> generator = fgan.models.resnet_generator((3, 16, 16), width=8)
        >>> generator(torch.randn(4, 128)).shape
        torch.Size([4, 3, 16, 16])
    """
    check_norm(norm)
    latent_dim, width = check_count("latent_dim", latent_dim), check_count("width", width)
    num_classes = check_classes(num_classes)
    check_flag("attention", attention)
    check_conditioning(conditioning, ("one_hot", "batch_norm"), num_classes)
    channels, size = check_shape("image_shape", "height, width", image_shape)
    sizes = grid(size, coarsest=4)
    classes = num_classes if conditioning == "batch_norm" else None
    joined = latent_dim + (num_classes or 0 if conditioning == "one_hot" else 0)
    layers: list[nn.Module] = [
        nn.Linear(joined, width * math.prod(sizes[-1])),
        unflatten((width, *sizes[-1])),
    ]
    for coarse, fine in pairwise(sizes[::-1]):
        if attention and coarse == attended(sizes):
            layers.append(SelfAttention(width))
        layers.append(_up_block(width, norm, classes, coarse, fine))
    layers += [*norm_layers(norm, width, 2, classes), nn.ReLU(), _conv3(width, channels), nn.Tanh()]
    make = nn.Sequential if classes is None else Layers
    model = Generator(make(*layers), image_shape, latent_dim, num_classes, conditioning)
    return constrain(model, norm)


def resnet_critic(
    image_shape: Sequence[int],
    num_classes: int | None = None,
    width: int = 128,
    norm: str = "none",
    *,
    conditioning: str = "one_hot",
    attention: bool = False,
) -> Critic:
    """A critic: images `[B, *image_shape]` -> scores `[B]`.

    image_shape: (channels, height, width), of any size. One residual block of `width` channels per
        halving down to at most 8 x 8, then two more and the mean over positions, as in the paper's
        CIFAR-10 network.
    norm: of all blocks but the first, which has none but `spectral` and `weight`.
    conditioning, attention: as in `conv_critic`.

    Raises ValueError as `conv_critic` does.

    Example:
        >>> critic = fgan.models.resnet_critic((3, 16, 16), width=8)
        >>> critic(torch.randn(4, 3, 16, 16)).shape
        torch.Size([4])
    """
    check_norm(norm)
    width, num_classes = check_count("width", width), check_classes(num_classes)
    check_flag("attention", attention)
    channels, size = check_shape("image_shape", "height, width", image_shape)
    sizes = grid(size, coarsest=8)
    joined = num_classes or 0 if conditioning == "one_hot" else 0
    layers: list[nn.Module] = []
    for i, (fine, coarse) in enumerate(pairwise(sizes)):
        scale = factors(fine, coarse)
        first = i == 0
        layers.append(
            _first_block(channels + joined, width, scale)
            if first
            else _down_block(width, norm, scale)
        )
        if attention and coarse == attended(sizes):
            layers.append(SelfAttention(width))
    layers += [
        *[_flat_block(width, norm) for _ in range(2)],
        nn.LeakyReLU(0.2),
        Reduce("b c h w -> b c", "mean"),
        nn.Linear(width, 1),
    ]
    critic = Critic(join, nn.Sequential(*layers), image_shape, num_classes, conditioning)
    return constrain(critic, norm)


def _up_block(width: int, norm: str, classes: int | None, coarse: Size, fine: Size) -> Sum:
    scale = factors(fine, coarse)
    # The 1x1 convolution commutes with Upsample, and costs a quarter before it.
    shortcut = nn.Sequential(_conv1(width, width), Upsample(scale, fine))
    residual = [
        *norm_layers(norm, width, 2, classes),
        nn.ReLU(),
        UpsampleConv2d(width, width, scale, fine),
        *norm_layers(norm, width, 2, classes),
        nn.ReLU(),
        _conv3(width, width),
    ]
    return Sum(shortcut, nn.Sequential(*residual) if classes is None else Layers(*residual))


def _first_block(inputs: int, width: int, scale: Size) -> Sum:
    """Halves the size, without a norm or an activation on the image itself."""
    return Sum(
        nn.Sequential(MeanPool(scale), _conv1(inputs, width)),
        nn.Sequential(
            _conv3(inputs, width), nn.LeakyReLU(0.2), _conv3(width, width), MeanPool(scale)
        ),
    )


def _down_block(width: int, norm: str, scale: Size) -> Sum:
    return Sum(
        nn.Sequential(MeanPool(scale), _conv1(width, width)),
        nn.Sequential(*_two_convs(width, norm), MeanPool(scale)),
    )


def _flat_block(width: int, norm: str) -> Sum:
    return Sum(nn.Identity(), nn.Sequential(*_two_convs(width, norm)))


def _two_convs(width: int, norm: str) -> list[nn.Module]:
    return [
        *norm_layers(norm, width),
        nn.LeakyReLU(0.2),
        _conv3(width, width),
        *norm_layers(norm, width),
        nn.LeakyReLU(0.2),
        _conv3(width, width),
    ]


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)


def _conv1(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=1)
