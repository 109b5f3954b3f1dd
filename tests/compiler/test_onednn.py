"""Matrix products that a compiled program hands to oneDNN are the products they were."""

import shutil

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from tracing import aten, count, rewritten

from fgan.compiler.passes import Rewrite
from fgan.compiler.passes.onednn import by_onednn
from fgan.compiler.tracing import Program, inductor

LINEAR = torch.ops.fgan.linear.default

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


def numbers(*shape):
    """Small whole numbers, the same for the same shape: float32 holds their products' sums."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-4, 5, shape, generator=generator).float()


A, B, C = numbers(520, 40), numbers(40, 510), numbers(520, 510)
OURS = {
    "rows by rows": lambda a, b, c: a @ b,
    "rows by columns": lambda a, b, c: c @ b.t(),
    "columns by rows": lambda a, b, c: a.t() @ c,
    "columns by columns": lambda a, b, c: b.t() @ a.t(),
    "with a bias": lambda a, b, c: torch.addmm(c[0], a, b),
    "with a bias for all columns": lambda a, b, c: torch.addmm(c[0, :1], a, b),
    "with a matrix": lambda a, b, c: torch.addmm(c, a, b),
    "with a column": lambda a, b, c: torch.addmm(c[:, :1], a, b),
    "of a slice": lambda a, b, c: a[:, 1:35] @ b[1:35],
    "of a part of all rows": lambda a, b, c: a @ b[:, 1:500],
    "of one row for all": lambda a, b, c: a @ b[:1].expand(40, 510),
}
THEIRS = {
    "a column": lambda a, b, c: a @ b[:, :1],
    "a row": lambda a, b, c: a[:1] @ b,
    "a small one": lambda a, b, c: a[:64] @ b,
    "of nothing": lambda a, b, c: a[:, :0] @ b[:0],
    "scaled": lambda a, b, c: torch.addmm(c, a, b, beta=2.0),
    "in float64": lambda a, b, c: (a.double() @ b.double()).float(),
}


def handed_over(function):
    """The traced function after the pass."""
    return rewritten(function, A, B, C, passes=[Rewrite(by_onednn)])


@pytest.mark.parametrize("name", list(OURS))
def test_a_product_is_handed_over(name):
    """One product of ours instead of one of torch's, and its value in float64."""
    traced = handed_over(OURS[name])
    assert count(traced, LINEAR) == 1
    assert count(traced, aten.mm.default, aten.addmm.default) == 0
    expected = OURS[name](A.double(), B.double(), C.double())
    assert torch.equal(traced(A, B, C).double(), expected)


@pytest.mark.parametrize("name", list(THEIRS))
def test_other_products_stay(name):
    """Small products, those with vectors, scaled ones and other types are torch's own."""
    traced = handed_over(THEIRS[name])
    assert count(traced, LINEAR) == 0
    assert torch.equal(traced(A, B, C), THEIRS[name](A, B, C))


def test_a_product_has_the_shape_it_says():
    """What the compiler is told of a product, without data, is what running it gives."""
    torch.library.opcheck(torch.ops.fgan.linear, (A, B.t(), C[0]), test_utils="test_faketensor")


@pytest.mark.parametrize(
    ("name", "handed"), [("AMD EPYC", True), ("Intel Xeon", False), (None, True)]
)
def test_intels_own_library_is_left_its_products(monkeypatch, name, handed):
    """Programs go through the pass on processors of other makers, and of unknown ones."""
    capabilities = {} if name is None else {"cpu_name": name}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda *_, options, **__: options)
    options = inductor(make_fx(torch.mm)(A, B), [A, B])
    passes, _ = options["config_patches"]["post_grad_custom_post_pass"].uuid()
    assert ("by_onednn" in passes) is handed


@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="no C++ compiler")
def test_compiled_products_are_the_products(monkeypatch):
    """All of them in one compiled program, with operands in every order of memory."""
    monkeypatch.setattr("fgan.compiler.passes.onednn.is_faster", lambda: True)

    def every(a, b, c):
        # Of computed operands too: the compiler is free to choose how those lie in memory.
        operands = [(a, b, c), (a * 2, b + 1, -c)]
        return [function(*given) for given in operands for function in OURS.values()]

    expected = every(A.double(), B.double(), C.double())
    program = Program(every, inductor)
    for _ in range(2):
        for got, value in zip(program(A, B, C), expected, strict=True):
            assert torch.equal(got.double(), value)
