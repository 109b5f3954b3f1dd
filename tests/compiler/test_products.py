"""Products that meet one matrix are made together where a device is idle; every value stays."""

import pytest
import torch
from helpers import assert_close
from torch import nn
from tracing import (
    CRITICS,
    aten,
    count,
    critic_update,
    numbers,
    perceptron,
    products,
    rewritten,
    traced,
)

import fgan
from fgan.compiler.passes import products as passes


@pytest.fixture
def gpu(monkeypatch):
    """As on an H100, with its 132 multiprocessors."""
    monkeypatch.setattr(passes, "processors", lambda device: 132)


X, Y, W, V = numbers(4, 3), numbers(5, 3), numbers(3, 3), numbers(3, 2)

JOINED = {
    "rows": (lambda x, y, w, v: (x @ w).sum() + (y @ w).tanh().sum(), 1),
    "three": (lambda x, y, w, v: (x @ w).sum() + (y @ w).sum() * (2 * x @ w).sum(), 1),
    "with a bias": (
        lambda x, y, w, v: sum(torch.addmm(w[0], z, w).tanh().sum() for z in (x, y)),
        1,
    ),
    "of later rows": (lambda x, y, w, v: (x @ w).tanh().sum() + (y.tanh() @ w).sum(), 1),
    "two pairs": (
        lambda x, y, w, v: sum(((z @ w).tanh() @ v).sum() for z in (x, y)),
        2,
    ),
    "one pair of a cross": (
        lambda x, y, w, v: ((x @ v).sum() * y @ w).sum() + ((x @ w).sum() * y @ v).sum(),
        3,
    ),
    "a sum": (lambda x, y, w, v: (x.t() @ x.tanh() + y.t() @ y.tanh()) * 2, 1),
    "a sum of three": (lambda x, y, w, v: (x.t() @ x + y.t() @ y.exp() + w @ w.sin()) * 2, 1),
    "a sum with itself": (lambda x, y, w, v: (z := x @ w) + z, 1),
}


@pytest.mark.parametrize("name", list(JOINED))
def test_products_are_joined(name, gpu):
    """There are as many as said, and the value is what it was."""
    function, left = JOINED[name]
    module = rewritten(function, X, Y, W, V)
    assert products(module) == left
    torch.testing.assert_close(module(X, Y, W, V), function(X, Y, W, V), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("turned", [False, True])
def test_rows_are_put_below_each_other_once(turned, gpu):
    """For the next matrix and for the weight's gradient, in whatever order the terms come."""

    def function(x, y, w, v):
        terms = x.t() @ x.sin(), y.t() @ y.exp()
        one, other = terms[::-1] if turned else terms
        return (x @ w).sum() + (y @ w).sum() + (one + other) * 2

    module = rewritten(function, X, Y, W, V)
    assert products(module) == 2
    assert count(module, aten.cat.default) == 2  # slopes and signals
    torch.testing.assert_close(module(X, Y, W, V), function(X, Y, W, V), atol=1e-12, rtol=1e-12)


APART = {
    "one after the other": lambda x, y, w, v: ((x @ w) @ w).sum(),
    "other biases": lambda x, y, w, v: (
        torch.addmm(w[0], x, w).tanh().sum() + torch.addmm(w[1], y, w).sum()
    ),
    "other factors": lambda x, y, w, v: (
        torch.addmm(w[0], x, w, beta=2).sum() + torch.addmm(w[0], y, w).sum()
    ),
    "added rows": lambda x, y, w, v: (
        torch.addmm(x, x, w).tanh().sum() + torch.addmm(x, x.sin(), w).sum()
    ),
    "results": lambda x, y, w, v: (x @ w, y @ w),
    "views of results": lambda x, y, w, v: ((x @ w).t(), (y @ w)[1:]),
    "a sum that widens": lambda x, y, w, v: (x[:1] @ w + y @ v @ v.t()) * 2,
    "a sum whose term is read": lambda x, y, w, v: (z := x @ w).sum() + (z + x @ w.t()),
    "a weighted sum": lambda x, y, w, v: torch.add(x @ w, x.exp() @ w.t(), alpha=2),
}


@pytest.mark.parametrize("name", list(APART))
def test_other_products_stay(name, gpu):
    """And outputs do not become parts of one tensor, which a donated round would write to twice."""
    before, after = (make(APART[name], X, Y, W, V) for make in (traced, rewritten))
    assert products(after) == products(before)
    got, expected = after(X, Y, W, V), APART[name](X, Y, W, V)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)


def test_a_device_at_work_gets_no_joined_products(monkeypatch):
    """What fills one processor is not joined on it, though two would take both."""
    wide, x, y = numbers(3, 128), numbers(64, 3), numbers(65, 3)

    def function(x, y, w):
        return (x @ w).sum() + (y @ w).sum()

    for processors, left in [(1, 2), (2, 1)]:
        monkeypatch.setattr(passes, "processors", lambda device, n=processors: n)
        assert products(rewritten(function, x, y, wide)) == left


def test_a_processor_that_makes_one_product_at_a_time_gets_none():
    """On the CPU nothing is joined: a copy would be all that is won."""
    assert passes.processors(torch.device("cpu")) == 0
    for function, _ in JOINED.values():
        before, after = (make(function, X, Y, W, V) for make in (traced, rewritten))
        assert count(after, aten.cat.default) == count(before, aten.cat.default) == 0


@pytest.mark.parametrize("recipe", [fgan.wgan_gp, fgan.wgan_div, fgan.wgan, fgan.gan])
@pytest.mark.parametrize("name", list(CRITICS))
def test_an_update_is_the_update(name, recipe, gpu):
    """Parameters and figures, whatever the layers."""
    update, given = critic_update(recipe, *CRITICS[name])
    assert_close(rewritten(update, *given)(*given), update(*given), atol=1e-12)


def test_a_gradient_penalty_takes_four_products_a_layer(gpu):
    """Forward at all points, back from all, the tangent, the weight: four, where seven are written.

    And each layer's slopes are put below each other once, for the layer before and for the weight.
    """

    def made(hidden):
        update, given = critic_update(fgan.wgan_gp, perceptron(*[nn.LeakyReLU()] * hidden), (3,))
        module = rewritten(update, *given)
        return products(module), count(module, aten.cat.default)

    (two, stacked), (three, more) = made(2), made(3)
    assert three - two == 4
    assert more - stacked == 3  # signals, slopes, and the tangents beside the signals
