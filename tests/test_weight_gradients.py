"""Gradients of a weight are computed as such, and are what they were, in float64."""

import pytest
import torch
from torch._inductor.decomposition import select_decomp_table
from torch.func import functionalize, grad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

import fgan
from fgan.passes import Rewrite

aten = torch.ops.aten
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def matrix(seed, *shape):
    """A float64 tensor of the given shape."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def penalty(convolve, **options):
    """The mean squared input gradient of a layer under a curved score, as a penalty has it."""

    def function(weight, x):
        def score(x):
            return torch.tanh(convolve(x, weight, **options)).sum()

        return grad(score)(x).square().sum()

    return function


def traced(function, *inputs, rewrite=True):
    """The function in small operations, as the compiler sees it, rewritten or not."""
    small = make_fx(function, select_decomp_table(), tracing_mode="fake")(*inputs)
    graph = make_fx(functionalize(small), select_decomp_table(), tracing_mode="fake")(*inputs)
    if rewrite:
        Rewrite()(graph.graph)
        graph.recompile()
    return graph


def kernels(module):
    """The kernel sizes of all convolutions of a graph."""
    return [
        tuple(node.args[1].meta["val"].shape[2:])
        for node in module.graph.nodes
        if node.target is aten.convolution.default
    ]


CASES = {
    "plain": (CONV, 2, (6, 7), (3, 3), {}),
    "strided": (CONV, 2, (10, 8), (4, 4), dict(stride=2, padding=1)),
    "a part that no tap reaches": (CONV, 2, (10, 9), (3, 2), dict(stride=3, padding=1)),
    "dilated": (CONV, 2, (9, 8), (2, 3), dict(dilation=2, stride=(1, 2), padding=(0, 2))),
    "a line": (CONV, 1, (11,), (4,), dict(stride=2, padding=2)),
    "a volume": (CONV, 3, (5, 4, 5), (3, 2, 2), dict(stride=2)),
    "transposed": (TRANSPOSED, 2, (5, 4), (3, 4), dict(stride=2, padding=1, output_padding=1)),
}


@pytest.mark.parametrize("name", list(CASES))
def test_gradients_of_a_weight_are_computed_as_such(name):
    """No kernel is of the size of an image any more, and the second derivative is autograd's."""
    kind, rank, image, taps, options = CASES[name]
    x, weight = matrix(0, 2, 5, *image), matrix(1, 5, 6, *taps)
    weight = weight if kind is TRANSPOSED else weight.transpose(0, 1).contiguous()
    function = grad(penalty(kind[rank], **options))
    before, after = (traced(function, weight, x, rewrite=on) for on in (False, True))
    assert set(kernels(before)) > {taps}
    assert set(kernels(after)) == {taps}
    torch.testing.assert_close(after(weight, x), function(weight, x), atol=1e-10, rtol=1e-10)


def test_a_grouped_convolution_keeps_its_gradient():
    """Its gradient is put together of parts, which are left alone; the value stays."""
    x, weight = matrix(0, 2, 6, 7, 7), matrix(1, 6, 3, 3, 3)
    function = grad(penalty(F.conv2d, groups=2))
    after = traced(function, weight, x)
    torch.testing.assert_close(after(weight, x), function(weight, x), atol=1e-10, rtol=1e-10)


EXCHANGED = {
    "of no weight in sight": lambda x, y: F.conv2d(x.transpose(0, 1), y.transpose(0, 1)),
    "with a bias": lambda x, y: F.conv2d(x.transpose(0, 1), y.transpose(0, 1), y[0, :, 0, 0]),
    "read twice": lambda x, y: (z := F.conv2d(x.transpose(0, 1), y.transpose(0, 1))) + z.tanh(),
    "of other axes": lambda x, y: F.conv2d(x.transpose(0, 1), y.transpose(2, 3)),
    "with a part left out": lambda x, y: F.conv2d(x.transpose(0, 1), y.transpose(0, 1))[:, :, 1:],
}


@pytest.mark.parametrize("name", list(EXCHANGED))
def test_other_convolutions_stay(name):
    """What only resembles such a gradient is left as it is."""
    x, y = matrix(0, 4, 4, 6, 6), matrix(1, 4, 4, 3, 3)

    def function(x, y):
        return EXCHANGED[name](x, y).transpose(0, 1) * 1

    before, after = (traced(function, x, y, rewrite=on) for on in (False, True))
    assert len(kernels(before)) == len(kernels(after)) == 1
    torch.testing.assert_close(after(x, y), function(x, y), atol=1e-12, rtol=0)


@pytest.mark.parametrize("recipe", [fgan.wgan_gp, fgan.wgan_div])
def test_a_penalised_convolutional_critic_has_no_other_kernels(recipe):
    """In a critic's whole update, all kernels are the layers' own."""
    torch.manual_seed(0)
    networks = fgan.models.conv_generator((1, 28, 28)), fgan.models.conv_critic((1, 28, 28))
    algorithm = recipe(*networks, n_critic=1)
    state, noise, real = algorithm.init(), algorithm.noise(0, 0, 4), torch.randn(4, 1, 28, 28)

    def update(state, real, latent, mix):
        return algorithm.critic_update(state, real, None, latent, mix)[0].critic.params

    given = state, real, noise.critic_latent[0], noise.mix[0]
    before, after = (traced(update, *given, rewrite=on) for on in (False, True))
    assert set(kernels(before)) - {(4, 4), (3, 3)}
    assert set(kernels(after)) <= {(4, 4), (3, 3)}
