"""What goes into a round and comes out, tuples of tensors, and what an algorithm consists of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fgan.shares import Share

Params = dict[str, Tensor]
"""Tensors by their names in a module: parameters, or buffers."""
CriticUpdates = int | Callable[[int], int]
"""Critic updates in a round: a number, or a function of the round's index."""
Extra = dict[str, Any]
"""Random tensors that an objective asked for, by name, as the leaves of a tree."""


class Batch(NamedTuple):
    """The data of one round.

    Example:
        >>> images, labels = torch.zeros(5, 64, 1, 28, 28), torch.zeros(5, 64, dtype=torch.int64)
        >>> fgan.Batch(images, labels).real.shape  # for five critic updates on 64 images each
        torch.Size([5, 64, 1, 28, 28])
    """

    real: Tensor
    """[n_critic, B, ...], floating point. A pack of samples that the critic judges together
    (PacGAN, Lin et al. 2018, arXiv 1712.04086) is one sample, such as [4, F] for four
    rows of a table."""
    condition: Tensor | None = None
    """[n_critic, B, ...], such as integer labels [n_critic, B]; None without conditions."""


class Noise(NamedTuple):
    """All randomness of one round.

    Example:
        >>> algorithm = fgan.wgan_gp(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> noise = algorithm.noise(seed=0, round_index=7, batch_size=8)
        >>> noise.critic_latent.shape, noise.mix.shape
        (torch.Size([5, 8, 4]), torch.Size([5, 8]))
    """

    critic_latent: Tensor
    """[n_critic, B, Z], standard normal: the latents of the fakes in the critic updates."""
    generator_latent: Tensor
    """[B', Z], standard normal: the latents of the generator update; B' is B unless the noise was
    drawn with another `generator_batch_size`."""
    mix: Tensor
    """[n_critic, B], uniform on [0, 1): the ε of each interpolate."""
    extra: Extra = {}  # noqa: RUF012 (never written to)
    """What the objectives declared (`Draw`): {"critic": {name: [n_critic, B, ...]},
    "generator": {name: [B', ...]}}; {} where they declared nothing. A lazy penalty has its name
    under "critic", with a tensor [n_critic, 0], only in the rounds where it is taken."""


class Draw(NamedTuple):
    """Random tensors that an objective asks for: one for each sample of an update.

    They are drawn by `algorithm.noise`, and the objective finds them in `data.extra` by name.

    Example:
        >>> fgan.objectives.Draw("uniform", shape=(256,))  # [B, 256] for each update
        Draw(distribution='uniform', shape=(256,))
    """

    distribution: str = "normal"
    """Standard "normal", or "uniform" on [0, 1)."""
    shape: tuple[int, ...] | None = ()
    """Of the tensor for one sample: () is one number, None is the shape of the sample itself."""


class PlayerState(NamedTuple):
    """One network and its optimiser."""

    params: Params
    buffers: Params
    """Of the module, with its frozen parameters. A number that a script changes in the course of
    training, such as the α of a fade-in (Karras et al. 2018, arXiv 1710.10196), is a buffer that
    the script replaces here; a later change of the module itself has no effect."""
    opt_state: Any


class EMA(NamedTuple):
    """The generator's exponential moving average."""

    params: Params
    buffers: Params
    """The running statistics of BatchNorm layers are averaged with the decay of the parameters:
    the latest ones are of activations that the averaged weights do not have. All other buffers,
    such as counts and the vectors of spectral norm, are the generator's latest."""


class GANState(NamedTuple):
    """All that a run carries from round to round: tensors only.

    Example:
        >>> algorithm = fgan.wgan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> state = algorithm.init(seed=0)
        >>> {name: tuple(p.shape) for name, p in state.critic.params.items()}, int(state.round)
        ({'weight': (1, 2), 'bias': (1,)}, 0)
    """

    generator: PlayerState
    critic: PlayerState
    ema: EMA | dict[str, Tensor]
    """{} when no average is kept."""
    round: Tensor
    """Rounds completed, 0-d integer."""


class Gradient(NamedTuple):
    """What a player's update is made of, before the update."""

    params: Params
    """The objective's gradient by the player's parameters."""
    buffers: Params
    """The player's buffers after the forward pass."""
    info: dict[str, Tensor]
    """The objective's figures by name, 0-d tensors: the loss among them."""


class CriticInfo(NamedTuple):
    """The figures of one critic update; 0-d tensors, means over the batch."""

    critic_loss: Tensor
    """The whole objective: adversarial loss and weighted penalties."""
    distance: Tensor
    """The estimate of the distance, before the penalties."""
    penalty: Tensor
    """The penalty before its weight; the weighted sum where there are several; 0 without one, and
    in rounds where a lazy one is not taken."""
    real_score: Tensor
    fake_score: Tensor
    critic_grad_norm: Tensor
    """Euclidean norm of the objective's gradient by all parameters."""
    terms: dict[str, Tensor]
    """Each further figure of the objective by name: every penalty before its weight."""


class GeneratorInfo(NamedTuple):
    """The figures of one generator update; 0-d tensors."""

    generator_loss: Tensor
    generator_grad_norm: Tensor
    terms: dict[str, Tensor]


class GANInfo(NamedTuple):
    """The figures of one round, for the log only; the critic's are those of its last update.

    Example:
        >>> algorithm = fgan.wgan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> noise, batch = algorithm.noise(0, 0, batch_size=8), fgan.Batch(torch.ones(5, 8, 2))
        >>> state, info = algorithm.step(algorithm.init(seed=0), batch, noise)
        >>> bool(info.distance == -info.critic_loss)
        True
    """

    critic_loss: Tensor
    generator_loss: Tensor
    distance: Tensor
    penalty: Tensor
    real_score: Tensor
    fake_score: Tensor
    critic_grad_norm: Tensor
    generator_grad_norm: Tensor
    terms: dict[str, Tensor] = {}  # noqa: RUF012 (never written to)
    """Both objectives' further figures by name."""


class InitFunction(Protocol):
    """Makes a state."""

    def __call__(self, seed: int | None = None) -> GANState:
        """A seeded re-initialisation; without a seed, copies of the parameters and buffers that the
        modules hold at that moment. Frozen parameters keep their values either way."""


class StepFunction(Protocol):
    """Makes one round."""

    def __call__(self, state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
        """(the new state, the round's figures). It makes as many critic updates as the batch has
        along its leading axis."""


class NoiseFunction(Protocol):
    """Draws all randomness of a round: a pure function."""

    def __call__(
        self,
        seed: int,
        round_index: int,
        batch_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator_batch_size: int | None = None,
        share: Share | None = None,
    ) -> Noise:
        """On the generator's device and in its dtype unless told otherwise. With `share=(rank,
        size)` it is one of `size` equal parts of the batch's noise."""


class GenerateFunction(Protocol):
    """Draws samples."""

    def __call__(self, state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """latent [B, Z] -> samples [B, ...]: evaluation mode, EMA parameters where kept."""


class ScoreFunction(Protocol):
    """The critic on its own."""

    def __call__(self, state: GANState, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """samples [B, ...] -> scores [B], evaluation mode."""


class CriticUpdateFunction(Protocol):
    """One update of the critic."""

    def __call__(
        self,
        state: GANState,
        real: Tensor,
        condition: Tensor | None,
        latent: Tensor | None,
        mix: Tensor,
        fake: Tensor | None = None,
        extra: Extra | None = None,
    ) -> tuple[GANState, CriticInfo]:
        """real [B, ...], latent [B, Z], mix [B]. With `fake` [B, ...] given, `latent` may be
        None."""


class GeneratorUpdateFunction(Protocol):
    """One update of the generator."""

    def __call__(
        self,
        state: GANState,
        latent: Tensor,
        condition: Tensor | None = None,
        real: Tensor | None = None,
        extra: Extra | None = None,
    ) -> tuple[GANState, GeneratorInfo]:
        """latent [B, Z]; `real` [B, ...] where the loss uses real scores."""


class Data(NamedTuple):
    """What one update is given beside the state."""

    real: Tensor | None
    """[B, ...]"""
    fake: Tensor | None
    """[B, ...]; None in a generator's update, which makes its own."""
    condition: Tensor | None
    """[B, ...], of real and fake alike."""
    mix: Tensor | None
    """[B]; None in a generator's update."""
    extra: Extra
    """What the objective declared: {name: [B, ...]}."""
    round: Tensor
    """Rounds completed, 0-d integer: what schedules are functions of."""


class Parts(NamedTuple):
    """The pure functions that a round is made of, and how they are put together.

    Between a gradient and its application is the place of all that changes gradients: accumulation
    and averaging over devices.
    """

    fakes: GenerateFunction
    """`fakes(state, latent, condition=None)`: training mode, as the critic's updates see them."""
    critic_gradient: Callable[[GANState, Data], Gradient]
    apply_critic: Callable[[GANState, Gradient], GANState]
    generator_gradient: Callable[[GANState, Tensor, Data], Gradient]
    """`generator_gradient(state, latent, data)`"""
    apply_generator: Callable[[GANState, Gradient], GANState]
    check: Callable[[GANState, Batch, Noise], None]
    """Raises ValueError for a state, a batch and noise that do not fit."""
    simultaneous: bool
    """Whether both players move from one state."""
    uses_real: bool
    """Whether the generator's objective uses real samples."""
    extra: tuple[bool, bool]
    """Whether the critic's objective and the generator's have declared random tensors."""
    whole_batch: tuple[str, ...] = ()
    """The critic's penalties whose points depend on the whole batch."""
    num_classes: int | None = None
    """Labels are from 0 to this number - 1; None where no network of `fgan.models` has classes."""


class Algorithm(NamedTuple):
    """A GAN as pure functions.

    Example:
        >>> algorithm = fgan.wgan_gp(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> state = algorithm.init(seed=0)
        >>> batch = fgan.Batch(real=torch.zeros(5, 8, 2))
        >>> noise = algorithm.noise(seed=0, round_index=0, batch_size=8)
        >>> state, info = algorithm.step(state, batch, noise)
        >>> algorithm.generate(state, torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """

    init: InitFunction
    """`state = init(seed=None)`: weights drawn anew, or without a seed those of the modules."""
    step: StepFunction
    """`state, info = step(state, batch, noise)`: one round."""
    noise: NoiseFunction
    """`noise(seed, round_index, batch_size)`: all randomness of a round."""
    generate: GenerateFunction
    """`generate(state, latent, condition=None)`: samples, by the EMA where kept."""
    score: ScoreFunction
    """`score(state, samples, condition=None)`: the critic on its own, [B]."""
    critic_update: CriticUpdateFunction
    """`critic_update(state, real, condition, latent, mix, ...)`: (state, `CriticInfo`)."""
    generator_update: GeneratorUpdateFunction
    """`generator_update(state, latent, condition)`: (state, `GeneratorInfo`)."""
    parts: Parts
    """What a round is made of, for functions from an algorithm to an algorithm."""
    n_critic: CriticUpdates
    """Critic updates that `noise` is drawn for, and that data should be drawn for."""
    latent_dim: int
    members: tuple[int | None, ...] = ()
    """Of a population (`fgan.population`), axis by axis; None where any number is accepted."""
    share: Share | None = None
    """Of a data-parallel algorithm (`fgan.data_parallel`): the (rank, size) of this process, whose
    part of the data it takes."""
    agree: Callable[[int], int] | None = None
    """Of a data-parallel algorithm: takes a number of every process and returns the smallest.
    `fgan.compile` asks it before a round is captured as a CUDA graph."""

    @property
    def fakes(self) -> GenerateFunction:
        """`fakes(state, latent, condition=None)`: training mode, as the critic's updates see
        them."""
        return self.parts.fakes
