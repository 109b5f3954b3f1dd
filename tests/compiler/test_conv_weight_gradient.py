"""A weight gradient written as a convolution is computed as a weight gradient, in float64."""

import pytest
import torch
from graphs import critic_update, numbers, rewritten, traced
from torch.func import grad
from torch.nn import functional as F

import fgan

aten = torch.ops.aten
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def penalty(convolve, **options):
    """The mean squared input gradient of a layer under a curved score, as a penalty has it."""

    def function(weight, x):
        def score(x):
            return torch.tanh(convolve(x, weight, **options)).sum()

        return grad(score)(x).square().sum()

    return function


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
def test_weight_gradients_are_computed_as_such(name):
    """No kernel has the size of an image any more, and the second derivative is autograd's."""
    kind, rank, image, taps, options = CASES[name]
    x, weight = numbers(2, 5, *image), numbers(5, 6, *taps)
    weight = weight if kind is TRANSPOSED else weight.transpose(0, 1).contiguous()
    function = grad(penalty(kind[rank], **options))
    before, after = (make(function, weight, x) for make in (traced, rewritten))
    assert set(kernels(before)) > {taps}
    assert set(kernels(after)) == {taps}
    torch.testing.assert_close(after(weight, x), function(weight, x), atol=1e-10, rtol=1e-10)


def test_a_grouped_convolution_keeps_its_gradient():
    """The pass leaves a grouped convolution's gradient alone, and the value stays."""
    x, weight = numbers(2, 6, 7, 7), numbers(6, 3, 3, 3)
    function = grad(penalty(F.conv2d, groups=2))
    after = rewritten(function, weight, x)
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
    """Convolutions that only resemble a weight gradient are left as they are."""
    x, y = numbers(4, 4, 6, 6), numbers(4, 4, 3, 3)

    def function(x, y):
        return EXCHANGED[name](x, y).transpose(0, 1) * 1

    before, after = (make(function, x, y) for make in (traced, rewritten))
    assert len(kernels(before)) == len(kernels(after)) == 1
    torch.testing.assert_close(after(x, y), function(x, y), atol=1e-12, rtol=0)


@pytest.mark.parametrize("recipe", [fgan.wgan_gp, fgan.wgan_div])
def test_a_penalised_convolutional_critic_has_no_other_kernels(recipe):
    """In a critic's whole update, all kernels are the layers' own."""
    update, given = critic_update(
        recipe, fgan.models.conv_critic((1, 28, 28), width=4), (1, 28, 28)
    )
    before, after = (make(update, *given) for make in (traced, rewritten))
    assert set(kernels(before)) - {(4, 4), (3, 3)}
    assert set(kernels(after)) <= {(4, 4), (3, 3)}
