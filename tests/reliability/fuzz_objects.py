"""Mutations of optimisers, algorithms, modules, functions, dtypes and devices."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from fuzz_core import REFUSED, Argument, Mutation
from fuzz_tensors import Maker
from torch import nn

import fgan


def optimizers(make: Maker) -> Iterator[Mutation]:
    """Of a functional optimiser."""
    kind = (r"fgan\.(adam|rmsprop|sgd)", "functional", "Optimizer", r"optim")
    module = nn.Linear(1, 1)
    for label, value, given in (
        ("an empty dict", {}, (r"\{\}", "dict")),
        ("the class of torch", torch.optim.Adam, ("Adam",)),
        ("an optimiser of torch", torch.optim.Adam(module.parameters()), ("Adam",)),
        ("without parentheses", fgan.adam, ("function adam", "adam")),
        ("a rate", 1e-3, (r"0\.001", "float")),
        ("its name", "adam", ("'adam'", "str")),
        ("a pair", (fgan.adam(1e-3), fgan.adam(1e-3)), ("tuple", "Optimizer")),
        ("a plain pair of functions", tuple(fgan.adam(1e-3)), ("tuple", "function")),
        ("settings", {"lr": 1e-3}, ("dict", "lr")),
        ("False", False, ("False", "bool")),
        ("zero", 0, (r"\b0\b", "int")),
    ):
        yield make(label, value, given=given, expected=kind)
    if make.hints.get("none", REFUSED) is REFUSED:
        yield make("None", None, given=("None",), expected=kind)


def algorithms(make: Maker) -> Iterator[Mutation]:
    """Of an algorithm."""
    kind = ("algorithm", "Algorithm", "needs their values")
    for label, value, given in (
        ("None", None, ("None",)),
        ("the recipe", fgan.gan, ("function", "gan")),
        ("a module", nn.Linear(1, 1), ("Linear",)),
        ("its step", make.right.step, ("function", "step", "bound")),
        ("a pair of modules", (nn.Linear(1, 1), nn.Linear(1, 1)), ("tuple",)),
        ("its name", "wgan-gp", ("wgan-gp", "str")),
        ("a plain tuple", tuple(make.right), ("tuple",)),
        ("its state", make.right.init((0, 1) if make.right.members else 0), ("GANState",)),
    ):
        names = (*make.argument.names, "algorithm")
        yield Mutation(make.name, label, value, given, kind, REFUSED, True, names)


class Drops(nn.Sequential):
    """A network with dropout."""


def modules(make: Maker) -> Iterator[Mutation]:
    """Of a generator's or critic's module; hints: `role`."""
    role = make.hints["role"]
    kind = ("nn.Module", "module", "instance")
    right = make.right
    lazy = nn.Sequential(nn.LazyLinear(5))
    drops = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5))
    frozen = nn.Sequential(nn.Linear(3, 5)).requires_grad_(False)
    for module in (lazy, drops, frozen):
        module.latent_dim = 3
    for label, value, given in (
        ("None", None, ("None",)),
        ("the class", type(right), (type(right).__name__, "class", "type")),
        ("a function", lambda *inputs: inputs[0], ("function", "lambda")),
        ("its state_dict", right.state_dict(), ("dict",)),
        ("its parameters", right.parameters(), ("generator object", r"generator\b")),
        ("a list of layers", list(right.children()), ("list",)),
        ("a name", "mlp", ("'mlp'", "str")),
        ("the function that makes it", fgan.models.mlp_critic, ("function", "mlp_critic")),
        ("a functional network", fgan.make_functional(nn.Linear(3, 1)), ("Network",)),
    ):
        yield make(label, value, given=given, expected=kind)
    yield make("on meta", copy.deepcopy(right).to("meta"), given=("meta",),
               expected=("cpu", "device", "data", "memory"))  # fmt: skip
    yield make("with dropout", drops, given=("Dropout",), expected=("remove", "input", "pure"),
               names=("layer",))  # fmt: skip
    yield make("without shapes", lazy, given=("LazyLinear", "lazy"), expected=("run", "batch"),
               names=("layer",))  # fmt: skip
    yield make("all frozen", frozen, given=("no trainable", "frozen"),
               expected=("parameters",), names=("Sequential",))  # fmt: skip
    for label, value, given, expected in make.hints.get("others", ()):
        names = (role, type(value).__name__)
        yield Mutation(make.name, label, value, given, expected, REFUSED, True, names)


def functions(make: Maker) -> Iterator[Mutation]:
    """Of a function that users write, such as a critic or a loss; hints: `none`, `others`."""
    kind = ("function", "callable", "module", "critic", r"\[B\]", "loss")
    none = make.hints.get("none", REFUSED)
    yield make("None", None, given=("None",), expected=kind, meaning=none)
    for label, value, given in (
        ("text", "critic", ("str", "'critic'")),
        ("a tensor", torch.zeros(3), ("Tensor", r"\[3\]")), ("a number", 3, (r"\b3\b", "int")),
    ):  # fmt: skip
        yield make(label, value, given=given, expected=kind)
    for label, value, given, expected in make.hints.get("others", ()):
        yield make(label, value, given=given, expected=expected)


def dtypes(make: Maker) -> Iterator[Mutation]:
    """Of a floating dtype; hints: `known`."""
    known = make.hints.get("known", (r"torch\.float32", "bfloat16", "floating", "dtype"))
    for value in ("bfloat16", "float32", True, 16, float, np.float32, torch.int8, torch.bool,
                  torch.complex64):  # fmt: skip
        yield make(f"{value!r}", value, expected=known)
    for label, value in make.hints.get("more", {}).items():
        yield make(label, value, expected=known)


def devices(make: Maker) -> Iterator[Mutation]:
    """Of a device."""
    kind = ("device", "cpu", "cuda")
    for value in ("gpu", "cuda:99", 3.5, torch.float32, ["cpu"], "meta:x"):
        yield make(f"{value!r}", value, expected=kind)
    yield make("a torch.device", torch.device("cpu"), meaning="cpu", plausible=False)


def make_argument(value: Any, kind: str, *names: str, **hints: Any) -> Argument:
    """An argument with its hints as keywords."""
    return Argument(value, kind, names, hints)
