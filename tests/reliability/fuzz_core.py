"""One call of a public function, right or wrong, and what came of it.

A `Target` is a function with right arguments and an independent check of its result. A `Mutation`
replaces one argument and says what must follow: an error whose message holds certain words, or the
value that the call with another, plain argument has. `outcome_of` makes the call and judges it:

    RIGHT    the result is the independently expected one, or the one of the argument's plain form
    NAMED    fgan raised a ValueError or TypeError that names the argument, what was given, and
             what is expected
    OBSCURE  any other error, and an error where the call was right
    SILENT   a result that nobody asked for: from a wrong argument, another one at the second call,
             or one at whose computation an input or a global random number generator changed
"""

import dis
import random
import re
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import fgan

RIGHT, NAMED, OBSCURE, SILENT = "RIGHT", "NAMED", "OBSCURE", "SILENT"
KINDS = (RIGHT, NAMED, OBSCURE, SILENT)
PACKAGE = str(Path(fgan.__file__).parent)


class _Mark:
    """A meaning that is no value."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


REFUSED = _Mark("REFUSED")
"""The meaning of an argument that has none: the call must raise."""
NAN = _Mark("NAN")
"""The meaning of a NaN that may pass as long as the result shows it."""


def is_mark(meaning: Any) -> bool:
    """Whether a meaning is a mark, and no value."""
    return isinstance(meaning, _Mark)


ABSENT = object()
"""The value of an argument that is not given at all."""


@dataclass
class Argument:
    """A right value, its kind (the key of its mutations), and how messages may call it."""

    value: Any
    kind: str
    names: tuple[str, ...] = ()
    """Regular expressions; a message that matches one of them names the argument."""
    hints: dict[str, Any] = field(default_factory=dict)


@dataclass
class Mutation:
    """Another value for one argument."""

    argument: str
    label: str
    value: Any
    given: tuple[str, ...] = ()
    """Regular expressions; one must match, so that the message says what was given."""
    expected: tuple[str, ...] = ()
    """The same for what is expected."""
    meaning: Any = REFUSED
    """A plain value with which the call must have the same result; REFUSED where there is none."""
    plausible: bool = True
    """Whether people make this mistake; the others are for robustness."""
    names: tuple[str, ...] = ()
    """Where the message may call the argument by other names than the argument's own."""
    loose: bool = False
    """Whether the result may be of another dtype, and equal to two digits only."""


@dataclass
class Target:
    """A public function with right arguments."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Argument]
    check: Callable[[Any], str | None]
    """Of the digest of the result of right arguments: None, or what is wrong with it."""
    digest: Callable[[Any], Any] = lambda result: result
    """What is compared of a result; it uses a function or an algorithm that was made."""
    slow: bool = False


class Outcome(NamedTuple):
    """What came of a call."""

    kind: str
    remark: str
    error: BaseException | None = None


def outcome_of(target: Target, mutations: list[Mutation]) -> Outcome:
    """Make the call twice and judge it."""
    values = {name: argument.value for name, argument in target.arguments.items()}
    values |= {mutation.argument: mutation.value for mutation in mutations}
    before = _snapshot(values)
    try:
        first = _run(target, values)
    except Exception as error:
        if changed := _changed(values, before):
            return Outcome(SILENT, f"an error, and {changed}", error)
        return _of_error(error, target, mutations)
    if changed := _changed(values, before):
        return Outcome(SILENT, changed)
    try:
        second = _run(target, values)
    except Exception as error:
        return Outcome(SILENT, "an error at the second call only", error)
    if not same(first, second):
        return Outcome(SILENT, "another result at the second call")
    return _of_result(first, target, mutations)


def _run(target: Target, values: Mapping[str, Any]) -> Any:
    given = {name: value for name, value in values.items() if value is not ABSENT}
    positional = given.pop("*", ())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return target.digest(target.function(*positional, **given))


def _of_result(result: Any, target: Target, mutations: list[Mutation]) -> Outcome:
    refused = [m for m in mutations if m.meaning is REFUSED]
    if refused:
        return Outcome(SILENT, "computed")
    if any(m.meaning is NAN for m in mutations):
        leaves = leaves_of(result).values()
        shows = any(x != x if isinstance(x, float) else _has_nan(x) for x in leaves)
        return Outcome(RIGHT, "") if shows else Outcome(SILENT, "NaN went in, and none came out")
    if not mutations:
        wrong = target.check(result)
        return Outcome(SILENT, wrong) if wrong else Outcome(RIGHT, "")
    plain = {name: argument.value for name, argument in target.arguments.items()}
    plain |= {m.argument: m.meaning for m in mutations}
    try:
        expected = _run(target, plain)
    except Exception as error:
        return Outcome(SILENT, "computed, and the plain form of the argument is refused", error)
    loose = any(m.loose for m in mutations)
    if same(result, expected) or (loose and same(_as_float(result), _as_float(expected), 2e-2)):
        return Outcome(RIGHT, "")
    return Outcome(SILENT, "another result than the argument's plain form has")


def _of_error(error: Exception, target: Target, mutations: list[Mutation]) -> Outcome:
    if not mutations:
        return Outcome(OBSCURE, f"a right call raised {type(error).__name__}", error)
    by_python = _of_signature(error, target)
    by_fgan = isinstance(error, ValueError | TypeError) and _raised_by_fgan(error)
    if not (by_python or by_fgan):
        return Outcome(OBSCURE, f"{type(error).__name__} from deep inside", error)
    wrong = [m for m in mutations if m.meaning is REFUSED or m.expected]
    if not wrong:
        return Outcome(OBSCURE, "a right call was refused", error)
    lacking = _lacking_in_python if by_python else _lacking
    best = min((lacking(str(error), target.arguments, m) for m in wrong), key=len)
    if best:
        return Outcome(OBSCURE, "the message lacks " + " and ".join(best), error)
    return Outcome(NAMED, "", error)


_SIGNATURE = re.compile(
    r"^(?:([\w.<>]+)\(\) )?(missing|got an unexpected|got multiple|takes|too many positional)"
)


def _of_signature(error: Exception, target: Target) -> bool:
    """Whether Python raised it since the call does not fit the function's own signature.

    Python raises it where the call stands: in the harness, or in a function of fgan that only
    passes its arguments on.
    """
    match = _SIGNATURE.match(str(error)) if isinstance(error, TypeError) else None
    called = match and match[1] and match[1].rpartition(".")[2]
    own = target.name.split()[0].rpartition(".")[2]
    named = getattr(target.function, "__name__", "__call__")
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    code = None if step is None else step.tb_frame.f_code
    of_harness = code is not None and Path(code.co_filename).parent == Path(__file__).parent
    is_direct = (
        code is None or code.co_name in _PASSING_ON or (of_harness and code.co_name != named)
    )
    known = (None, "", named, own, "__new__", "__init__", "__call__")
    return bool(match) and is_direct and called in known


_PASSING_ON = ("bound", "checked", "call")
"""Functions of fgan that pass arguments on: `bound` of fgan.algorithm.bind, `checked` of losses and
places, `call` of populations."""


def _names(arguments: Mapping[str, Argument], mutation: Mutation) -> tuple[str, ...]:
    known = arguments.get(mutation.argument)
    return mutation.names or (known.names if known else ()) or (rf"\b{mutation.argument}\b",)


def _lacking_in_python(
    message: str, arguments: Mapping[str, Argument], mutation: Mutation
) -> list[str]:
    """As `_lacking`, for Python's own message: it names the function, and says what is expected."""
    names = (*_names(arguments, mutation), "positional argument")
    return [] if _found(message, names) else ["the argument"]


def _lacking(message: str, arguments: Mapping[str, Argument], mutation: Mutation) -> list[str]:
    """What a message does not say: "the argument", "what was given", "what is expected"."""
    wanted = {
        "the argument": _names(arguments, mutation),
        "what was given": mutation.given,
        "what is expected": mutation.expected,
    }
    return [what for what, patterns in wanted.items() if patterns and not _found(message, patterns)]


def _found(message: str, patterns: tuple[str, ...]) -> bool:
    return any(re.search(pattern, message, re.IGNORECASE | re.DOTALL) for pattern in patterns)


def _raised_by_fgan(error: BaseException) -> bool:
    """Whether a `raise` statement of fgan raised it."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None:
        return False
    code = step.tb_frame.f_code
    operations = {i.offset: i.opname for i in dis.get_instructions(code)}
    is_raise = operations.get(step.tb_lasti) == "RAISE_VARARGS"
    return code.co_filename.startswith(PACKAGE) and is_raise


# --- results --------------------------------------------------------------------------------------


def leaves_of(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested containers by their places."""
    if isinstance(value, Mapping):
        pairs = [(f"{path}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, tuple | list):
        pairs = [(f"{path}.{i}", item) for i, item in enumerate(value)]
    else:
        return {path: value}
    found: dict[str, Any] = {f"{path} is": type(value).__name__}
    for where, item in pairs:
        found |= leaves_of(item, where)
    return found


def same(one: Any, other: Any, rtol: float = 1e-4) -> bool:
    """Whether two digests are equal, up to rounding."""
    first, second = leaves_of(one), leaves_of(other)
    return first.keys() == second.keys() and all(
        _equal(first[key], second[key], rtol) for key in first
    )


def _has_nan(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and bool(leaf.isnan().any())


def _as_float(result: Any) -> Any:
    """The tensors in float32."""
    found = leaves_of(result)
    return {k: x.float() if isinstance(x, Tensor) else x for k, x in found.items()}


def _equal(a: Any, b: Any, rtol: float) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        if isinstance(a, float) and isinstance(b, float) and a != a:
            return b != b
        return type(a) is type(b) and (a is b or bool(np.all(np.equal(a, b))))
    if (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
        return False
    if a.device.type == "meta":
        return True
    if not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a.detach(), b.detach(), rtol=rtol, atol=rtol / 100, equal_nan=True)


def _snapshot(values: Mapping[str, Any]) -> tuple[Any, ...]:
    tensors = [
        (x, x.detach().clone(), x._version)
        for x in leaves_of(dict(values)).values()
        if isinstance(x, Tensor) and x.layout is torch.strided and not x.is_inference()
    ]
    return tensors, torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()


def _changed(values: Mapping[str, Any], before: tuple[Any, ...]) -> str:
    """Which input or random number generator has changed, in words; "" where none has."""
    tensors, of_torch, of_python, of_numpy = before
    for x, copy, version in tensors:
        if x._version != version or not _bits(x, copy):
            return "an input was written into"
    if not torch.equal(torch.get_rng_state(), of_torch):
        return "torch's global generator was drawn from"
    if random.getstate() != of_python or not np.array_equal(np.random.get_state()[1], of_numpy):
        return "a global generator of Python or NumPy was drawn from"
    return ""


def _bits(a: Tensor, b: Tensor) -> bool:
    if a.device.type == "meta":
        return True
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def told(outcome: Outcome) -> str:
    """The traceback, or the remark where nothing was raised."""
    if outcome.error is None:
        return outcome.remark
    return "".join(traceback.format_exception(outcome.error)).rstrip()


def first_line(outcome: Outcome) -> str:
    """The error on one line."""
    if outcome.error is None:
        return outcome.remark
    text = " ".join(str(outcome.error).split())
    return f"{type(outcome.error).__name__}: {text[:230]}"
