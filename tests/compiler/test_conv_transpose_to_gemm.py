"""Transposed convolutions as a matmul and sums equal torch's own, in float64."""

import itertools

import pytest
import torch
from graphs import needs_cpp_compiler, numbers
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import conv2d, conv_transpose2d

from fgan.compiler.backends import inductor
from fgan.compiler.passes.conv_transpose_to_gemm import (
    MAX_CHANNELS,
    conv_transpose_by_gemm,
    conv_transpose_to_gemm,
)
from fgan.compiler.tracing import Program

aten = torch.ops.aten


@pytest.mark.parametrize("image", [(5, 4), (1, 3)])
@pytest.mark.parametrize("taps", [(4, 4), (5, 3), (1, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 2)])
def test_equals_a_transposed_convolution(image, taps, stride):
    """Kernels shorter and longer than the stride, every padding, pixels that no tap reaches."""
    x, weight = numbers(2, 3, *image), numbers(3, 2, *taps)
    for padding, more in itertools.product([(0, 0), (1, 0), (1, 2)], [(0, 0), (1, 1)]):
        if any(m >= s for m, s in zip(more, stride, strict=True)):
            continue
        try:
            expected = conv_transpose2d(x, weight, None, stride, padding, more)
        except RuntimeError:  # the image would be empty
            continue
        got = conv_transpose_by_gemm(x, weight, stride, padding, expected.shape[2:])
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)


def rewritten(function, *inputs):
    """The traced function after the pass."""
    traced = make_fx(function, tracing_mode="fake")(*inputs)
    conv_transpose_to_gemm(traced.graph)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def count(traced, *targets):
    """How many nodes of a graph call one of the targets."""
    return sum(node.target in targets for node in traced.graph.nodes)


X, UP = numbers(2, 3, 4, 5), numbers(3, MAX_CHANNELS, 4, 4)
IMAGE, DOWN, GRADIENT = (
    numbers(2, MAX_CHANNELS, 8, 7),
    numbers(3, MAX_CHANNELS, 4, 4),
    numbers(2, 3, 4, 3),
)


def gradients(*mask, weight=DOWN, image=IMAGE, gradient=GRADIENT, dilation=1):
    """Those gradients of a strided convolution that the mask names."""
    sizes = [2, 2], [1, 1], [dilation, dilation], False, [0, 0], 1

    def function(gradient, image, weight):
        results = aten.convolution_backward(gradient, image, weight, [3], *sizes, list(mask))
        return [part for part, wanted in zip(results, mask, strict=True) if wanted]

    return function, (gradient, image, weight)


REPLACED = {
    "transposed": (lambda x, w: conv_transpose2d(x, w, None, 2, 1), (X, UP)),
    "with a bias": (lambda x, w: conv_transpose2d(x, w, x[0, 0, 0, :MAX_CHANNELS], 2, 1), (X, UP)),
    "odd size": (lambda x, w: conv_transpose2d(x, w, None, 3, 1, output_padding=1), (X, UP)),
    "by the image": gradients(True, False, False),
    "by all": gradients(True, True, True),
}
KEPT = {
    "by the weight": gradients(False, True, True),
    "forward": (lambda x, w: conv2d(x, w, None, 2, 1), (IMAGE, DOWN)),
    "many channels": (
        lambda x, w: conv_transpose2d(x, w, None, 2, 1),
        (X, numbers(3, MAX_CHANNELS + 1, 4, 4)),
    ),
    "bfloat16": (lambda x, w: conv_transpose2d(x, w, None, 2, 1), (X.bfloat16(), UP.bfloat16())),
    "of many taps": (
        lambda x, w: conv_transpose2d(x, w, None, 2, 1),
        (X, numbers(3, MAX_CHANNELS, 7, 7)),
    ),
    "dilated": (lambda x, w: conv_transpose2d(x, w, None, 2, 1, dilation=2), (X, UP)),
    "grouped": (
        lambda x, w: conv_transpose2d(x, w, None, 2, 1, groups=3),
        (X, numbers(3, 1, 4, 4)),
    ),
}


@pytest.mark.parametrize("name", list(REPLACED))
def test_a_transposed_convolution_becomes_a_matmul(name):
    """No transposed convolution is left, there is one matmul, and the values are the same."""
    function, inputs = REPLACED[name]
    traced = rewritten(function, *inputs)
    backward = [n for n in traced.graph.nodes if n.target is aten.convolution_backward.default]
    assert count(traced, aten.convolution.default) == 0
    assert not any(node.args[-1][0] for node in backward)
    assert count(traced, aten.mm.default) == 1
    torch.testing.assert_close(traced(*inputs), function(*inputs), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", list(KEPT))
def test_other_convolutions_stay(name):
    """Gradients by weights, other convolutions, and images of many channels."""
    function, inputs = KEPT[name]
    traced = rewritten(function, *inputs)
    assert count(traced, aten.convolution.default, aten.convolution_backward.default) == 1
    assert count(traced, aten.mm.default) == 0
    torch.testing.assert_close(traced(*inputs), function(*inputs), atol=0, rtol=0)


@needs_cpp_compiler
def test_compiled_code_gives_the_same_images():
    """The compiler takes the rewritten graph, and its code gives the same values."""
    function, inputs = REPLACED["by all"]
    got = Program(function, inductor)(*inputs)
    torch.testing.assert_close(got, function(*inputs), atol=1e-12, rtol=1e-12)
