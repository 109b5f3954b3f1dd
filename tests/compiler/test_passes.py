"""CSE, zero propagation, bmm to mm and stored scalars: what they remove, and what they keep."""

import pytest
import torch
from graphs import aten, count, run_passes
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import conv2d, leaky_relu, pad

KEPT_MARK = "inductor_realize_to_strides"
"""The key by which Inductor is told to store a value."""


def rewritten(function, *inputs):
    """The traced function before and after, as (graph module, graph module)."""
    before = make_fx(function, tracing_mode="fake")(*inputs)
    after = make_fx(function, tracing_mode="fake")(*inputs)
    return before, run_passes(after)


def matrix(seed=0, *shape):
    """A float64 tensor of the given shape, (3, 3) without one."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (3, 3)), generator=generator, dtype=torch.float64)


def zeros_like(x):
    """Zeros as autograd writes them."""
    return torch.full(x.shape, 0.0, dtype=x.dtype)


FUNCTIONS = {
    "mm": lambda x, y: x + torch.mm(zeros_like(x), y),
    "mm, right": lambda x, y: x + torch.mm(y, zeros_like(x)),
    "mul": lambda x, y: x - zeros_like(x) * torch.mm(x, y),
    "zero first": lambda x, y: torch.mm(zeros_like(x), y) + x * 2,
    "views": lambda x, y: x + torch.mm(zeros_like(x).t().reshape(9).view(3, 3), y).permute(1, 0),
    "sum": lambda x, y: x + torch.mm(zeros_like(x), y).sum(0, keepdim=True).expand(3, 3),
    "where": lambda x, y: x + torch.mm(torch.where(x > 0, zeros_like(x), zeros_like(x)), y),
    "sum of zeros": lambda x, y: x + torch.mm(zeros_like(x) + torch.zeros_like(x), y),
    "full_like": lambda x, y: x + torch.mm(torch.full_like(x, 0), y),
    "mean": lambda x, y: x + torch.mm(zeros_like(x) / 3, y),
    "padding": lambda x, y: x + torch.mm(pad(zeros_like(x)[:2], (0, 0, 0, 1)), y),
}


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_matmuls_with_zeros_are_removed_and_the_value_stays(name):
    """No matmul with zeros is left, and values are equal."""
    x, y = matrix(0), matrix(1)
    before, after = rewritten(FUNCTIONS[name], x, y)
    assert count(before, aten.mm.default) == 1
    assert count(after, aten.mm.default) == 0
    assert torch.equal(after(x, y), FUNCTIONS[name](x, y))


KEPT = {
    "ones": lambda x, y: x + torch.mm(torch.full((3, 3), 1.0, dtype=x.dtype), y),
    "0 - x": lambda x, y: zeros_like(x) - torch.mm(x, y),
    "scaled": lambda x, y: torch.add(zeros_like(x), torch.mm(x, y), alpha=2),
    "wider sum": lambda x, y: torch.mm(x, y)[:1] + zeros_like(x),
    "one branch": lambda x, y: torch.where(x > 0, zeros_like(x), torch.mm(x, y)),
    "padded with ones": lambda x, y: torch.mm(pad(zeros_like(x)[:2], (0, 0, 0, 1), value=1.0), y),
    "zero by an input": lambda x, y: torch.mm(zeros_like(x) / y, y),
    "exponential": lambda x, y: torch.mm(zeros_like(x).exp(), y),
}


@pytest.mark.parametrize("name", list(KEPT))
def test_what_is_not_zero_stays(name):
    """A matmul without zeros stays, and so does the shape of a sum that broadcasts."""
    x, y = matrix(0), matrix(1)
    _, after = rewritten(KEPT[name], x, y)
    assert count(after, aten.mm.default) == 1
    assert torch.equal(after(x, y), KEPT[name](x, y))


@pytest.mark.parametrize("name", ["itself", "of a view", "returned as a view"])
def test_an_input_never_becomes_an_output(name):
    """x + 0 is a new tensor where x is an input."""
    x = matrix()
    function = {
        "itself": lambda x: x + zeros_like(x),
        "of a view": lambda x: x.t() + zeros_like(x),
        "returned as a view": lambda x: (x + zeros_like(x)).view(9),
    }[name]
    _, after = rewritten(function, x)
    assert after(x).data_ptr() != x.data_ptr()
    assert torch.equal(after(x), function(x))


def test_convolutions_of_zeros_are_removed():
    """A convolution of zeros without a bias is zero; with one it is not."""
    x, w, b = matrix(0, 2, 3, 5, 5), matrix(1, 4, 3, 3, 3), matrix(2, 4)

    def plain(x, w, b):
        return conv2d(x, w) + conv2d(zeros_like(x), w)

    def biased(x, w, b):
        return conv2d(x, w) + conv2d(zeros_like(x), w, b)

    for function, left in [(plain, 1), (biased, 2)]:
        _, after = rewritten(function, x, w, b)
        assert count(after, aten.convolution.default) == left
        assert torch.equal(after(x, w, b), function(x, w, b))


def test_backward_passes_of_zeros_are_removed():
    """A zero gradient removes all gradients of a convolution, a zero input that of the weight."""
    x, w = matrix(0, 2, 5, 5, 5), matrix(1, 4, 5, 3, 3)  # more channels than an image has
    gradient = matrix(2, 2, 4, 3, 3)

    def gradients(gradient, x, w):
        return aten.convolution_backward(
            gradient, x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, False]
        )[:2]

    def by_zero_gradient(x, w, gradient):
        by_input, by_weight = gradients(zeros_like(gradient), x, w)
        return x + by_input, w + by_weight

    def by_zero_input(x, w, gradient):
        by_input, by_weight = gradients(gradient, zeros_like(x), w)
        return x + by_input, w + by_weight

    def by_zero_weight(x, w, gradient):
        by_input, by_weight = gradients(gradient, x, zeros_like(w))
        return x + by_input, w + by_weight

    for function, left in [(by_zero_gradient, 0), (by_zero_input, 1), (by_zero_weight, 1)]:
        _, after = rewritten(function, x, w, gradient)
        assert count(after, aten.convolution_backward.default) == left
        for got, expected in zip(after(x, w, gradient), function(x, w, gradient), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


def test_the_penalty_of_a_leaky_critic_loses_matmuls():
    """The second derivative of a piecewise linear critic is zero, and its matmuls are removed."""

    def penalty(first, second, x):
        def score(x):
            return (leaky_relu(x @ first.T, 0.2) @ second.T).sum()

        return grad(score)(x).square().sum()

    inputs = matrix(0, 4, 3), matrix(1, 1, 4), matrix(2, 5, 3)
    before, after = rewritten(grad(penalty), *inputs)
    assert count(after, aten.mm.default) < count(before, aten.mm.default)
    torch.testing.assert_close(after(*inputs), grad(penalty)(*inputs), atol=1e-12, rtol=0)


def test_other_operations_with_several_outputs_stay():
    """The results of var_mean are not mistaken for the gradients of a convolution."""
    x = matrix()
    _, after = rewritten(lambda x: sum(torch.var_mean(x, dim=0)) + torch.zeros_like(x[0]), x)
    torch.testing.assert_close(after(x), sum(torch.var_mean(x, dim=0)), atol=1e-12, rtol=0)


def test_a_repeated_forward_pass_is_computed_once():
    """Scores and their gradient at one batch: one forward pass and one backward pass."""

    def function(x, w):
        def score(x):
            return torch.tanh(torch.cat([x, 2 * x]) @ w).sum()

        return score(x) + grad(score)(x).sum()

    x, w = matrix(0), matrix(1)
    before, after = rewritten(function, x, w)
    assert count(before, aten.mm.default) == 3
    assert count(after, aten.mm.default) == 2
    assert count(after, aten.tanh.default) == count(after, aten.cat.default) == 1
    assert torch.equal(after(x, w), function(x, w))


def test_calls_that_only_look_repeated_stay():
    """Other scalars, other types of one scalar, and new random numbers are other values."""

    def function(x):
        several = (x + 1, x + 1.0, x + 2, torch.rand_like(x), torch.rand_like(x))
        return torch.stack(several) * 1

    before, after = rewritten(function, matrix(0))
    assert count(after, aten.add.Tensor) == count(before, aten.add.Tensor) == 3
    assert count(after, aten.rand_like.default) == 2


def test_outputs_stay_apart():
    """Two outputs never share memory, which a donated round would write to twice."""
    for function in (
        lambda x: (torch.tanh(x), torch.tanh(x)),
        lambda x: (torch.tanh(x).view(9), torch.tanh(x).t()),
        lambda x: (y := torch.tanh(x), y + zeros_like(x)),
    ):
        _, after = rewritten(function, matrix(0))
        one, other = after(matrix(0))
        assert one.data_ptr() != other.data_ptr()
        for got, expected in zip((one, other), function(matrix(0)), strict=True):
            assert torch.equal(got, expected)


def test_a_batch_of_matmuls_with_one_matrix_is_one_matmul():
    """vmap of a matmul of a transpose becomes one matmul of all rows, with the same value."""
    z, w = matrix(0, 5, 3, 4), matrix(1, 3, 2)

    def function(z, w):
        return vmap(lambda z: z.t() @ w)(z)

    before, after = rewritten(function, z, w)
    assert count(before, aten.bmm.default) == 1
    assert count(after, aten.bmm.default) == 0
    assert count(after, aten.mm.default) == 1
    torch.testing.assert_close(after(z, w), z.mT @ w, atol=1e-12, rtol=0)


def test_other_batches_of_matmuls_stay():
    """Batches of different matrices, whether inputs, expanded from rows or split."""
    z, w = matrix(0, 3, 4, 3), matrix(1, 3, 3, 3)
    several = {
        "inputs": torch.bmm,
        "expanded of one": lambda z, w: torch.bmm(z, w[:, :1, :].expand(3, 3, 3)),
        "split": lambda z, w: torch.bmm(z, w.reshape(27).expand(2, 27)[0].view(3, 3, 3)),
    }
    for function in several.values():
        _, after = rewritten(function, z, w)
        assert count(after, aten.bmm.default) == 1
        assert torch.equal(after(z, w), function(z, w))


def test_a_scalar_that_several_tensors_read_is_stored():
    """Computed from an input and read twice; not one read once, no constant, no larger tensor."""

    def function(count, x, y):
        rate, other, ones = torch.pow(0.5, count), torch.exp(count), torch.ones(())
        return x * rate - ones, y * rate + ones, x * other, x.exp() * y, y - x.exp()

    _, after = rewritten(function, torch.tensor(2.0, dtype=torch.float64), matrix(0), matrix(1))
    kept = [node.target for node in after.graph.nodes if node.meta.get(KEPT_MARK)]
    assert kept == [aten.pow.Scalar]
