"""Sets of features whose moments are known."""

import torch


def normal(count, width, seed):
    """Standard normal features [count, width] in float64."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=source, dtype=torch.float64)


def rotation(width, seed):
    """A random orthogonal matrix [width, width]."""
    return torch.linalg.qr(normal(width, width, seed)).Q


def exactly(mean, covariance, count, seed):
    """Features [count, F] whose sample mean and unbiased covariance are the given ones."""
    raw = normal(count, len(mean), seed)
    raw = raw - raw.mean(dim=0)
    own = raw.mT @ raw / (count - 1)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(own), raw.mT, upper=False)
    return (torch.linalg.cholesky(covariance) @ white).mT + mean
