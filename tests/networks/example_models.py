"""Small example networks in float64, of every kind, and their inputs."""

import pytest
import torch
from torch import Tensor

from fgan.models import (
    conv_critic,
    conv_generator,
    mlp_critic,
    mlp_generator,
    resnet_critic,
    resnet_generator,
)
from fgan.models.layers import Critic, Generator
from fgan.models.norms import NORMS

BATCH, CLASSES = 4, 5

SHAPES = {"mlp": (3, 4, 5), "conv": (2, 28, 28), "resnet": (2, 32, 32)}
CHOICES = [(kind, norm) for kind in SHAPES for norm in NORMS if (kind, norm) != ("mlp", "instance")]
INDEPENDENT = [(kind, norm) for kind, norm in CHOICES if norm != "batch"]

every_network = pytest.mark.parametrize(("kind", "norm"), CHOICES)
every_independent_network = pytest.mark.parametrize(("kind", "norm"), INDEPENDENT)
conditional_or_not = pytest.mark.parametrize("num_classes", [None, CLASSES])


def make_generator(kind: str, norm: str = "batch", num_classes: int | None = None) -> Generator:
    """A small generator of the given kind in float64."""
    shape = SHAPES[kind]
    match kind:
        case "mlp":
            model = mlp_generator(shape, 6, num_classes, hidden=(16, 32), norm=norm)
        case "conv":
            model = conv_generator(shape, 6, num_classes, width=4, norm=norm)
        case _:
            model = resnet_generator(shape, 6, num_classes, width=8, norm=norm)
    return model.double()


def make_critic(kind: str, norm: str = "none", num_classes: int | None = None) -> Critic:
    """A small critic of the given kind in float64."""
    shape = SHAPES[kind]
    match kind:
        case "mlp":
            model = mlp_critic(shape, num_classes, hidden=(32, 16), norm=norm)
        case "conv":
            model = conv_critic(shape, num_classes, width=4, norm=norm)
        case _:
            model = resnet_critic(shape, num_classes, width=8, norm=norm)
    return model.double()


def samples(kind: str, batch: int = BATCH) -> Tensor:
    """Random critic inputs in float64."""
    return torch.randn(batch, *SHAPES[kind], dtype=torch.float64)


def labels(num_classes: int | None, batch: int = BATCH) -> list[Tensor]:
    """The further inputs of a network: none, or one tensor of labels with all classes."""
    return [] if num_classes is None else [torch.arange(batch) % num_classes]
