"""What people met in other libraries: each gives the right value, or an error that says what to do.

Cases that belong to one part of the code are tested with it; these belong to several.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close
from torch import nn

import fgan

SIZE = 8


def played(algorithm, real, **options):
    """The state and the info of one round from the modules' own weights."""
    noise = algorithm.noise(0, 0, real.shape[1])
    return algorithm.step(algorithm.init(), fgan.Batch(real, **options), noise)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "interpreter"])
def test_a_rate_in_a_tensor_may_be_lowered_by_hand(compiled):
    """Set to 0 between two rounds, as a scheduler of plateaus does: nothing moves any more."""
    rate = torch.tensor(0.1)
    settings = {"generator_optimizer": fgan.adam(rate), "critic_optimizer": fgan.adam(rate)}
    algorithm = fgan.gan(nn.Linear(4, 6), nn.Linear(6, 1), latent_dim=4, **settings)
    if compiled:
        algorithm = fgan.compile(algorithm, backend="interpreter", donate=False)
    batch = fgan.Batch(torch.randn(1, SIZE, 6))
    start = algorithm.init()
    before, _ = algorithm.step(start, batch, algorithm.noise(0, 0, SIZE))
    assert not torch.equal(before.critic.params["weight"], start.critic.params["weight"])
    rate.fill_(0.0)
    after, _ = algorithm.step(before, batch, algorithm.noise(0, 1, SIZE))
    for player in ("generator", "critic"):
        assert_close(getattr(after, player).params, getattr(before, player).params, atol=0.0)


class Several(nn.Module):
    """A critic that unpacks several conditions."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 1)

    def forward(self, x, condition):
        return self.layer(torch.cat([x, *condition], 1))


@pytest.mark.parametrize("kind", [tuple, list, dict])
def test_several_conditions_are_told_to_be_concatenated(kind):
    """A tuple, a list or a dict of tensors in a batch."""
    parts = {"a": torch.randn(1, SIZE, 1), "b": torch.randn(1, SIZE, 2)}
    given = parts if kind is dict else kind(parts.values())
    algorithm = fgan.gan(nn.Linear(4, 2), Several(), latent_dim=4)
    with pytest.raises(ValueError, match=r"condition is .*concatenate several conditions along"):
        played(algorithm, torch.randn(1, SIZE, 2), condition=given)


class Normalised(nn.Module):
    """The spectral norm that scripts of SAGAN carry with them."""

    def __init__(self, layer):
        super().__init__()
        self.layer, weight = layer, layer.weight.detach().clone()
        del layer.weight
        layer.raw = nn.Parameter(weight)
        layer.u = nn.Parameter(F.normalize(torch.randn(len(weight)), dim=0), requires_grad=False)

    def forward(self, x):
        weight = self.layer.raw.flatten(1)
        v = F.normalize(weight.data.t() @ self.layer.u.data, dim=0)
        self.layer.u.data = F.normalize(weight.data @ v, dim=0)
        self.layer.weight = self.layer.raw / (self.layer.u @ (weight @ v))
        return self.layer(x)


def test_a_spectral_norm_that_assigns_data_is_told_of_torchs_own():
    """In `init` by the layer's name, and in a round, also where a pass came before the build."""
    critic = nn.Sequential(Normalised(nn.Linear(6, 1)))
    algorithm = fgan.wgan_gp(nn.Linear(4, 6), critic, latent_dim=4, n_critic=1)
    with pytest.raises(ValueError, match=r"'0.layer' \(Linear\).*no attribute 'weight'"):
        algorithm.init(0)
    critic(torch.randn(2, 6))
    again = fgan.wgan_gp(nn.Linear(4, 6), critic, latent_dim=4, n_critic=1)
    with pytest.raises(ValueError, match=r"draws 'weight', which is neither a parameter nor"):
        again.init(0)
    for made in (algorithm, again):
        with pytest.raises(ValueError, match=r"torch.nn.utils.parametrizations.spectral_norm"):
            played(made, torch.randn(1, SIZE, 6))


class Recurrent(nn.Module):
    """A bidirectional LSTM critic of sequences [B, T, 3]."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


def test_an_lstm_critic_under_a_gradient_penalty_equals_autograd():
    """The update of the usual loop, with second derivatives through the recurrence."""
    generator, critic = nn.Sequential(nn.Linear(4, 15), nn.Unflatten(1, (5, 3))), Recurrent()
    algorithm = fgan.wgan_gp(generator, critic, latent_dim=4, n_critic=1)
    real, noise = torch.randn(1, SIZE, 5, 3), algorithm.noise(0, 0, SIZE)
    state, info = played(algorithm, real)
    twin = copy.deepcopy(critic)
    optimizer = torch.optim.Adam(twin.parameters(), 1e-4, (0.0, 0.9))
    fake = generator(noise.critic_latent[0]).detach()
    mix = noise.mix[0].view(-1, 1, 1)
    between = (mix * real[0] + (1 - mix) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(twin(between).sum(), between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    loss = twin(fake).mean() - twin(real[0]).mean() + 10 * penalty
    loss.backward()
    optimizer.step()
    assert_close(info.critic_loss, loss.detach(), atol=1e-5)
    assert_close(state.critic.params, dict(twin.state_dict()), atol=1e-6)


def test_a_cumulative_batch_norm_is_named_where_it_cannot_be_compiled():
    """`momentum=None` reads its count: right eager, and told with the layer compiled."""
    critic = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 1))
    last = copy.deepcopy(critic)
    last[1].momentum = 1.0  # the statistics of the last pass: of one pass that is the same
    generator, real = nn.Linear(4, 6), torch.randn(2, SIZE, 6)
    first, second = (fgan.gan(generator, each, latent_dim=4, n_critic=1) for each in (critic, last))
    one, other = (played(each, real[:1])[0].critic.buffers for each in (first, second))
    assert_close(one, other, atol=1e-6)
    algorithm = fgan.gan(generator, critic, latent_dim=4, n_critic=2)
    compiled = fgan.compile(algorithm, backend="interpreter", donate=False)
    with pytest.raises(ValueError, match=r"BatchNorm1d|batchnorm.py, `exponential_average_factor"):
        played(compiled, real)


def test_a_compiled_conditional_round_of_volumes_equals_an_eager_one():
    """Voxels with a class each, under a penalty."""
    shape = (1, 8, 8, 8)
    generator = fgan.models.conv3d_generator(shape, 4, 3, width=4).double()
    critic = fgan.models.conv3d_critic(shape, 3, width=4).double()
    algorithm = fgan.wgan_gp(generator, critic, n_critic=1)
    real = torch.rand(1, SIZE, *shape, dtype=torch.float64) * 2 - 1
    batch = fgan.Batch(real, torch.arange(SIZE)[None] % 3)
    state, noise = algorithm.init(0), algorithm.noise(0, 0, SIZE)
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    expected, got = algorithm.step(state, batch, noise), compiled.step(state, batch, noise)
    assert_close(got, expected, 1e-9)
