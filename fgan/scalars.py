"""Hyper-parameters that people sweep or schedule: a number, a 0-d tensor, or a schedule.

A number is range-checked when it is given. A tensor is not, so that a vmapped step can sweep it; in
a compiled step it is an input. A schedule is a function of a 0-d integer count: the updates that an
optimiser has made, or the rounds completed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Schedule = Callable[[Tensor], float | Tensor]
Scalar = float | Tensor | Schedule


def scalar_at(scalar: Scalar, count: Tensor) -> float | Tensor:
    """The value at a count: a schedule is called, everything else is what it is."""
    return scalar if isinstance(scalar, float | int | Tensor) else scalar(count)


def check_scalar(
    name: str,
    scalar: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
) -> None:
    """Raise ValueError unless `scalar` is a number in [low, high), a 0-d tensor, or a schedule.

    above: the number has to be above `low`, not equal to it.
    """
    if isinstance(scalar, bool) or not (
        isinstance(scalar, float | int | Tensor) or callable(scalar)
    ):
        raise ValueError(
            f"{name} is a number, a 0-d tensor or a schedule, and {scalar!r} was given"
        )
    if isinstance(scalar, Tensor):
        if scalar.ndim:
            raise ValueError(
                f"{name} is one number, and a tensor {list(scalar.shape)} was given: vmap over it "
                "to sweep it"
            )
        return
    if not isinstance(scalar, float | int):
        return
    inside = (scalar > low if above else scalar >= low) and (scalar < high or high == math.inf)
    if not inside:
        raise ValueError(f"{name} {_range(low, high, above)}, and {scalar} was given")


def _range(low: float, high: float, above: bool) -> str:
    if high == math.inf:
        return f"is above {low:g}" if above else f"is at least {low:g}"
    return f"lies in {'(' if above else '['}{low:g}, {high:g})"


def check_count(name: str, value: object, low: int = 1) -> None:
    """Raise ValueError unless `value` is a whole number from `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} is a whole number from {low}, and {value!r} was given")


def linear(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` in a straight line over `steps` counts, then `end`.

    The residual CIFAR-10 runs of Gulrajani et al. 2017 (arXiv 1704.00028) decay Adam's rate so, to
    zero. Raises ValueError for a negative value or steps below 1.
    """
    _check_ends(start, end, steps)

    def schedule(count: Tensor) -> Tensor:
        return start + (end - start) * (count.double() / steps).clamp(max=1)

    return schedule


def cosine(start: float, end: float, steps: int) -> Schedule:
    """From `start` to `end` along half a cosine over `steps` counts, then `end`.

    end + (start - end)(1 + cos(π t / steps)) / 2 (Loshchilov & Hutter 2017, arXiv 1608.03983, eq.
    5). R3GAN's schedules are of this form (Huang et al. 2025, arXiv 2501.05441). Raises ValueError
    for a negative value or steps below 1.
    """
    _check_ends(start, end, steps)

    def schedule(count: Tensor) -> Tensor:
        done = (count.double() / steps).clamp(max=1)
        return end + (start - end) * (1 + torch.cos(math.pi * done)) / 2

    return schedule


def warmup(scalar: Scalar, steps: int) -> Schedule:
    """`scalar`, multiplied by (t + 1) / steps in the first `steps` counts.

    A schedule inside counts from the very first count too. Raises ValueError for steps below 1.
    """
    check_scalar("a warmed-up value", scalar, 0.0)
    check_count("steps", steps)

    def schedule(count: Tensor) -> Tensor:
        value = scalar_at(scalar, count)
        return ((count.double() + 1) / steps).clamp(max=1) * value

    return schedule


def _check_ends(start: float, end: float, steps: int) -> None:
    for name, value in ("start", start), ("end", end):
        if not isinstance(value, float | int):
            raise ValueError(f"a schedule's {name} is a number, and {value!r} was given")
        check_scalar(f"a schedule's {name}", value, 0.0)
    check_count("steps", steps)
