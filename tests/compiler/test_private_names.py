"""Private names of torch: one module mentions them, and fgan trains on where one has moved."""

import ast
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from graphs import needs_cpp_compiler
from helpers import assert_close, make_round, pair

import fgan
from fgan import tree
from fgan.compiler import _torch

FOLDER = Path(fgan.__file__).parent / "compiler"
PUBLIC = {"_replace", "_make", "_fields", "_asdict"}
"""Methods of named tuples, which are public in spite of their underscore."""


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def private_names(text):
    """What a module reads of private names of other packages, as source text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("fgan"):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            if any(map(is_private, parts)) or "experimental" in parts:
                yield ast.unparse(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if any(map(is_private, alias.name.split("."))):
                    yield ast.unparse(node)


def test_only_one_module_mentions_private_names():
    """Neither imports nor attributes that begin with an underscore stand elsewhere."""
    found = {
        path.name: names
        for path in sorted(FOLDER.rglob("*.py"))
        if path.name != "_torch.py" and (names := list(private_names(path.read_text())))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "import torch._inductor",
        "from torch._ops import OpOverload",
        "from torch.fx.experimental.proxy_tensor import make_fx",
        "from torch import _guards",
        "x = torch._foreach_copy_",
        "x = target._schema.arguments",
        "x = aten._unsafe_view.default",
    ],
)
def test_the_parser_sees_private_names(text):
    """Each kind of mention is found; those of fgan's own objects are not."""
    assert list(private_names(text))
    assert not list(private_names("from fgan.compiler import _torch\nself._x = state._replace()"))


def test_this_torch_has_every_name():
    """The check finds nothing missing, and every name can be read."""
    assert _torch.missing(inductor=True) == []
    for name in (*_torch._TRACING, *_torch._INDUCTOR):
        assert getattr(_torch, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _torch.no_such_name  # noqa: B018


def test_an_import_of_fgan_imports_no_compiler():
    """torch's compiler takes seconds to import, and `fgan.compile` alone needs it."""
    code = "import sys, fgan; print([m for m in sys.modules if m.startswith('torch._inductor')])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=FOLDER.parent.parent,
    )
    assert done.stdout.strip() == "[]"


MOVED = {
    "standalone_compile": ("inductor", "torch._inductor", "standalone_compile"),
    "stable_topological_sort": (
        "inductor", "torch._inductor.pattern_matcher", "stable_topological_sort",
    ),
    "make_fx": ("interpreter", "torch.fx.experimental.proxy_tensor", "make_fx"),
}  # fmt: skip


def rounds(step, algorithm, count=3):
    """The state and the infos of some rounds."""
    state, infos = algorithm.init(), []
    for index in range(count):
        state, info = step(state, *make_round(algorithm, conditional=True, index=index))
        infos.append(info)
    return tree.clone(state), infos


@needs_cpp_compiler
@pytest.mark.parametrize("name", list(MOVED))
def test_a_name_that_has_moved_falls_back_to_torch_compile(name, monkeypatch):
    """One warning names it, training goes on as the eager one, and no state is donated."""
    backend, module, attribute = MOVED[name]
    # torch.compile itself needs the name within torch, so only fgan's path to it is broken.
    monkeypatch.setitem(_torch._PATHS, name, f"{module}:{attribute}_moved")
    table = "_TRACING" if name in _torch._TRACING else "_INDUCTOR"
    monkeypatch.setitem(getattr(_torch, table), name, f"{module}:{attribute}_moved")
    algorithm = fgan.gan(*pair(conditional=True, norm=True), n_critic=2, ema_decay=0.9)
    with pytest.warns(UserWarning, match=f"{attribute}_moved.*not donated") as caught:
        compiled = fgan.compile(algorithm, backend=backend)
    assert len(caught) == 1
    state = algorithm.init()
    compiled.step(state, *make_round(algorithm, conditional=True))
    assert_close(state, algorithm.init())
    assert_close(rounds(compiled.step, algorithm), rounds(algorithm.step, algorithm))
    torch._dynamo.reset()


def test_a_name_of_the_other_backend_does_not_matter(monkeypatch):
    """The interpreter needs no part of Inductor."""
    monkeypatch.setitem(_torch._INDUCTOR, "ExternKernel", "torch._inductor.ir:Moved")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fgan.compile(fgan.gan(*pair()), backend="interpreter")


def test_options_and_keys_are_checked_too(monkeypatch):
    """An option that Inductor has renamed, and a key that its source does not mention."""
    monkeypatch.setattr(_torch, "_OPTIONS", ("combo_kernels", "cpp.moved"))
    monkeypatch.setattr(_torch, "REALIZE", "moved_" + "key")
    option, key = _torch.missing(inductor=True)
    assert option == "torch._inductor.config.cpp.moved"
    assert "moved_key" in key


def test_an_inductor_without_source_is_taken_to_read_the_key(monkeypatch):
    """Where there is no source to read, nothing says that the key has moved."""

    def no_source(module):
        raise OSError("could not get source code")

    monkeypatch.setattr(_torch.inspect, "getsource", no_source)
    assert _torch._reads_realize_key()
