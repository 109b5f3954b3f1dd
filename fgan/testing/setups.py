"""The algorithm that a recipe makes of small networks, and the inputs of its rounds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fgan import tree
from fgan.testing.example_networks import CLASSES, LATENT_DIM, SmallCritic, SmallGenerator
from fgan.testing.strategies import make_batch
from fgan.types import Algorithm, Batch, GANState, Noise

Recipe = Callable[..., Algorithm]
SIZE = 4
"""Samples in a batch."""


class Setup(NamedTuple):
    """The algorithm that a recipe makes of small networks."""

    algorithm: Algorithm
    shape: tuple[int, ...]
    conditional: bool

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        shape: tuple[int, ...],
        conditional: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> "Setup":
        """Build the networks and the algorithm."""
        modules: list[nn.Module] = [
            SmallGenerator(shape, conditional).to(dtype),
            SmallCritic(shape, conditional).to(dtype),
        ]
        return cls(recipe(*modules, latent_dim=LATENT_DIM), shape, conditional)

    def round(self, seed: int, index: int = 0) -> tuple[GANState, Batch, Noise]:
        """(state, batch, noise) for round `index`, with as many critic updates as the noise has."""
        state, noise = self.algorithm.init(seed), self.algorithm.noise(seed, index, SIZE)
        updates = noise.mix.shape[0]
        classes = CLASSES if self.conditional else None
        batch = make_batch(1000 * seed + index, self.shape, updates, SIZE, classes, noise.mix.dtype)
        return state, batch, noise


def first_updates(noise: Noise, updates: int) -> Noise:
    """The noise of a round with fewer critic updates."""
    first = _map_extra(noise, lambda leaf: leaf[:updates], lambda leaf: leaf)
    return first._replace(critic_latent=noise.critic_latent[:updates], mix=noise.mix[:updates])


def reordered(noise: Noise, order: Tensor) -> Noise:
    """The noise with the samples of each batch in another order."""

    def of_critic(leaf: Tensor) -> Tensor:
        return leaf[:, order] if leaf.shape[1] == len(order) else leaf

    other = _map_extra(noise, of_critic, lambda leaf: leaf[order])
    return other._replace(
        critic_latent=noise.critic_latent[:, order],
        generator_latent=noise.generator_latent[order],
        mix=noise.mix[:, order],
    )


def extra_of(noise: Noise, role: str, index: int | None = None) -> dict[str, Any]:
    """The keyword `extra` of an update, or no keyword where the objective declared nothing."""
    extra = getattr(noise, "extra", {}).get(role)
    if extra is None:
        return {}
    return {"extra": extra if index is None else tree.map(lambda leaf: leaf[index], extra)}


def _map_extra(
    noise: Noise, of_critic: Callable[[Tensor], Tensor], of_generator: Callable[[Tensor], Tensor]
) -> Noise:
    """The noise with other random tensors for the objectives: [n_critic, B, ...] and [B, ...]."""
    extra = dict(getattr(noise, "extra", {}))
    for role, function in ("critic", of_critic), ("generator", of_generator):
        if role in extra:
            extra[role] = tree.map(function, extra[role])
    changed: dict[str, Any] = {"extra": extra} if extra else {}
    return noise._replace(**changed)
