"""What goes into a round and comes out: named tuples of tensors, which stack, vmap and compile."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

Tensors = dict[str, Tensor]
Updates = int | Callable[[int], int]
"""Critic updates in a round: a number, or a function of the round's index."""


class Batch(NamedTuple):
    """The data of one round."""

    real: Tensor
    """[n_critic, B, ...], floating point."""
    condition: Tensor | None = None
    """[n_critic, B, ...], such as integer labels [n_critic, B]; None without conditions."""


class Noise(NamedTuple):
    """All randomness of one round."""

    critic_latent: Tensor
    """[n_critic, B, Z], standard normal: the latents of the fakes in the critic updates."""
    generator_latent: Tensor
    """[B, Z], standard normal: the latents of the generator update."""
    mix: Tensor
    """[n_critic, B], uniform on [0, 1): the ε of each interpolate."""


class Player(NamedTuple):
    """One network and its optimiser."""

    params: Tensors
    buffers: Tensors
    opt_state: Any


class Weights(NamedTuple):
    """What it takes to run a network."""

    params: Tensors
    buffers: Tensors


class GANState(NamedTuple):
    """All that a run carries from round to round: tensors only."""

    generator: Player
    critic: Player
    ema: Weights | dict[str, Tensor]
    """Running mean of the generator's parameters, with its latest buffers; {} when not kept."""
    round: Tensor
    """Rounds completed, 0-d integer."""


class CriticInfo(NamedTuple):
    """What one critic update saw; 0-d tensors, means over the batch."""

    critic_loss: Tensor
    """The whole objective: adversarial loss and weighted penalty."""
    distance: Tensor
    """The estimate of the distance, before the penalty."""
    penalty: Tensor
    """The penalty before its weight; 0 without one."""
    real_score: Tensor
    fake_score: Tensor
    critic_grad_norm: Tensor
    """Euclidean norm of the objective's gradient by all parameters."""


class GeneratorInfo(NamedTuple):
    """What one generator update saw; 0-d tensors."""

    generator_loss: Tensor
    generator_grad_norm: Tensor


class GANInfo(NamedTuple):
    """What one round saw, for the log only; the critic's figures are its last update's."""

    critic_loss: Tensor
    generator_loss: Tensor
    distance: Tensor
    penalty: Tensor
    real_score: Tensor
    fake_score: Tensor
    critic_grad_norm: Tensor
    generator_grad_norm: Tensor
