"""Products with few columns are computed as their transposes, and are what they were."""

import shutil

import pytest
import torch
from tracing import aten, rewritten

from fgan.compiler.passes import Rewrite
from fgan.compiler.passes.narrow import turn_narrow
from fgan.compiler.tracing import Program, inductor


def numbers(*shape):
    """Small whole numbers, the same for the same shape: float32 holds their products' sums."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-4, 5, shape, generator=generator).float()


A, B, C = numbers(300, 200), numbers(200, 40), numbers(300, 40)
X, Y = numbers(40, 30, 30), numbers(40, 30, 50)
INPUTS = A, B, C, X, Y
TURNED = {
    "two columns": lambda a, b, c, x, y: a @ b[:, :2],
    "by a transposed matrix": lambda a, b, c, x, y: a @ b.t()[:15].t(),
    "of a transposed matrix": lambda a, b, c, x, y: a.t() @ c[:, 3:6],
    "three columns for each": lambda a, b, c, x, y: torch.bmm(x, y[..., :3]),
    "of transposed matrices": lambda a, b, c, x, y: torch.bmm(y.mT, x.mT[..., :5]),
}
STAYING = {
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


def products(function):
    """The shapes of the products of the traced function after the pass, which changes no value."""
    module = rewritten(function, *INPUTS, passes=[Rewrite(turn_narrow)])
    torch.testing.assert_close(module(*INPUTS), function(*INPUTS), atol=0, rtol=0)
    kinds = aten.mm.default, aten.bmm.default
    return [node.meta["val"].shape for node in module.graph.nodes if node.target in kinds]


@pytest.mark.parametrize("name", list(TURNED))
def test_a_narrow_product_is_turned(name):
    """One product, whose rows are the columns, and the same value."""
    shape = TURNED[name](*INPUTS).mT.shape
    assert products(TURNED[name]) == [shape]


@pytest.mark.parametrize("name", list(STAYING))
def test_other_products_stay(name):
    """Wide ones, vectors, and what is too small to matter."""
    shape = STAYING[name](*INPUTS).shape
    assert products(STAYING[name]) == [shape]


@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="no C++ compiler")
def test_compiled_products_are_the_products():
    """All of them in one compiled program."""
    functions = [*TURNED.values(), *STAYING.values()]

    def all_of_them(*inputs):
        return tuple(function(*inputs) for function in functions)

    got = Program(all_of_them, inductor)(*INPUTS)
    torch.testing.assert_close(got, all_of_them(*INPUTS), atol=0, rtol=0)
