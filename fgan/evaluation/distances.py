"""Distances between two sets of features [N, F], computed in float64; each a 0-d tensor."""

from typing import NamedTuple

import torch
from torch import Tensor

from fgan.evaluation.inputs import check_pair, generator
from fgan.scalars import check_count

_KERNEL, _SLICES = 0xE1, 0xE2  # keep the random streams of these measures apart


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    """‖μa - μb‖² + tr(Σa + Σb - 2(Σa^½ Σb Σa^½)^½): features [N, F] and [M, F] -> 0-d.

    The squared Wasserstein-2 distance of two Gaussians with the means and (unbiased) covariances of
    the features (Dowson and Landau 1982). In the features of the Inception network, and only there,
    it is called FID (Heusel et al. 2017, arXiv 1706.08500, eq. 6). The estimate has a bias of the
    order of 1/N: compare values of equal N only.

    Raises ValueError for no more samples than features. A covariance of N samples has rank N - 1 at
    most, and the distance would measure the missing directions.
    """
    a, b = check_pair(("the first set's samples", a), ("the second set's samples", b))
    for features in (a, b):
        if len(features) <= features.shape[1]:
            raise ValueError(
                f"the Fréchet distance needs more samples than features, and {len(features)} "
                f"samples have {features.shape[1]} features each: take more samples or a feature "
                "network with fewer features, or use kernel_distance, which has no such limit"
            )
    return gaussian_fit_distance(a, b)


def gaussian_fit_distance(a: Tensor, b: Tensor) -> Tensor:
    """`frechet_distance` without its checks, for resampled features."""
    return gaussian_distance(a.mean(dim=0), covariance(a), b.mean(dim=0), covariance(b))


def gaussian_distance(
    mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor
) -> Tensor:
    """The squared Wasserstein-2 distance of two Gaussians: means [F], covariances [F, F] -> 0-d.

    tr((Σa^½ Σb Σa^½)^½) is the sum of the singular values of Σa^½ Σb^½. This form squares nothing,
    so a singular covariance costs no precision, and it needs no iteration.
    """
    product = square_root(covariance_a) @ square_root(covariance_b)
    common = torch.linalg.svdvals(product).sum()
    squared = (mean_a - mean_b).square().sum()
    return (squared + covariance_a.trace() + covariance_b.trace() - 2 * common).clamp(min=0)


def covariance(features: Tensor) -> Tensor:
    """The unbiased covariance [F, F] of features [N, F]."""
    centred = features - features.mean(dim=0)
    return centred.mT @ centred / (len(features) - 1)


def square_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a symmetric positive semi-definite matrix [F, F]."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


class KernelDistance(NamedTuple):
    """An estimate of the kernel distance."""

    value: Tensor
    """The mean over the subsets."""
    error: Tensor
    """The estimate's standard error; NaN where a subset is a whole set."""


def kernel_distance(
    a: Tensor, b: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Tensor:
    """The squared maximum mean discrepancy with a cubic kernel: features [N, F], [M, F] -> 0-d.

    The kernel is k(x, y) = (x·y / F + 1)³, and the value is the mean of the unbiased estimate over
    `subsets` random subsets of both sets, each without replacement. In Inception features it is
    called KID (Bińkowski et al. 2018, arXiv 1801.01401). It can be negative; its expectation is 0
    for equal distributions, for any number of samples. A `subset_size` above the number of samples
    is taken as that number.

    With the j-th moment tensors M_j = E[x⊗…⊗x] the expectation is
    Σ_j C(3, j) F^-j ‖M_j(a) - M_j(b)‖², j from 1 to 3, since E (x·y)^j = ⟨M_j(a), M_j(b)⟩. For
    N(0, I) and N(μ·(1, …, 1), I) in d dimensions, with s = ‖mean‖² = dμ², the differences are

    - M_1: m, so s;
    - M_2: m⊗m, so s²;
    - M_3: m⊗m⊗m and the three placements of δ⊗m, so s³ + 6s² + (3d + 6)s;

    and the sum is 3μ² + 3μ⁴ + (d³μ⁶ + 6d²μ⁴ + (3d + 6)dμ²) / d³, or 3μ² to first order for many
    dimensions.

    Raises ValueError for features that do not fit, and counts below 1 (`subset_size` below 2).
    """
    return kernel_estimate(a, b, subsets, subset_size, seed).value


def kernel_estimate(
    a: Tensor, b: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """`kernel_distance` with its standard error.

    Subsets of m of n samples are a delete-(n - m) jackknife: the variance is m / (n - m) times the
    variance over the subsets (Shao and Wu 1989, Annals of Statistics 17). n is the smaller number
    of samples.
    """
    a, b = check_pair(("the first set's samples", a), ("the second set's samples", b))
    check_count("subsets", subsets)
    check_count("subset_size", subset_size, 2)
    smaller = min(len(a), len(b))
    size = min(subset_size, smaller)
    source = generator(seed, _KERNEL)

    def chosen(features: Tensor) -> Tensor:
        order = torch.randperm(len(features), generator=source, device="cpu")[:size]
        return features[order.to(features.device)]

    count = 1 if len(a) == len(b) == size else subsets  # every subset would be the whole set
    values = torch.stack([_unbiased_mmd(chosen(a), chosen(b)) for _ in range(count)])
    if size == smaller or count == 1:
        return KernelDistance(values.mean(), values.new_tensor(float("nan")))
    return KernelDistance(values.mean(), values.std() * (size / (smaller - size)) ** 0.5)


def _unbiased_mmd(a: Tensor, b: Tensor) -> Tensor:
    """The U-statistic of the squared MMD (Gretton et al. 2012, lemma 6): [n, F], [m, F] -> 0-d."""
    within = sum(_mean_off_diagonal(_cubic_kernel(x, x)) for x in (a, b))
    return within - 2 * _cubic_kernel(a, b).mean()


def _cubic_kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.mT / a.shape[1] + 1) ** 3


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = 256, seed: int = 0) -> Tensor:
    """The mean Wasserstein-1 distance of projections on random lines: [N, F], [M, F] -> 0-d.

    The lines are uniform on the sphere (Rabin et al. 2011; Bonneel et al. 2015). It is at most W1,
    and 0 only for equal distributions. A shift by t gives
    ‖t‖ Γ(F/2) / (√π Γ((F + 1)/2)) on average over the lines.

    Raises ValueError for features that do not fit, and `projections` below 1.
    """
    a, b = check_pair(("the first set's samples", a), ("the second set's samples", b))
    check_count("projections", projections)
    lines = torch.randn(
        a.shape[1],
        projections,
        generator=generator(seed, _SLICES),
        dtype=torch.float64,
        device="cpu",
    )
    lines = (lines / torch.linalg.vector_norm(lines, dim=0)).to(a.device)
    return wasserstein_1d((a @ lines).mT, (b @ lines).mT).mean()


def wasserstein_1d(a: Tensor, b: Tensor) -> Tensor:
    """The exact Wasserstein-1 distance on a line: [..., N] and [..., M] -> [...].

    ∫ |Fa - Fb| of the two empirical distribution functions, so that N and M may differ.
    """
    a, b = a.sort(dim=-1).values.contiguous(), b.sort(dim=-1).values.contiguous()
    every = torch.cat([a, b], dim=-1).sort(dim=-1).values
    left = every[..., :-1].contiguous()
    below_a = torch.searchsorted(a, left, right=True).double() / a.shape[-1]
    below_b = torch.searchsorted(b, left, right=True).double() / b.shape[-1]
    return ((below_a - below_b).abs() * every.diff(dim=-1)).sum(dim=-1)
