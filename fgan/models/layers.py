"""The parts of the example networks: interface, labels, norms and spectral normalisation."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from einops.layers.torch import Rearrange
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from fgan.scores import describe

Model = TypeVar("Model", bound=nn.Module)

NORMS = ("none", "batch", "layer", "group", "instance", "spectral", "weight")


class Generator(nn.Module):
    """G(z) or G(z, y): latent `[B, latent_dim]`, labels `[B]` -> samples `[B, *sample_shape]`.

    The one-hot label is concatenated with the latent (Mirza and Osindero 2014, arXiv 1411.1784).

    Raises ValueError for a latent of another shape, for missing labels, for labels of a model
    without classes, and for labels that are no integers. On the CPU in eager mode, labels out of
    range raise ValueError too.
    """

    def __init__(
        self,
        layers: nn.Module,
        sample_shape: Sequence[int],
        latent_dim: int,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.layers = layers

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        _check_shape("a latent", z, (self.latent_dim,))
        label = _label("generator", condition, self.num_classes, z)
        samples: Tensor = self.layers(join(z, label))
        return samples


class Critic(nn.Module):
    """D(x) or D(x, y): samples `[B, *sample_shape]`, labels `[B]` -> scores `[B]`, logits.

    The first layer, `stem(x, one_hot)`, concatenates the label with the sample, as constant
    channels of an image or as further features (Mirza and Osindero 2014, arXiv 1411.1784).

    Raises ValueError for samples of another shape, and for labels as `Generator` does.
    """

    def __init__(
        self,
        stem: Callable[[Tensor, Tensor | None], Tensor],
        layers: nn.Module,
        sample_shape: Sequence[int],
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.num_classes = num_classes
        self.stem = stem
        # See `fgan.networks.is_per_sample`. Of other functions it is not known.
        self.per_sample = isinstance(stem, nn.Module) or stem in (join, join_flat)
        self.layers = layers

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        _check_shape("samples", x, self.sample_shape)
        features = self.stem(x, _label("critic", condition, self.num_classes, x))
        scores: Tensor = self.layers(features)
        return rearrange(scores, "b 1 -> b")


def join(x: Tensor, label: Tensor | None) -> Tensor:
    """`[B, C, ...]` and a one-hot label `[B, n]` -> `[B, C + n, ...]`, n constant channels."""
    if label is None:
        return x
    for size in x.shape[2:]:
        label = repeat(label, "b n ... -> b n ... size", size=size)
    return torch.cat([x, label], dim=1)


def join_flat(x: Tensor, label: Tensor | None) -> Tensor:
    """`[B, ...]` of any rank and a one-hot label `[B, n]` -> `[B, features + n]`."""
    return join(rearrange(x, "b ... -> b (...)"), label)


def _label(
    player: str, condition: Tensor | None, num_classes: int | None, x: Tensor
) -> Tensor | None:
    """The one-hot label `[B, num_classes]` of the model's input x, or None without classes."""
    if num_classes is None:
        if condition is not None:
            raise ValueError(
                f"an unconditional {player} takes no condition: leave the condition out, or build "
                "the model with num_classes=..."
            )
        return None
    if condition is None:
        raise ValueError(
            f"the {player} has {num_classes} classes and needs labels: call model(x, condition) "
            "with integers [B], or build the model with num_classes=None"
        )
    _check_tensor("labels", condition)
    if condition.shape != x.shape[:1]:
        raise ValueError(f"expected labels {list(x.shape[:1])}, got {list(condition.shape)}")
    return one_hot(condition, num_classes, x.dtype)


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Integers `[...]` -> `[..., num_classes]` of `dtype`, also under vmap, grad and compile.

    Raises ValueError for labels that are no integers, for a number of classes or a dtype that is
    none, and in eager mode on the CPU, outside vmap, for labels outside [0, num_classes).
    """
    _check_tensor("labels", labels)
    if type(num_classes) is not int or num_classes < 1:
        raise ValueError(f"num_classes is a whole number from 1, and {num_classes!r} was given")
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype is one of torch such as torch.float32, and {dtype!r} was given")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers (int64), got {labels.dtype}")
    readable = _readable(labels)
    if readable is not None:
        for label in readable[(readable < 0) | (readable >= num_classes)]:
            raise ValueError(f"label {int(label)} is outside the model's {num_classes} classes")
    classes = torch.arange(num_classes, device=labels.device)
    return (labels[..., None] == classes).to(dtype)


def _readable(x: Tensor) -> Tensor | None:
    """x, if Python can read its values without a graph break or a GPU sync."""
    if torch.compiler.is_compiling():  # pragma: no cover (traced by Dynamo, not run)
        return None
    while functorch.is_gradtrackingtensor(x):  # has one value, unlike a tensor under vmap
        x = functorch.get_unwrapped(x)
    plain = type(x) is Tensor and not functorch.is_functorch_wrapped_tensor(x)
    return x if plain and x.device.type == "cpu" else None


def _check_tensor(name: str, x: object) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} are a tensor of integers, and {describe(x)} was given")


def _check_shape(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} is a tensor, and {describe(x)} was given")
    if x.shape[1:] != shape or x.ndim == 0:
        expected = ", ".join(["B", *map(str, shape)])
        raise ValueError(f"expected {name} [{expected}], got {list(x.shape)}")


def check_norm(norm: str) -> None:
    """Raise ValueError for an unknown norm, with a list of the norms."""
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")


def normalization(norm: str, channels: int, flat: bool = False) -> list[nn.Module]:
    """The layer that normalises activations `[B, channels, ...]` (`[B, channels]` where `flat`).

    An empty list for the norms of weights (see `constrain`). All but `batch` treat every sample
    alone:

    - `layer`: over a sample's channels and positions (Ba 2016, arXiv 1607.06450), with one scale
      per channel
    - `group`: the same in groups of 8 channels or more (Wu and He 2018, arXiv 1803.08494)
    - `instance`: each channel over its positions (Ulyanov 2016, arXiv 1607.08022); ValueError where
      `flat`, since a feature without positions would always come out as zero
    """
    match norm:
        case "batch":
            return [nn.BatchNorm1d(channels) if flat else nn.BatchNorm2d(channels)]
        case "layer":
            return [nn.GroupNorm(1, channels)]
        case "group":
            return [nn.GroupNorm(_num_groups(channels), channels)]
        case "instance" if flat:
            raise ValueError(
                "instance norm averages over positions. Flat features have no positions, so every "
                "feature would become zero. Use norm='layer' or norm='group'."
            )
        case "instance":
            return [nn.InstanceNorm2d(channels, affine=True)]
    return []


def _num_groups(channels: int) -> int:
    """The largest number of groups of at least 8 channels, at most 32 as in the paper."""
    return max((g for g in range(1, 33) if channels % g == 0 and channels >= 8 * g), default=1)


def constrain(model: Model, norm: str) -> Model:
    """Put `spectral` or `weight` norm on every linear and convolutional layer of `model`.

    Spectral norm: Miyato 2018, arXiv 1802.05957. Weight norm: Salimans and Kingma 2016, arXiv
    1602.07868. For any other norm the model is not changed.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if norm == "spectral":
                sigma = SpectralNorm(layer.weight)
                parametrize.register_parametrization(layer, "weight", sigma)
            elif norm == "weight":
                weight_norm(layer)
    return model


class UpsampleConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling, then a 3x3 convolution: `[B, in, H, W]` -> `[B, out, 2H, 2W]`.

    Unlike a transposed convolution with free weights it makes no checkerboard pattern (Odena 2016).
    It is computed as a transposed convolution of stride 2: a 3x3 window of the upsampled image has
    2x2 different values, so the kernel is 4x4, with sums of neighbouring weights. An output takes 4
    products instead of 9.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        shifts = [(i, 1 - i, j, 1 - j) for i in (0, 1) for j in (0, 1)]
        kernel = torch.stack([F.pad(self.weight, shift) for shift in shifts]).sum(dim=0)
        kernel = rearrange(kernel.flip(-1, -2), "o i h w -> i o h w")
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class SpectralNorm(nn.Module):
    """W -> W / σ(W), with the largest singular value from a power iteration (arXiv 1802.05957).

    A parametrisation for `torch.nn.utils.parametrize.register_parametrization`. It computes the
    same as that of torch's `spectral_norm`, whose `out=` arguments do not run under vmap. W is
    reshaped to a matrix with its rows along `dim`. The singular vectors `_u` and `_v` are buffers;
    every forward pass in training mode improves them by `n_power_iterations`.

    Raises ValueError for a weight with fewer than two axes.
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


def unflatten(sample_shape: Sequence[int]) -> Rearrange:
    """The layer `[B, n]` -> `[B, *sample_shape]`, for samples of any rank."""
    axes = {f"axis{i}": size for i, size in enumerate(sample_shape)}
    names = " ".join(axes)
    return Rearrange(f"b ({names}) -> b {names}", **axes)
