"""The small networks that `check_recipe` trains."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fgan.testing.strategies import normal

LATENT_DIM, CLASSES = 3, 3


def one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, CLASSES]; unlike F.one_hot it runs under vmap."""
    return (labels[:, None] == torch.arange(CLASSES)).to(like.dtype)


class SmallNetwork(nn.Module):
    """A network of float64 layers drawn from `seed`, with an optional condition.

    It uses the condition where `conditional`, and ignores it otherwise.
    """

    def __init__(self, conditional: bool, build: Callable[[], dict[str, nn.Module]], seed: int):
        super().__init__()
        self.conditional = conditional
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleDict(build())
        self.double()

    def with_label(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The input, concatenated with the one-hot label where the network is conditional."""
        if not self.conditional:
            return x
        assert condition is not None
        return torch.cat([x, one_hot(condition, x)], dim=1)


class SmallGenerator(SmallNetwork):
    """[B, LATENT_DIM] -> [B, *shape], with BatchNorm, so that it has buffers."""

    def __init__(self, shape: tuple[int, ...], conditional: bool = False, seed: int = 0):
        size = torch.Size(shape).numel()

        def build() -> dict[str, nn.Module]:
            # No bias before BatchNorm: its gradient is 0, from which Adam makes rounding noise.
            return {
                "first": nn.Linear(LATENT_DIM + CLASSES * conditional, 5, bias=False),
                "norm": nn.BatchNorm1d(5),
                "last": nn.Linear(5, size),
            }

        super().__init__(conditional, build, seed)
        self.sample_shape = shape

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """[B, LATENT_DIM], [B] -> [B, *shape]."""
        hidden = self.layers["norm"](self.layers["first"](self.with_label(z, condition)))
        samples: Tensor = self.layers["last"](torch.tanh(hidden))
        return samples.reshape(-1, *self.sample_shape)


class SmallCritic(SmallNetwork):
    """[B, *shape] -> [B, 1], without a layer that mixes samples."""

    def __init__(self, shape: tuple[int, ...], conditional: bool = False, seed: int = 1):
        size = torch.Size(shape).numel() + CLASSES * conditional

        def build() -> dict[str, nn.Module]:
            return {"first": nn.Linear(size, 6), "last": nn.Linear(6, 1)}

        super().__init__(conditional, build, seed)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """[B, *shape], [B] -> [B, 1]."""
        hidden = self.layers["first"](self.with_label(x.flatten(1), condition))
        scores: Tensor = self.layers["last"](torch.tanh(hidden))
        return scores


class LabelWriter(nn.Module):
    """A generator whose samples [B, CLASSES] are its one-hot labels, whatever the latent."""

    sample_shape = (CLASSES,)

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(LATENT_DIM, CLASSES, dtype=torch.float64))

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """[B, LATENT_DIM], [B] -> [B, CLASSES]."""
        return one_hot(condition, z) + z @ self.gain


class LabelReader(nn.Module):
    """A critic that scores 0 exactly where a sample is the one-hot label of its condition."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(normal(0, CLASSES).abs() + 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[B, CLASSES], [B] -> [B]."""
        return -((x - one_hot(condition, x)).square() @ self.scale)
