"""Matmuls that a compiled program computes by oneDNN keep their values."""

import pytest
import torch
from graphs import aten, count, needs_cpp_compiler, rewritten, whole_numbers
from torch.fx.experimental.proxy_tensor import make_fx

from fgan.compiler.backends import inductor
from fgan.compiler.passes.onednn_linear import matmul_to_onednn_linear
from fgan.compiler.tracing import Program

LINEAR = torch.ops.fgan.linear.default

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


A, B, C = whole_numbers(520, 40), whole_numbers(40, 510), whole_numbers(520, 510)
REPLACED = {
    "rows by rows": lambda a, b, c: a @ b,
    "rows by columns": lambda a, b, c: c @ b.t(),
    "columns by rows": lambda a, b, c: a.t() @ c,
    "columns by columns": lambda a, b, c: b.t() @ a.t(),
    "with a bias": lambda a, b, c: torch.addmm(c[0], a, b),
    "with a bias for all columns": lambda a, b, c: torch.addmm(c[0, :1], a, b),
    "with a matrix": lambda a, b, c: torch.addmm(c, a, b),
    "with a column": lambda a, b, c: torch.addmm(c[:, :1], a, b),
    "of a slice": lambda a, b, c: a[:, 1:35] @ b[1:35],
    "of a part of the columns": lambda a, b, c: a @ b[:, 1:500],
    "of an expanded row": lambda a, b, c: a @ b[:1].expand(40, 510),
}
KEPT = {
    "a matrix-vector product": lambda a, b, c: a @ b[:, :1],
    "a vector-matrix product": lambda a, b, c: a[:1] @ b,
    "a small one": lambda a, b, c: a[:64] @ b,
    "of no columns": lambda a, b, c: a[:, :0] @ b[:0],
    "scaled": lambda a, b, c: torch.addmm(c, a, b, beta=2.0),
    "in float64": lambda a, b, c: (a.double() @ b.double()).float(),
}


def rewritten_by_pass(function):
    """The traced function after the pass."""
    return rewritten(function, A, B, C, passes=[matmul_to_onednn_linear])


@pytest.mark.parametrize("name", list(REPLACED))
def test_a_large_matmul_is_replaced(name):
    """One call of fgan::linear instead of a matmul, and the value that float64 gives."""
    traced = rewritten_by_pass(REPLACED[name])
    assert count(traced, LINEAR) == 1
    assert count(traced, aten.mm.default, aten.addmm.default) == 0
    expected = REPLACED[name](A.double(), B.double(), C.double())
    assert torch.equal(traced(A, B, C).double(), expected)


@pytest.mark.parametrize("name", list(KEPT))
def test_other_matmuls_stay(name):
    """Small ones, matrix-vector products, scaled ones and other dtypes."""
    traced = rewritten_by_pass(KEPT[name])
    assert count(traced, LINEAR) == 0
    assert torch.equal(traced(A, B, C), KEPT[name](A, B, C))


def test_the_fake_kernel_gives_the_shape():
    """What the compiler is told about the result agrees with the result."""
    torch.library.opcheck(torch.ops.fgan.linear, (A, B.t(), C[0]), test_utils="test_faketensor")


@pytest.mark.parametrize(
    ("name", "runs"), [("AMD EPYC", True), ("Intel Xeon", False), (None, True)]
)
def test_intel_processors_keep_mkl(monkeypatch, name, runs):
    """The pass runs on processors of other makers, and of unknown ones."""
    capabilities = {} if name is None else {"cpu_name": name}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda *_, options, **__: options)
    options = inductor(make_fx(torch.mm)(A, B), [A, B])
    passes, _ = options["config_patches"]["post_grad_custom_post_pass"].uuid()
    assert ("onednn_linear" in passes) is runs


@needs_cpp_compiler
def test_compiled_matmuls_have_the_same_values(monkeypatch, tmp_path):
    """All of them in one compiled program, with operands in every order of memory."""
    monkeypatch.setattr("fgan.compiler.passes.onednn_linear.is_faster", lambda: True)

    def all_of_them(a, b, c):
        # Computed operands too: the compiler chooses their layout in memory.
        operands = [(a, b, c), (a * 2, b + 1, -c)]
        return [function(*each) for each in operands for function in REPLACED.values()]

    expected = all_of_them(A.double(), B.double(), C.double())
    # A program that the compiler finds on disk would not be lowered again.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    program = Program(all_of_them, inductor)
    for _ in range(2):
        for got, value in zip(program(A, B, C), expected, strict=True):
            assert torch.equal(got.double(), value)
