"""Targets: optimisers beside torch.optim, and schedules beside closed forms."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from fuzz_core import REFUSED, Argument, Mutation, Target, same
from fuzz_games import game
from fuzz_objects import make_argument as a
from fuzz_states import parameters
from fuzz_tensors import Maker
from torch import nn

import fgan
from fgan import optim


def optimizers_and_schedules() -> list[Target]:
    """The targets of this module."""
    return [*_optimizers(), *_schedules()]


PARAMS = {"weight": torch.tensor([[0.5, -1.0, 2.0]]), "bias": torch.tensor([0.1, 0.2, -0.3, 0.4])}
GRADIENTS = {k: 0.3 - v for k, v in PARAMS.items()}


def _moved(optimizer: Any) -> Any:
    """The parameters after two updates by an optimiser."""
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(2):
        params, state = optimizer.update(GRADIENTS, state, params)
    return params


def _by_torch(kind: Any, **options: Any) -> Any:
    leaves = {k: nn.Parameter(v.clone()) for k, v in PARAMS.items()}
    optimizer = kind(leaves.values(), **options)
    for _ in range(2):
        for k, p in leaves.items():
            p.grad = GRADIENTS[k].clone()
        optimizer.step()
    return {k: p.detach() for k, p in leaves.items()}


_RATE = a(1e-2, "scalar", r"\blr\b", "learning rate", "rate")
_EPS = a(1e-8, "scalar", r"\beps\b", schedule=False, tensor=False)


def _optimizers() -> list[Target]:
    unit = dict(high=1.0, schedule=False, tensor=False)
    betas = a((0.5, 0.9), "betas", "betas?")
    of: dict[str, tuple[Any, Any, dict[str, Argument], dict[str, Any]]] = {
        "sgd": (fgan.sgd, torch.optim.SGD,
                {"momentum": a(0.5, "scalar", "momentum", **unit)}, dict(momentum=0.5)),
        "rmsprop": (fgan.rmsprop, torch.optim.RMSprop,
                    {"alpha": a(0.9, "scalar", "alpha", **unit), "eps": _EPS}, dict(alpha=0.9)),
        "adam": (fgan.adam, torch.optim.Adam, {"betas": betas, "eps": _EPS},
                 dict(betas=(0.5, 0.9))),
        "adamw": (fgan.adamw, torch.optim.AdamW,
                  {"betas": betas, "eps": _EPS,
                   "weight_decay": a(0.1, "scalar", "weight_decay")},
                  dict(betas=(0.5, 0.9), weight_decay=0.1)),
    }  # fmt: skip
    found = []
    for name, (make, kind, more, options) in of.items():
        expected = _by_torch(kind, lr=1e-2, **options)
        found.append(Target(f"optim.{name}", make, {"lr": _RATE, **more},
                            lambda got, e=expected: _differs(got, e), digest=_moved))  # fmt: skip
        optimizer = make(1e-2, **options)
        state = optimizer.init(PARAMS)
        found.append(Target(f"optim.{name}.init", optimizer.init,
                            {"params": a(PARAMS, "any_params", "params", "parameter")},
                            lambda got: None))  # fmt: skip
        arguments = {
            "gradients": a(GRADIENTS, "params", "gradient"),
            "state": a(state, "opt_state", "opt_state", "state", "optimi[sz]er"),
            "params": a(PARAMS, "params", "params", "parameter"),
        }
        update = f"optim.{name}.update"
        found.append(Target(update, optimizer.update, arguments, lambda got: None))
    found.append(Target(
        "optim.clip_by_norm", optim.clip_by_norm,
        {"optimizer": a(fgan.sgd(0.1), "optimizer", "optimi[sz]er"),
         "limit": a(0.5, "scalar", "limit", above=True)}, lambda got: None, digest=_moved,
    ))  # fmt: skip
    return found


def betas(make: Maker) -> list[Mutation]:
    """Of Adam's pair of decays."""
    kind = (r"\[0, 1\)", "pair", "two", "number", "between")
    rows = [
        (0.9, ("0.9", "float")), (None, ("None",)), ("0.9, 0.99", ("str", "'0.9")),
        ((0.9,), (r"\(0\.9,\)", r"\b1\b", "one")), ((0.5, 0.9, 0.99), (r"0\.5, 0\.9", r"\b3\b")),
        ((0.5, 1.0), (r"1\.0", r"\b1\b")), ((-0.1, 0.9), (r"-0\.1",)), ((0.9, "0.99"), ("'0.99'",)),
        ((float("nan"), 0.9), ("nan",)), ((0.5, None), ("None",)), ((True, 0.9), ("True",)),
        ({"beta1": 0.5}, ("dict", "beta1")), ((0.9, float("inf")), ("inf",)),
        (torch.tensor([[0.5], [0.9]]), (r"\[2, 1\]", r"\[1\]")),
    ]  # fmt: skip
    plain = [
        make("a list", [0.5, 0.9], meaning=(0.5, 0.9)),
        make("NumPy's floats", (np.float64(0.5), np.float64(0.9)), meaning=(0.5, 0.9)),
        make("float32 of NumPy", (np.float32(0.5), np.float32(0.9)), meaning=(0.5, 0.9),
             given=("0.9", "float32"), expected=kind),
    ]  # fmt: skip
    return [make(f"{value!r}"[:40], value, given=g, expected=kind) for value, g in rows] + plain


def opt_states(make: Maker) -> list[Mutation]:
    """Of an optimiser's state."""
    right = make.right
    names, found = make.argument.names, []
    given = ("State", "dict", "None", "lack", "missing", "empty", "int", "mean", "square", "moment")
    expected = (type(right).__name__, "optimi[sz]er", *PARAMS)
    for label, value in (
        ("None", None), ("an empty dict", {}), ("params", PARAMS), ("a number", 3),
        ("adam's", fgan.adam(1e-2).init(PARAMS)), ("sgd's", fgan.sgd(1e-2).init(PARAMS)),
        ("sgd's with momentum", fgan.sgd(1e-2, 0.9).init(PARAMS)),
        ("rmsprop's", fgan.rmsprop(1e-2).init(PARAMS)),
        ("of another network", fgan.adam(1e-2).init({"first": torch.zeros(2)})),
        ("a plain tuple", tuple(right)), ("a dict of its fields", right._asdict()),
        ("a GANState", game("gan").state), ("torch's", {"state": {}, "param_groups": []}),
    ):  # fmt: skip
        if (
            type(value) is type(right)
            and (value[1] == {}) == (right[1] == {})
            and "of" not in label
        ):
            continue
        found.append(Mutation(make.name, label, value, given, expected, REFUSED, True, names))
    for field, moments in right._asdict().items():
        if isinstance(moments, dict) and moments:
            changed = parameters(make, moments, lambda m, f=field: right._replace(**{f: m}), True,
                                 f"{field}: ")  # fmt: skip
            found += [m for m in changed if setattr(m, "names", (*m.names, *names)) is None]
    return found


def _schedules() -> list[Target]:
    ends = {"start": a(2e-4, "scalar", "start", schedule=False, tensor=False),
            "end": a(1e-5, "scalar", "end", schedule=False, tensor=False),
            "steps": a(4, "count", "steps")}  # fmt: skip
    inner = {"scalar": a(1e-3, "scalar", "warmed-up", "scalar"), "steps": a(4, "count", "steps")}
    forms: dict[str, tuple[dict[str, Argument], Callable[[int], float]]] = {
        "linear": (ends, lambda t: 2e-4 + (1e-5 - 2e-4) * min(t / 4, 1)),
        "cosine": (ends, lambda t: 1e-5 + 1.9e-4 * (1 + math.cos(math.pi * min(t / 4, 1))) / 2),
        "warmup": (inner, lambda t: min((t + 1) / 4, 1) * 1e-3),
    }

    def values(schedule: Any) -> list[float]:
        return [round(float(schedule(torch.tensor(t))), 9) for t in (0, 1, 4, 9)]

    def check(got: Any, form: Callable[[int], float]) -> str | None:
        right = all(math.isclose(g, form(t), rel_tol=1e-3) for g, t in zip(got, (0, 1, 4, 9),
                                                                         strict=True))  # fmt: skip
        return None if right else f"{got} are other values than the closed form's"

    return [
        Target(f"optim.{name}", getattr(optim, name), arguments, partial(check, form=form),
               digest=values)
        for name, (arguments, form) in forms.items()
    ]  # fmt: skip


def _differs(got: Any, expected: Any) -> str | None:
    return None if same(got, expected) else "another value than the independent one"


MUTATIONS = {"betas": betas, "opt_state": opt_states}
