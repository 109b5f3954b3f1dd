"""A batch in parts: equal to the whole batch, and advancing once an update."""

import pytest
import torch
from helpers import assert_close, make_batch, make_round, pair
from torch.func import vmap

import fgan
from fgan import tree


@pytest.mark.parametrize(
    ("parts", "update"),
    [(1, "simultaneous"), (2, "alternating"), (3, "simultaneous"), (6, "alternating")],
)
def test_parts_equal_the_whole_batch(recipe, conditional, parts, update):
    """State and figures after three rounds in float64, EMA and round too."""
    if recipe is fgan.dragan:
        with pytest.raises(ValueError, match=r"takes its points from the whole batch"):
            fgan.accumulate(recipe(*pair()), parts)
        return
    options = dict(n_critic=2 if update == "alternating" else 1, update=update, ema_decay=0.9)
    whole = recipe(*pair(conditional=conditional), **options)
    algorithm = fgan.accumulate(whole, parts)
    state, expected = algorithm.init(0), whole.init(0)
    for index in range(3):
        given = make_round(whole, (2,), conditional, index=index, size=6)
        state, info = algorithm.step(state, *given)
        expected, figures = whole.step(expected, *given)
        assert_close(state, expected, atol=1e-9)
        assert_close(info, figures, atol=1e-9)


def test_spectral_vectors_advance_once_an_update():
    """The power iteration starts from the same vectors in every part."""
    whole = fgan.wgan_gp(*pair(critic_norm="spectral"), n_critic=2)
    given = make_round(whole, size=6)
    expected, _ = whole.step(whole.init(0), *given)
    got, _ = fgan.accumulate(whole, 3).step(whole.init(0), *given)
    assert_close(got.critic.buffers, expected.critic.buffers, atol=1e-12)
    assert_close(got, expected, atol=1e-9)


def test_running_means_of_batch_norm_are_the_whole_batch_s():
    """The mean over equal parts is the mean over all; each part is normalised by itself."""
    whole = fgan.wgan_gp(*pair(norm=True), n_critic=1)
    given = make_round(whole, size=6)
    expected, _ = whole.step(whole.init(0), *given)
    got, _ = fgan.accumulate(whole, 3).step(whole.init(0), *given)
    buffers = got.generator.buffers
    assert_close(buffers["norm.running_mean"], expected.generator.buffers["norm.running_mean"])
    assert buffers["norm.num_batches_tracked"] == 1


@pytest.mark.parametrize("way", ["interpreter", "torch.compile", "population"])
def test_parts_compile_and_vmap(way):
    """The accumulated algorithm is an algorithm like any other."""
    algorithm = fgan.accumulate(fgan.wgan_gp(*pair(norm=True), n_critic=1, ema_decay=0.9), 2)
    batch, noise = make_round(algorithm, size=4)
    expected = algorithm.step(algorithm.init(0), batch, noise)
    if way == "interpreter":
        step = fgan.compile(algorithm, donate=False, backend="interpreter").step
        assert_close(step(algorithm.init(0), batch, noise), expected, atol=1e-10)
    elif way == "torch.compile":
        step = torch.compile(algorithm.step, fullgraph=True, backend="aot_eager")
        assert_close(step(algorithm.init(0), batch, noise), expected, atol=1e-10)
    else:
        population, seeds = fgan.population(algorithm), [0, 1, 2]
        got = population.step(population.init(seeds), batch, population.noise(seeds, 0, 4))
        alone = [algorithm.step(algorithm.init(s), batch, algorithm.noise(s, 0, 4)) for s in seeds]
        assert_close(got, tree.stack(alone), atol=1e-10)
        noises = tree.stack([algorithm.noise(seed, 0, 4) for seed in seeds])
        states = tree.stack([algorithm.init(seed) for seed in seeds])
        assert_close(vmap(algorithm.step, (0, None, 0))(states, batch, noises), got, atol=1e-10)


def test_clipping_sees_the_mean_gradient():
    """Parts are averaged before the optimiser clips by norm."""
    rate = fgan.optim.clip_by_norm(fgan.sgd(0.1), 0.05)
    options = dict(critic_optimizer=rate, generator_optimizer=rate)
    whole = fgan.wgan(*pair(), n_critic=1, clip=1.0, **options)
    given = make_round(whole, size=4)
    expected, info = whole.step(whole.init(0), *given)
    assert info.critic_grad_norm > 0.05
    assert_close(fgan.accumulate(whole, 2).step(whole.init(0), *given)[0], expected, atol=1e-10)


def test_what_has_no_equal_parts_is_refused():
    """The batch, the generator's latents, the number of parts, a population."""
    whole = fgan.gan(*pair())
    algorithm = fgan.accumulate(whole, 3)
    noise = algorithm.noise(0, 0, 4, generator_batch_size=3)
    with pytest.raises(
        ValueError, match=r"batch.real has 4 samples, which cannot be split into 3 equal parts"
    ):
        algorithm.step(algorithm.init(0), make_batch(n_critic=1), noise)
    noise = algorithm.noise(0, 0, 6, generator_batch_size=4)
    with pytest.raises(ValueError, match=r"generator_latent has 4 samples"):
        algorithm.step(algorithm.init(0), make_batch(n_critic=1, size=6), noise)
    for parts in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="parts is a whole number from 1"):
            fgan.accumulate(whole, parts)
    with pytest.raises(ValueError, match="population of the accumulated algorithm"):
        fgan.accumulate(fgan.population(whole), 2)


def test_lazy_penalties_are_taken_in_every_part():
    """The mark of a penalty's round has no samples to be split."""
    from fgan.objectives import Penalty, adversarial, adversarial_generator
    from fgan.penalties import zero_centered_penalty

    lazy = Penalty(zero_centered_penalty, 0.5, "real", every=2)
    rate = dict(critic_optimizer=fgan.sgd(0.1), generator_optimizer=fgan.sgd(0.1))
    whole = fgan.make_algorithm(
        *pair(),
        adversarial(fgan.losses.hinge_critic_loss, lazy),
        adversarial_generator(fgan.losses.wasserstein_generator_loss),
        **rate,
    )
    state, expected = whole.init(0), whole.init(0)
    for index in range(3):
        given = make_round(whole, index=index, size=4)
        state, _ = fgan.accumulate(whole, 2).step(state, *given)
        expected, _ = whole.step(expected, *given)
        assert_close(state, expected, atol=1e-10)


@pytest.mark.parametrize("way", ["population", "update", "generator", "twice"])
def test_unequal_parts_are_refused_wherever_they_come_from(way):
    """A part of another size would be weighted wrongly, unnoticed."""
    algorithm = fgan.accumulate(fgan.gan(*pair()), 2)
    batch, noise = make_round(algorithm, size=5)
    state = algorithm.init(0)
    inputs = batch.real[0], None, noise.critic_latent[0], noise.mix[0]
    population = fgan.compile(fgan.population(algorithm), donate=False, backend="interpreter")
    six = make_round(algorithm, size=6)
    calls = {
        "population": lambda: population.step(
            population.init([0, 1]), batch, population.noise([0, 1], 0, 5)
        ),
        "update": lambda: algorithm.critic_update(state, *inputs),
        "generator": lambda: algorithm.generator_update(state, noise.generator_latent),
        "twice": lambda: fgan.accumulate(algorithm, 2).step(state, *six),
    }
    with pytest.raises(ValueError, match="cannot be split into 2 equal parts"):
        calls[way]()


def test_a_compiled_algorithm_is_not_accumulated():
    """The accumulated step would be an eager one."""
    with pytest.raises(ValueError, match="compile the accumulated algorithm"):
        fgan.accumulate(fgan.compile(fgan.gan(*pair()), backend="interpreter"), 2)
