"""A product with a bias is a product and a sum, and its value is what it was."""

import pytest
import torch
from tracing import aten, count, numbers, rewritten

from fgan.compiler.passes import Rewrite
from fgan.compiler.passes.biases import part_biases

A, B, C = numbers(6, 5), numbers(5, 4), numbers(6, 4)
PARTED = {
    "a row": lambda a, b, c: torch.addmm(c[0], a, b),
    "one number": lambda a, b, c: torch.addmm(c[0, :1], a, b),
    "a matrix": lambda a, b, c: torch.addmm(c, a, b),
    "of one column": lambda a, b, c: torch.addmm(c[0, :1], a, b[:, :1]),
    "in float32": lambda a, b, c: torch.addmm(c[0].float(), a.float(), b.float()),
}
WHOLE = {
    "scaled": lambda a, b, c: torch.addmm(c, a, b, alpha=2.0),
    "in bfloat16": lambda a, b, c: torch.addmm(*(x.bfloat16() for x in (c, a, b))),
    "without a bias": lambda a, b, c: a @ b,
}


def parted(function):
    """The traced function after the pass."""
    return rewritten(function, A, B, C, passes=[Rewrite(part_biases)])


@pytest.mark.parametrize("name", list(PARTED))
def test_a_bias_is_added_after_the_product(name):
    """One product, one sum, and the value of einsum."""
    module = parted(PARTED[name])
    assert count(module, aten.addmm.default) == 0
    assert count(module, aten.mm.default) == count(module, aten.add.Tensor) == 1
    bias = {"a matrix": C, "a row": C[0], "in float32": C[0]}.get(name, C[0, :1])
    columns = B[:, :1] if name == "of one column" else B
    expected = torch.einsum("mk,kn->mn", A, columns) + bias
    tolerance = 1e-5 if name == "in float32" else 1e-12
    got = module(A, B, C).double()
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", list(WHOLE))
def test_others_stay(name):
    """Scaled products, rounded ones, and those without a bias."""
    module = parted(WHOLE[name])
    assert count(module, aten.add.Tensor) == 0
    assert torch.equal(module(A, B, C), WHOLE[name](A, B, C))
