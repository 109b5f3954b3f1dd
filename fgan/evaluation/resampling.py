"""Confidence intervals by resampling."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fgan.evaluation.inputs import generator
from fgan.scalars import check_count

_RESAMPLING = 0xE3  # keeps these random numbers apart from those of the measures


class Interval(NamedTuple):
    """A value and its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[..., Tensor],
    *sets: Tensor,
    replicates: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`statistic(*sets)` with the bootstrap's normal interval (Efron and Tibshirani 1993, ch. 13).

    Each set [N, ...] is resampled with replacement along its first axis, on its own. `statistic`
    gives a 0-d tensor. The interval is value ± z·s, with s the standard deviation over the
    replicates. The replicates' quantiles would not do: a resample holds about 0.63 N different
    samples, so that the bias of a Fréchet distance, which falls with N, is larger in each of them.

    Raises ValueError for fewer than two replicates and for a level outside (0, 1).
    """
    check_count("replicates", replicates, 2)
    if not 0 < level < 1:
        raise ValueError(f"level lies between 0 and 1, such as 0.95, and {level!r} was given")
    source = generator(seed, _RESAMPLING)
    values = []
    for _ in range(replicates):
        rows = [
            torch.randint(len(each), (len(each),), generator=source, device="cpu") for each in sets
        ]
        drawn = [each[index.to(each.device)] for each, index in zip(sets, rows, strict=True)]
        values.append(statistic(*drawn).double())
    return normal_interval(float(statistic(*sets)), float(torch.stack(values).std()), level)


def normal_interval(value: float, error: float, level: float = 0.95) -> Interval:
    """value ± z·error, with z the normal quantile of `level`: 1.96 for 0.95."""
    z = float(torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64, device="cpu")))
    return Interval(value, value - z * error, value + z * error)
