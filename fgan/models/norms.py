"""Normalisation of activations and of weights, by name, for samples with any number of axes."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

Model = TypeVar("Model", bound=nn.Module)

NORMS = ("none", "batch", "layer", "group", "instance", "spectral", "weight")

# By the number of axes behind the channels; 0 for flat features.
_BATCH_NORM: dict[int, type[nn.Module]] = {
    0: nn.BatchNorm1d,
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
_INSTANCE_NORM: dict[int, type[nn.Module]] = {
    1: nn.InstanceNorm1d,
    2: nn.InstanceNorm2d,
    3: nn.InstanceNorm3d,
}


def check_norm(norm: str) -> None:
    """Raise ValueError for an unknown norm, with a list of the norms."""
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")


def normalization(norm: str, channels: int, axes: int = 2) -> list[nn.Module]:
    """The layer that normalises activations `[B, channels, ...]` with `axes` axes of positions.

    An empty list for the norms of weights (see `constrain`). All but `batch` treat every sample
    alone:

    - `layer`: over a sample's channels and positions (Ba 2016, arXiv 1607.06450), with one scale
      per channel
    - `group`: the same in groups of 8 channels or more (Wu and He 2018, arXiv 1803.08494)
    - `instance`: each channel over its positions (Ulyanov 2016, arXiv 1607.08022); ValueError where
      `axes` is 0, since a feature without positions would always come out as zero
    """
    match norm:
        case "batch":
            return [_BATCH_NORM[axes](channels)]
        case "layer":
            return [nn.GroupNorm(1, channels)]
        case "group":
            return [nn.GroupNorm(_num_groups(channels), channels)]
        case "instance" if axes == 0:
            raise ValueError(
                "instance norm averages over positions. Flat features have no positions, so every "
                "feature would become zero. Use norm='layer' or norm='group'."
            )
        case "instance":
            return [_INSTANCE_NORM[axes](channels, affine=True)]
    return []


def norm_layers(
    norm: str, channels: int, axes: int = 2, num_classes: int | None = None
) -> list[nn.Module]:
    """`normalization`, or with `num_classes` a `ConditionalBatchNorm` in its place.

    Raises ValueError for classes and a norm of activations other than `batch`.
    """
    if num_classes is None:
        return normalization(norm, channels, axes)
    if norm not in ("batch", "spectral", "weight"):
        raise ValueError(
            f"conditioning='batch_norm' is a BatchNorm, and norm={norm!r} was given: choose "
            "'batch', or 'spectral' or 'weight' for a constraint of the weights beside it"
        )
    return [ConditionalBatchNorm(num_classes, channels, axes)]


def _num_groups(channels: int) -> int:
    """The largest number of groups of at least 8 channels, at most 32 as in the paper."""
    return max((g for g in range(1, 33) if channels % g == 0 and channels >= 8 * g), default=1)


class ConditionalBatchNorm(nn.Module):
    """BatchNorm with a scale and a shift for each class: `[B, C, ...]`, one-hot `[B, n]` -> same.

    Dumoulin 2017 (arXiv 1610.07629) and de Vries 2017 (arXiv 1707.00683). The tables `scale` and
    `shift`, `[n, C]`, start as 1 and 0: at first every class has the plain BatchNorm. `axes` is the
    number of axes behind the channels.

    Example:
        >>> layer = fgan.models.ConditionalBatchNorm(num_classes=10, channels=3)
        >>> layer(torch.randn(4, 3, 8, 8), torch.eye(10)[:4]).shape
        torch.Size([4, 3, 8, 8])
    """

    takes_label = True  # see `layers.Layers`

    def __init__(self, num_classes: int, channels: int, axes: int = 2) -> None:
        super().__init__()
        self.norm = _BATCH_NORM[axes](channels, affine=False)
        self.scale = nn.Parameter(torch.ones(num_classes, channels))
        self.shift = nn.Parameter(torch.zeros(num_classes, channels))

    def reset_parameters(self) -> None:
        """Ones and zeros."""
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.shift)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        rows = "b c -> b c" + " 1" * (x.ndim - 2)
        scale, shift = (rearrange(label @ table, rows) for table in (self.scale, self.shift))
        normalised: Tensor = self.norm(x)
        return normalised * scale + shift


def constrain(model: Model, norm: str) -> Model:
    """Put `spectral` or `weight` norm on every linear and convolutional layer of `model`.

    Spectral norm: Miyato 2018, arXiv 1802.05957. Weight norm: Salimans and Kingma 2016, arXiv
    1602.07868. For any other norm the model is not changed.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            if norm == "spectral":
                sigma = SpectralNorm(layer.weight)
                parametrize.register_parametrization(layer, "weight", sigma)
            elif norm == "weight":
                weight_norm(layer)
    return model


class SpectralNorm(nn.Module):
    """W -> W / σ(W), with the largest singular value from a power iteration (arXiv 1802.05957).

    A parametrisation for `torch.nn.utils.parametrize.register_parametrization`. It computes the
    same as that of torch's `spectral_norm`, whose `out=` arguments do not run under vmap. W is
    reshaped to a matrix with its rows along `dim`. The singular vectors `_u` and `_v` are buffers;
    every forward pass in training mode improves them by `n_power_iterations`.

    Raises ValueError for a weight with fewer than two axes.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> sigma = fgan.models.SpectralNorm(layer.weight)
        >>> _ = torch.nn.utils.parametrize.register_parametrization(layer, "weight", sigma)
        >>> bool(torch.linalg.matrix_norm(layer.weight, 2) < 1.1)
        True
    """

    _u: Tensor
    _v: Tensor

    def __init__(
        self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12
    ) -> None:
        super().__init__()
        if weight.ndim < 2:
            raise ValueError(f"a weight of 2 or more axes is needed, got {list(weight.shape)}")
        self.n_power_iterations = n_power_iterations
        self.dim = dim
        self.eps = eps
        matrix = self._matrix(weight)
        u, v = (
            torch.randn(size, dtype=weight.dtype, device=weight.device) for size in matrix.shape
        )
        u, v = self._power_iteration(matrix, u, v, steps=15)
        self.register_buffer("_u", u)
        self.register_buffer("_v", v)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = self._matrix(weight)
        # The next forward pass writes into the buffers, and the backward pass of this one still
        # needs the old values; use clones.
        u, v = self._u.clone(), self._v.clone()
        if self.training:
            u, v = self._power_iteration(matrix, u, v, self.n_power_iterations)
            self._u.copy_(u)
            self._v.copy_(v)
        return weight / torch.dot(u, matrix @ v)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """An assigned weight becomes the original weight, which the forward pass normalises."""
        return weight

    def _matrix(self, weight: Tensor) -> Tensor:
        return rearrange(weight.movedim(self.dim, 0), "out ... -> out (...)")

    def _power_iteration(
        self, matrix: Tensor, u: Tensor, v: Tensor, steps: int
    ) -> tuple[Tensor, Tensor]:
        # The gradient takes u and v as constants.
        matrix, u, v = matrix.detach(), u.detach(), v.detach()
        for _ in range(steps):
            u = F.normalize(matrix @ v, dim=0, eps=self.eps)
            v = F.normalize(matrix.mT @ u, dim=0, eps=self.eps)
        return u, v
