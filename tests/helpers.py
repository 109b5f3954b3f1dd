"""Tiny generators and critics, the recipes by name, and the rounds that the tests feed them."""

import random
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import fgan
from fgan import tree

LATENT = 3
CLASSES = 3

RECIPES = {
    name.replace("-", "_"): recipe.function for name, recipe in fgan.recipes.RECIPES.items()
} | {"gan_minimax": partial(fgan.gan, loss="minimax")}
"""Every recipe by its name as a function, all taking `n_critic`, `update` and `ema_decay`."""


def one_hot(labels, like):
    """[B] -> [B, CLASSES] in the dtype of `like`; unlike F.one_hot, it runs under vmap."""
    return (labels[:, None] == torch.arange(CLASSES, device=labels.device)).to(like.dtype)


class Generator(nn.Module):
    """Fully connected, for samples of any shape; no bias before BatchNorm: it has no gradient."""

    def __init__(self, shape=(2,), conditional=False, norm=False):
        super().__init__()
        self.shape, self.latent_dim, self.conditional = shape, LATENT, conditional
        self.sample_shape = shape
        self.first = nn.Linear(LATENT + CLASSES * conditional, 6, bias=not norm)
        self.norm = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.last = nn.Linear(6, torch.Size(shape).numel())

    def forward(self, z, *condition):
        check_condition(self, condition)
        h = torch.cat([z, *(one_hot(c, z) for c in condition)], dim=1)
        return self.last(torch.tanh(self.norm(self.first(h)))).reshape(-1, *self.shape)


class Critic(nn.Module):
    """Fully connected, for samples of any shape; scores [B, 1]."""

    def __init__(self, shape=(2,), conditional=False, norm=None):
        super().__init__()
        self.conditional = conditional
        size = torch.Size(shape).numel() + CLASSES * conditional
        wrap = {"spectral": spectral_norm, "weight": weight_norm}.get(norm, lambda layer: layer)
        self.first = wrap(nn.Linear(size, 7, bias=norm != "batch"))
        layers = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        self.norm = layers.get(norm, nn.Identity)(7)
        self.last = wrap(nn.Linear(7, 1))

    def forward(self, x, *condition):
        check_condition(self, condition)
        h = torch.cat([x.flatten(1), *(one_hot(c, x) for c in condition)], dim=1)
        return self.last(torch.tanh(self.norm(self.first(h))))


class ConvGenerator(nn.Module):
    """One linear map to a coarse image, one convolution; any channels, height and width."""

    def __init__(self, shape, conditional=False, norm=False):
        super().__init__()
        channels, height, width = shape
        self.shape, self.latent_dim, self.conditional = shape, LATENT, conditional
        self.sample_shape = shape
        self.coarse = (2, -(-height // 8), -(-width // 8))
        self.first = nn.Linear(LATENT + CLASSES * conditional, torch.Size(self.coarse).numel())
        self.norm = nn.BatchNorm2d(2) if norm else nn.Identity()
        self.last = nn.Conv2d(2, channels, 3, padding=1)

    def forward(self, z, *condition):
        check_condition(self, condition)
        h = self.first(torch.cat([z, *(one_hot(c, z) for c in condition)], dim=1))
        h = torch.tanh(self.norm(h.reshape(-1, *self.coarse)))
        h = h.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
        return torch.tanh(self.last(h[:, :, : self.shape[1], : self.shape[2]]))


class ConvCritic(nn.Module):
    """Strided convolution, GroupNorm, mean over the image; scores [B]."""

    def __init__(self, shape, conditional=False):
        super().__init__()
        self.conditional = conditional
        self.first = nn.Conv2d(shape[0] + CLASSES * conditional, 4, 5, stride=4, padding=2)
        self.norm = nn.GroupNorm(2, 4)
        self.last = nn.Linear(4, 1)

    def forward(self, x, *condition):
        check_condition(self, condition)
        planes = (one_hot(c, x)[:, :, None, None].expand(-1, -1, *x.shape[2:]) for c in condition)
        h = self.first(torch.cat([x, *planes], dim=1))
        return self.last(torch.tanh(self.norm(h)).mean(dim=(2, 3))).squeeze(1)


def check_condition(module, condition):
    """These modules take any number of inputs, so a wrong one must not pass by accident."""
    assert len(condition) == module.conditional


class Plain(nn.Module):
    """`forward(x)` and nothing more: what it takes can be read off its signature."""

    latent_dim = LATENT

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.sample_shape = getattr(net, "sample_shape", None)

    def forward(self, x):
        return self.net(x)


class Labelled(Plain):
    """`forward(x, condition)`, both needed."""

    def forward(self, x, condition):
        return self.net(x, condition)


def make(build, *args, seed=0, dtype=torch.float64, **options):
    """A module drawn from `seed`, with the global generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*args, **options).to(dtype)


def pair(shape=(2,), conditional=False, norm=False, critic_norm=None, dtype=torch.float64):
    """A generator and a critic for samples of `shape`: convolutional for images, else an MLP."""
    if len(shape) == 3:
        options = dict(conditional=conditional, dtype=dtype)
        return (
            make(ConvGenerator, shape, norm=norm, **options),
            make(ConvCritic, shape, seed=1, **options),
        )
    return (
        make(Generator, shape, conditional, norm, dtype=dtype),
        make(Critic, shape, conditional, critic_norm, seed=1, dtype=dtype),
    )


def make_batch(shape=(2,), conditional=False, n_critic=2, size=4, *, dtype=torch.float64, seed=0):
    """One round of random samples off the origin; labels repeat when conditional."""
    source = torch.Generator().manual_seed(seed)
    real = 0.5 + torch.randn(n_critic, size, *shape, generator=source, dtype=torch.float64)
    labels = torch.randint(CLASSES, (n_critic, size), generator=source)
    return fgan.Batch(real.to(dtype), labels if conditional else None)


def make_round(algorithm, shape=(2,), conditional=False, *, index=0, seed=0, size=4, **options):
    """(batch, noise) of round `index`, with as many critic updates as the algorithm wants."""
    noise = algorithm.noise(seed, index, size)
    updates = noise.mix.shape[0]
    return make_batch(shape, conditional, updates, size, seed=1000 * seed + index, **options), noise


def critic_extra(noise, index=0):
    """What the objective declared for one critic update; None where it declared nothing."""
    declared = noise.extra.get("critic")
    return None if declared is None else {name: x[index] for name, x in declared.items()}


class Counting:
    """A backend that counts the graphs and runs them as they are."""

    graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph


def assert_close(got, expected, atol=1e-10, rtol=0.0):
    """Two trees agree in structure, dtype and, within the tolerance, in every leaf."""
    assert tree.same_structure(got, expected)
    named, other = tree.named_leaves(got), tree.named_leaves(expected)
    for name in named:
        torch.testing.assert_close(
            named[name], other[name], atol=atol, rtol=rtol, msg=lambda m, name=name: f"{name}: {m}"
        )


def assert_identical(got, expected):
    """Two trees agree bit for bit."""
    assert_close(got, expected, atol=0.0)


@contextmanager
def unchanged(*trees):
    """No tensor here is written to, not even with equal values, and no global generator drawn."""
    tensors = [leaf for leaf in tree.leaves(trees) if isinstance(leaf, torch.Tensor)]
    before = [(tensor.detach().clone(), tensor._version) for tensor in tensors]
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    yield
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    for tensor, (bits, writes) in zip(tensors, before, strict=True):
        assert torch.equal(tensor, bits)
        assert tensor._version == writes
