"""A round on devices that are not here: one without float64, and another default device."""

import pytest
import torch
from helpers import assert_identical, make_round, pair
from torch.utils._python_dispatch import TorchDispatchMode

import fgan
from fgan import evaluation, losses, penalties, scalars, testing, tree
from fgan.data import DataSet


class NoFloat64(TorchDispatchMode):
    """Refuses every operation that gives a float64 tensor, as Apple's MPS does."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree.leaves(result):
            if isinstance(leaf, torch.Tensor):
                assert leaf.dtype not in (torch.float64, torch.complex128), func
        return result


def round_of(algorithm, batch):
    """One round, and samples and scores of both networks after it."""
    state = algorithm.init(seed=3)
    noise = algorithm.noise(0, 0, batch_size=4)
    state, info = algorithm.step(state, batch, noise)
    samples = algorithm.generate(state, noise.generator_latent)
    return state, info, samples, algorithm.score(state, samples)


def test_no_round_needs_float64_where_the_device_has_none(recipe, monkeypatch):
    """With moments, every schedule, an average and the guard against NaN."""
    monkeypatch.setattr(scalars, "NO_FLOAT64", frozenset({"cpu"}))
    schedules = fgan.optim.warmup(fgan.optim.linear(1e-3, 0.0, 9), 3), fgan.optim.cosine(1, 0.5, 9)
    algorithm = fgan.skip_nonfinite(
        recipe(
            *pair(norm=True, dtype=torch.float32),
            generator_optimizer=fgan.adamw(schedules[0]),
            critic_optimizer=fgan.optim.clip_by_norm(fgan.adam(1e-3), schedules[1]),
            ema_decay=0.9,
        )
    )
    batch, _ = make_round(algorithm, dtype=torch.float32)
    with NoFloat64():
        round_of(algorithm, batch)


def test_adam_without_float64_is_adam_to_four_digits(monkeypatch):
    params, gradients = {"w": torch.ones(3)}, {"w": torch.tensor([1e-3, 1.0, 50.0])}
    optimizer = fgan.adam(0.1)
    exact, _ = optimizer.update(gradients, optimizer.init(params), params)
    monkeypatch.setattr(scalars, "NO_FLOAT64", frozenset({"cpu"}))
    single, _ = optimizer.update(gradients, optimizer.init(params), params)
    torch.testing.assert_close(single, exact, rtol=0, atol=1e-5)


@pytest.fixture
def elsewhere():
    """Makes "meta" the default device, on which nothing can be computed, until the test ends."""
    yield lambda: torch.set_default_device("meta")
    torch.set_default_device(None)


def test_a_round_does_not_depend_on_the_default_device(recipe, elsewhere):
    """It is where its networks are."""
    algorithm = recipe(*pair(dtype=torch.float32), ema_decay=0.9)
    batch, _ = make_round(algorithm, dtype=torch.float32)
    expected = round_of(algorithm, batch)
    elsewhere()
    assert_identical(round_of(algorithm, batch), expected)


def test_an_evaluation_does_not_depend_on_the_default_device(elsewhere):
    """It is where its samples are, and draws on the CPU."""
    algorithm = fgan.wgan_gp(*pair(dtype=torch.float32))
    state = algorithm.init(seed=0)
    data = DataSet("points", torch.linspace(-1, 1, 80).reshape(40, 2).sin())

    images = torch.arange(16 * 64, dtype=torch.uint8).reshape(16, 1, 8, 8)
    halves = DataSet("halves", images, torch.arange(16) % 2, ("even", "odd"))

    def figures():
        found = evaluation.evaluate_state(algorithm, state, data, samples=20).figures
        half = evaluation.held_out(data).reference.samples
        classifier = evaluation.train_classifier(halves, halves, updates=1)
        return str(found), [half, classifier.module.head.weight]

    (expected, tensors), _ = figures(), elsewhere()
    again, others = figures()
    assert again == expected
    assert_identical(others, tensors)


def test_the_checks_for_users_do_not_depend_on_the_default_device(elsewhere):
    elsewhere()
    critic = losses.hinge_critic_loss
    testing.check_loss(critic, losses.hinge_generator_loss, max_examples=1)
    testing.check_penalty(penalties.zero_centered_penalty, max_examples=1)
    testing.check_recipe(fgan.gan, max_examples=1)
