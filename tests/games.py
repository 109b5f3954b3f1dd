"""Games with fixed data and a generator that stands still, for oracles."""

import torch
from torch import nn

import fgan


class Fixed(nn.Module):
    """A generator whose samples are its latents, moved by a parameter that starts at 0."""

    def __init__(self, latent_dim=1):
        super().__init__()
        self.latent_dim = latent_dim
        self.shift = nn.Parameter(torch.zeros(latent_dim, dtype=torch.float64))

    def forward(self, z):
        return z + self.shift


class Linear(nn.Module):
    """w·x + b in float64, from a small start."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.ones(size, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        return x @ self.weight + self.bias


class Table(nn.Module):
    """A critic with one free score for each of the points 0, 1, …, size - 1: any function."""

    def __init__(self, size):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(size, dtype=torch.float64))

    def forward(self, x):
        return (x == torch.arange(len(self.scores))).to(x.dtype) @ self.scores


def trained(algorithm, real, fake, updates, seed=0):
    """(state, info) after critic updates on the same real samples and fakes [B, D]."""
    state = algorithm.init()
    source = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        mix = torch.rand(len(real), generator=source, dtype=torch.float64)
        state, info = algorithm.critic_update(state, real, None, fake, mix)
    return state, info


def sgd(lr, momentum=0.9):
    """The optimiser of these games: it settles, where Adam would hover."""
    return dict(critic_optimizer=fgan.sgd(lr, momentum))


def jsd(p, q):
    """½KL(p‖m) + ½KL(q‖m), m = (p + q)/2, in nats."""
    m = (p + q) / 2
    return ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2


def on_points(counts):
    """Samples [Σ counts, 1] that take value i as often as counts[i] says."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))[
        :, None
    ].double()
