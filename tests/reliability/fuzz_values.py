"""Mutations of plain values: numbers, counts, seeds, flags, words, shapes."""

import re
from collections.abc import Callable, Iterator

import numpy as np
import torch
from fuzz_core import NAN, REFUSED, Mutation
from fuzz_tensors import Maker, shape_of
from torch import nn

import fgan


def scalars(make: Maker) -> Iterator[Mutation]:
    """Of a number, 0-d tensor or (`schedule`) function of the count, at least `low`."""
    x, hints = float(make.right), make.hints
    number = (r"number", r"\bat least\b", r"\babove\b", r"\blies in\b", r"finite", r"between")
    yield make("text", f"{x}", expected=number)
    yield make("text with an exponent", "1e-3", expected=number)
    yield make("NaN", float("nan"), given=("nan",), expected=number)
    yield make("infinite", float("inf"), given=("inf",), expected=number)
    yield make("negative", -x - 1, expected=number)
    yield make("negative integer", -3, expected=number)
    if "high" in hints:
        yield make("too high", hints["high"] + 0.5, expected=number)
        yield make("at the upper end", float(hints["high"]), expected=number)
    if hints.get("above"):
        yield make("zero", 0.0, given=(r"\b0\b", r"\b0\.0\b"), expected=number)
    several = torch.full((3,), x)
    yield make("one per run", several, given=shape_of(several),
               expected=(*number, "0-d", "vmap", "population"))  # fmt: skip
    yield make("shape [1]", several[:1], given=shape_of(several[:1]), expected=(*number, "0-d"))
    yield make("a list", [x, x], given=("list", re.escape(str([x, x]))), expected=number)
    yield make("an array", np.array([x]), given=("array",), expected=number)
    yield make("True", True, given=("True", "bool"), expected=number)
    none = hints.get("none", REFUSED)
    yield make("None", None, given=("None",), expected=number, meaning=none)
    yield make("a dict", {}, given=("dict", r"\{\}"), expected=number, plausible=False)
    yield make("complex", 1j, given=("1j", "complex"), expected=number, plausible=False)
    yield make("a NaN in a tensor", torch.tensor(float("nan")), given=("nan",), expected=number,
               meaning=NAN)  # fmt: skip
    yield make("an integer tensor [2]", torch.tensor([1, 2]), given=shape_of(several[:2]),
               expected=(*number, "0-d"), plausible=False)  # fmt: skip
    yield make("float32 of NumPy", np.float32(x), expected=number, meaning=float(np.float32(x)))
    yield make("float64 of NumPy", np.float64(x), expected=number, meaning=x)
    yield make("a 0-d array", np.array(x), given=("array",), expected=number, meaning=x)
    if hints.get("tensor", True):
        yield make("a 0-d tensor", torch.tensor(x), meaning=x, expected=number)
        yield make("a 0-d float64 tensor", torch.tensor(x).double(), meaning=x, expected=number)
    function = _constant(x)
    meaning = x if hints.get("schedule", True) else REFUSED
    yield make("a schedule", function, given=("function",), expected=number, meaning=meaning,
               plausible=False)  # fmt: skip
    if hints.get("schedule", True):
        yield make("a schedule of text", lambda count: "0.1", given=("0.1", "str"),
                   expected=number, plausible=False)  # fmt: skip
        yield make("a schedule without parentheses", fgan.optim.linear,
                   given=("linear", "function"),
                   expected=(*number, "function of", "0-d"))  # fmt: skip
        yield make("a schedule of None", lambda count: None, given=("None",), expected=number,
                   names=("schedule",))  # fmt: skip
        yield make("a schedule of [1]", lambda count: torch.full((1,), x), given=(r"\[1\]",),
                   expected=(*number, "0-d"), names=("schedule",))  # fmt: skip


def _constant(value: float) -> Callable[..., float]:
    return lambda count: value


def counts(make: Maker) -> Iterator[Mutation]:
    """Of a whole number from `low`."""
    n, low = make.right, make.hints.get("low", 1)
    whole = (r"whole number", r"integer", r"at least", rf"from {low}\b", "sequence", "range")
    none = make.hints.get("none", REFUSED)
    if low > 0:
        yield make("zero", 0, given=(r"\b0\b",), expected=whole)
    yield make("negative", -1, given=("-1",), expected=whole)
    yield make("a fraction", n + 0.5, expected=whole)
    yield make("a whole float", float(n), given=(re.escape(str(float(n))),), expected=whole,
               meaning=n)  # fmt: skip
    yield make("text", str(n), expected=whole)
    yield make("True", True, given=("True", "bool"), expected=whole)
    yield make("None", None, given=("None",), expected=whole, meaning=none)
    yield make("a tuple", (n, n), given=("tuple", re.escape(str((n, n)))), expected=whole)
    yield make("a tensor of several", torch.tensor([n, n]), given=("tensor",), expected=whole)
    yield make("NaN", float("nan"), given=("nan",), expected=whole, plausible=False)
    yield make("an integer of NumPy", np.int64(n), given=("int64", str(n)), expected=whole,
               meaning=n)  # fmt: skip
    yield make("a 0-d tensor", torch.tensor(n), given=("tensor",), expected=whole, meaning=n)


def seeds(make: Maker) -> Iterator[Mutation]:
    """Of a seed or index of a round: any integer."""
    n = make.right
    whole = (r"whole number", r"integer", r"\bint\b")
    yield make("an integer of NumPy", np.int64(n), expected=whole, meaning=n)
    yield make("a small integer of NumPy", np.uint8(n), expected=whole, meaning=n)
    yield make("a 0-d tensor", torch.tensor(n), given=("tensor",), expected=whole, meaning=n)
    yield make("a fraction", n + 0.5, expected=whole)
    yield make("a whole float", float(n), expected=whole, meaning=n)
    yield make("text", str(n), expected=whole)
    yield make("a generator of torch", torch.Generator(), given=("Generator",), expected=whole)
    yield make("a generator of NumPy", np.random.default_rng(0), given=("Generator",),
               expected=whole)  # fmt: skip
    yield make("a tensor of several", torch.tensor([n, n]), given=("tensor",), expected=whole)
    yield make("a tensor [1]", torch.tensor([n]), given=("tensor",), expected=whole, meaning=n)
    yield make("a list", [n], given=(re.escape(str([n])), "list"), expected=whole)
    yield make("True", True, given=("True", "bool"), expected=whole, meaning=1, plausible=False)
    yield make("NaN", float("nan"), given=("nan",), expected=whole, plausible=False)
    yield make("modulo 2**64", n + 2**64, meaning=n, plausible=False)
    if not make.hints.get("optional"):
        yield make("None", None, given=("None",), expected=whole)


def booleans(make: Maker) -> Iterator[Mutation]:
    """Of True or False."""
    flag = make.right
    kind = (r"\bbool", r"True or False", r"True", r"False")
    for value in ("False", "no", "true", ""):
        yield make(f"text {value!r}", value, expected=kind)
    none = make.hints.get("none", REFUSED)
    yield make("None", None, given=("None",), expected=kind, meaning=none)
    yield make("a number", 0.5, expected=kind)
    yield make("a list", [flag], given=("list", re.escape(str([flag]))), expected=kind)
    yield make("a module", nn.Linear(1, 1), given=("Linear",), expected=kind, plausible=False)
    yield make("several booleans", torch.tensor([flag, flag]), given=("tensor",), expected=kind)
    yield make("zero or one", int(flag), given=(r"\b[01]\b",), expected=kind, meaning=flag)
    yield make("a boolean of NumPy", np.bool_(flag), expected=kind, meaning=flag)
    yield make("a 0-d boolean", torch.tensor(flag), given=("tensor",), expected=kind, meaning=flag)


def choices(make: Maker) -> Iterator[Mutation]:
    """Of a word out of a few."""
    word, known = make.right, tuple(map(re.escape, make.hints["known"]))
    none = make.hints.get("none", REFUSED)
    yield make("a misspelt word", f"{word}s"[1:], expected=known)
    yield make("in capitals", word.upper(), expected=known, meaning=word)
    yield make("empty", "", given=("''",), expected=known)
    yield make("None", None, given=("None",), expected=known, meaning=none)
    yield make("a number", 3, expected=known)
    yield make("a list", [word], given=(re.escape(str([word])), "list"), expected=known)
    yield make("a tuple", (word, word), given=("tuple", re.escape(word)), expected=known)
    yield make("bytes", word.encode(), given=(r"b'",), expected=known, plausible=False)
    yield make("True", True, given=("True",), expected=known)


def shapes(make: Maker) -> Iterator[Mutation]:
    """Of the shape of a sample or of hidden layers: a sequence of whole numbers from 1."""
    shape = tuple(make.right)
    kind = (r"whole number", r"integer", r"sequence", r"\(channels", r"tuple", r"at least", "shape")
    yield make("a list", list(shape), meaning=shape)
    yield make("a torch.Size", torch.Size(shape), meaning=shape)
    yield make("of integers of NumPy", tuple(map(np.int64, shape)), expected=kind, meaning=shape)
    yield make("an integer", shape[0], given=(rf"\b{shape[0]}\b", "int"), expected=kind)
    yield make("text", str(shape), expected=kind)
    none = make.hints.get("none", REFUSED)
    yield make("None", None, given=("None",), expected=kind, meaning=none)
    yield make("floats", tuple(map(float, shape)),
               given=(re.escape(str(float(shape[0]))),), expected=kind)  # fmt: skip
    yield make("with a zero", (*shape[:-1], 0), given=(r"\b0\b",), expected=kind)
    yield make("with a negative size", (-1, *shape[1:]), given=("-1",), expected=kind)
    yield make("of text", tuple(map(str, shape)), given=(f"'{shape[0]}'", "str"), expected=kind)
    yield make("a dict", {"size": 2}, given=("dict", "size"), expected=kind, plausible=False)
    yield make("a float", 2.5, expected=kind, plausible=False)


def paths(make: Maker) -> Iterator[Mutation]:
    """Of a path."""
    kind = (r"path", r"str\b", "folder", "file")
    for value in (None, 3, ["x"], 0.5):
        yield make(f"{value!r}", value, expected=kind)
