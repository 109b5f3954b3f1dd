"""The adversarial round, as pure functions from state to state.

A `Game` holds what stays the same from round to round. Each player's update is two functions: a
gradient, and its application. Between the two is the place of all that changes gradients
(accumulation, averaging over devices, clipping).

    gradient = critic_gradient(game, state, data)
    state = apply_critic(game, state, gradient)
    gradient = generator_gradient(game, state, latent, data)
    state = apply_generator(game, state, gradient)

Randomness comes in as data (`Noise`), so any round can be run again, alone, with the same bits.
"""

# Annotations stay unevaluated, since torch.compile would have to trace those of inner functions.
from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.func import grad_and_value

from fgan import checks, tree
from fgan.networks import (
    check_deterministic,
    find_randomness,
    is_transformed,
    make_functional,
    parameters_and_buffers,
    reinitialized,
)
from fgan.networks.functional import Apply
from fgan.objectives import (
    CriticObjective,
    Draw,
    GeneratorObjective,
    check_objectives,
    is_known,
)
from fgan.optim import Optimizer
from fgan.scalars import Scalar, scalar_at
from fgan.seeds import mix_seed
from fgan.types import (
    EMA,
    Algorithm,
    Batch,
    CriticInfo,
    CriticUpdates,
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

# Keep the seeds of a run's parameters and of its rounds' noise apart.
_PARAMETERS, _NOISE = 1, 2


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


def fakes(game: Game, state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
    """Samples of the generator in training mode, as a critic's update sees them.

    latent [B, Z], condition [B, ...] -> samples [B, ...]. The generator's buffers stay as they are:
    they advance in the generator's own update alone, so that drawing samples changes nothing.
    """
    conditions = () if condition is None else (condition,)
    params, buffers, _ = state.generator
    return game.generator.apply(params, buffers, latent, *conditions)[0]


def critic_gradient(game: Game, state: GANState, data: Data) -> Gradient:
    """The gradient of the critic's objective by the critic's parameters.

    data.real and data.fake [B, ...]; real and fake are constants here. Every pass of the critic
    starts from the same buffers: one loss, one critic (spectral norm would make three of it).
    """
    params, buffers, _ = state.critic

    def objective(params: Params) -> tuple[Tensor, tuple[Params, dict[str, Tensor]]]:
        critic = partial(game.critic.apply, params, buffers)
        loss, new_buffers, figures = game.critic_objective.function(critic, data)
        return loss, (new_buffers, figures)

    gradients, (loss, (new_buffers, figures)) = grad_and_value(objective, has_aux=True)(params)
    return Gradient(gradients, new_buffers, {"critic_loss": loss, **figures})


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

    def objective(params: Params) -> tuple[Tensor, tuple[Params, dict[str, Tensor]]]:
        fake, new_buffers = game.generator.apply(params, buffers, latent, *conditions)
        loss, figures = game.generator_objective.function(critic, fake, data)
        return loss, (new_buffers, figures)

    gradients, (loss, (new_buffers, figures)) = grad_and_value(objective, has_aux=True)(params)
    return Gradient(gradients, new_buffers, {"generator_loss": loss, **figures})


def apply_generator(game: Game, state: GANState, gradient: Gradient) -> GANState:
    """The state after the generator's optimiser has used a gradient; the round is over."""
    params, _, opt_state = state.generator
    params, opt_state = game.generator.optimizer.update(gradient.params, opt_state, params)
    ema = state.ema
    if isinstance(ema, EMA) and game.ema_decay is not None:
        decay = scalar_at(game.ema_decay, state.round)
        # Copies, since a state that holds one tensor twice would compile a second time.
        own_buffers = tree.map(torch.clone, gradient.buffers)
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
    `fake` [B, ...] given, `latent` may be None. Raises ValueError where real samples and fakes
    differ in shape, and where the objective needs `extra` and there is none.
    """
    if fake is None:
        if latent is None:
            raise ValueError("a critic update needs latents, or else the fakes themselves")
        fake = parts.fakes(state, latent, condition)
    checks.check_samples(real, fake)
    data = Data(real, fake, condition, mix, _extra(parts.extra[0], extra), state.round)
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
    {name: [B, ...]}. Raises ValueError where the objective needs `real` or `extra` and there is
    none.
    """
    if parts.uses_real and real is None:
        raise ValueError("this generator's loss uses the real scores: give real samples too")
    data = Data(real, None, condition, None, _extra(parts.extra[1], extra), state.round)
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

    update_critic, update_generator: other versions of the two updates, compiled ones say.
    all_fakes: `all_fakes(state, latents [n_critic, B, Z], conditions)` draws the fakes of all
        critic updates first.

    Raises ValueError for a state, a batch and noise that do not fit together.
    """
    parts.check(state, batch, noise)
    update_critic = update_critic or partial(critic_update, parts)
    update_generator = update_generator or partial(generator_update, parts)
    updates = batch.real.shape[0]
    if parts.simultaneous and updates != 1:
        raise ValueError(f"a simultaneous round has one critic update, and batch.real {updates}")
    fake = all_fakes(state, noise.critic_latent, batch.condition) if all_fakes else None
    conditions = [None] * updates if batch.condition is None else batch.condition
    of_last = _generator_inputs(parts, batch, noise)
    if parts.simultaneous:
        ahead, generator_info = update_generator(state, *of_last)
    for i in range(updates):
        extra = {name: value[i] for name, value in noise.extra.get("critic", {}).items()}
        drawn = None if fake is None else fake[i]
        inputs = batch.real[i], conditions[i], noise.critic_latent[i], noise.mix[i], drawn
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


def _generator_inputs(
    parts: Parts, batch: Batch, noise: Noise
) -> tuple[Tensor, Tensor | None, Tensor | None, Extra]:
    """The latent, conditions, real samples and extra tensors of the generator's update."""
    size = noise.generator_latent.shape[-2]
    real = _last(batch.real, size) if parts.uses_real else None
    condition = None if batch.condition is None else _last(batch.condition, size)
    return noise.generator_latent, condition, real, noise.extra.get("generator", {})


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
    return extra or {}


def init(game: Game, generator: nn.Module, critic: nn.Module, seed: int | None = None) -> GANState:
    """A seeded re-initialisation, or without a seed copies of what the modules hold at that moment.

    Frozen parameters keep their values either way. Raises ValueError for a layer that holds
    parameters and cannot reset them.
    """

    def player(module: nn.Module, optimizer: Optimizer, index: int) -> PlayerState:
        if seed is not None:
            module = reinitialized(module, mix_seed(seed, _PARAMETERS, index))
        params, buffers = parameters_and_buffers(module)
        return PlayerState(params, buffers, optimizer.init(params))

    first = player(generator, game.generator.optimizer, 0)
    second = player(critic, game.critic.optimizer, 1)
    ema: EMA | Params = {}
    if game.ema_decay is not None:
        ema = EMA(tree.clone(first.params), tree.clone(first.buffers))
    device = next(generator.parameters()).device
    return GANState(first, second, ema, torch.zeros((), dtype=torch.int64, device=device))


class NoiseShape(NamedTuple):
    """What the randomness of a round looks like."""

    latent_dim: int
    n_critic: CriticUpdates
    critic_draws: dict[str, Draw]
    generator_draws: dict[str, Draw]
    lazy: dict[str, int]
    sample_shape: tuple[int, ...] | None
    parameter: Callable[[], Tensor]
    """The generator's first parameter: the noise has its device and dtype."""


def noise(
    shape: NoiseShape,
    seed: int,
    round_index: int,
    batch_size: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator_batch_size: int | None = None,
) -> Noise:
    """All randomness of round `round_index`: a pure function of these arguments.

    On the generator's device and in its dtype unless told otherwise. Raises ValueError for batch
    sizes below 1.
    """
    for name, size in ("batch_size", batch_size), ("generator_batch_size", generator_batch_size):
        if size is not None and size < 1:
            raise ValueError(f"{name} is at least 1, and {size} was given")
    first = shape.parameter()
    device = torch.device(device or first.device)
    source = torch.Generator(device).manual_seed(mix_seed(seed, _NOISE, round_index))
    options: dict[str, Any] = dict(generator=source, device=device, dtype=dtype or first.dtype)
    updates = shape.n_critic(round_index) if callable(shape.n_critic) else shape.n_critic
    rows = batch_size if generator_batch_size is None else generator_batch_size

    def drawn(draw: Draw, *lead: int) -> Tensor:
        rest = shape.sample_shape if draw.shape is None else draw.shape
        function = torch.randn if draw.distribution == "normal" else torch.rand
        return function(*lead, *(rest or ()), **options)

    latents = (
        torch.randn(updates, batch_size, shape.latent_dim, **options),
        torch.randn(rows, shape.latent_dim, **options),
        torch.rand(updates, batch_size, **options),
    )
    extra: Extra = {}
    due = [name for name, every in shape.lazy.items() if round_index % every == 0]
    if shape.critic_draws or shape.lazy:
        extra["critic"] = {
            name: drawn(draw, updates, batch_size) for name, draw in shape.critic_draws.items()
        } | {name: torch.zeros(updates, 0, device=device) for name in due}
    if shape.generator_draws:
        extra["generator"] = {n: drawn(draw, rows) for n, draw in shape.generator_draws.items()}
    return Noise(*latents, extra)


def generate(
    game: Game,
    latent_dim: int,
    state: GANState,
    latent: Tensor,
    condition: Tensor | None = None,
) -> Tensor:
    """latent [B, Z] -> samples [B, ...], in evaluation mode, by the EMA's parameters where kept.

    Raises ValueError for a latent of another shape.
    """
    checks.check_latent(latent, latent_dim)
    kept = state.ema if isinstance(state.ema, EMA) else state.generator
    conditions = () if condition is None else (condition,)
    return game.generator.apply(kept.params, kept.buffers, latent, *conditions, training=False)[0]


def score(
    game: Game,
    heads: bool,
    state: GANState,
    samples: Tensor,
    condition: Tensor | None = None,
) -> Tensor:
    """The critic on its own: samples [B, ...] -> scores [B], in evaluation mode."""
    conditions = () if condition is None else (condition,)
    params, buffers, _ = state.critic
    output, _ = game.critic.apply(params, buffers, samples, *conditions, training=False)
    return checks.as_scores(output[0] if heads else output, samples)


def bind(function: Callable[..., Any], *first: Any) -> Any:
    """The function with its first arguments given, as a partial, with its docstring for `help`."""

    def bound(*rest: Any, **named: Any) -> Any:
        return function(*first, *rest, **named)

    signature = inspect.signature(function)
    left = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    about: Any = bound
    about.__name__, about.__doc__ = function.__name__, function.__doc__
    about.__signature__ = signature.replace(parameters=left[len(first) :])
    return bound


class Settings(TypedDict, total=False):
    """The keywords that `algorithm` and every recipe take."""

    n_critic: CriticUpdates | None
    """Critic updates a round: a number, or a function of the round's index."""
    generator_optimizer: Optimizer | None
    critic_optimizer: Optimizer | None
    latent_dim: int | None
    """Default: the generator's attribute of that name."""
    ema_decay: Scalar | None
    """Keep a running average of the generator's parameters, for `generate`."""
    update: str
    """"alternating", or "simultaneous": both players from the gradients at one state."""
    autocast: torch.dtype | None
    """`torch.bfloat16` runs both networks under `torch.autocast`, their backward passes too.
    Parameters, moments, losses, input gradients and their norms stay in float32."""
    sample_shape: tuple[int, ...] | None
    """Of one sample, for draws of that shape. Default: the generator's attribute."""


def algorithm(
    generator: nn.Module,
    critic: nn.Module,
    critic_objective: CriticObjective,
    generator_objective: GeneratorObjective,
    *,
    project: Callable[[Params, Tensor], Params] | None = None,
    heads: bool = False,
    **settings: Unpack[Settings],
) -> Algorithm:
    """The game of two modules under two objectives, as pure functions; `fgan.recipes` fills it in.

    project: `project(params, round)` brings the critic's parameters back into the constraint set
        after each update.
    heads: whether the critic returns (scores, ...), so that `score` takes the first.
    settings: `Settings`; both optimisers are needed, and n_critic is 1 by default.

    Raises ValueError for any of these out of range, for networks that cannot be pure
    (`fgan.make_functional`), and for networks and objectives that draw random numbers; TypeError
    for a setting that there is not.
    """
    if unknown := settings.keys() - Settings.__annotations__.keys():
        known = ", ".join(Settings.__annotations__)
        raise TypeError(f"there is no setting {min(unknown)!r} here; known are {known}")
    of_generator, of_critic = checks.check_optimizers(
        settings.get("generator_optimizer"), settings.get("critic_optimizer")
    )
    n_critic = settings.get("n_critic")
    n_critic = 1 if n_critic is None else n_critic
    update, autocast = settings.get("update", "alternating"), settings.get("autocast")
    checks.check_game(n_critic, settings.get("ema_decay"), update, autocast)
    check_objectives(critic_objective, generator_objective)
    latent_dim = checks.latent_dim_of(generator, settings.get("latent_dim"))
    game = Game(
        Player(make_functional(generator, autocast).apply, of_generator),
        Player(make_functional(critic, autocast).apply, of_critic),
        critic_objective,
        generator_objective,
        project,
        settings.get("ema_decay"),
    )
    shape = _noise_shape(generator, game, latent_dim, n_critic, settings.get("sample_shape"))
    check_deterministic(generator, critic, latent_dim)
    if not (is_known(critic_objective) and is_known(generator_objective)):
        _check_objectives_deterministic(game, shape, generator, critic)
    return Algorithm(
        init=bind(init, game, generator, critic),
        noise=bind(noise, shape),
        generate=bind(generate, game, latent_dim),
        score=bind(score, game, heads),
        n_critic=n_critic,
        latent_dim=latent_dim,
        **of_parts(_parts(game, shape, update == "simultaneous")),
    )


def _noise_shape(
    generator: nn.Module,
    game: Game,
    latent_dim: int,
    n_critic: CriticUpdates,
    sample_shape: tuple[int, ...] | None,
) -> NoiseShape:
    draws = game.critic_objective.draws, game.generator_objective.draws
    is_needed = any(draw.shape is None for each in draws for draw in each.values())
    return NoiseShape(
        latent_dim,
        n_critic,
        *draws,
        game.critic_objective.lazy,
        checks.sample_shape_of(generator, sample_shape, is_needed),
        lambda: next(generator.parameters()),
    )


def _check_objectives_deterministic(
    game: Game, shape: NoiseShape, generator: nn.Module, critic: nn.Module
) -> None:
    """Raise ValueError if an objective draws random numbers, seen on a batch of two fakes."""
    if is_transformed():
        return
    state, drawn = init(game, generator, critic), noise(shape, 0, 0, 2)
    extras = ({n: x[0] for n, x in drawn.extra.get("critic", {}).items()}, drawn.extra)
    labels = torch.zeros(2, dtype=torch.int64, device=state.round.device)
    for condition in (None, labels):

        def gradients(condition: Tensor | None = condition) -> Any:
            fake = fakes(game, state, drawn.critic_latent[0], condition)
            data = Data(fake, fake, condition, drawn.mix[0], extras[0], state.round)
            of_critic = critic_gradient(game, state, data)
            data = Data(fake, None, condition, None, extras[1].get("generator", {}), state.round)
            return of_critic, generator_gradient(game, state, drawn.generator_latent, data)

        try:
            found = find_randomness(gradients)
        except Exception:  # the objective wants another condition or batch: seen at the first round
            continue
        if found:
            raise ValueError(
                f"an objective draws random numbers ({found}), so a round would not be a pure "
                "function: declare them (fgan.objectives.Draw) and read them in data.extra"
            )
        return


def _parts(game: Game, shape: NoiseShape, simultaneous: bool) -> Parts:
    uses_real = game.generator_objective.uses_real

    def check(state: GANState, batch: Batch, noise: Noise) -> None:
        checks.check_round(batch, noise, shape.latent_dim, uses_real)

    return Parts(
        fakes=bind(fakes, game),
        critic_gradient=bind(critic_gradient, game),
        apply_critic=bind(apply_critic, game),
        generator_gradient=bind(generator_gradient, game),
        apply_generator=bind(apply_generator, game),
        check=check,
        simultaneous=simultaneous,
        uses_real=uses_real,
        extra=(bool(shape.critic_draws or shape.lazy), bool(shape.generator_draws)),
    )


def of_parts(parts: Parts) -> dict[str, Any]:
    """The fields of an `Algorithm` that follow from its parts."""
    return dict(
        parts=parts,
        step=bind(step, parts),
        critic_update=bind(critic_update, parts),
        generator_update=bind(generator_update, parts),
    )
