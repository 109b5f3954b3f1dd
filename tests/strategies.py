"""The Hypothesis profile and the strategies that the property tests share.

Importing this file registers and loads the profile: "ci" draws the same few examples every time;
FGAN_HYPOTHESIS=long draws many, and others each time.
"""

import os

import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import fgan
from fgan.testing import samples, score_pairs, scores, shapes
from fgan.testing.strategies import normal

# Explaining a failure takes longer than finding it.
phases = [phase for phase in Phase if phase is not Phase.explain]
common = dict(deadline=None, suppress_health_check=list(HealthCheck), phases=phases)
settings.register_profile("ci", max_examples=15, derandomize=True, database=None, **common)
settings.register_profile("long", max_examples=1000, **common)
settings.load_profile(os.environ.get("FGAN_HYPOTHESIS", "ci"))

__all__ = ["NORMS", "critic_of", "normal", "samples", "score_pairs", "scores", "seeds", "shapes"]

seeds = st.integers(0, 2**31)


class Spectral(nn.Module):
    """Two layers under torch's spectral norm, its buffers moved off their start."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            spectral_norm(nn.Linear(24, 5)), nn.Tanh(), spectral_norm(nn.Linear(5, 1))
        )

    def forward(self, x):
        return self.net(x.flatten(1))


def convolution(norm=None):
    """A convolution, a norm, and a smooth activation, for samples [2, 4, 3]."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), norm or nn.Identity(), nn.Softplus(),
        nn.Flatten(), nn.Linear(48, 1),
    )  # fmt: skip


def mlp(norm=None, activation=nn.Tanh):
    """Two layers for samples [2, 4, 3]."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(24, 5), norm or nn.Identity(), activation(), nn.Linear(5, 1)
    )


NORMS = {
    "none": mlp,
    "none, convolution": convolution,
    "leaky": lambda: mlp(activation=lambda: nn.LeakyReLU(0.2)),
    "layer": lambda: mlp(nn.LayerNorm(5)),
    "layer, convolution": lambda: convolution(nn.LayerNorm([4, 4, 3])),
    "group": lambda: convolution(nn.GroupNorm(2, 4)),
    "instance": lambda: convolution(nn.InstanceNorm2d(4, affine=True)),
    "weight": lambda: nn.Sequential(
        nn.Flatten(), weight_norm(nn.Linear(24, 5)), nn.Tanh(), weight_norm(nn.Linear(5, 1))
    ),
    "spectral": Spectral,
}
"""Every norm that a penalised critic may have, as critics of samples [2, 4, 3]."""


def critic_of(name, seed=0, training=True):
    """(score(params, x), params) of a critic in `NORMS`, float64, parameters off their start.

    Out of training, spectral norm's singular vectors stand still, as its gradient takes them to
    (Miyato et al. 2018, arXiv 1802.05957, section 2.2): only so can differences be compared.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**31)
        module = NORMS[name]().double()
    network = fgan.make_functional(module)
    params = {
        key: value + 0.1 * normal(seed + i, *value.shape)
        for i, (key, value) in enumerate(network.params.items())
    }

    def score(params, x):
        return network.apply(params, network.buffers, x, training=training)[0].squeeze(1)

    return score, params
