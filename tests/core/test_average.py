"""The generator's average: parameters and running statistics, beside the latest other buffers."""

import pytest
import torch
from helpers import LATENT, assert_close, assert_identical, make_round, pair
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import fgan
from fgan import tree
from fgan.networks import running_statistics

DECAY, ROUNDS = 0.7, 3


class Generator(nn.Module):
    """A buffer of each kind: statistics, counts, spectral vectors, a user's own."""

    latent_dim = LATENT

    def __init__(self, norm=nn.BatchNorm1d, wrap=spectral_norm):
        super().__init__()
        self.first = wrap(nn.Linear(LATENT, 6))
        self.norm = norm(6)
        self.last = nn.Linear(6, 2)
        self.register_buffer("running_mean", torch.zeros(6))  # the name alone is no BatchNorm

    def forward(self, z):
        hidden = self.norm(self.first(z))
        if self.training:
            self.running_mean.add_(hidden.detach().mean(0))
        return self.last(torch.tanh(hidden))


def players(wrap=spectral_norm):
    """Float64, with BatchNorm in the generator."""
    torch.manual_seed(0)
    return Generator(wrap=wrap).double(), pair()[1]


def play(algorithm, step, seeds=None):
    """The states from the first to the last."""
    state = algorithm.init(0 if seeds is None else seeds)
    states = [tree.clone(state)]
    for index in range(ROUNDS):
        batch, _ = make_round(fgan.gan(*pair()), index=index)
        noise = algorithm.noise(0 if seeds is None else seeds, index, 4)
        state, _ = step(state, batch, noise)
        states.append(tree.clone(state))
    return states


def averaged(states, name):
    """θ̄ <- d θ̄ + (1 - d) θ over the generator's own buffer after each round, in NumPy."""
    mean = states[0].generator.buffers[name].numpy()
    for state in states[1:]:
        mean = DECAY * mean + (1 - DECAY) * state.generator.buffers[name].numpy()
    return torch.from_numpy(mean)


@pytest.mark.parametrize("way", ["eager", "compiled", "population", "accumulated", "simultaneous"])
def test_statistics_are_averaged_and_other_buffers_are_the_latest(way):
    """Means and variances of BatchNorm are those of a loop in NumPy."""
    update = "simultaneous" if way == "simultaneous" else "alternating"
    # torch's spectral norm cannot be vmapped.
    wrap = (lambda layer: layer) if way == "population" else spectral_norm
    algorithm = fgan.gan(*players(wrap), ema_decay=DECAY, update=update)
    seeds = None
    if way == "accumulated":
        algorithm = fgan.accumulate(algorithm, 2)
    elif way == "population":
        algorithm, seeds = fgan.population(algorithm), [3, 1]
    step = algorithm.step
    if way == "compiled":
        step = fgan.compile(algorithm, backend="interpreter").step
    states = play(algorithm, step, seeds)
    last = states[-1]
    statistics = {"norm.running_mean", "norm.running_var"}
    for name, buffer in last.generator.buffers.items():
        kept = last.ema.buffers[name]
        if name in statistics:
            assert_close(kept, averaged(states, name))
            assert not torch.allclose(kept, buffer)
        else:
            assert_identical(kept, buffer)
            assert kept.data_ptr() != buffer.data_ptr()
    assert statistics < last.ema.buffers.keys()


def test_samples_are_made_with_the_averaged_statistics():
    """The EMA's weights in a module with the averaged statistics."""
    generator, critic = players()
    algorithm = fgan.gan(generator, critic, ema_decay=DECAY)
    states = play(algorithm, algorithm.step)
    own = {f"norm.{n}": averaged(states, f"norm.{n}") for n in ("running_mean", "running_var")}
    others = states[-1].generator.buffers
    generator.load_state_dict(states[-1].ema.params | others | own)
    latent = torch.randn(5, LATENT, dtype=torch.float64)
    expected = generator.eval()(latent).detach()
    assert_close(algorithm.generate(states[-1], latent), expected)


def test_a_frozen_batch_norm_keeps_its_statistics():
    """The average of what does not change has its bits."""
    generator, critic = players()
    generator.norm.running_mean.normal_()
    generator.norm.eval()
    algorithm = fgan.gan(generator, critic, ema_decay=DECAY)
    state, _ = algorithm.step(algorithm.init(), *make_round(algorithm))
    before = generator.norm.running_mean
    assert_identical(state.ema.buffers["norm.running_mean"], before)


def test_which_buffers_are_running_statistics():
    """Of layers that have them, by the layers' class; a module that is one has no prefix."""
    names = {"norm.running_mean", "norm.running_var"}
    assert running_statistics(Generator()) == names
    assert (
        running_statistics(Generator(lambda n: nn.BatchNorm1d(n, track_running_stats=False)))
        == set()
    )
    assert running_statistics(nn.InstanceNorm2d(3, track_running_stats=True)) == {
        "running_mean", "running_var",
    }  # fmt: skip
    synchronized = nn.Sequential(nn.SyncBatchNorm(2))
    assert running_statistics(synchronized) == {"0.running_mean", "0.running_var"}
    assert running_statistics(pair()[1]) == set()
