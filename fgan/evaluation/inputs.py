"""What the measures accept: finite features of one width, in float64."""

import torch
from torch import Tensor

from fgan.scalars import NO_FLOAT64
from fgan.seeds import mix_seed


def check_features(name: str, features: Tensor) -> Tensor:
    """The features [N, F] in float64.

    Raises ValueError for another shape, fewer than two rows, integers, and NaN or infinite values.
    """
    if features.ndim != 2 or len(features) < 2 or features.shape[1] < 1:
        raise ValueError(
            f"{name} are features [N, F] of at least two samples, got {list(features.shape)}: "
            "flatten the samples, or pass them through a feature network"
        )
    if not features.is_floating_point():
        raise ValueError(f"{name} are floating-point features, got {features.dtype}")
    check_finite(name, features)
    return in_float64(features.detach())


def in_float64(values: Tensor) -> Tensor:
    """The values in float64; on the CPU where their device has no float64."""
    return (values.cpu() if values.device.type in NO_FLOAT64 else values).double()


class NotFiniteError(ValueError):
    """Samples, features or figures hold NaN or an infinite value."""


def check_finite(name: str, values: Tensor) -> None:
    """Raise NotFiniteError where a sample holds NaN or an infinite value, with their number."""
    bad = int((~values.reshape(len(values), -1).isfinite().all(dim=1)).sum())
    if bad:
        raise NotFiniteError(
            f"{bad} of {len(values)} {name} hold NaN or infinite values: a run whose samples do "
            "has diverged, so evaluate an earlier checkpoint"
        )


def check_pair(first: tuple[str, Tensor], second: tuple[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Two sets of features, each a name and a tensor, in float64.

    Raises ValueError as `check_features` does, and where the widths or devices differ.
    """
    a, b = check_features(*first), check_features(*second)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{first[0]} have {a.shape[1]} features and {second[0]} {b.shape[1]}: both have to "
            "come from the same feature network"
        )
    if a.device != b.device:  # pragma: no cover (needs a GPU)
        raise ValueError(f"{first[0]} are on {a.device} and {second[0]} on {b.device}")
    return a, b


def check_neighbours(name: str, features: Tensor, k: int) -> None:
    """Raise ValueError unless every sample has a k-th neighbour among the others."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < len(features):
        raise ValueError(
            f"k is a whole number from 1 to {len(features) - 1}, as there are {len(features)} "
            f"{name}, and {k!r} was given"
        )


def generator(seed: int, stream: int) -> torch.Generator:
    """A CPU generator of its own for each use."""
    return torch.Generator().manual_seed(mix_seed(seed, stream))
