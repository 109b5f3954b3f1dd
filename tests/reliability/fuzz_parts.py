"""Targets: losses, penalties, points, measures, optimisers and schedules, beside closed forms."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from fuzz_core import Argument, Mutation, Target, same
from fuzz_games import game
from fuzz_structures import make_argument as a
from fuzz_structures import parameters
from fuzz_values import Maker
from torch import Tensor, nn
from twin import POINTS

import fgan
from fgan import losses, measures, optim, penalties

P = 4


def parts() -> list[Target]:
    """The targets of this module."""
    return [*_losses(), *_penalties(), *_points(), *_measures(), *_optimizers(), *_schedules()]


# --- losses ---------------------------------------------------------------------------------------


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
    from fuzz_values import tensors

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


# --- penalties, points, measures ------------------------------------------------------------------

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
    from fuzz_core import REFUSED
    from fuzz_structures import functions

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
    from fuzz_values import rows_of, shape_of

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
    from fuzz_values import tensors

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
            lambda got, e=expected: _differs(got.samples, e[0]) or _differs(got.conditions[0],
                                                                            e[1]),
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


# --- optimisers and schedules ---------------------------------------------------------------------

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
        found.append(Target(f"optim.{name}.update", optimizer.update, arguments, lambda got: None))  # fmt: skip
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
    from fuzz_core import REFUSED

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


def _is_close(got: Tensor, expected: Tensor) -> str | None:
    return _differs(got.detach(), expected.contiguous())


MUTATIONS = {
    "scores": scores, "critic": critics, "conditions": conditions_of, "points": points,
    "betas": betas, "opt_state": opt_states,
}  # fmt: skip
