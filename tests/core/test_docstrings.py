"""Every public name has a short example in its docstring, and the examples run as they stand.

An example may use `torch` and `fgan` without an import, and runs in a folder of its own. "..." in
an output stands for anything.
"""

import doctest
import importlib
import importlib.util
import inspect
from types import ModuleType

import pytest
import strategies  # noqa: F401 (the Hypothesis profile: a few examples, always the same)
import torch
import torch.distributed as dist

import fgan

MODULES = (
    *[name for name in fgan.__all__ if isinstance(getattr(fgan, name), ModuleType)],
    *("augmented", "networks", "noisy", "recipes", "testing"),
    *(f"run.{name}" for name in fgan.run.__all__),
)
"""Modules below fgan whose public names are in `__all__`."""

NEEDS = {"TensorBoard": "tensorboard", "export": "safetensors"}
"""What the example of a name needs beside fgan; without it the example is not run."""


def public():
    """module -> name -> object; functions and classes alone, each in the first module it is in."""
    seen, found = set(), {}
    for place in ("fgan", *(f"fgan.{name}" for name in MODULES)):
        module = importlib.import_module(place)
        found[place] = {}
        for name in module.__all__:
            thing = getattr(module, name)
            described = inspect.isclass(thing) or inspect.isfunction(thing)
            if described and id(thing) not in seen:
                seen.add(id(thing))
                found[place][name] = thing
    return found


PUBLIC = public()
PARSER = doctest.DocTestParser()


def examples(thing):
    """What stands under "Example:" at the end of a docstring, or "" where nothing does."""
    _, heading, text = (inspect.getdoc(thing) or "").partition("\n\nExample:\n")
    return text if heading and PARSER.get_examples(text) else ""


def failures(name, text):
    """Run the examples of a name; what differs, in words."""
    told = []
    test = PARSER.get_doctest(text, {"torch": torch, "fgan": fgan}, name, None, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=told.append)
    return "".join(told)


def test_every_public_name_has_an_example():
    things = {
        f"{place}.{name}": thing for place, names in PUBLIC.items() for name, thing in names.items()
    }
    assert len(things) > 150
    assert [name for name, thing in things.items() if not examples(thing)] == []


@pytest.mark.parametrize("place", [place for place, names in PUBLIC.items() if names])
def test_the_examples_of_docstrings_run(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where runs are written
    told = []
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for name, thing in PUBLIC[place].items():
                if name not in NEEDS or importlib.util.find_spec(NEEDS[name]):
                    told.append(failures(f"{place}.{name}", examples(thing)))
    finally:
        if dist.is_initialized():  # by an example that has failed
            dist.destroy_process_group()
    assert "".join(told) == ""


def test_a_wrong_example_is_found():
    wrong = failures("wrong", ">>> torch.zeros(2).shape\ntorch.Size([3])\n")
    assert "Expected:\n    torch.Size([3])\nGot:\n    torch.Size([2])\n" in wrong
