"""Rows that are multiples of others: products are saved, and every value stays, in float64."""

import pytest
import torch
from helpers import assert_close
from torch import nn
from torch.func import grad
from tracing import CRITICS, critic_update, numbers, perceptron, products, rewritten, traced

import fgan
from fgan.compiler.passes.proportional import share_rows
from fgan.compiler.passes.repeats import share_repeats

aten = torch.ops.aten
BACKWARD = aten.convolution_backward.default


@pytest.mark.parametrize("recipe", [fgan.wgan_div, fgan.wgan_gp, fgan.gan])
@pytest.mark.parametrize("name", list(CRITICS))
def test_an_update_is_the_update(name, recipe):
    """Parameters and figures, whatever the layers, where the penalty shares its points or not."""
    update, given = critic_update(recipe, *CRITICS[name])
    assert_close(rewritten(update, *given)(*given), update(*given), atol=1e-12)


def test_w_divergence_makes_eight_products_of_twelve():
    """For each hidden layer: forward, gradient by the input, tangent and weights, at both batches.

    Written down, each of the two hidden layers takes six (forward, back for the penalty, back for
    the loss, tangent, and two for the weights); four are left.
    """

    def made(recipe, hidden):
        update, given = critic_update(recipe, perceptron(*[nn.LeakyReLU(0.2)] * hidden), (3,))
        return products(rewritten(update, *given))

    assert made(fgan.wgan_div, 3) - made(fgan.wgan_div, 2) == 4
    # At points of their own: two forward, two back, a tangent, two for the weights.
    assert made(fgan.wgan_gp, 3) - made(fgan.wgan_gp, 2) == 7


def shared(function, *inputs):
    """The traced function before and after."""
    return traced(function, *inputs), rewritten(
        function, *inputs, passes=(share_repeats, share_rows)
    )


GIVEN = numbers(4, 1), numbers(4, 3), numbers(1, 3), numbers(3, 3)


def backward_pass(column, x, w, v, mix=lambda y: y):
    """From a column through two layers, of which the first is no product but a multiplication."""
    return mix(torch.where(x > 0, column @ w, torch.zeros_like(x)) * 0.5) @ v


def test_a_multiple_of_a_pass_is_not_made():
    """Ones through two layers, and other numbers through the same ones."""

    def function(s, *layers):
        return backward_pass(torch.ones_like(s), *layers), backward_pass(s, *layers)

    before, after = shared(function, *GIVEN)
    assert (products(before), products(after)) == (2, 1)
    assert_close(after(*GIVEN), function(*GIVEN), atol=1e-12)


def test_ones_that_go_out_keep_their_memory():
    """Also as views: a donated round may write to what it is given."""

    def function(s, x, w):
        one, other = torch.ones_like(s), torch.ones_like(s)
        return (s @ w), one.view(-1), other.view(2, 2)

    _, after = shared(function, *GIVEN[:3])
    _, one, other = after(*GIVEN[:3])
    assert one.data_ptr() != other.data_ptr()


MIXED = {
    "between": lambda x: x - x.mean(dim=0),
    "turned": lambda x: torch.cat([x, x])[1:5],
    "turned over": lambda x: torch.nn.functional.pad(x.t(), (0, 0, 0, 1))[:, :3],
    "folded": lambda x: x.reshape(2, 6).reshape(4, 3) + 0,
    "bent": lambda x: x * x,
    "shifted": lambda x: x + 1,
}


@pytest.mark.parametrize("name", list(MIXED))
def test_what_is_no_multiple_is_made(name):
    """Rows that meet, change places or are not passed on linearly end it; values stay."""

    def function(s, *layers):
        ones = torch.ones_like(s)
        return [backward_pass(column, *layers, MIXED[name]) for column in (ones, s)]

    before, after = shared(function, *GIVEN)
    assert (products(before), products(after)) == (2, 2)
    assert_close(after(*GIVEN), function(*GIVEN), atol=1e-12)


def test_rows_that_are_widened_to_the_left_are_none():
    """A column that meets four matrices is spread over them, not along them."""

    def function(s, many, w, v):
        ones = torch.ones_like(s)
        return [((column @ w) * many).reshape(4, 12) @ v for column in (ones, s)]

    given = numbers(4, 1), numbers(4, 4, 3), numbers(1, 3), numbers(12, 2)
    before, after = shared(function, *given)
    assert products(after) == products(before)
    assert_close(after(*given), function(*given), atol=1e-12)


def test_a_gradient_by_an_image_is_shared_and_one_by_weights_is_not():
    """Of a convolution's second backward pass only the gradient by the weight is left."""

    def function(s, image, weight, last):
        def score(image, weight):
            made = torch.nn.functional.conv2d(image, weight).tanh()
            return made.flatten(1) @ last

        slopes = grad(lambda x: score(x, weight).sum())(image)
        loss = grad(lambda x, w: (score(x, w) * s).sum(), argnums=(0, 1))(image, weight)
        return slopes, *loss

    given = numbers(4, 1), numbers(4, 2, 6, 6), numbers(3, 2, 3, 3), numbers(48, 1)
    _, after = shared(function, *given)
    passes = [n.args[-1] for n in after.graph.nodes if n.target is BACKWARD]
    assert passes == [[True, False, False], [False, True, False]]
    assert_close(after(*given), function(*given), atol=1e-12)
