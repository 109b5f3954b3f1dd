"""Mutations of seeds of a population, of declared random tensors, and of parts of a round."""

import torch
from fuzz_core import REFUSED, Argument, Mutation, is_mark
from fuzz_objects import make_argument as a
from fuzz_tensors import Maker, labels, no_labels, tensors


def target_of_parts(part: str, argument: Argument) -> list[Mutation]:
    """The mutations of one part of a batch or of noise."""
    kinds = {"tensor": tensors, "labels": labels, "no labels": no_labels}
    return list(kinds[argument.kind](Maker(part, argument)))


def seed_lists(make: Maker) -> list[Mutation]:
    """Of one seed for each member of a population."""
    known = ("sequence", "one a member", "members", "whole number", "integer", "at least one")
    right = list(make.right)
    return [
        make("one seed", 3, expected=known),
        make("None", None, given=("None",), expected=known),
        make("text", "34", expected=known),
        make("no seeds", (), given=(r"\b0\b", "no", "empty", r"\(\)"), expected=known,
             meaning=REFUSED),
        make("floats", [0.5, 1.5], given=(r"0\.5", "float"), expected=known),
        make("a tensor", torch.tensor(right), given=("tensor",), expected=known, meaning=right),
        make("an array", torch.tensor(right).numpy(), given=("array",), expected=known,
             meaning=right),
        make("a range", range(3, 5), expected=known, meaning=right),
        make("a set", set(right), given=(r"\{3, 4\}", "set"), expected=known),
        make("nested", [right], given=(r"\[3, 4\]", "list", "1 were"), expected=known),
        make("text in a list", ["3", "4"], given=("'3'", "str"), expected=known),
        make("NumPy's integers", list(torch.tensor(right).numpy()), expected=known,
             meaning=right),
    ]  # fmt: skip


def nothing(make: Maker) -> list[Mutation]:
    """Of an argument that is not needed."""
    return []


def extras(make: Maker) -> list[Mutation]:
    """Of an update's part of the declared random tensors."""
    right = make.right
    kind = ("dict", "extra", "declared", *right)
    key, x = next(iter(right.items()))
    parts = [
        Mutation(make.name, f"{key}: {m.label}", {**right, key: m.value}, m.given, m.expected,
                 m.meaning if is_mark(m.meaning) else {**right, key: m.meaning}, m.plausible,
                 (*m.names, key, "extra"), m.loose)
        for m in tensors(Maker(make.name, a(x, "tensor", "extra", key)))
    ]  # fmt: skip
    return [
        *parts,
        make("None", None, given=("None", "give extra"), expected=kind),
        make("an empty dict", {}, given=(r"\{\}", "lack", "missing", "without", "empty"),
             expected=kind),
        make("misspelt", {f"{key}s": x}, given=(f"{key}s", "lack", "missing"), expected=kind),
        make("a tensor", x, given=("tensor",), expected=kind),
        make("of the whole round", {key: x[None]}, given=(r"\[1, 4, 5\]",), expected=(r"\[", *kind),
             ),
    ]  # fmt: skip
