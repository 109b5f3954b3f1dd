"""A fade-in by a buffer of the state, and packs of samples."""

import pytest
import torch
from torch import nn

import fgan


class Faded(nn.Module):
    """Two critics, of which α chooses: progressive growing's fade-in."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.old, self.new = nn.Linear(6, 1), nn.Linear(6, 1)
        self.register_buffer("alpha", torch.zeros(()))

    def forward(self, x):
        return (1 - self.alpha) * self.old(x) + self.alpha * self.new(x)


def faded(state, alpha):
    """As README.md has it."""
    buffers = state.critic.buffers | {"alpha": torch.tensor(alpha)}
    return state._replace(critic=state.critic._replace(buffers=buffers))


@pytest.mark.parametrize("donate", [None, False, True])
def test_a_buffer_of_the_state_fades_a_layer_in(donate):
    """The round at each α is that of a critic that has it; the module's own has no effect."""
    critic, x = Faded(), torch.randn(4, 6)
    algorithm = fgan.wgan_gp(nn.Linear(4, 6), critic, latent_dim=4, n_critic=1)
    state, batch, noise = algorithm.init(), fgan.Batch(x[None]), algorithm.noise(0, 0, 4)
    critic.alpha.fill_(1.0)
    torch.testing.assert_close(algorithm.score(state, x), critic.old(x)[:, 0])
    step = algorithm.step
    if donate is not None:
        step = fgan.compile(algorithm, donate=donate, backend="interpreter").step
    for alpha in (0.0, 0.25, 1.0):
        critic.alpha.fill_(alpha)
        fixed = fgan.wgan_gp(nn.Linear(4, 6), critic, latent_dim=4, n_critic=1)
        start = algorithm.init()
        expected = fixed.step(start._replace(critic=fixed.init().critic), batch, noise)[1]
        new, info = step(faded(start, alpha), batch, noise)
        torch.testing.assert_close(info.critic_loss, expected.critic_loss)
        assert new.critic.buffers["alpha"] == alpha


class Packs(nn.Module):
    """Four rows of a table at once, from one latent."""

    latent_shape = (4, 2)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.row = nn.Linear(2, 3)

    def forward(self, z):
        return self.row(z)


def test_a_pack_is_a_sample():
    """PacGAN: the critic judges four rows together, under a penalty; its loss by autograd."""
    critic = nn.Sequential(nn.Flatten(1), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1))
    algorithm = fgan.wgan_gp(Packs(), critic, n_critic=1)
    rows = torch.randn(6 * 4, 3)
    real, noise = rows.reshape(1, 6, 4, 3), algorithm.noise(0, 0, 6)
    _, info = algorithm.step(algorithm.init(), fgan.Batch(real), noise)
    fake = Packs().row(noise.critic_latent[0].reshape(24, 2)).reshape(6, 12).detach()
    mix, real = noise.mix[0][:, None], rows.reshape(6, 12)
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between)
    penalty = (slope.norm(dim=1) - 1).square().mean()
    loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
    torch.testing.assert_close(info.critic_loss, loss.detach())


class TwoOutputs(nn.Module):
    """A generator that gives its latent too."""

    latent_dim = 4

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 6)

    def forward(self, z):
        return self.net(z), z


def test_a_generator_of_several_outputs_is_told():
    """What it gave, and what is expected."""
    algorithm = fgan.gan(TwoOutputs(), nn.Linear(6, 1))
    batch, noise = fgan.Batch(torch.randn(1, 4, 6)), algorithm.noise(0, 0, 4)
    with pytest.raises(ValueError, match=r"a generator gives one tensor.* a tuple of 2: return"):
        algorithm.step(algorithm.init(), batch, noise)
