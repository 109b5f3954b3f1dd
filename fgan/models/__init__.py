"""Example networks by size: multilayer perceptrons, DCGAN-style convolutions, residual networks.

All networks are ordinary modules: `generator(z)` or `generator(z, condition)`, `critic(x)` or
`critic(x, condition)`, with integer labels as the condition and unsquashed scores `[B]`.
"""

from fgan.models.blocks import SelfAttention
from fgan.models.conv import (
    conv1d_critic,
    conv1d_generator,
    conv3d_critic,
    conv3d_generator,
    conv_critic,
    conv_generator,
)
from fgan.models.layers import Critic, Generator, one_hot
from fgan.models.mlp import mlp_critic, mlp_generator
from fgan.models.norms import ConditionalBatchNorm, SpectralNorm
from fgan.models.resnet import resnet_critic, resnet_generator

__all__ = [
    "ConditionalBatchNorm",
    "Critic",
    "Generator",
    "SelfAttention",
    "SpectralNorm",
    "conv1d_critic",
    "conv1d_generator",
    "conv3d_critic",
    "conv3d_generator",
    "conv_critic",
    "conv_generator",
    "mlp_critic",
    "mlp_generator",
    "one_hot",
    "resnet_critic",
    "resnet_generator",
]
