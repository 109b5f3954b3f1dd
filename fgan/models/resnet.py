"""Residual networks like those of improved WGAN training (Gulrajani 2017, arXiv 1704.00028)."""

from collections.abc import Sequence

from einops import repeat
from einops.layers.torch import Reduce
from torch import Tensor, nn

from fgan.models.layers import (
    Critic,
    Generator,
    UpsampleConv2d,
    check_norm,
    constrain,
    join,
    normalization,
    unflatten,
)
from fgan.models.sizes import check_classes, check_image, wrong_image
from fgan.scalars import check_count


def resnet_generator(
    image_shape: Sequence[int],
    latent_dim: int = 128,
    num_classes: int | None = None,
    width: int = 128,
    norm: str = "batch",
) -> Generator:
    """A generator `[B, latent_dim]` -> images `[B, *image_shape]` in [-1, 1].

    `image_shape` is (channels, size, size) with a power of two from 32 as size. From 4 x 4 on, one
    residual block of `width` channels per doubling, as in the paper's CIFAR-10 network.

    Raises ValueError for another size, for counts below 1 and for an unknown `norm`.
    """
    check_norm(norm)
    channels, size = _check_image(image_shape)
    latent_dim, width = check_count("latent_dim", latent_dim), check_count("width", width)
    num_classes = check_classes(num_classes)
    doublings = size.bit_length() - 3  # from 4 to size
    layers = nn.Sequential(
        nn.Linear(latent_dim + (num_classes or 0), width * 4 * 4),
        unflatten((width, 4, 4)),
        *[_up_block(width, norm) for _ in range(doublings)],
        *normalization(norm, width),
        nn.ReLU(),
        _conv3(width, channels),
        nn.Tanh(),
    )
    return constrain(Generator(layers, image_shape, latent_dim, num_classes), norm)


def resnet_critic(
    image_shape: Sequence[int],
    num_classes: int | None = None,
    width: int = 128,
    norm: str = "none",
) -> Critic:
    """A critic: images `[B, *image_shape]` -> scores `[B]`.

    `image_shape` is (channels, size, size) with a power of two from 32 as size. One residual block
    of `width` channels per halving down to 8 x 8, then two more and the mean over positions, as in
    the paper's CIFAR-10 network. The first block has no norm but `spectral` and `weight`, which are
    on every layer.

    Raises ValueError for another size, for counts below 1 and for an unknown `norm`.
    """
    check_norm(norm)
    channels, size = _check_image(image_shape)
    width, num_classes = check_count("width", width), check_classes(num_classes)
    halvings = size.bit_length() - 4  # from size to 8
    layers = nn.Sequential(
        _first_block(channels + (num_classes or 0), width),
        *[_down_block(width, norm) for _ in range(halvings - 1)],
        *[_flat_block(width, norm) for _ in range(2)],
        nn.LeakyReLU(0.2),
        Reduce("b c h w -> b c", "mean"),
        nn.Linear(width, 1),
    )
    return constrain(Critic(join, layers, image_shape, num_classes), norm)


class Sum(nn.Module):
    """shortcut(x) + residual(x): a residual block (He 2016, arXiv 1603.05027)."""

    per_sample = True  # see `fgan.networks.is_per_sample`

    def __init__(self, shortcut: nn.Module, residual: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.shortcut(x) + self.residual(x)
        return total


class Upsample(nn.Module):
    """Twice the size by nearest neighbours: `[B, C, H, W]` -> `[B, C, 2H, 2W]`."""

    def forward(self, x: Tensor) -> Tensor:
        return repeat(x, "b c h w -> b c (h 2) (w 2)")


def _mean_pool() -> Reduce:
    """Half the size by averaging: `[B, C, H, W]` -> `[B, C, H/2, W/2]`."""
    return Reduce("b c (h 2) (w 2) -> b c h w", "mean")


def _up_block(width: int, norm: str) -> Sum:
    return Sum(
        # The 1x1 convolution commutes with Upsample, and costs a quarter before it.
        nn.Sequential(_conv1(width, width), Upsample()),
        nn.Sequential(
            *normalization(norm, width),
            nn.ReLU(),
            UpsampleConv2d(width, width),
            *normalization(norm, width),
            nn.ReLU(),
            _conv3(width, width),
        ),
    )


def _first_block(inputs: int, width: int) -> Sum:
    """Halves the size, without a norm or an activation on the image itself."""
    return Sum(
        nn.Sequential(_mean_pool(), _conv1(inputs, width)),
        nn.Sequential(_conv3(inputs, width), nn.LeakyReLU(0.2), _conv3(width, width), _mean_pool()),
    )


def _down_block(width: int, norm: str) -> Sum:
    return Sum(
        nn.Sequential(_mean_pool(), _conv1(width, width)),
        nn.Sequential(*_two_convs(width, norm), _mean_pool()),
    )


def _flat_block(width: int, norm: str) -> Sum:
    return Sum(nn.Identity(), nn.Sequential(*_two_convs(width, norm)))


def _two_convs(width: int, norm: str) -> list[nn.Module]:
    return [
        *normalization(norm, width),
        nn.LeakyReLU(0.2),
        _conv3(width, width),
        *normalization(norm, width),
        nn.LeakyReLU(0.2),
        _conv3(width, width),
    ]


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)


def _conv1(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=1)


def _check_image(image_shape: Sequence[int]) -> tuple[int, int]:
    """The channels and size of an image shape that the networks can take."""
    sizes = "a power of two from 32 as size"
    others = "conv_generator and conv_critic take 28, 32 and 64"
    channels, size = check_image(image_shape, sizes, others)
    if size < 32 or size & (size - 1):
        raise ValueError(wrong_image(image_shape, sizes, others))
    return channels, size
