"""Precision, recall, density and coverage: two sets compared by their nearest neighbours.

A sample's ball reaches to its k-th nearest neighbour in its own set. Distances are computed in
float64, pair by pair and not by inner products, so that equal samples have distance 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fgan.evaluation.inputs import check_neighbours, check_pair

_ROWS = 512  # of a distance matrix that are in memory at once


class PrecisionRecall(NamedTuple):
    """0-d tensors in [0, 1]."""

    precision: Tensor
    """The share of fakes within the ball of some real sample."""
    recall: Tensor
    """The share of real samples within the ball of some fake."""


class DensityCoverage(NamedTuple):
    """0-d tensors."""

    density: Tensor
    """The mean number of real samples' balls that a fake lies in, divided by k; not bounded by
    1."""
    coverage: Tensor
    """The share of real samples whose ball holds a fake, in [0, 1]."""


class Neighbourhoods(NamedTuple):
    """What the four measures are means of."""

    precision: Tensor
    """[M], 0 or 1"""
    recall: Tensor
    """[N], 0 or 1"""
    density: Tensor
    """[M]"""
    coverage: Tensor
    """[N], 0 or 1"""


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, eqs. 1 to 3).

    real [N, F], fake [M, F]. Precision falls with samples that are unlike the data, recall with
    data that the generator does not reach. Both depend on N and M. Raises ValueError for features
    that do not fit and for a `k` outside 1 to min(N, M) - 1.

    Example:
        >>> a = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> precision, recall = fgan.evaluation.precision_recall(real=a, fake=a[:2] + 0.1, k=1)
        >>> float(precision), float(recall)
        (1.0, 1.0)
    """
    real, fake = check_pair(("real samples", real), ("fake samples", fake))
    check_neighbours("real samples", real, k)
    check_neighbours("fake samples", fake, k)
    (balls,) = _in_balls(real, fake, [k])
    (reached,) = _in_balls(fake, real, [k])
    return PrecisionRecall(_mean(balls.held > 0), _mean(reached.held > 0))


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, arXiv 2002.09797, eqs. 3 and 4).

    real [N, F], fake [M, F]. Only real samples have balls, so outliers among the fakes cannot raise
    the values. For equal continuous distributions both expectations are known, whatever the
    dimension. Sort the N - 1 other real samples and the M fakes by their distance from a real
    sample. Its ball holds no fake if the first k of them are all real, which has the probability
    Π_i (N - i) / (N + M - i), i from 1 to k. So coverage is 1 - Π_i (N - i) / (N + M - i). One fake
    among the N - 1 real samples is within the first k with probability k / N, so density is 1.

    Raises ValueError for features that do not fit and for a `k` outside 1 to N - 1.

    Example:
        >>> a = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> density, coverage = fgan.evaluation.density_coverage(real=a, fake=a[:2], k=1)
        >>> float(coverage)
        1.0
    """
    real, fake = check_pair(("real samples", real), ("fake samples", fake))
    check_neighbours("real samples", real, k)
    (balls,) = _in_balls(real, fake, [k])
    return DensityCoverage(balls.held.double().mean() / k, _mean(balls.hit))


def neighbourhoods(real: Tensor, fake: Tensor, k: int = 3, k_coverage: int = 5) -> Neighbourhoods:
    """All four, sample by sample, for confidence intervals; k of the first two, and of the others.

    Raises ValueError as `precision_recall` and `density_coverage` do.
    """
    real, fake = check_pair(("real samples", real), ("fake samples", fake))
    for count in (k, k_coverage):
        check_neighbours("real samples", real, count)
    check_neighbours("fake samples", fake, k)
    balls, wider = _in_balls(real, fake, [k, k_coverage])
    (reached,) = _in_balls(fake, real, [k])
    return Neighbourhoods(
        (balls.held > 0).double(),
        (reached.held > 0).double(),
        wider.held.double() / k_coverage,
        wider.hit.double(),
    )


class _Balls(NamedTuple):
    """The balls of N centres, and M points."""

    held: Tensor
    """[M]: the number of balls that each point lies in."""
    hit: Tensor
    """[N]: whether each ball holds a point."""


def _in_balls(centres: Tensor, points: Tensor, ks: Sequence[int]) -> list[_Balls]:
    """centres [N, F], points [M, F]; the ball of a centre reaches to its k-th nearest centre."""
    held = [torch.zeros(len(points), dtype=torch.int64, device=points.device) for _ in ks]
    hit: list[list[Tensor]] = [[] for _ in ks]
    for block in centres.split(_ROWS):
        # The nearest of all centres is the sample itself, at distance 0.
        nearest = _pairwise(block, centres).topk(max(ks) + 1, dim=1, largest=False).values
        distances = _pairwise(block, points)
        for i, k in enumerate(ks):
            inside = distances <= nearest[:, k, None]
            held[i] += inside.sum(dim=0)
            hit[i].append(inside.any(dim=1))
    return [_Balls(count, torch.cat(flags)) for count, flags in zip(held, hit, strict=True)]


def _pairwise(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _mean(flags: Tensor) -> Tensor:
    return flags.double().mean()
