"""Matmuls of few columns are computed as their transposes, with the same values."""

import pytest
import torch
from graphs import aten, needs_cpp_compiler, rewritten, whole_numbers

from fgan.compiler.backends import inductor
from fgan.compiler.passes.transpose_skinny_matmul import transpose_skinny_matmul
from fgan.compiler.tracing import Program

A, B, C = whole_numbers(300, 200), whole_numbers(200, 40), whole_numbers(300, 40)
X, Y = whole_numbers(40, 30, 30), whole_numbers(40, 30, 50)
INPUTS = A, B, C, X, Y
TRANSPOSED = {
    "two columns": lambda a, b, c, x, y: a @ b[:, :2],
    "by a transposed matrix": lambda a, b, c, x, y: a @ b.t()[:15].t(),
    "of a transposed matrix": lambda a, b, c, x, y: a.t() @ c[:, 3:6],
    "three columns for each": lambda a, b, c, x, y: torch.bmm(x, y[..., :3]),
    "of transposed matrices": lambda a, b, c, x, y: torch.bmm(y.mT, x.mT[..., :5]),
}
KEPT = {
    "many columns": lambda a, b, c, x, y: a @ b,
    "a vector": lambda a, b, c, x, y: a @ b[:, :1],
    "few rows as well": lambda a, b, c, x, y: a.reshape(15, -1) @ y.reshape(4000, -1)[:, :2],
    "a small one": lambda a, b, c, x, y: a[:100] @ b[:, :2],
    "many columns for each": lambda a, b, c, x, y: torch.bmm(x, y),
    "a vector for each": lambda a, b, c, x, y: torch.bmm(x, y[..., :1]),
    "few rows for each": lambda a, b, c, x, y: torch.bmm(
        y[:, :15], x.mT.repeat(1, 2, 1)[:, :50, :2]
    ),
    "small ones for each": lambda a, b, c, x, y: torch.bmm(x[:9], y[:9, :, :2]),
    "in float64": lambda a, b, c, x, y: torch.bmm(x.double(), y[..., :2].double()).float(),
}


def matmul_shapes(function):
    """The shapes of the matmuls of the traced function after the pass, which changes no value."""
    module = rewritten(function, *INPUTS, passes=[transpose_skinny_matmul])
    torch.testing.assert_close(module(*INPUTS), function(*INPUTS), atol=0, rtol=0)
    kinds = aten.mm.default, aten.bmm.default
    return [node.meta["val"].shape for node in module.graph.nodes if node.target in kinds]


@pytest.mark.parametrize("name", list(TRANSPOSED))
def test_a_skinny_matmul_is_transposed(name):
    """One matmul, of the transposed shape, and the same value."""
    shape = TRANSPOSED[name](*INPUTS).mT.shape
    assert matmul_shapes(TRANSPOSED[name]) == [shape]


@pytest.mark.parametrize("name", list(KEPT))
def test_other_matmuls_stay(name):
    """Wide ones, matrix-vector products, and small ones."""
    shape = KEPT[name](*INPUTS).shape
    assert matmul_shapes(KEPT[name]) == [shape]


@needs_cpp_compiler
def test_compiled_matmuls_have_the_same_values():
    """All of them in one compiled program."""
    functions = [*TRANSPOSED.values(), *KEPT.values()]

    def all_of_them(*inputs):
        return tuple(function(*inputs) for function in functions)

    got = Program(all_of_them, inductor)(*INPUTS)
    torch.testing.assert_close(got, all_of_them(*INPUTS), atol=0, rtol=0)
