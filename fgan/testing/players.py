"""The small networks that `check_recipe` plays with."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fgan.testing.strategies import normal

LATENT, CLASSES = 3, 3


def one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, CLASSES]; unlike F.one_hot it runs under vmap."""
    return (labels[:, None] == torch.arange(CLASSES)).to(like.dtype)


class PlayerModule(nn.Module):
    """Takes a condition, and heeds it if `labelled`; parameters drawn from `seed`, float64."""

    def __init__(self, labelled: bool, build: Callable[[], dict[str, nn.Module]], seed: int):
        super().__init__()
        self.labelled = labelled
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleDict(build())
        self.double()

    def joined(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The input, with the one-hot label where it is heeded."""
        if not self.labelled:
            return x
        assert condition is not None
        return torch.cat([x, one_hot(condition, x)], dim=1)


class ExampleGenerator(PlayerModule):
    """[B, LATENT] -> [B, *shape]; its BatchNorm has buffers to keep an eye on."""

    def __init__(self, shape: tuple[int, ...], labelled: bool = False, seed: int = 0):
        size = torch.Size(shape).numel()

        def build() -> dict[str, nn.Module]:
            # No bias before BatchNorm: it has no gradient, of which Adam makes noise.
            return {
                "first": nn.Linear(LATENT + CLASSES * labelled, 5, bias=False),
                "norm": nn.BatchNorm1d(5),
                "last": nn.Linear(5, size),
            }

        super().__init__(labelled, build, seed)
        self.shape = shape

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """[B, LATENT], [B] -> [B, *shape]."""
        h = self.layers["norm"](self.layers["first"](self.joined(z, condition)))
        out: Tensor = self.layers["last"](torch.tanh(h))
        return out.reshape(-1, *self.shape)


class ExamplePlayerCritic(PlayerModule):
    """[B, *shape] -> [B, 1], every sample alone."""

    def __init__(self, shape: tuple[int, ...], labelled: bool = False, seed: int = 1):
        size = torch.Size(shape).numel() + CLASSES * labelled

        def build() -> dict[str, nn.Module]:
            return {"first": nn.Linear(size, 6), "last": nn.Linear(6, 1)}

        super().__init__(labelled, build, seed)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """[B, *shape], [B] -> [B, 1]."""
        out: Tensor = self.layers["last"](
            torch.tanh(self.layers["first"](self.joined(x.flatten(1), condition)))
        )
        return out


class LabelWriter(nn.Module):
    """A generator that writes its label into its samples [B, CLASSES], whatever the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(LATENT, CLASSES, dtype=torch.float64))

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """[B, LATENT], [B] -> [B, CLASSES]."""
        return one_hot(condition, z) + z @ self.gain


class LabelReader(nn.Module):
    """A critic that scores 0 exactly where a sample carries the label it is shown with."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(normal(0, CLASSES).abs() + 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[B, CLASSES], [B] -> [B]."""
        return -((x - one_hot(condition, x)).square() @ self.scale)
