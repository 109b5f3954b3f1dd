"""Generators that take latents of more than one axis."""

import pytest
import torch
from torch import nn

import fgan
from fgan import tree

Z, BATCH = 6, 4


def dcgan(seed=0):
    """The first layers of the DCGAN tutorial, which take [B, Z, 1, 1]; float64."""
    torch.manual_seed(seed)
    layers = [nn.ConvTranspose2d(Z, 3, 4, 1, 0), nn.BatchNorm2d(3), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(3, 1, 4, 2, 1), nn.Tanh()).double()


def critic():
    """A critic of their images."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(1), nn.Linear(64, 1)).double()


class Unsqueezed(nn.Module):
    """The same generator, with the reshape in its forward method."""

    def __init__(self):
        super().__init__()
        self.net = dcgan()

    def forward(self, z):
        return self.net(z[:, :, None, None])


class Sequence(nn.Module):
    """A generator of latents [B, T, Z], one for each step."""

    latent_shape = (3, 2)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.step = nn.Linear(2, 5)

    def forward(self, z):
        return self.step(z)


def leaves(step, algorithm):
    """The leaves after a round, without the names of the generator's modules."""
    source = torch.Generator().manual_seed(2)
    real = torch.rand(2, BATCH, 1, 8, 8, generator=source, dtype=torch.float64)
    noise = algorithm.noise(5, 0, BATCH)
    named = tree.named_leaves(step(algorithm.init(), fgan.Batch(real), noise))
    return {name.replace("net.", ""): leaf for name, leaf in named.items()}


@pytest.mark.parametrize("how", ["eager", "torch", "fgan"])
def test_latents_of_dcgan_equal_a_reshape_in_the_module(how):
    """Bit for bit in a round; noise and `generate` keep [B, Z]."""
    shaped = fgan.wgan_gp(dcgan(), critic(), latent_shape=(Z, 1, 1), n_critic=2, ema_decay=0.9)
    plain = fgan.wgan_gp(Unsqueezed(), critic(), latent_dim=Z, n_critic=2, ema_decay=0.9)
    step = {
        "eager": lambda a: a.step,
        "torch": lambda a: torch.compile(a.step, fullgraph=True, backend="eager"),
        "fgan": lambda a: fgan.compile(a, donate=False, backend="interpreter").step,
    }[how]
    got, expected = leaves(step(shaped), shaped), leaves(plain.step, plain)
    assert got.keys() == expected.keys()
    for name, leaf in expected.items():
        torch.testing.assert_close(got[name], leaf, msg=lambda m, n=name: f"{n}: {m}")
    assert shaped.latent_dim == Z
    latent = shaped.noise(0, 0, BATCH).generator_latent
    samples = shaped.generate(shaped.init(), latent)
    torch.testing.assert_close(samples, dcgan().eval()(latent[:, :, None, None]))


def test_sequences_of_latents_keep_their_order():
    """Step t has the numbers t·Z to (t + 1)·Z of the flat latent."""
    algorithm = fgan.gan(Sequence(), nn.Sequential(nn.Flatten(), nn.Linear(15, 1)))
    assert algorithm.latent_dim == 6
    state, latent = algorithm.init(), torch.randn(BATCH, 6)
    by_hand = torch.stack([Sequence().step(latent[:, 2 * t : 2 * t + 2]) for t in range(3)], 1)
    torch.testing.assert_close(algorithm.generate(state, latent), by_hand)


def test_a_population_has_shaped_latents():
    """Within vmap."""
    algorithm = fgan.gan(dcgan(), critic(), latent_shape=[Z, 1, 1])
    members = fgan.population(algorithm)
    state, noise = members.init([0, 1]), members.noise([0, 1], 0, BATCH)
    batch = fgan.Batch(torch.rand(1, BATCH, 1, 8, 8, dtype=torch.float64))
    _, info = members.step(state, batch, noise)
    alone = algorithm.step(algorithm.init(1), batch, algorithm.noise(1, 0, BATCH))[1]
    torch.testing.assert_close(info.critic_loss[1], alone.critic_loss)


def test_a_setting_goes_before_an_attribute():
    """And two that say the same go together."""
    generator = dcgan()
    generator.latent_dim = Z
    generator.latent_shape = (Z, 1, 1)
    assert fgan.gan(generator, critic()).latent_dim == Z
    generator.latent_dim = 2
    assert fgan.gan(generator, critic(), latent_dim=Z).latent_dim == Z
    assert fgan.gan(generator, critic(), latent_shape=(Z, 1, 1)).latent_dim == Z
    with pytest.raises(ValueError, match=r"latent_shape is \(6, 1, 1\), of 6 .* latent_dim 2"):
        fgan.gan(generator, critic())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_shape": 6}, "latent_shape is a tuple of sizes, and 6 was given"),
        ({"latent_shape": (6, 0)}, "a size in latent_shape"),
        ({"latent_shape": ()}, "latent_shape"),
        ({"latent_shape": (6, 1, 1), "latent_dim": 5}, "of 6 numbers, and latent_dim 5"),
        ({}, "latent_dim"),
    ],
)
def test_wrong_latent_shapes(settings, message):
    """At build, with both numbers."""
    with pytest.raises(ValueError, match=message):
        fgan.gan(dcgan(), critic(), **settings)


def test_wrong_latents_for_a_shape():
    """An update and `generate` name the flat size."""
    algorithm = fgan.gan(dcgan(), critic(), latent_shape=(Z, 1, 1))
    state, wrong = algorithm.init(), torch.randn(BATCH, Z, 1, 1, dtype=torch.float64)
    for call in (algorithm.fakes, algorithm.generate, algorithm.generator_update):
        with pytest.raises(ValueError, match=r"\[B, latent_dim\] = \[B, 6\].*\[4, 6, 1, 1\]"):
            call(state, wrong)


def test_a_convolution_of_flat_latents_is_told_of_latent_shape():
    """The DCGAN modules as they are."""
    algorithm = fgan.gan(dcgan(), critic(), latent_dim=Z)
    with pytest.raises(ValueError, match=r"latent_shape=\(6, 1, 1\)"):
        algorithm.generate(algorithm.init(), torch.randn(BATCH, Z, dtype=torch.float64))
