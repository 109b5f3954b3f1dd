"""Targets: losses, penalties, points and measures, beside closed forms."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from fuzz_core import REFUSED, Argument, Mutation, Target, same
from fuzz_games import POINTS
from fuzz_objects import functions
from fuzz_objects import make_argument as a
from fuzz_tensors import Maker, rows_of, shape_of, tensors
from torch import Tensor, nn

import fgan
from fgan import losses, measures, penalties

P = 4


def losses_and_measures() -> list[Target]:
    """The targets of this module."""
    return [*_losses(), *_penalties(), *_points(), *_measures()]


def _softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "minimax_critic_loss": lambda r, f: _softplus(-r) + _softplus(f),
    "minimax_generator_loss": lambda r, f: -_softplus(f),
    "non_saturating_critic_loss": lambda r, f: _softplus(-r) + _softplus(f),
    "non_saturating_generator_loss": lambda r, f: _softplus(-f),
    "wasserstein_critic_loss": lambda r, f: f - r,
    "wasserstein_generator_loss": lambda r, f: -f,
    "hinge_critic_loss": lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f),
    "hinge_generator_loss": lambda r, f: -f,
    "least_squares_critic_loss": lambda r, f: ((r - 1) ** 2 + f**2) / 2,
    "least_squares_generator_loss": lambda r, f: (f - 1) ** 2 / 2,
    "relativistic_critic_loss": lambda r, f: _softplus(f - r),
    "relativistic_generator_loss": lambda r, f: _softplus(r - f),
}


def _losses() -> list[Target]:
    real, fake = torch.tensor([0.3, -1.2, 2.0, 0.7]), torch.tensor([-0.4, 1.5, 0.2, -2.2])

    def target(name: str, form: Callable[[Any, Any], Any]) -> Target:
        expected = torch.from_numpy(form(real.double().numpy(), fake.double().numpy())).float()
        reads_real = "generator" not in name or "relativistic" in name
        arguments = {
            "real_scores": a(
                real, "scores", "real_scores", "scores", unread=not reads_real, any_dtype=True
            ),
            "fake_scores": a(
                fake, "scores", "fake_scores", "scores", any_dtype=True, alone=not reads_real
            ),
        }
        return Target(f"losses.{name}", getattr(losses, name), arguments,
                      lambda got: _differs(got, expected))  # fmt: skip

    return [target(name, form) for name, form in LOSSES.items()]


def scores(make: Maker) -> list[Mutation]:
    """Of scores [B]."""
    right = make.right
    wide = [
        make("two scores a sample", right[:, None].expand(-1, 2), given=(r"\[4, 2\]",),
             expected=(r"\[B\]", r"\[4\]", "one score", "same shape")),
        make("a column beside [B]", right[:, None], given=(r"\[4, 1\]",),
             expected=(r"\[B\]", r"\[4\]", "one score", "same shape")),
        make("their mean", right.mean(), given=(r"\[\]", "0-d"),
             expected=(r"\[B\]", r"\[4\]", "one score", "same shape")),
        make("half precision, as under autocast", right.bfloat16(), given=("bfloat16",),
             expected=("float32", "dtype"), meaning=right, loose=True, plausible=False),
    ]  # fmt: skip
    return [*tensors(make), *wide]


_SOURCE = torch.Generator().manual_seed(5)
W, W_CONDITION = torch.randn(6, generator=_SOURCE), torch.randn(3, generator=_SOURCE)
X, FAKE = torch.randn(P, 2, 3, generator=_SOURCE), torch.randn(P, 2, 3, generator=_SOURCE)
MIX, HOT = torch.rand(P, generator=_SOURCE), torch.eye(3)[[0, 1, 1, 2]]


def linear_critic(x: Tensor, *conditions: Tensor) -> Tensor:
    """w·x + v·y, whose gradient by x is w."""
    value = x.flatten(1) @ W
    return value + sum((c @ W_CONDITION for c in conditions), torch.zeros(()))


class LinearCritic(nn.Module):
    """The same as a module, with scores [B, 1] where `column`."""

    def __init__(self, column: bool = False) -> None:
        super().__init__()
        self.weight, self.column = nn.Parameter(W.clone()), column

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        scores = x.flatten(1) @ self.weight
        scores = scores + sum((c @ W_CONDITION for c in conditions), torch.zeros(()))
        return scores[:, None] if self.column else scores


CRITICS: dict[str, tuple[Any, tuple[str, ...], Any]] = {
    # label: (critic, what the message says of what was given, plain form)
    "two scores a sample": (lambda x, *c: torch.stack([linear_critic(x, *c)] * 2, 1),
                            (r"\[4, 2\]", r"\[1, 2\]", r"\[B, 2\]", r"\[2\]"), None),
    "scores and features": (lambda x, *c: (linear_critic(x, *c), x), ("tuple",), None),
    "a list of scores": (lambda x, *c: [linear_critic(x, *c)], ("list",), None),
    "a dict of scores": (lambda x, *c: {"scores": linear_critic(x, *c)}, ("dict",), None),
    "one score for the batch": (lambda x, *c: linear_critic(x, *c).mean(), (r"\[\]", "0-d"),
                                linear_critic),
    "None": (lambda x, *c: None, ("None",), None),
    "score maps": (lambda x, *c: x[:, 0] * linear_critic(x, *c)[:, None],
                   (r"\[4, 3\]", r"\[1, 3\]", r"\[3\]"), None),
    "numbers": (lambda x, *c: 0.5, ("float", r"0\.5"), None),
    "the class": (LinearCritic, ("class", "type", "LinearCritic"), None),
    "an algorithm's apply": (fgan.make_functional(LinearCritic()).apply, ("tuple", "apply"), None),
    "scores [B, 1]": (lambda x, *c: linear_critic(x, *c)[:, None], (r"\[4, 1\]", r"\[1\]"),
                      linear_critic),
    "a module with scores [B, 1]": (LinearCritic(column=True), (r"\[4, 1\]",), linear_critic),
    "a module": (LinearCritic(), (), linear_critic),
    "a frozen module": (LinearCritic().requires_grad_(False), (), linear_critic),
}  # fmt: skip


def critics(make: Maker) -> list[Mutation]:
    """Of a critic that maps samples to scores [B]."""

    expected = (r"\[B\]", "one score", r"\[4\]", "scores", "callable", "function")
    made = []
    for label, (critic, given, plain) in CRITICS.items():
        meaning = REFUSED if plain is None else plain
        made.append(
            make(label, critic, given=given, expected=expected if given else (), meaning=meaning)
        )
    return [*made, *functions(make)]


def conditions_of(make: Maker) -> list[Mutation]:
    """Of a tuple of conditions, each [B, ...]."""
    (y,) = make.right
    kind = ("tuple", r"\[B\b", "sample", r"\[4", "condition")
    return [
        make("a tensor, not a tuple", y, given=("tensor", *shape_of(y)), expected=("tuple",)),
        make("None", None, given=("None",), expected=("tuple",)),
        make("one condition for the batch", (y[:1],), given=rows_of(y[:1], 0), expected=kind),
        make("a condition less", (y[:3],), given=rows_of(y[:3], 0), expected=kind),
        make("a 0-d condition", (y[0, 0],), given=(r"\[\]", "0-d"), expected=kind),
        make("numbers", (1,), given=(r"\b1\b", "int"), expected=(*kind, "tensor")),
        make("a list", [y], given=("list",), expected=kind, meaning=(y,)),
        make("a dict", {"y": y}, given=("dict",), expected=("tuple",)),
        make("in a tuple twice", ((y,),), given=("tuple",), expected=("tensor",)),
        make("on meta", (y.to("meta"),), given=("meta",), expected=("cpu", "device")),
    ]


def _samples(value: Tensor, *names: str, **hints: Any) -> Argument:
    hints.setdefault("fixed_rows", False)
    return a(value, "points", *names, **hints)


def points(make: Maker) -> list[Mutation]:
    """Of samples [B, ...] that a critic of a fixed width scores: what it raises is its own."""
    own = {"one axis less", "one axis more in front", "one axis more at the end", "wider",
           "one number wide", "transposed", "no rows"}  # fmt: skip
    # Neither can fgan know which dtypes and devices a user's function takes.
    own |= {"float64", "float16", "on meta", "complex", "sparse"}
    own |= set() if make.hints.get("differentiated") else {"integers", "uint8", "booleans"}
    return [m for m in tensors(make) if m.label not in own]


def _penalties() -> list[Target]:
    norm = float(W.double().norm())
    ones = torch.ones(P)
    forms: dict[str, tuple[Any, float, dict[str, Argument]]] = {
        "gradient_penalty": (
            penalties.gradient_penalty,
            (norm - 0.5) ** 2,
            {"target": a(0.5, "scalar", "target", schedule=False),
             "one_sided": a(False, "boolean", "one_sided")},
        ),
        "w_divergence_penalty": (
            penalties.w_divergence_penalty,
            1.5 * norm**3,
            {"k": a(1.5, "scalar", r"\bk\b", schedule=False),
             "p": a(3.0, "scalar", r"\bp\b", schedule=False)},
        ),
        "zero_centered_penalty": (penalties.zero_centered_penalty, norm**2, {}),
    }  # fmt: skip
    found = []
    for name, (function, value, more) in forms.items():
        for conditions in ((), (HOT,)):
            arguments = {
                "critic": a(linear_critic, "critic", "critic"),
                "x": _samples(
                    X, r"\bx\b", "samples", fixed_rows=bool(conditions), differentiated=True
                ),
                **more,
            }
            if conditions:
                arguments["conditions"] = a(conditions, "conditions", "condition")
            label = f"penalties.{name}" + (" with conditions" if conditions else "")
            found.append(Target(label, function, arguments,
                                partial(_is_close, expected=value * ones)))  # fmt: skip
    expected = W.reshape(2, 3).expand(P, 2, 3)
    found.append(Target(
        "penalties.input_gradients", penalties.input_gradients,
        {"critic": a(linear_critic, "critic", "critic"),
         "x": _samples(X, r"\bx\b", "samples", differentiated=True)},
        partial(_is_close, expected=expected),
    ))  # fmt: skip
    return found


def _points() -> list[Target]:
    inputs = {
        "real": a(X, "tensor", r"\breal\b", any_dtype=True),
        "fake": a(FAKE, "tensor", r"\bfake", "generator makes", any_dtype=True),
        "mix": a(MIX, "tensor", r"\bmix\b", "ε", any_dtype=True),
    }
    middle = torch.stack([e * r + (1 - e) * f for e, r, f in zip(MIX, X, FAKE, strict=True)])
    found = [Target("penalties.interpolate", penalties.interpolate, inputs,
                    lambda got: _differs(got, middle))]  # fmt: skip
    labels = torch.tensor([0, 1, 1, 2])
    for name, function in penalties.SAMPLE_AT.items():
        where, at = POINTS[name](X, FAKE, MIX, (labels,))
        arguments = {**inputs, "conditions": a((labels[:, None],), "conditions", "condition")}
        unread = {"real": ("fake", "mix"), "fake": ("real", "mix"), "real_and_fake": ("mix",)}
        for other in unread.get(name, ()):
            old = inputs[other]
            arguments[other] = a(old.value, "tensor", *old.names, any_dtype=True, unread=True)
        if name in unread and len(unread[name]) == 2:
            arguments[name] = a(inputs[name].value, "tensor", *inputs[name].names, any_dtype=True,
                                alone=True)  # fmt: skip
        expected = (where, at[0][:, None])
        found.append(Target(
            f"penalties.SAMPLE_AT[{name}]", function, arguments,
            lambda got, e=expected: _differs(got, (e[0], (e[1],))),
            digest=lambda got: (got.samples, tuple(got.conditions)),
        ))  # fmt: skip
    return found


def _measures() -> list[Target]:
    norm, w = float(W.double().norm()), W
    apart = float(((X - FAKE).flatten(1) @ w).mean())
    inputs = {
        "critic": a(linear_critic, "critic", "critic"),
        "real": _samples(X, r"\breal\b", "samples"),
        "fake": _samples(FAKE, r"\bfakes?\b", "samples"),
    }
    more = {"k": a(2.0, "scalar", r"\bk\b", schedule=False, tensor=True),
            "p": a(4.0, "scalar", r"\bp\b", schedule=False, tensor=True)}  # fmt: skip
    real, fake = (np.float64((x.flatten(1) @ w).numpy()) for x in (X, FAKE))
    jensen = math.log(2) - (_softplus(-real).mean() + _softplus(fake).mean()) / 2
    forms = {
        "wasserstein_estimate": (apart, {}),
        "w_divergence": (apart - 2 * norm**4, more),
        "jensen_shannon_estimate": (jensen, {}),
    }
    return [
        Target(f"measures.{name}", getattr(measures, name), {**inputs, **extra},
               partial(_is_close, expected=torch.tensor(value, dtype=torch.float32)))
        for name, (value, extra) in forms.items()
    ]  # fmt: skip


def _differs(got: Any, expected: Any) -> str | None:
    return None if same(got, expected) else "another value than the independent one"


def _is_close(got: Tensor, expected: Tensor) -> str | None:
    return _differs(got.detach(), expected.contiguous())


MUTATIONS = {"scores": scores, "critic": critics, "conditions": conditions_of, "points": points}
