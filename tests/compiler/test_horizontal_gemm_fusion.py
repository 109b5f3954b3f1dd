"""Matmuls with one matrix, and sums of matmuls, are fused where a GPU is idle; values stay."""

import pytest
import torch
from graphs import (
    aten,
    count,
    critic_update,
    matmuls,
    numbers,
    perceptron,
    rewritten,
    traced,
)
from torch import nn

import fgan
from fgan.compiler.passes import occupancy


@pytest.fixture
def gpu(monkeypatch):
    """As on an H100, with its 132 multiprocessors."""
    monkeypatch.setattr(occupancy, "multiprocessors", lambda device: 132)


X, Y, W, V = numbers(4, 3), numbers(5, 3), numbers(3, 3), numbers(3, 2)

FUSED = {
    "rows": (lambda x, y, w, v: (x @ w).sum() + (y @ w).tanh().sum(), 1),
    "three": (lambda x, y, w, v: (x @ w).sum() + (y @ w).sum() * (2 * x @ w).sum(), 1),
    "with a bias": (
        lambda x, y, w, v: sum(torch.addmm(w[0], z, w).tanh().sum() for z in (x, y)),
        1,
    ),
    "of rows computed later": (lambda x, y, w, v: (x @ w).tanh().sum() + (y.tanh() @ w).sum(), 1),
    "two pairs": (
        lambda x, y, w, v: sum(((z @ w).tanh() @ v).sum() for z in (x, y)),
        2,
    ),
    "one of two pairs that depend on each other": (
        lambda x, y, w, v: ((x @ v).sum() * y @ w).sum() + ((x @ w).sum() * y @ v).sum(),
        3,
    ),
    "a sum": (lambda x, y, w, v: (x.t() @ x.tanh() + y.t() @ y.tanh()) * 2, 1),
    "a sum of three": (lambda x, y, w, v: (x.t() @ x + y.t() @ y.exp() + w @ w.sin()) * 2, 1),
    "a sum with itself": (lambda x, y, w, v: (z := x @ w) + z, 1),
}


@pytest.mark.parametrize("name", list(FUSED))
def test_matmuls_are_fused(name, gpu):
    """The expected number is left, and the value is the same."""
    function, left = FUSED[name]
    module = rewritten(function, X, Y, W, V)
    assert matmuls(module) == left
    torch.testing.assert_close(module(X, Y, W, V), function(X, Y, W, V), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_are_concatenated_once(reverse, gpu):
    """For the next matrix and for the weight's gradient, in whatever order the terms come."""

    def function(x, y, w, v):
        terms = x.t() @ x.sin(), y.t() @ y.exp()
        one, other = terms[::-1] if reverse else terms
        return (x @ w).sum() + (y @ w).sum() + (one + other) * 2

    module = rewritten(function, X, Y, W, V)
    assert matmuls(module) == 2
    assert count(module, aten.cat.default) == 2  # gradients and activations
    torch.testing.assert_close(module(X, Y, W, V), function(X, Y, W, V), atol=1e-12, rtol=1e-12)


KEPT = {
    "the second reads the first": lambda x, y, w, v: ((x @ w) @ w).sum(),
    "other biases": lambda x, y, w, v: (
        torch.addmm(w[0], x, w).tanh().sum() + torch.addmm(w[1], y, w).sum()
    ),
    "scaled biases": lambda x, y, w, v: (
        torch.addmm(w[0], x, w, beta=2).sum() + torch.addmm(w[0], y, w).sum()
    ),
    "a matrix as bias": lambda x, y, w, v: (
        torch.addmm(x, x, w).tanh().sum() + torch.addmm(x, x.sin(), w).sum()
    ),
    "outputs": lambda x, y, w, v: (x @ w, y @ w),
    "views of outputs": lambda x, y, w, v: ((x @ w).t(), (y @ w)[1:]),
    "a sum that broadcasts": lambda x, y, w, v: (x[:1] @ w + y @ v @ v.t()) * 2,
    "a sum with a term that is read twice": lambda x, y, w, v: (z := x @ w).sum() + (z + x @ w.t()),
    "a weighted sum": lambda x, y, w, v: torch.add(x @ w, x.exp() @ w.t(), alpha=2),
}


@pytest.mark.parametrize("name", list(KEPT))
def test_other_matmuls_stay(name, gpu):
    """Outputs do not become views of one tensor, which a donated round would write to twice."""
    before, after = (build(KEPT[name], X, Y, W, V) for build in (traced, rewritten))
    assert matmuls(after) == matmuls(before)
    got, expected = after(X, Y, W, V), KEPT[name](X, Y, W, V)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)


def test_a_busy_device_gets_no_fused_matmuls(monkeypatch):
    """Two matmuls that fill one multiprocessor are fused only where there are two of them."""
    wide, x, y = numbers(3, 128), numbers(64, 3), numbers(65, 3)

    def function(x, y, w):
        return (x @ w).sum() + (y @ w).sum()

    for processors, left in [(1, 2), (2, 1)]:
        monkeypatch.setattr(occupancy, "multiprocessors", lambda device, n=processors: n)
        assert matmuls(rewritten(function, x, y, wide)) == left


def test_the_cpu_gets_no_fused_matmuls():
    """On the CPU nothing is concatenated: the copy would cost what the fusion saves."""
    assert occupancy.multiprocessors(torch.device("cpu")) == 0
    for function, _ in FUSED.values():
        before, after = (build(function, X, Y, W, V) for build in (traced, rewritten))
        assert count(after, aten.cat.default) == count(before, aten.cat.default) == 0


def test_a_gradient_penalty_takes_four_matmuls_a_layer(gpu):
    """Forward at all points, backward from all, the tangent, the weight: four instead of seven.

    Each layer's gradients are concatenated once, for the layer before and for the weight.
    """

    def counts(hidden):
        update, inputs = critic_update(fgan.wgan_gp, perceptron(*[nn.LeakyReLU()] * hidden), (3,))
        module = rewritten(update, *inputs)
        return matmuls(module), count(module, aten.cat.default)

    (two, stacked), (three, more) = counts(2), counts(3)
    assert three - two == 4
    assert more - stacked == 3  # activations, gradients, and the tangents beside the activations
