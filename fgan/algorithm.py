"""An `Algorithm` of two modules and two objectives: the functions of `fgan.game`, bound to a game.

Beside the round there are the first state, the noise of a round, samples and scores.
"""

# Annotations stay unevaluated, since torch.compile would have to trace those of inner functions.
from __future__ import annotations

import inspect
from collections.abc import Callable
from math import prod
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from fgan import checks, models, tree
from fgan.augment import Augmentation
from fgan.augmented import augmented
from fgan.game import (
    Game,
    Player,
    apply_critic,
    apply_generator,
    critic_gradient,
    critic_update,
    fakes,
    generator_gradient,
    generator_update,
    step,
)
from fgan.networks import (
    check_deterministic,
    check_last_layer,
    check_module,
    find_randomness,
    is_transformed,
    make_functional,
    of_flat_latents,
    parameters_and_buffers,
    reinitialized,
    running_statistics,
)
from fgan.noise import NoiseShape, noise
from fgan.noisy import noisy
from fgan.objectives import (
    CriticObjective,
    Draw,
    GeneratorObjective,
    check_objectives,
    is_known,
)
from fgan.optim import Optimizer
from fgan.scalars import Scalar
from fgan.scores import as_scores, check_callable, check_tensor, describe
from fgan.seeds import mix_seed
from fgan.types import (
    EMA,
    Algorithm,
    Batch,
    CriticUpdates,
    Data,
    GANState,
    Noise,
    Params,
    Parts,
    PlayerState,
)

_PARAMETERS = 1  # keeps these random streams apart from those of `fgan.noise`


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


def generate(
    game: Game,
    latent_dim: int,
    state: GANState,
    latent: Tensor,
    condition: Tensor | None = None,
) -> Tensor:
    """latent [B, Z] -> samples [B, ...], in evaluation mode, by the EMA's parameters where kept.

    Raises ValueError for a latent of another shape, for conditions that are not one a latent, and
    for a state that has an EMA where the algorithm has none, or the reverse.
    """
    checks.check_gan_state(state, "generator")
    checks.check_latent(latent, latent_dim)
    checks.check_condition(condition, latent.shape[0], latent)
    checks.check_average(state, game.ema_decay is not None)
    kept = state.ema if isinstance(state.ema, EMA) else state.generator
    conditions = () if condition is None else (condition,)
    return game.generator.apply(kept.params, kept.buffers, latent, *conditions, training=False)[0]


def score(
    game: Game,
    state: GANState,
    samples: Tensor,
    condition: Tensor | None = None,
) -> Tensor:
    """The critic on its own: samples [B, ...] -> scores [B], in evaluation mode.

    Raises ValueError for conditions that are not one a sample.
    """
    checks.check_gan_state(state, "critic")
    check_tensor("samples", samples, floating=False)
    if samples.ndim == 0:
        raise ValueError(f"samples are a tensor [B, ...], and {describe(samples)} was given")
    checks.check_condition(condition, samples.shape[0], samples)
    conditions = () if condition is None else (condition,)
    params, buffers, _ = state.critic
    output, _ = game.critic.apply(params, buffers, samples, *conditions, training=False)
    return as_scores(output[0] if game.critic_objective.heads else output, samples)


def bind(function: Callable[..., Any], *first: Any) -> Any:
    """The function with its first arguments given, as a partial, with its docstring for `help`."""

    def bound(*rest: Any, **named: Any) -> Any:
        return function(*first, *rest, **named)

    signature = inspect.signature(function)
    left = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    about: Any = bound
    about.__name__, about.__doc__ = function.__name__, function.__doc__
    about.__module__ = function.__module__
    about.__signature__ = signature.replace(parameters=left[len(first) :])
    return bound


class Settings(TypedDict, total=False):
    """The keywords that `make_algorithm` and every recipe take."""

    n_critic: CriticUpdates | None
    """Critic updates a round: a number, or a function of the round's index."""
    generator_optimizer: Optimizer | None
    critic_optimizer: Optimizer | None
    latent_dim: int | None
    """Default: the generator's attribute of that name."""
    latent_shape: tuple[int, ...] | None
    """Of one latent as the generator takes it, such as (Z, 1, 1) for [B, Z, 1, 1]; noise and
    `generate` keep [B, latent_dim], the product. Default: the generator's attribute, or
    (latent_dim,)."""
    ema_decay: Scalar | None
    """Keep a running average of the generator's parameters and of its BatchNorm layers' running
    statistics, for `generate`."""
    update: str
    """"alternating", or "simultaneous": both players from the gradients at one state."""
    autocast: torch.dtype | None
    """`torch.bfloat16` runs both networks under `torch.autocast`, their backward passes too.
    Parameters, moments, losses, input gradients and their norms stay in float32."""
    sample_shape: tuple[int, ...] | None
    """Of one sample, for draws of that shape. Default: the generator's attribute."""
    augmentation: Augmentation | None
    """Both players' objectives under it: `fgan.augmented`."""
    critic_noise: Draw | None
    """Random numbers that the critic takes as its last input in training mode: `fgan.noisy`."""


def make_algorithm(
    generator: nn.Module,
    critic: nn.Module,
    critic_objective: CriticObjective,
    generator_objective: GeneratorObjective,
    *,
    project: Callable[[Params, Tensor], Params] | None = None,
    **settings: Unpack[Settings],
) -> Algorithm:
    """The game of two modules under two objectives, as pure functions; `fgan.recipes` fills it in.

    project: `project(params, round)` brings the critic's parameters back into the constraint set
        after each update.
    settings: `Settings`; both optimisers are needed, and n_critic is 1 by default.

    Raises ValueError for any of these out of range, for networks that cannot be pure
    (`fgan.make_functional`), and for networks and objectives that draw random numbers; TypeError
    for a setting that there is not.

    Example:
        >>> from fgan.losses import wasserstein_critic_loss, wasserstein_generator_loss
        >>> algorithm = fgan.make_algorithm(
        ...     torch.nn.Linear(4, 2),
        ...     torch.nn.Linear(2, 1),
        ...     fgan.objectives.adversarial(wasserstein_critic_loss),
        ...     fgan.objectives.adversarial_generator(wasserstein_generator_loss),
        ...     generator_optimizer=fgan.adam(1e-4),
        ...     critic_optimizer=fgan.adam(1e-4),
        ...     latent_dim=4,
        ... )
        >>> algorithm.n_critic
        1
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
    n_critic, ema_decay = checks.check_game(n_critic, settings.get("ema_decay"), update, autocast)
    for name, module in ("generator", generator), ("critic", critic):
        check_module(f"the {name}", module)
    check_last_layer(critic)
    if project is not None:
        check_callable("project", project, "(params, round) -> params", 2)
    check_objectives(critic_objective, generator_objective)
    if (augmentation := settings.get("augmentation")) is not None:
        critic_objective = augmented(critic_objective, augmentation)
        generator_objective = augmented(generator_objective, augmentation)
    if (critic_noise := settings.get("critic_noise")) is not None:
        critic_objective = noisy(critic_objective, critic_noise)
        generator_objective = noisy(generator_objective, critic_noise)
    latent_shape = checks.latent_shape_of(
        generator, settings.get("latent_dim"), settings.get("latent_shape")
    )
    latent_dim = prod(latent_shape)
    networks = make_functional(generator, autocast), make_functional(critic, autocast)
    game = Game(
        Player(of_flat_latents(networks[0].apply, latent_shape), of_generator),
        Player(networks[1].apply, of_critic),
        critic_objective,
        generator_objective,
        project,
        ema_decay,
        running_statistics(generator),
    )
    shape = _noise_shape(generator, game, latent_dim, n_critic, settings.get("sample_shape"))
    check_deterministic(generator, critic, latent_shape, networks)
    if not (is_known(critic_objective) and is_known(generator_objective)):
        _check_objectives_deterministic(game, shape, generator, critic)
    return Algorithm(
        init=bind(init, game, generator, critic),
        noise=bind(noise, shape),
        generate=bind(generate, game, latent_dim),
        score=bind(score, game),
        n_critic=n_critic,
        latent_dim=latent_dim,
        **of_parts(_parts(game, shape, update == "simultaneous", _num_classes(generator, critic))),
    )


def _num_classes(generator: nn.Module, critic: nn.Module) -> int | None:
    """The number of classes of networks of `fgan.models`; a subclass may take other labels."""
    known = models.Generator.forward, models.Critic.forward
    ours = [x.num_classes for x in (generator, critic) if type(x).forward in known]
    return min((n for n in ours if isinstance(n, int)), default=None)


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
            real = fake if game.generator_objective.uses_real else None
            data = Data(real, None, condition, None, extras[1].get("generator", {}), state.round)
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


def _parts(game: Game, shape: NoiseShape, simultaneous: bool, num_classes: int | None) -> Parts:
    uses_real = game.generator_objective.uses_real

    def check(state: GANState, batch: Batch, noise: Noise) -> None:
        checks.check_gan_state(state, "generator", "critic", "round")
        checks.check_round(batch, noise, shape.latent_dim, uses_real, state.round)

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
        whole_batch=game.critic_objective.whole_batch,
        num_classes=num_classes,
    )


def of_parts(parts: Parts) -> dict[str, Any]:
    """The fields of an `Algorithm` that follow from its parts."""
    return dict(
        parts=parts,
        step=bind(step, parts),
        critic_update=bind(critic_update, parts),
        generator_update=bind(generator_update, parts),
    )
