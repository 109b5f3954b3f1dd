"""The one adversarial round that every recipe is built from.

A round is `n_critic` critic updates and one generator update, each a pure function from state to
state. Randomness comes in as data (`Noise`), so any round can be run again, alone, to the bit.
"""

# Annotations stay unevaluated, since torch.compile would have to trace those of inner functions.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad_and_value

from fgan import checks, tree
from fgan.networks import is_per_sample, make_functional, parameters_and_buffers, reinitialized
from fgan.optim import Optimizer
from fgan.penalties import SAMPLE_AT
from fgan.seeds import mix_seed
from fgan.types import (
    Algorithm,
    Batch,
    CriticInfo,
    GANInfo,
    GANState,
    GeneratorInfo,
    Noise,
    Player,
    Step,
    Tensors,
    Updates,
    Weights,
)

Loss = Callable[[Tensor, Tensor], Tensor]

# Keep the seeds of a run's parameters and of its rounds' noise apart.
_PARAMETERS, _NOISE = 1, 2


def adversarial(
    generator: nn.Module,
    critic: nn.Module,
    *,
    critic_loss: Loss,
    generator_loss: Loss,
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    penalty: Callable[..., Tensor] | None = None,
    penalty_weight: float | Tensor = 1.0,
    sample_at: str = "interpolate",
    project: Callable[[Tensors], Tensors] | None = None,
    distance: Callable[[Tensor], Tensor] = torch.neg,
    generator_sees_real: bool = False,
    n_critic: Updates = 1,
    latent_dim: int | None = None,
    ema_decay: float | None = None,
    update: str = "alternating",
    autocast: torch.dtype | None = None,
) -> Algorithm:
    """The generic adversarial game; `fgan.recipes` fills it in.

    critic_loss, generator_loss: per-sample losses of the form in `fgan.losses`.
    penalty: `penalty(critic, points [P, ...], conditions=(...)) -> [P]`, added with
        `penalty_weight` to the critic's objective at the points that `sample_at` names
        (`fgan.penalties.SAMPLE_AT`).
    project: brings the critic's parameters back into the constraint set after each update.
    distance: the estimate of the distance, from the mean critic loss before the penalty.
    generator_sees_real: whether `generator_loss` uses the real scores, which are NaN otherwise.
    update: "alternating", or "simultaneous": both players from the gradients at one state.
    autocast: `torch.bfloat16` runs both networks under `torch.autocast`, their backward passes too.
        Parameters, moments, losses, input gradients and their norms stay in float32.

    Raises ValueError for any of these out of range, for networks that cannot be pure
    (`fgan.make_functional`), and for a critic with BatchNorm under a penalty: the penalty's
    gradient is that of one sample's score, which BatchNorm makes a function of the whole batch
    (Gulrajani et al. 2017, arXiv 1704.00028, section 4).
    """
    checks.check_optimizers(generator_optimizer, critic_optimizer)
    checks.check_game(n_critic, penalty_weight, sample_at, ema_decay, update, autocast)
    latent_size = checks.latent_dim_of(generator, latent_dim)
    checks.check_penalty(penalty, critic, penalty_weight, sample_at)
    # Without a penalty a critic may mix samples: then real and fake do not share a pass.
    together = penalty is not None or is_per_sample(critic)
    generate_with, score_with = (make_functional(m, autocast).apply for m in (generator, critic))

    def init(seed: int | None = None) -> GANState:
        def player(module: nn.Module, optimizer: Optimizer, index: int) -> Player:
            if seed is not None:
                module = reinitialized(module, mix_seed(seed, _PARAMETERS, index))
            params, buffers = parameters_and_buffers(module)
            return Player(params, buffers, optimizer.init(params))

        first = player(generator, generator_optimizer, 0)
        second = player(critic, critic_optimizer, 1)
        ema: Weights | Tensors = {}
        if ema_decay is not None:
            ema = Weights(tree.clone(first.params), tree.clone(first.buffers))
        device = next(generator.parameters()).device
        return GANState(first, second, ema, torch.zeros((), dtype=torch.int64, device=device))

    def noise(
        seed: int,
        round_index: int,
        batch_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Noise:
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, and {batch_size} was given")
        first = next(generator.parameters())
        device = torch.device(device or first.device)
        source = torch.Generator(device).manual_seed(mix_seed(seed, _NOISE, round_index))
        options: dict[str, Any] = dict(generator=source, device=device, dtype=dtype or first.dtype)
        updates = n_critic(round_index) if callable(n_critic) else n_critic
        return Noise(
            torch.randn(updates, batch_size, latent_size, **options),
            torch.randn(batch_size, latent_size, **options),
            torch.rand(updates, batch_size, **options),
        )

    def fakes(state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        conditions = () if condition is None else (condition,)
        # The generator's buffers advance in its own update alone, so drawing changes nothing.
        return generate_with(*state.generator[:2], latent, *conditions)[0]

    def critic_update(
        state: GANState,
        real: Tensor,
        condition: Tensor | None,
        latent: Tensor | None,
        mix: Tensor,
        fake: Tensor | None = None,
    ) -> tuple[GANState, CriticInfo]:
        params, buffers, opt_state = state.critic
        conditions = () if condition is None else (condition,)
        if fake is None:
            if latent is None:
                raise ValueError("a critic update needs latents, or else the fakes themselves")
            fake = fakes(state, latent, condition)
        checks.check_samples(real, fake)

        def objective(params: Tensors) -> tuple[Tensor, tuple[Any, ...]]:
            # Every pass starts from the same buffers: one loss, one critic.
            def critic_at(x: Tensor, *c: Tensor) -> tuple[Tensor, Tensors]:
                output, new_buffers = score_with(params, buffers, x, *c)
                return checks.as_scores(output, x), new_buffers

            if together:
                both = (torch.cat([x, x]) for x in conditions)
                scores, new_buffers = critic_at(torch.cat([real, fake]), *both)
                real_scores, fake_scores = scores.chunk(2)
            else:
                real_scores, new_buffers = critic_at(real, *conditions)
                fake_scores, _ = critic_at(fake, *conditions)
            adversarial_loss = critic_loss(real_scores, fake_scores).mean()
            penalty_mean = torch.zeros_like(adversarial_loss)
            if penalty is not None:
                points = SAMPLE_AT[sample_at](real, fake, mix, conditions)
                penalty_mean = penalty(
                    lambda x, *c: critic_at(x, *c)[0], points.samples, conditions=points.conditions
                ).mean()
            loss = adversarial_loss + tree.like(penalty_weight, penalty_mean) * penalty_mean
            estimate = distance(adversarial_loss)
            figures = estimate, penalty_mean, real_scores.mean(), fake_scores.mean()
            return loss, (new_buffers, figures)

        gradients, (loss, (new_buffers, figures)) = grad_and_value(objective, has_aux=True)(params)
        params, opt_state = critic_optimizer.update(gradients, opt_state, params)
        if project is not None:
            params = project(params)
        # Not state._replace(...): Dynamo in torch 2.11 returns an empty tuple for it.
        player = Player(params, new_buffers, opt_state)
        state = GANState(state.generator, player, state.ema, state.round)
        return state, CriticInfo._make((loss, *figures, tree.norm(gradients)))

    def generator_update(
        state: GANState,
        latent: Tensor,
        condition: Tensor | None = None,
        real: Tensor | None = None,
    ) -> tuple[GANState, GeneratorInfo]:
        params, buffers, opt_state = state.generator
        conditions = () if condition is None else (condition,)
        if generator_sees_real and real is None:
            raise ValueError("this generator's loss uses the real scores: give real samples too")

        def critic_at(x: Tensor) -> Tensor:
            # A learning critic's mode, but what it would write into its buffers is not kept.
            return checks.as_scores(score_with(*state.critic[:2], x, *conditions)[0], x)

        def objective(params: Tensors) -> tuple[Tensor, Tensors]:
            fake, new_buffers = generate_with(params, buffers, latent, *conditions)
            fake_scores = critic_at(fake)
            unknown = torch.full_like(fake_scores, torch.nan)  # so that a loss that needs it shows
            real_scores = unknown if real is None else critic_at(real)
            return generator_loss(real_scores, fake_scores).mean(), new_buffers

        gradients, (loss, new_buffers) = grad_and_value(objective, has_aux=True)(params)
        params, opt_state = generator_optimizer.update(gradients, opt_state, params)
        ema = state.ema
        if isinstance(ema, Weights) and ema_decay is not None:
            # Copies, since a state that holds one tensor twice would compile a second time.
            own_buffers = tree.map(torch.clone, new_buffers)
            ema = Weights(tree.lerp(ema.params, params, 1 - ema_decay), own_buffers)
        player = Player(params, new_buffers, opt_state)
        state = GANState(player, state.critic, ema, state.round + 1)
        return state, GeneratorInfo(loss, tree.norm(gradients))

    def play(
        critic_update: Callable[..., tuple[GANState, CriticInfo]],
        generator_update: Callable[..., tuple[GANState, GeneratorInfo]],
        draw: Callable[..., Tensor] | None = None,
        check: bool = True,
    ) -> Step:
        def step(state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
            if check:
                checks.check_round(batch, noise, latent_size)
            updates = batch.real.shape[0]
            if update == "simultaneous" and updates != 1:
                raise ValueError(
                    f"a simultaneous round has one critic update, and batch.real {updates}"
                )
            fake = draw(state, noise.critic_latent, batch.condition) if draw else None
            conditions = [None] * updates if batch.condition is None else batch.condition
            generator_input = (
                noise.generator_latent,
                conditions[-1],
                batch.real[-1] if generator_sees_real else None,
            )
            if update == "simultaneous":
                ahead, made = generator_update(state, *generator_input)
            for i in range(updates):
                drawn = () if fake is None else (fake[i],)
                state, seen = critic_update(
                    state,
                    batch.real[i],
                    conditions[i],
                    noise.critic_latent[i],
                    noise.mix[i],
                    *drawn,
                )
            if update == "simultaneous":
                state = GANState(ahead.generator, state.critic, ahead.ema, ahead.round)
            else:
                state, made = generator_update(state, *generator_input)
            loss, *figures = seen
            made_loss, made_norm = made
            return state, GANInfo._make((loss, made_loss, *figures, made_norm))

        return step

    def generate(state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        checks.check_latent(latent, latent_size)
        kept = state.ema if isinstance(state.ema, Weights) else state.generator
        conditions = () if condition is None else (condition,)
        return generate_with(kept.params, kept.buffers, latent, *conditions, training=False)[0]

    def score(state: GANState, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        conditions = () if condition is None else (condition,)
        output, _ = score_with(*state.critic[:2], samples, *conditions, training=False)
        return checks.as_scores(output, samples)

    return Algorithm(
        init=init,
        step=play(critic_update, generator_update),
        noise=noise,
        generate=generate,
        score=score,
        critic_update=critic_update,
        generator_update=generator_update,
        fakes=fakes,
        play=play,
        n_critic=n_critic,
        latent_dim=latent_size,
    )
