"""A matmul with a bias becomes a matmul and a sum, of the same value."""

import pytest
import torch
from graphs import aten, count, numbers, rewritten

from fgan.compiler.passes.unfuse_addmm import unfuse_addmm

A, B, C = numbers(6, 5), numbers(5, 4), numbers(6, 4)
UNFUSED = {
    "a row as bias": lambda a, b, c: torch.addmm(c[0], a, b),
    "one number as bias": lambda a, b, c: torch.addmm(c[0, :1], a, b),
    "a matrix as bias": lambda a, b, c: torch.addmm(c, a, b),
    "of one column": lambda a, b, c: torch.addmm(c[0, :1], a, b[:, :1]),
    "in float32": lambda a, b, c: torch.addmm(c[0].float(), a.float(), b.float()),
}
KEPT = {
    "scaled": lambda a, b, c: torch.addmm(c, a, b, alpha=2.0),
    "in bfloat16": lambda a, b, c: torch.addmm(*(x.bfloat16() for x in (c, a, b))),
    "without a bias": lambda a, b, c: a @ b,
}


def unfused(function):
    """The traced function after the pass."""
    return rewritten(function, A, B, C, passes=[unfuse_addmm])


@pytest.mark.parametrize("name", list(UNFUSED))
def test_a_bias_is_added_after_the_matmul(name):
    """One matmul, one sum, and the value of einsum."""
    module = unfused(UNFUSED[name])
    assert count(module, aten.addmm.default) == 0
    assert count(module, aten.mm.default) == count(module, aten.add.Tensor) == 1
    bias = {"a matrix as bias": C, "a row as bias": C[0], "in float32": C[0]}.get(name, C[0, :1])
    columns = B[:, :1] if name == "of one column" else B
    expected = torch.einsum("mk,kn->mn", A, columns) + bias
    tolerance = 1e-5 if name == "in float32" else 1e-12
    got = module(A, B, C).double()
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", list(KEPT))
def test_other_matmuls_stay(name):
    """Scaled ones, those in bfloat16, and those without a bias."""
    module = unfused(KEPT[name])
    assert count(module, aten.add.Tensor) == 0
    assert torch.equal(module(A, B, C), KEPT[name](A, B, C))
