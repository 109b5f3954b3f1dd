"""`check_recipe`: correct recipes pass, wrong ones fail with the name of their invariant."""

from functools import partial

import pytest
import torch
from torch import nn

import fgan
from fgan import game, losses, tree
from fgan.algorithm import make_algorithm
from fgan.objectives import Draw, Penalty, adversarial, adversarial_generator
from fgan.penalties import gradient_norms, zero_centered_penalty
from fgan.testing import check_recipe

check_quickly = partial(check_recipe, max_examples=1)


R1_AND_R2 = (Penalty(zero_centered_penalty, at="real_and_fake"),)


def relativistic(
    generator,
    critic,
    latent_dim,
    critic_loss=losses.relativistic_critic_loss,
    generator_loss=losses.relativistic_generator_loss,
    penalties=R1_AND_R2,
):
    """An algorithm of relativistic losses with R1 and R2."""
    return make_algorithm(
        generator,
        critic,
        adversarial(critic_loss, *penalties),
        adversarial_generator(generator_loss, uses_real=True),
        generator_optimizer=fgan.adam(1e-3, (0.0, 0.9)),
        critic_optimizer=fgan.adam(1e-3, (0.0, 0.9)),
        n_critic=2,
        latent_dim=latent_dim,
    )


def with_draws(generator, critic, latent_dim):
    """Samples times a random factor in both objectives, drawn as data."""

    def with_scale(objective):
        def function(critic, *inputs):
            data = inputs[-1]

            def scaled(x, *conditions):
                scale = data.extra["scale"]
                rows = scale if len(x) == len(scale) else torch.cat([scale, scale])
                return critic(x * (1 + rows.reshape(-1, *[1] * (x.ndim - 1))), *conditions)

            return objective.function(scaled, *inputs)

        return objective._replace(function=function, draws={"scale": Draw("uniform")})

    return make_algorithm(
        generator,
        critic,
        with_scale(adversarial(losses.wasserstein_critic_loss)),
        with_scale(adversarial_generator(losses.wasserstein_generator_loss)),
        generator_optimizer=fgan.adam(1e-3, (0.0, 0.9)),
        critic_optimizer=fgan.adam(1e-3, (0.0, 0.9)),
        n_critic=2,
        latent_dim=latent_dim,
    )


def lazy(generator, critic, latent_dim):
    """A penalty in every second round alone."""
    penalty = Penalty(zero_centered_penalty, at="real", every=2)
    return relativistic(generator, critic, latent_dim, penalties=(penalty,))


def dragan(generator, critic, latent_dim):
    """A penalty at the real samples only, simultaneous updates, momentum."""
    return fgan.wgan_gp(
        generator,
        critic,
        latent_dim=latent_dim,
        sample_at="real",
        update="simultaneous",
        generator_optimizer=fgan.sgd(0.01, 0.9),
        critic_optimizer=fgan.sgd(0.01, 0.9),
        ema_decay=0.5,
    )


CORRECT = {
    "relativistic": (relativistic, dict(permutation_invariant=True)),
    "simultaneous": (dragan, dict(permutation_invariant=True)),
    "draws of the objectives": (with_draws, dict(permutation_invariant=True, conditional=False)),
    "lazy penalty": (lazy, dict(permutation_invariant=True)),
    "pairs in the batch": (partial(fgan.wgan_div, sample_at="interpolate_within"), {}),
}


@pytest.mark.parametrize("name", list(CORRECT))
def test_correct_recipes_pass(name):
    """Other losses, simultaneous updates and penalties that pair samples are accepted."""
    recipe, options = CORRECT[name]
    check_quickly(recipe, **options)


def test_a_compiled_step_can_be_checked():
    """The step compiles into one graph, and once."""
    check_quickly(partial(fgan.wgan_gp, n_critic=1), compiled=True, conditional=False)


def replacing(build):
    """A recipe whose algorithm has some functions replaced by those of `build(algorithm)`."""

    def recipe(generator, critic, latent_dim):
        algorithm = fgan.wgan_gp(generator, critic, latent_dim=latent_dim, n_critic=2)
        return algorithm._replace(**build(algorithm))

    return recipe


def with_critic_update(build):
    """A recipe whose rounds use the critic update `build(algorithm)`."""

    def parts(algorithm):
        update = build(algorithm)
        step = partial(game.step, algorithm.parts, update_critic=update)
        return dict(step=step, critic_update=update)

    return replacing(parts)


def in_place(algorithm):
    """Writes the new state into the old one."""

    def step(state, batch, noise):
        new, info = algorithm.step(state, batch, noise)
        for old, leaf in zip(tree.leaves(state), tree.leaves(new), strict=True):
            old.copy_(leaf)
        return state, info

    return dict(step=step)


def noise_of_its_own(algorithm):
    """Draws ε from the global generator."""
    return dict(step=lambda s, b, n: algorithm.step(s, b, n._replace(mix=torch.rand_like(n.mix))))


def one_too_few(algorithm):
    """Leaves out the last critic update."""

    def step(state, batch, noise):
        most = max(1, batch.real.shape[0] - 1)
        cut = noise._replace(critic_latent=noise.critic_latent[:most], mix=noise.mix[:most])
        label = None if batch.condition is None else batch.condition[:most]
        return algorithm.step(state, fgan.Batch(batch.real[:most], label), cut)

    return dict(step=step)


def python_count(algorithm):
    """Counts rounds in a Python number."""

    def step(state, batch, noise):
        new, info = algorithm.step(state, batch, noise)
        return new._replace(round=int(new.round)), info

    return dict(step=step)


def one_epsilon(algorithm):
    """One ε for the whole batch."""

    def update(state, real, condition, latent, mix, *rest):
        mix = mix[:1].expand_as(mix)
        return algorithm.critic_update(state, real, condition, latent, mix, *rest)

    return update


def labels_drawn_anew(algorithm):
    """Fakes under other labels than the real samples'."""

    def update(state, real, condition, latent, mix, *rest):
        other = None if condition is None else condition.roll(1)
        fake = algorithm.fakes(state, latent, other)
        return algorithm.critic_update(state, real, condition, latent, mix, fake)

    return update


def weighted_by_position(algorithm):
    """Multiplies each ε by a factor that depends on its position in the batch."""

    def update(state, real, condition, latent, mix, *rest):
        weight = torch.arange(1.0, 1 + len(mix), dtype=mix.dtype) / 8
        return algorithm.critic_update(state, real, condition, latent, mix * weight)

    return update


def buffers_move(algorithm):
    """A critic update changes the generator's buffers."""

    def update(state, real, condition, latent, mix, *rest):
        after, _ = algorithm.generator_update(state, latent, condition)
        state, info = algorithm.critic_update(state, real, condition, latent, mix)
        buffers = after.generator.buffers
        return state._replace(generator=state.generator._replace(buffers=buffers)), info

    return update


def with_batch_norm(generator, critic, latent_dim):
    """Puts BatchNorm before the critic."""
    size = critic.layers["first"].in_features
    front = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(size).double())
    return fgan.gan(generator, nn.Sequential(front, critic), latent_dim=latent_dim)


def promoting(generator, critic, latent_dim):
    """Multiplies a float32 state by a float64 tensor."""
    algorithm = fgan.gan(generator, critic, latent_dim=latent_dim)

    def step(state, batch, noise):
        state, info = algorithm.step(state, batch, noise)
        params = {k: p * torch.ones(1).double() for k, p in state.critic.params.items()}
        return state._replace(critic=state.critic._replace(params=params)), info

    return algorithm._replace(step=step)


def mean_of_the_batch_penalty(critic, x, *, conditions=()):
    """A penalty of the gradient of the mean score at the first sample, for all samples."""
    gradients = torch.func.grad(lambda y: critic(y, *conditions).mean())(x)
    return gradient_norms(gradients[:1]).expand(len(x))


def mirrored(real, fake):
    """The other sign."""
    return real - fake


WRONG = {
    "BatchNorm": (with_batch_norm, "construction"),
    "in place": (replacing(in_place), "pure"),
    "noise of its own": (replacing(noise_of_its_own), "pure"),
    "Python count": (replacing(python_count), "structure kept"),
    "promoting": (promoting, "structure kept"),
    "one update too few": (replacing(one_too_few), "composition"),
    "generator's buffers move": (with_critic_update(buffers_move), "one player an update"),
    "one epsilon": (with_critic_update(one_epsilon), "every sample used|cyclic permutation"),
    "weighted by position": (with_critic_update(weighted_by_position), "cyclic permutation"),
    "labels drawn anew": (with_critic_update(labels_drawn_anew), "labels shared"),
    "first sample only": (
        partial(relativistic, penalties=(Penalty(mean_of_the_batch_penalty),)),
        "cyclic permutation|every sample used",
    ),
    "critic's sign": (
        partial(relativistic, critic_loss=mirrored, penalties=()),
        "high on real",
    ),
    "generator's sign": (partial(relativistic, generator_loss=lambda r, f: f - r), "high on real"),
    "generator's loss detached": (
        partial(relativistic, generator_loss=lambda r, f: -f.detach()),
        "one player an update",
    ),
    "no noise twice": (
        replacing(lambda a: dict(noise=lambda s, i, *rest: a.noise(s, 0, *rest))),
        "seeded",
    ),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_recipes_are_caught(name):
    """The message has the name of the invariant."""
    recipe, invariant = WRONG[name]
    with pytest.raises(AssertionError, match=f"the invariant '({invariant})' broke"):
        check_quickly(recipe)


def test_an_error_of_the_recipe_itself_is_chained():
    """A recipe that raises is reported with its own error as the cause."""

    def recipe(generator, critic, latent_dim):
        return fgan.wgan_gp(generator, critic, latent_dim=latent_dim, penalty_weight=-1.0)

    with pytest.raises(AssertionError, match=r"'construction' broke(.|\n)*ValueError") as error:
        check_recipe(recipe)
    assert isinstance(error.value.__cause__, ValueError)
