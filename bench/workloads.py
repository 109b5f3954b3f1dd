"""What is timed: pairs of networks, all but the last small enough for a laptop."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

import fgan


class Workload(NamedTuple):
    """A pair of networks and the round that it plays."""

    title: str
    generator: Callable[[], nn.Module]
    critic: Callable[[], nn.Module]
    sample_shape: tuple[int, ...]
    batch_size: int
    n_critic: int = 5


IMAGE = (1, 28, 28)

WORKLOADS = {
    "mlp": Workload(
        "tutorial MLP, G 100-128-256-512-1024-784 with BatchNorm, D 784-512-256-1",
        lambda: fgan.models.mlp_generator(IMAGE),
        lambda: fgan.models.mlp_critic(IMAGE),
        IMAGE,
        batch_size=64,
    ),
    "conv": Workload(
        "28x28 convolutional pair, G width 32, D width 16",
        lambda: fgan.models.conv_generator(IMAGE),
        lambda: fgan.models.conv_critic(IMAGE),
        IMAGE,
        batch_size=64,
    ),
    "toy": Workload(
        "2-D points, three hidden layers of 512 in both",
        lambda: fgan.models.mlp_generator((2,), 2, hidden=(512,) * 3, norm="none"),
        lambda: fgan.models.mlp_critic((2,), hidden=(512,) * 3),
        (2,),
        batch_size=256,
    ),
    "residual": Workload(
        "64x64 residual pair of width 128, for a GPU: try --batch-size 256 --autocast",
        lambda: fgan.models.resnet_generator((3, 64, 64)),
        lambda: fgan.models.resnet_critic((3, 64, 64)),
        (3, 64, 64),
        batch_size=64,
    ),
    # For CI: does everything run, and do the contestants agree? Its times mean nothing.
    "tiny": Workload(
        "2-D points, one hidden layer of 8",
        lambda: fgan.models.mlp_generator((2,), 2, hidden=(8,), norm="none"),
        lambda: fgan.models.mlp_critic((2,), hidden=(8,)),
        (2,),
        batch_size=4,
        n_critic=2,
    ),
}

RECIPES = {name: recipe.function for name, recipe in fgan.recipes.RECIPES.items()}
