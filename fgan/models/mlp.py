"""Multilayer perceptrons: for points in the plane, and the tutorial pair of every GAN course."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from fgan.models.layers import Critic, Generator, join_flat, output_layer, unflatten
from fgan.models.norms import check_norm, constrain, normalization
from fgan.models.sizes import check_classes, check_sizes
from fgan.scalars import check_count


def mlp_generator(
    sample_shape: Sequence[int],
    latent_dim: int = 100,
    num_classes: int | None = None,
    hidden: Sequence[int] = (128, 256, 512, 1024),
    norm: str = "batch",
    output: Literal["tanh", "linear"] | None = None,
) -> Generator:
    """A generator `[B, latent_dim]` -> `[B, *sample_shape]` for samples of any rank.

    `output` defaults to `tanh`, in [-1, 1], for images (rank 3) and to `linear` for all others.
    The defaults give the network of the tutorials, 100-128-256-512-1024-784 for `(1, 28, 28)`. The
    first hidden layer has no norm, as there.

    Raises ValueError for an unknown `norm` or `output`, and for instance norm (see
    `norms.normalization`).

    Example:
        >>> generator = fgan.models.mlp_generator((5,), latent_dim=8, hidden=(32,))
        >>> generator(torch.randn(4, 8)).shape
        torch.Size([4, 5])
    """
    check_norm(norm)
    sample_shape, hidden = check_sizes("sample_shape", sample_shape), check_sizes("hidden", hidden)
    latent_dim, num_classes = check_count("latent_dim", latent_dim), check_classes(num_classes)
    if output is None:
        output = "tanh" if len(sample_shape) == 3 else "linear"
    last = output_layer(output)
    sizes = [latent_dim + (num_classes or 0), *hidden]
    layers = nn.Sequential(
        *_hidden_layers(sizes, norm),
        nn.Linear(sizes[-1], math.prod(sample_shape)),
        *last,
        unflatten(sample_shape),
    )
    return constrain(Generator(layers, sample_shape, latent_dim, num_classes), norm)


def mlp_critic(
    sample_shape: Sequence[int],
    num_classes: int | None = None,
    hidden: Sequence[int] = (512, 256),
    norm: str = "none",
) -> Critic:
    """A critic `[B, *sample_shape]` -> scores `[B]` for samples of any rank.

    The defaults give the network of the tutorials, 784-512-256-1 for `(1, 28, 28)`. The first
    hidden layer has no norm but `spectral` and `weight`, which are on every layer.

    Raises ValueError for an unknown `norm`, and for instance norm (see `norms.normalization`).

    Example:
        >>> critic = fgan.models.mlp_critic((5,), num_classes=3, hidden=(32,))
        >>> critic(torch.randn(4, 5), torch.tensor([0, 1, 2, 0])).shape
        torch.Size([4])
    """
    check_norm(norm)
    sample_shape, hidden = check_sizes("sample_shape", sample_shape), check_sizes("hidden", hidden)
    num_classes = check_classes(num_classes)
    sizes = [math.prod(sample_shape) + (num_classes or 0), *hidden]
    layers = nn.Sequential(
        *_hidden_layers(sizes, norm),
        nn.Linear(sizes[-1], 1),
    )
    return constrain(Critic(join_flat, layers, sample_shape, num_classes), norm)


def _hidden_layers(sizes: Sequence[int], norm: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(inputs, outputs))
        if i > 0:
            layers += normalization(norm, outputs, axes=0)
        layers.append(nn.LeakyReLU(0.2))
    return layers
