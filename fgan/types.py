"""What goes into a round and comes out, tuples of tensors, and what an algorithm consists of."""

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


Step = Callable[[GANState, Batch, Noise], tuple[GANState, GANInfo]]


class Algorithm(NamedTuple):
    """A GAN as pure functions."""

    init: Callable[..., GANState]
    """`init(seed=None)`: a seeded re-initialisation, or copies of the parameters that the modules
    hold at that moment. Frozen parameters keep their values either way."""
    step: Step
    """One round. It makes as many critic updates as the batch has along its leading axis."""
    noise: Callable[..., Noise]
    """`noise(seed, round_index, batch_size, device=None, dtype=None)`, a pure function."""
    generate: Callable[..., Tensor]
    """`generate(state, latent, condition=None)`: evaluation mode, EMA weights where kept."""
    score: Callable[..., Tensor]
    """`score(state, samples, condition=None)` -> [B]: the critic on its own, evaluation mode."""
    critic_update: Callable[..., tuple[GANState, CriticInfo]]
    """`critic_update(state, real, condition, latent, mix, fake=None)`: one step of the critic. With
    `fake` given, `latent` may be None."""
    generator_update: Callable[..., tuple[GANState, GeneratorInfo]]
    """`generator_update(state, latent, condition=None, real=None)`: one step of the generator."""
    fakes: Callable[..., Tensor]
    """`fakes(state, latent, condition=None)`: training mode, as the critic's updates see them."""
    play: Callable[..., Step]
    """`play(critic_update, generator_update, draw=None, check=True)` -> `step`: the round, made of
    other versions of its two parts (compiled, say, or reduced over devices). With `draw(state,
    latents [n_critic, B, Z], conditions)` the fakes of all critic updates are drawn first. Without
    `check`, batch and noise may have axes of which only the parts know."""
    n_critic: Updates
    """Critic updates that `noise` is drawn for, and that data should be drawn for."""
    latent_dim: int
    members: tuple[int | None, ...] = ()
    """Of a population (`fgan.population`), axis by axis; None where any number will do."""
