"""Which layers treat every sample of a batch alone, and which mix samples.

A penalty on input gradients is defined per sample (Gulrajani et al. 2017, arXiv 1704.00028, section
4), so a critic that mixes samples does not go with one.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn
from torch.func import jacrev
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize


def mixing_layers(module: nn.Module) -> list[str]:
    """The names of the layers that are known to mix the samples of a batch: BatchNorm's family."""
    return [key for key, layer in module.named_modules() if isinstance(layer, _BatchNorm)]


def is_per_sample(module: nn.Module) -> bool:
    """Whether `module` is known to treat every sample alone, so that batches may share a pass.

    Known are the common layers of torch.nn, einops layers that keep their first axis, and modules
    that say of their own forward method, by an attribute `per_sample = True` of the instance or its
    class, that it adds nothing to what the layers in it do. A module that is not known may still be
    one.
    """
    layer: Any = module
    kind = parametrize.type_before_parametrizations(layer)
    # Said by the class itself: a subclass may override what its parent said it of.
    known = kind in _PER_SAMPLE or vars(layer).get("per_sample", vars(kind).get("per_sample"))
    if kind in (Rearrange, Reduce):
        before, after = (side.split() for side in layer.pattern.split("->"))
        known = before[:1] == after[:1] and "".join(before[:1]).isidentifier()
    elif kind is nn.Flatten:
        known = layer.start_dim > 0
    elif kind in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d):
        known = not layer.track_running_stats
    children = [child for key, child in layer.named_children() if key != "parametrizations"]
    patched = [*layer._forward_hooks, *layer._forward_pre_hooks] or "forward" in vars(layer)
    return bool(known) and not patched and all(is_per_sample(child) for child in children)


_PER_SAMPLE = {
    *(nn.Sequential, nn.Identity, nn.Linear, nn.LayerNorm, nn.GroupNorm),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d),
    *(nn.LeakyReLU, nn.ReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid),
}


def batch_dependence(critic: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    """How strongly each score depends on each sample: ‖∂D_i/∂x_j‖₂ as a [B, B] matrix.

    `critic` maps samples [B, ...] to scores [B] or [B, 1]. A per-sample penalty is defined only
    where the matrix is diagonal; BatchNorm fills all of it.
    """
    jacobian = jacrev(lambda x: critic(x).reshape(len(x)))(samples)  # [B, B, ...]
    return torch.linalg.vector_norm(jacobian.flatten(start_dim=2), dim=2)


def check_batch_independent(critic: Callable[[Tensor], Tensor], samples: Tensor) -> None:
    """Raise ValueError where a score depends on another sample: ∂D_i/∂x_j ≠ 0 for some i ≠ j.

    `critic` maps samples [B, ...] to scores [B] or [B, 1]; B is at least 2. This is the check for
    layers whose names tell nothing (`mixing_layers` knows BatchNorm's family); no tolerance is
    needed, since the off-diagonal of an independent critic is exactly zero.
    """
    if samples.ndim < 2 or samples.shape[0] < 2:
        raise ValueError(f"samples of shape [B ≥ 2, ...] are needed, got {list(samples.shape)}")
    others = batch_dependence(critic, samples).fill_diagonal_(0)
    worst = int(others.argmax())
    i, j = divmod(worst, samples.shape[0])
    if others[i, j] != 0:
        raise ValueError(
            f"the critic mixes samples: the score of sample {i} depends on sample {j} "
            f"(|∂D_{i}/∂x_{j}| = {others[i, j]:.3g}). {ALTERNATIVES}"
        )


ALTERNATIVES = (
    "Use LayerNorm, GroupNorm, InstanceNorm, weight norm or spectral norm, which treat every "
    "sample alone."
)
