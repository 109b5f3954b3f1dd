"""What a pure round is good for: populations, sweeps, and derivatives of training itself."""

import pytest
import torch
from networks import assert_close, make_round, pair
from torch.func import vmap

import fgan
from fgan import tree


def test_vmap_over_seeds_equals_separate_runs(recipe, conditional):
    """A population of runs steps, round after round, as its members do alone."""
    players = pair(conditional=conditional, norm=True)
    algorithm = recipe(*players, n_critic=2, ema_decay=0.9)
    states = [algorithm.init(seed) for seed in range(3)]
    population = tree.stack(states)
    axes = (0, fgan.Batch(0, 0 if conditional else None), 0)
    for index in range(2):
        rounds = [make_round(algorithm, (2,), conditional, index=index, seed=i) for i in range(3)]
        alone = [algorithm.step(s, *r) for s, r in zip(states, rounds, strict=True)]
        states = [state for state, _ in alone]
        batches = fgan.Batch(*(torch.stack(p) if p[0] is not None else None
                               for p in zip(*(b for b, _ in rounds), strict=True)))  # fmt: skip
        noises = tree.stack([noise for _, noise in rounds])
        population, infos = vmap(algorithm.step, in_dims=axes)(population, batches, noises)
        assert_close((population, infos), tree.stack(alone))


SWEEPS = {
    "penalty_weight": lambda value: (fgan.wgan_gp, dict(penalty_weight=value)),
    "target": lambda value: (fgan.wgan_gp, dict(target=value)),
    "k": lambda value: (fgan.wgan_div, dict(k=value)),
    "p": lambda value: (fgan.wgan_div, dict(p=2 + value)),
    "clip": lambda value: (fgan.wgan, dict(clip=value)),
    "adam": lambda value: (fgan.wgan_gp, dict(critic_optimizer=fgan.adam(value))),
    "rmsprop": lambda value: (fgan.wgan, dict(generator_optimizer=fgan.rmsprop(value))),
    "sgd": lambda value: (fgan.gan, dict(generator_optimizer=fgan.sgd(value, 0.5))),
}


def sweeping(name, dtype):
    """`run(value)`: one round from the same start, with the hyper-parameter `name` at `value`."""
    players = pair(norm=True, dtype=dtype)
    given = make_round(fgan.gan(*players, n_critic=2), dtype=dtype)

    def run(value):
        recipe, options = SWEEPS[name](value)
        algorithm = recipe(*players, n_critic=2, **options)
        return algorithm.step(algorithm.init(), *given)

    return run


@pytest.mark.parametrize("name", list(SWEEPS))
def test_vmapped_sweep_equals_separate_runs(name):
    """Hyper-parameters as 0-d tensors sweep in one vmapped step, and matter."""
    run = sweeping(name, torch.float64)
    values = torch.tensor([0.03, 0.3, 0.5], dtype=torch.float64)
    alone = [run(value.item()) for value in values]
    assert_close(vmap(run)(values), tree.stack(alone))
    assert any((a != b).any() for a, b in zip(*map(tree.leaves, alone[:2]), strict=True))


@pytest.mark.parametrize("name", list(SWEEPS))
@pytest.mark.parametrize("swept", [False, True], ids=["alone", "vmapped"])
def test_hyper_parameters_of_another_dtype_keep_the_run_in_its_own(name, swept):
    """A float64 tensor as hyper-parameter leaves a float32 run in float32, figures included."""
    run = sweeping(name, torch.float32)
    values = torch.tensor([0.3, 0.5], dtype=torch.float64)
    outcome = vmap(run)(values) if swept else run(values[0])
    assert {leaf.dtype for leaf in tree.leaves(outcome)} == {torch.float32, torch.int64}


def test_a_round_is_differentiable():
    """The derivative of the generator's loss by the critic's rate equals a central difference."""
    players = pair(norm=True)
    given = make_round(fgan.gan(*players, n_critic=2))

    def loss(rate):
        algorithm = fgan.wgan_gp(*players, n_critic=2, critic_optimizer=fgan.sgd(rate))
        return algorithm.step(algorithm.init(), *given)[1].generator_loss

    rate, h = torch.tensor(0.1, dtype=torch.float64), 1e-6
    difference = (loss(rate + h) - loss(rate - h)) / (2 * h)
    assert torch.func.grad(loss)(rate).item() == pytest.approx(difference.item(), rel=1e-5)
