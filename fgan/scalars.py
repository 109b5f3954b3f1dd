"""Hyper-parameters that people sweep or schedule: a number, a 0-d tensor, or a schedule.

A number is range-checked when it is given. A tensor is not, so that a vmapped step can sweep it; in
a compiled step it is an input. A schedule is a function of a 0-d integer count: the updates that an
optimiser has made, or the rounds completed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

import torch
from torch import Tensor

from fgan.scores import check_callable, describe
from fgan.seeds import as_integer

Schedule = Callable[[Tensor], float | Tensor]
Scalar = float | Tensor | Schedule


def scalar_at(scalar: Scalar, count: Tensor) -> float | Tensor:
    """The value at a count: a schedule is called, everything else is what it is."""
    if isinstance(scalar, float | int | Tensor):
        return scalar
    value = scalar(count)
    if not isinstance(value, float | int | Tensor) or (isinstance(value, Tensor) and value.ndim):
        raise ValueError(f"a schedule gives one number, and this one gave {describe(value)}")
    return value


def check_scalar(
    name: str,
    scalar: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
) -> Scalar:
    """`scalar`, a finite number in [low, high), a 0-d tensor or a schedule; or raise ValueError.

    NumPy's numbers are returned as Python's.

    above: the number has to be above `low`, not equal to it.
    """
    if callable(scalar) and not isinstance(scalar, type):
        check_callable(name, scalar, "of a 0-d count where it is a schedule", 1)
        schedule: Schedule = scalar
        return schedule
    if isinstance(scalar, Tensor):
        if scalar.ndim:
            raise ValueError(
                f"{name} is one number, and a tensor {list(scalar.shape)} was given: vmap over it "
                "to sweep it"
            )
        if scalar.is_complex() or scalar.dtype is torch.bool:
            raise ValueError(f"{name} is a real number, and a {scalar.dtype} was given")
        return scalar
    if not isinstance(scalar, numbers.Real) or isinstance(scalar, bool):
        raise ValueError(
            f"{name} is a number, a 0-d tensor or a schedule, and {scalar!r} was given"
        )
    number = float(scalar)
    inside = number > low if above else number >= low
    if not (inside and number < high):
        raise ValueError(f"{name} {_range(low, high, above)}, and {scalar} was given")
    return number


def check_number(
    name: str, value: object, low: float = -math.inf, high: float = math.inf
) -> float | Tensor:
    """As `check_scalar`, for a number that can be no schedule."""
    if callable(value):
        raise ValueError(f"{name} is a number or a 0-d tensor, and {value!r} was given")
    number = check_scalar(name, value, low, high)
    assert isinstance(number, float | Tensor)
    return number


def _range(low: float, high: float, above: bool) -> str:
    if high < math.inf:
        return f"lies in {'(' if above else '['}{low:g}, {high:g})"
    if low > -math.inf:
        return f"is {'above' if above else 'at least'} {low:g} and finite"
    return "is finite"


def check_count(name: str, value: object, low: int = 1) -> int:
    """`value` as a Python integer, a whole number from `low`; or raise ValueError.

    NumPy's integers and 0-d integer tensors are taken.
    """
    count = as_integer(value)
    if count is None or count < low:
        raise ValueError(f"{name} is a whole number from {low}, and {value!r} was given")
    return count


def check_flag(name: str, value: object) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is True or False, and {value!r} was given")


def has_float64(device: torch.device) -> bool:
    """Whether a device has float64: Apple's GPUs have not."""
    return device.type != "mps"


def as_number(count: Tensor) -> Tensor:
    """A 0-d count in float64, or in float32 on a device without it."""
    return count.double() if has_float64(count.device) else count.float()


def linear(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` in a straight line over `steps` counts, then `end`.

    The residual CIFAR-10 runs of Gulrajani et al. 2017 (arXiv 1704.00028) decay Adam's rate so, to
    zero. Raises ValueError for a negative value or steps below 1.
    """
    start, end, steps = _check_ends(start, end, steps)

    def schedule(count: Tensor) -> Tensor:
        return start + (end - start) * (as_number(count) / steps).clamp(max=1)

    return schedule


def cosine(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` along half a cosine over `steps` counts, then `end`.

    end + (start - end)(1 + cos(π t / steps)) / 2 (Loshchilov & Hutter 2017, arXiv 1608.03983, eq.
    5). R3GAN's schedules are of this form (Huang et al. 2025, arXiv 2501.05441). Raises ValueError
    for a negative value or steps below 1.
    """
    start, end, steps = _check_ends(start, end, steps)

    def schedule(count: Tensor) -> Tensor:
        done = (as_number(count) / steps).clamp(max=1)
        return end + (start - end) * (1 + torch.cos(math.pi * done)) / 2

    return schedule


def warmup(scalar: Scalar, steps: int) -> Schedule:
    """`scalar`, multiplied by (t + 1) / steps in the first `steps` counts.

    A schedule inside counts from the very first count too. Raises ValueError for steps below 1.
    """
    scalar = check_scalar("a warmed-up value", scalar, 0.0)
    steps = check_count("steps", steps)

    def schedule(count: Tensor) -> Tensor:
        value = scalar_at(scalar, count)
        return ((as_number(count) + 1) / steps).clamp(max=1) * value

    return schedule


def _check_ends(start: object, end: object, steps: object) -> tuple[float, float, int]:
    ends = []
    for name, value in ("start", start), ("end", end):
        number = check_number(f"a schedule's {name}", value, 0.0)
        if isinstance(number, Tensor):
            raise ValueError(f"a schedule's {name} is a number, and {value!r} was given")
        ends.append(number)
    return *ends, check_count("steps", steps)  # type: ignore[return-value]
