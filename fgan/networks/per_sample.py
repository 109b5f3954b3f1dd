"""Which layers treat every sample of a batch alone, and which mix samples.

A penalty on input gradients is defined per sample (Gulrajani et al. 2017, arXiv 1704.00028, section
4), so a critic that mixes samples cannot have one.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn
from torch.func import jacrev
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from fgan.networks.functional import is_frozen


def mixing_layers(module: nn.Module) -> list[str]:
    """The names of the layers that are known to mix samples: those of the BatchNorm family.

    Not those that are frozen, in evaluation mode within a module in training mode, and have running
    statistics.

    Example:
        >>> critic = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
        >>> fgan.networks.mixing_layers(critic)
        ['0']
    """
    return [
        key
        for key, layer in module.named_modules()
        if isinstance(layer, _BatchNorm)
        and not (is_frozen(module, layer) and layer.running_mean is not None)
    ]


def is_per_sample(module: nn.Module) -> bool:
    """Whether `module` is known to treat every sample alone.

    Two batches may then be concatenated into one forward pass. Known are the common layers of
    torch.nn, einops layers that keep their first axis, and modules with an attribute
    `per_sample = True` on the instance or on its own class. The attribute states that the forward
    method itself mixes no samples; the layers within are examined all the same. False does not mean
    that the module mixes samples.

    Example:
        >>> fgan.networks.is_per_sample(torch.nn.Linear(2, 1))
        True
    """
    layer: Any = module
    kind = parametrize.type_before_parametrizations(layer)
    # The attribute of a parent class does not count: the subclass may override forward.
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
    *(nn.Sequential, nn.Identity, nn.Linear, nn.Embedding),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ZeroPad1d, nn.ZeroPad2d),
    *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d),
    *(nn.LeakyReLU, nn.ReLU, nn.ReLU6, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardtanh, nn.Softplus, nn.Softsign, nn.Tanh, nn.Sigmoid),
}


def batch_dependence(critic: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    """How strongly each score depends on each sample: ‖∂D_i/∂x_j‖₂ as a [B, B] matrix.

    `critic` maps samples [B, ...] to scores [B] or [B, 1]. A per-sample penalty is defined only
    where the matrix is diagonal; with BatchNorm no entry is zero.

    Example:
        >>> fgan.networks.batch_dependence(lambda x: (x**2).sum(dim=1), torch.ones(2, 1))
        tensor([[2., 0.],
                [0., 2.]])
    """
    # Row by row, without vmap: any critic will do, one that branches on values too.
    jacobian = jacrev(lambda x: critic(x).reshape(len(x)), chunk_size=1)(samples)  # [B, B, ...]
    return torch.linalg.vector_norm(jacobian.detach().flatten(start_dim=2), dim=2)


def check_batch_independent(critic: Callable[[Tensor], Tensor], samples: Tensor) -> None:
    """Raise ValueError where the score of a sample depends on another sample.

    critic: maps samples [B, ...] to scores [B] or [B, 1]. A module runs as it is, in copies.
    samples: [B, ...], B at least 2.

    This check is for layers that `mixing_layers` does not know. It compares ∂D_i/∂x_j with 0 for
    i ≠ j, where a critic without mixing gives exactly 0. A dependence without a gradient, such as
    detached batch statistics, is found by replacing one sample at a time.

    Example:
        >>> fgan.networks.check_batch_independent(torch.nn.Linear(2, 1), torch.randn(4, 2))
        >>> mixing = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
        >>> fgan.networks.check_batch_independent(mixing, torch.randn(4, 2))
        Traceback (most recent call last):
        ValueError: ...
    """
    if samples.ndim < 2 or samples.shape[0] < 2:
        raise ValueError(f"samples of shape [B ≥ 2, ...] are needed, got {list(samples.shape)}")
    samples = samples.detach()

    def scores(x: Tensor) -> Tensor:
        # A forward pass with spectral norm changes buffers, so each one starts from a fresh copy.
        fresh = copy.deepcopy(critic) if isinstance(critic, nn.Module) else critic
        output = fresh(x)
        if output.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(
                f"a critic gives scores [B] or [B, 1], got {list(output.shape)} for {len(x)} "
                "samples"
            )
        return output.reshape(-1)

    _check_gradients(scores, samples)
    _check_values(scores, samples)


def _check_gradients(scores: Callable[[Tensor], Tensor], samples: Tensor) -> None:
    others = batch_dependence(scores, samples).fill_diagonal_(0)
    i, j = divmod(int(others.argmax()), len(samples))
    if others[i, j] != 0:
        raise ValueError(
            f"the critic mixes samples: the score of sample {i} depends on sample {j} "
            f"(|∂D_{i}/∂x_{j}| = {others[i, j]:.3g}). {ALTERNATIVES}"
        )


def _check_values(scores: Callable[[Tensor], Tensor], samples: Tensor) -> None:
    before = scores(samples).detach()
    if not torch.equal(before, scores(samples)):
        return  # the critic has hidden state, so two of its outputs cannot be compared
    for j in range(len(samples)):
        replaced = samples.clone()
        replaced[j] = 2 - 3 * samples[j]
        change = (scores(replaced).detach() - before).abs()
        change[j] = 0
        i = int(change.argmax())
        if change[i] > 1e-5 * (1 + before[i].abs()):
            raise ValueError(
                f"the critic mixes samples: the score of sample {i} changes by {change[i]:.3g} "
                f"when sample {j} is replaced, though its gradient is zero (detached batch "
                f"statistics?). {ALTERNATIVES}"
            )


ALTERNATIVES = (
    "Use LayerNorm, GroupNorm, InstanceNorm, weight norm or spectral norm, which treat every "
    "sample alone."
)
