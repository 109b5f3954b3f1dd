"""Graphs as the compiler's passes get them, and what the tests of the passes count in them."""

import shutil

import pytest
import torch
from torch import nn
from torch._inductor.decomposition import select_decomp_table
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

import fgan
from fgan.compiler.passes import PASSES

aten = torch.ops.aten

JOINT = tuple(each.function for each in PASSES if each.stage == "joint")

needs_cpp_compiler = pytest.mark.skipif(
    not shutil.which("c++") and not shutil.which("g++"), reason="no C++ compiler"
)


def numbers(*shape):
    """Normal numbers in float64, the same for the same shape."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def whole_numbers(*shape):
    """Small whole numbers, the same for the same shape; float32 holds their matmuls exactly."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-4, 5, shape, generator=generator).float()


def traced(function, *inputs):
    """The function, decomposed and functionalised as Inductor does it."""
    options = dict(tracing_mode="fake", _allow_non_fake_inputs=True)
    decomposed = make_fx(function, select_decomp_table(), **options)(*inputs)
    # torch 2.11 decomposes LayerNorm to operations in place.
    return make_fx(functionalize(decomposed), select_decomp_table(), **options)(*inputs)


def run_passes(module, passes=JOINT):
    """Run passes on a graph module in place, and check that the graph is sound."""
    for function in passes:
        function(module.graph)
        module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return module


def rewritten(function, *inputs, passes=JOINT):
    """The traced function after these passes."""
    return run_passes(traced(function, *inputs), passes)


def count(module, *targets):
    """How many nodes of a graph call one of the targets."""
    return sum(node.target in targets for node in module.graph.nodes)


def matmuls(module):
    """How many matmuls a graph has."""
    return count(module, aten.mm.default, aten.addmm.default)


def critic_update(recipe, critic, shape):
    """(a float64 update of this critic by plain gradient descent, its inputs)."""
    generator = fgan.models.mlp_generator(shape, 3, hidden=(4,), norm="none", output="linear")
    rate = fgan.sgd(0.1)
    algorithm = recipe(generator.double(), critic.double(), critic_optimizer=rate)
    inputs = algorithm.init(seed=0), numbers(5, *shape), numbers(5, 3), numbers(5).abs() % 1

    def update(state, real, latent, mix):
        return algorithm.critic_update(state, real, None, latent, mix)

    return update, inputs


def perceptron(*activations):
    """Linear layers with these activations between them."""
    layers = [nn.Linear(3, 6)]
    for activation in activations:
        layers += [activation, nn.Linear(6, 6)]
    return nn.Sequential(*layers[:-1], nn.Linear(6, 1))


CRITICS = {
    "leaky": (perceptron(nn.LeakyReLU(0.2), nn.LeakyReLU(0.2)), (3,)),
    "smooth": (perceptron(nn.Tanh(), nn.SiLU(), nn.Sigmoid()), (3,)),
    "rectified": (perceptron(nn.ReLU(), nn.ReLU()), (3,)),
    "normalised": (fgan.models.mlp_critic((3,), hidden=(5, 6), norm="layer"), (3,)),
    "residual": (fgan.models.resnet_critic((1, 32, 32), width=2), (1, 32, 32)),
    "spectral": (fgan.models.mlp_critic((3,), hidden=(5, 6), norm="spectral"), (3,)),
    "convolutions": (fgan.models.conv_critic((1, 28, 28), width=2), (1, 28, 28)),
}
