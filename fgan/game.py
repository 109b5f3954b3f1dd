"""The adversarial round, as pure functions from state to state.

A `Game` holds what stays the same from round to round. Each player's update is two functions: a
gradient, and its application. Between the two is the place of all that changes gradients
(accumulation, averaging over devices).

    gradient = critic_gradient(game, state, data)
    state = apply_critic(game, state, gradient)
    gradient = generator_gradient(game, state, latent, data)
    state = apply_generator(game, state, gradient)

Randomness comes in as data (`Noise`), so any round can be run again, alone, with the same bits.
"""

# Annotations stay unevaluated, since torch.compile would have to trace those of inner functions.
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value

from fgan import checks, tree
from fgan.networks import no_second_derivative
from fgan.networks.functional import Apply
from fgan.objectives import (
    CriticObjective,
    GeneratorObjective,
)
from fgan.optim import Optimizer, check_params
from fgan.scalars import Scalar, scalar_at
from fgan.types import (
    EMA,
    Batch,
    CriticInfo,
    Data,
    Extra,
    GANInfo,
    GANState,
    GeneratorInfo,
    Gradient,
    Noise,
    Params,
    Parts,
    PlayerState,
)


class Player(NamedTuple):
    """A network as a pure function, and how its parameters move."""

    apply: Apply
    optimizer: Optimizer


class Game(NamedTuple):
    """All that stays the same from round to round."""

    generator: Player
    critic: Player
    critic_objective: CriticObjective
    generator_objective: GeneratorObjective
    project: Callable[[Params, Tensor], Params] | None = None
    """`project(params, round)`: the critic's parameters in the constraint set, after an update."""
    ema_decay: Scalar | None = None
    """Of the running average of the generator's parameters; None when no average is kept."""
    averaged: frozenset[str] = frozenset()
    """The generator's buffers that are averaged with the parameters: its running statistics."""


def fakes(game: Game, state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
    """Samples of the generator in training mode, as a critic's update sees them.

    latent [B, Z], condition [B, ...] -> samples [B, ...]. The generator's buffers stay as they are:
    they advance in the generator's own update alone, so that drawing samples changes nothing.
    Raises ValueError unless there is a condition for each latent, or none.
    """
    checks.check_generator_inputs(state, latent, condition, None, {})
    conditions = () if condition is None else (condition,)
    params, buffers, _ = state.generator
    return game.generator.apply(params, buffers, latent, *conditions)[0]


def critic_gradient(game: Game, state: GANState, data: Data) -> Gradient:
    """The gradient of the critic's objective by the critic's parameters.

    data.real and data.fake [B, ...]; real and fake are constants here. Every pass of the critic
    starts from the same buffers: otherwise spectral norm would advance between the
    passes, and one loss would use three different critics.
    """
    params, buffers, _ = state.critic
    check_params("the critic's parameters", params)
    if data.real is not None:
        draws = game.critic_objective.draws
        checks.check_draws(draws, data.extra, data.real, data.real)

    def objective(params: Params) -> tuple[Tensor, tuple[Params, dict[str, Tensor]]]:
        critic = partial(game.critic.apply, params, buffers)
        loss, new_buffers, figures = game.critic_objective.function(critic, data)
        return loss, (new_buffers, figures)

    gradients, (loss, (new_buffers, figures)) = _gradient("critic", objective, params)
    return Gradient(gradients, new_buffers, {**figures, "critic_loss": loss})


def _gradient(player: str, objective: Callable[[Params], Any], params: Params) -> Any:
    """(the objective's gradient by the parameters, (the objective, what else it returns))."""
    try:
        return grad_and_value(objective, has_aux=True)(params)
    except RuntimeError as error:
        if reason := no_second_derivative(player, error):
            raise ValueError(reason) from error
        raise


def apply_critic(game: Game, state: GANState, gradient: Gradient) -> GANState:
    """The state after the critic's optimiser and projection have used a gradient."""
    params, _, opt_state = state.critic
    params, opt_state = game.critic.optimizer.update(gradient.params, opt_state, params)
    if game.project is not None:
        params = game.project(params, state.round)
    # Not state._replace(...): Dynamo in torch 2.11 returns an empty tuple for it.
    critic = PlayerState(params, gradient.buffers, opt_state)
    return GANState(state.generator, critic, state.ema, state.round)


def generator_gradient(game: Game, state: GANState, latent: Tensor, data: Data) -> Gradient:
    """The gradient of the generator's objective by the generator's parameters.

    latent [B, Z], data.condition [B, ...]; data.real [B, ...] where the objective uses it. The
    critic is in training mode, but its new buffers are not kept.
    """
    params, buffers, _ = state.generator
    conditions = () if data.condition is None else (data.condition,)
    critic = partial(game.critic.apply, state.critic.params, state.critic.buffers)
    check_params("the generator's parameters", params)
    checks.check_draws(game.generator_objective.draws, data.extra, latent, data.real)

    def objective(params: Params) -> tuple[Tensor, tuple[Params, dict[str, Tensor]]]:
        fake, new_buffers = game.generator.apply(params, buffers, latent, *conditions)
        loss, figures = game.generator_objective.function(critic, fake, data)
        return loss, (new_buffers, figures)

    gradients, (loss, (new_buffers, figures)) = _gradient("generator", objective, params)
    return Gradient(gradients, new_buffers, {**figures, "generator_loss": loss})


def apply_generator(game: Game, state: GANState, gradient: Gradient) -> GANState:
    """The state after the generator's optimiser has used a gradient; the round is over."""
    params, _, opt_state = state.generator
    params, opt_state = game.generator.optimizer.update(gradient.params, opt_state, params)
    ema = state.ema
    checks.check_average(state, game.ema_decay is not None)
    if isinstance(ema, EMA) and game.ema_decay is not None:
        decay = scalar_at(game.ema_decay, state.round)
        # Copies, since a state that holds one tensor twice would compile a second time.
        own_buffers = {
            name: tree.lerp(ema.buffers[name], buffer, 1 - decay)
            if name in game.averaged
            else buffer.clone()
            for name, buffer in gradient.buffers.items()
        }
        ema = EMA(tree.lerp(ema.params, params, 1 - decay), own_buffers)
    generator = PlayerState(params, gradient.buffers, opt_state)
    return GANState(generator, state.critic, ema, state.round + 1)


def critic_update(
    parts: Parts,
    state: GANState,
    real: Tensor,
    condition: Tensor | None,
    latent: Tensor | None,
    mix: Tensor,
    fake: Tensor | None = None,
    extra: Extra | None = None,
) -> tuple[GANState, CriticInfo]:
    """One update of the critic: fakes, gradient, application.

    real [B, ...], condition [B, ...] or None, latent [B, Z], mix [B], extra {name: [B, ...]}. With
    `fake` [B, ...] given, `latent` may be None. Raises ValueError where one of them has not a row
    for each real sample, where real samples and fakes differ in shape or dtype, and where the
    objective needs `extra` and there is none.
    """
    extra = _extra(parts.extra[0], extra)
    checks.check_critic_inputs(state, real, condition, latent, mix, fake, extra)
    return _critic_update(parts, state, real, condition, latent, mix, fake, extra)


def _critic_update(
    parts: Parts,
    state: GANState,
    real: Tensor,
    condition: Tensor | None,
    latent: Tensor | None,
    mix: Tensor,
    fake: Tensor | None = None,
    extra: Extra | None = None,
) -> tuple[GANState, CriticInfo]:
    """`critic_update` of inputs that have been checked."""
    extra = _extra(parts.extra[0], extra)
    if fake is None:
        assert latent is not None
        fake = parts.fakes(state, latent, condition)
    checks.check_samples(real, fake)
    data = Data(real, fake, condition, mix, extra, state.round)
    gradient = parts.critic_gradient(state, data)
    state = parts.apply_critic(state, gradient)
    named = dict(gradient.info)
    loss = named.pop("critic_loss")
    known = [
        named.pop(name) if name in named else torch.full_like(loss, torch.nan)
        for name in ("distance", "penalty", "real_score", "fake_score")
    ]
    distance, penalty, real_score, fake_score = known
    norm = tree.norm(gradient.params)
    return state, CriticInfo(loss, distance, penalty, real_score, fake_score, norm, named)


def generator_update(
    parts: Parts,
    state: GANState,
    latent: Tensor,
    condition: Tensor | None = None,
    real: Tensor | None = None,
    extra: Extra | None = None,
) -> tuple[GANState, GeneratorInfo]:
    """One update of the generator: gradient, application.

    latent [B, Z], condition [B, ...] or None, real [B, ...] where the objective uses it, extra
    {name: [B, ...]}. Raises ValueError where one of them has not a row for each latent, and where
    the objective needs `real` or `extra` and there is none.
    """
    if parts.uses_real and real is None:
        raise ValueError("this generator's objective uses real samples: give them too, real=...")
    extra = _extra(parts.extra[1], extra)
    checks.check_gan_state(state, "critic", "round")
    checks.check_generator_inputs(state, latent, condition, real, extra)
    data = Data(real, None, condition, None, extra, state.round)
    gradient = parts.generator_gradient(state, latent, data)
    state = parts.apply_generator(state, gradient)
    named = dict(gradient.info)
    loss = named.pop("generator_loss")
    return state, GeneratorInfo(loss, tree.norm(gradient.params), named)


def step(
    parts: Parts,
    state: GANState,
    batch: Batch,
    noise: Noise,
    *,
    update_critic: Callable[..., tuple[GANState, CriticInfo]] | None = None,
    update_generator: Callable[..., tuple[GANState, GeneratorInfo]] | None = None,
    all_fakes: Callable[..., Tensor] | None = None,
) -> tuple[GANState, GANInfo]:
    """One round: a critic update for each entry of the batch's leading axis, then the generator's.

    Alternating, or with `parts.simultaneous` both players from the gradients at one state. The
    fakes of critic update i are made under the conditions of its real batch; the generator's update
    takes the last conditions (and real samples), as many as it has latents.

    update_critic, update_generator: other versions of the two updates, such as compiled ones.
    all_fakes: `all_fakes(state, latents [updates, B, Z], conditions)` draws the fakes of several
        critic updates at once, in portions (`portion_of`).

    Raises ValueError for a state, a batch and noise that do not fit together.
    """
    parts.check(state, batch, noise)
    update_critic = update_critic or partial(_critic_update, parts)
    update_generator = update_generator or partial(generator_update, parts)
    updates = batch.real.shape[0]
    if parts.simultaneous and updates != 1:
        raise ValueError(f"a simultaneous round has one critic update, and batch.real {updates}")
    portion = portion_of(updates)

    def drawn(first: int) -> Tensor | None:
        if all_fakes is None:
            return None
        latents, conditions = noise.critic_latent, batch.condition
        if portion < updates:
            own = slice(first, first + portion)
            latents, conditions = latents[own], None if conditions is None else conditions[own]
        return all_fakes(state, latents, conditions)

    fake = drawn(0)
    conditions = [None] * updates if batch.condition is None else batch.condition
    of_last = _generator_inputs(parts, batch, noise)
    if parts.simultaneous:
        ahead, generator_info = update_generator(state, *of_last)
    declared = noise.extra.get("critic")
    for i in range(updates):
        extra = None if declared is None else {name: x[i] for name, x in declared.items()}
        if i and i % portion == 0:
            fake = drawn(i)
        own_fake = None if fake is None else fake[i % portion]
        inputs = batch.real[i], conditions[i], noise.critic_latent[i], noise.mix[i], own_fake
        state, critic_info = update_critic(state, *inputs, extra)
    if parts.simultaneous:
        state = GANState(ahead.generator, state.critic, ahead.ema, ahead.round)
    else:
        state, generator_info = update_generator(state, *of_last)
    critic_loss, distance, penalty, real_score, fake_score, critic_norm, terms = critic_info
    generator_loss, generator_norm, generator_terms = generator_info
    return state, GANInfo(
        critic_loss,
        generator_loss,
        distance,
        penalty,
        real_score,
        fake_score,
        critic_norm,
        generator_norm,
        {**terms, **generator_terms},
    )


def portion_of(updates: int, most: int = 8) -> int:
    """How many critic updates have their fakes drawn at once, so that memory stays bounded.

    All of them up to `most`; of more, equal portions where that is possible, since another size is
    another program.
    """
    if updates <= most:
        return updates
    equal = (size for size in range(most, most // 2, -1) if updates % size == 0)
    return next(equal, most)


def _generator_inputs(
    parts: Parts, batch: Batch, noise: Noise
) -> tuple[Tensor, Tensor | None, Tensor | None, Extra | None]:
    """The latent, conditions, real samples and extra tensors of the generator's update."""
    size = noise.generator_latent.shape[-2]
    real = _last(batch.real, size) if parts.uses_real else None
    condition = None if batch.condition is None else _last(batch.condition, size)
    return noise.generator_latent, condition, real, noise.extra.get("generator")


def _last(rounds: Tensor, size: int) -> Tensor:
    """The last `size` of [n_critic, B, ...]: the last update's where they are as many."""
    if size == rounds.shape[1]:
        return rounds[-1]
    return rounds.reshape(-1, *rounds.shape[2:])[-size:]


def _extra(declared: bool, extra: Extra | None) -> Extra:
    if declared and extra is None:
        raise ValueError(
            "this objective has declared random tensors: give extra=..., one update's part of "
            "noise.extra"
        )
    return {} if extra is None else extra
