"""Rows that are multiples of others: matmuls are saved, and every value stays, in float64."""

import pytest
import torch
from graphs import critic_update, matmuls, numbers, perceptron, rewritten, traced
from helpers import assert_close
from torch import nn
from torch.func import grad

import fgan
from fgan.compiler.passes.cse import eliminate_common_subexpressions
from fgan.compiler.passes.row_scaled_cse import eliminate_row_scaled_subexpressions

aten = torch.ops.aten
BACKWARD = aten.convolution_backward.default


def test_w_divergence_has_eight_matmuls_of_twelve():
    """For each hidden layer: forward, gradient by the input, tangent and weights, at both batches.

    Without the pass each of the two batches takes six (forward, backward for the penalty, backward
    for the loss, tangent, and two for the weights); four are left.
    """

    def matmuls_of(recipe, hidden):
        update, inputs = critic_update(recipe, perceptron(*[nn.LeakyReLU(0.2)] * hidden), (3,))
        return matmuls(rewritten(update, *inputs))

    assert matmuls_of(fgan.wgan_div, 3) - matmuls_of(fgan.wgan_div, 2) == 4
    # A penalty at other samples: two forward, two backward, a tangent, two for the weights.
    assert matmuls_of(fgan.wgan_gp, 3) - matmuls_of(fgan.wgan_gp, 2) == 7


def before_and_after(function, *inputs):
    """The traced function before and after."""
    return traced(function, *inputs), rewritten(
        function,
        *inputs,
        passes=(eliminate_common_subexpressions, eliminate_row_scaled_subexpressions),
    )


INPUTS = numbers(4, 1), numbers(4, 3), numbers(1, 3), numbers(3, 3)


def backward_pass(column, x, w, v, mix=lambda y: y):
    """From a column through two layers, the first of which is an outer product."""
    return mix(torch.where(x > 0, column @ w, torch.zeros_like(x)) * 0.5) @ v


def test_a_multiple_of_a_backward_pass_is_removed():
    """Ones through two layers, and other numbers through the same ones."""

    def function(s, *layers):
        return backward_pass(torch.ones_like(s), *layers), backward_pass(s, *layers)

    before, after = before_and_after(function, *INPUTS)
    assert (matmuls(before), matmuls(after)) == (2, 1)
    assert_close(after(*INPUTS), function(*INPUTS), atol=1e-12)


def test_returned_ones_keep_their_memory():
    """Also where they are returned as views: a donated round may write to them."""

    def function(s, x, w):
        one, other = torch.ones_like(s), torch.ones_like(s)
        return (s @ w), one.view(-1), other.view(2, 2)

    _, after = before_and_after(function, *INPUTS[:3])
    _, one, other = after(*INPUTS[:3])
    assert one.data_ptr() != other.data_ptr()


MIXED = {
    "mean over rows": lambda x: x - x.mean(dim=0),
    "rows shifted": lambda x: torch.cat([x, x])[1:5],
    "transposed": lambda x: torch.nn.functional.pad(x.t(), (0, 0, 0, 1))[:, :3],
    "reshaped over rows": lambda x: x.reshape(2, 6).reshape(4, 3) + 0,
    "square": lambda x: x * x,
    "constant added": lambda x: x + 1,
}


@pytest.mark.parametrize("name", list(MIXED))
def test_what_is_no_multiple_stays(name):
    """Operations that mix rows, move rows, or are not linear; values stay."""

    def function(s, *layers):
        ones = torch.ones_like(s)
        return [backward_pass(column, *layers, MIXED[name]) for column in (ones, s)]

    before, after = before_and_after(function, *INPUTS)
    assert (matmuls(before), matmuls(after)) == (2, 2)
    assert_close(after(*INPUTS), function(*INPUTS), atol=1e-12)


def test_broadcasting_to_a_higher_rank_moves_the_rows():
    """A column times four matrices is repeated for each matrix."""

    def function(s, many, w, v):
        ones = torch.ones_like(s)
        return [((column @ w) * many).reshape(4, 12) @ v for column in (ones, s)]

    inputs = numbers(4, 1), numbers(4, 4, 3), numbers(1, 3), numbers(12, 2)
    before, after = before_and_after(function, *inputs)
    assert matmuls(after) == matmuls(before)
    assert_close(after(*inputs), function(*inputs), atol=1e-12)


def test_a_gradient_by_an_image_is_reused_and_one_by_weights_is_not():
    """Of a convolution's second backward pass only the gradient by the weight is left."""

    def function(s, image, weight, last):
        def score(image, weight):
            hidden = torch.nn.functional.conv2d(image, weight).tanh()
            return hidden.flatten(1) @ last

        gradients = grad(lambda x: score(x, weight).sum())(image)
        loss = grad(lambda x, w: (score(x, w) * s).sum(), argnums=(0, 1))(image, weight)
        return gradients, *loss

    inputs = numbers(4, 1), numbers(4, 2, 6, 6), numbers(3, 2, 3, 3), numbers(48, 1)
    _, after = before_and_after(function, *inputs)
    passes = [n.args[-1] for n in after.graph.nodes if n.target is BACKWARD]
    assert passes == [[True, False, False], [False, True, False]]
    assert_close(after(*inputs), function(*inputs), atol=1e-12)
