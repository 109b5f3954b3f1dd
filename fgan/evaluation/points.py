"""Measures of points in the plane and other small samples [N, F], beside a known distribution."""

from typing import NamedTuple

import torch
from torch import Tensor

from fgan.data import DataSet
from fgan.evaluation.distances import wasserstein_1d
from fgan.evaluation.inputs import check_pair, in_float64

MIXTURES = ("grid",)
"""The data sets whose classes are the modes of a mixture of equal Gaussians."""


class Mixture(NamedTuple):
    """A mixture of equal Gaussians."""

    centres: Tensor
    """[K, F]"""
    std: float
    """Of every mode along every axis."""


def mixture_of(data: DataSet) -> Mixture | None:
    """The mixture that a data set of `MIXTURES` was drawn from, by its classes; else None."""
    if data.name not in MIXTURES:
        return None
    points = in_float64(data.samples)
    labels = data.class_labels.to(points.device)
    classes = range(data.num_classes)
    centres = torch.stack([points[labels == c].mean(dim=0) for c in classes])
    return Mixture(centres, float((points - centres[labels]).std()))


class Modes(NamedTuple):
    """How samples [N, F] lie about the modes [K, F] of a mixture of equal Gaussians."""

    covered: Tensor
    """0-d: the number of modes that are the nearest one of some high-quality sample."""
    high_quality: Tensor
    """0-d: the share of samples within three standard deviations of the nearest mode."""
    counts: Tensor
    """[K]: high-quality samples by mode."""


def modes(samples: Tensor, centres: Tensor, std: float) -> Modes:
    """Modes covered and high-quality samples (Srivastava et al. 2017, arXiv 1705.07761, sec. 4.1).

    samples [N, F], centres [K, F]; `std` is that of every mode along every axis. Of points drawn
    from well separated modes in the plane, 1 - exp(-9/2) = 98.9 % are of high quality.

    Raises ValueError for samples and centres that do not fit, and for a `std` of 0 or below.

    Example:
        >>> centres = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
        >>> samples = torch.tensor([[0.5, 0.0], [5.0, 0.0], [-0.5, 0.0], [0.0, 1.0]])
        >>> found = fgan.evaluation.modes(samples, centres, std=1.0)
        >>> int(found.covered), float(found.high_quality)
        (1, 0.75)
    """
    samples, centres = check_pair(("samples", samples), ("centres", centres))
    if not std > 0:
        raise ValueError(f"std is above 0, and {std!r} was given")
    distance, nearest = torch.cdist(samples, centres).min(dim=1)
    good = distance <= 3 * std
    counts = torch.bincount(nearest[good], minlength=len(centres))
    return Modes((counts > 0).sum(), good.double().mean(), counts)


def wasserstein_distance(a: Tensor, b: Tensor) -> Tensor:
    """The exact Wasserstein-1 distance of two sets of samples, by optimal transport: 0-d.

    a [N, F], b [M, F]. One feature: by sorting, for any N and M. More: by the optimal assignment
    (`scipy.optimize.linear_sum_assignment`, extra `metrics`), for N = M. Its time grows with N³:
    one to two thousand points take about a second. Of two samples of one distribution it is not 0,
    but falls with N, in two dimensions as about N^-½.

    Raises ValueError for samples that do not fit, and ImportError where SciPy is needed and absent.

    Example:
        >>> a = torch.tensor([[0.0], [1.0], [5.0]])
        >>> round(float(fgan.evaluation.wasserstein_distance(a, a + 2)), 4)
        2.0
    """
    a, b = check_pair(("the first samples", a), ("the second samples", b))
    if a.shape[1] == 1:
        return wasserstein_1d(a.flatten(), b.flatten())
    if len(a) != len(b):
        raise ValueError(
            f"the optimal assignment is between sets of one size, got {len(a)} and {len(b)} "
            "samples: leave some out"
        )
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError(
            "the exact Wasserstein distance of samples with several features needs SciPy: "
            "pip install 'fgan[metrics]'"
        ) from error
    costs = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").cpu()
    rows, columns = linear_sum_assignment(costs.numpy())
    chosen = costs[torch.from_numpy(rows), torch.from_numpy(columns)]
    return chosen.mean().to(a.device)
