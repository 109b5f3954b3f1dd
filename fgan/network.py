"""From `nn.Module` to pure function, and the checks that keep it one.

A module keeps three things hidden: its parameters, its buffers and its training mode. A `Network`
has all three as arguments, and returns the buffers that the forward pass would have overwritten.
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm as SpectralNormHook
from torch.nn.utils.weight_norm import WeightNorm as WeightNormHook
from torch.utils._python_dispatch import _disable_current_modes

from fgan.autocast import Narrow
from fgan.types import Tensors


class Apply(Protocol):
    """`output, buffers = apply(params, buffers, *inputs, training=True)`."""

    def __call__(
        self, params: Tensors, buffers: Tensors, *inputs: Tensor, training: bool = True
    ) -> tuple[Any, Tensors]: ...


class Network(NamedTuple):
    """A module as a pure function beside the tensors that it held."""

    apply: Apply
    """`(params, buffers, *inputs, training=True) -> (output, new buffers)`; mutates nothing."""
    params: Tensors
    """Copies of the trainable parameters, keyed by their names in the module."""
    buffers: Tensors
    """Copies of the buffers, and of the parameters that are frozen (`requires_grad=False`)."""


def make_functional(module: nn.Module, autocast: torch.dtype | None = None) -> Network:
    """Turn `module` into a pure function of its parameters, buffers and training mode.

    The module itself is left as it is, and later changes to it do not reach the network. With
    `autocast` it computes as under `torch.autocast` with that dtype, and its output is of the first
    input's dtype again.

    Raises ValueError for what cannot be pure: dropout and other layers that draw random numbers,
    lazy layers that have no shapes yet, the hook-based `torch.nn.utils.spectral_norm` and
    `weight_norm`, and a module without trainable parameters.
    """
    _refuse_impure(module)
    # The frames' own tensors are never read, so they hold shapes alone and take no memory.
    with _disable_current_modes():  # a recipe may be built within a trace, and no frame is of it
        frames = {training: _copied(module, "meta").train(training) for training in (True, False)}
    name = type(module).__name__
    fewest, most = _arity(module)

    def apply(
        params: Tensors, buffers: Tensors, *inputs: Tensor, training: bool = True
    ) -> tuple[Any, Tensors]:
        if not fewest <= len(inputs) <= most:
            raise ValueError(
                f"{name}.forward takes {_count(fewest, most)}, and {len(inputs)} were given. "
                "A conditional run needs a generator(z, condition) and a critic(x, condition); "
                "an unconditional one gives no condition."
            )
        # BatchNorm and its like write into the buffers they are handed; a clone takes the ink.
        tensors = params | {key: buffer.clone() for key, buffer in buffers.items()}
        # And so does a first layer that works in place.
        given = tuple(x.clone() for x in inputs)
        if autocast is None:
            output = functional_call(frames[training], tensors, given)
        else:
            # The cache would keep weights of one call, or of one trace, for the next.
            usual = torch.autocast(given[0].device.type, autocast, cache_enabled=False)
            with usual, Narrow(autocast):
                output = functional_call(frames[training], tensors, given)
            output = output.to(given[0].dtype)
        return output, {key: tensors[key] for key in buffers}

    return Network(apply, *parameters_and_buffers(module))


def parameters_and_buffers(module: nn.Module) -> tuple[Tensors, Tensors]:
    """Detached copies of what `module` holds now: (trainable parameters, everything else)."""
    params: Tensors = {}
    buffers: Tensors = {}
    for key, parameter in module.named_parameters():
        (params if parameter.requires_grad else buffers)[key] = parameter.detach().clone()
    buffers |= {key: buffer.detach().clone() for key, buffer in module.named_buffers()}
    return params, buffers


def reinitialized(module: nn.Module, seed: int) -> nn.Module:
    """A copy of `module` with fresh parameters, the same for the same seed on every device.

    Frozen parameters keep their values: they are there because somebody trained them.

    Every layer's own `reset_parameters` draws them, children before parents, so that a model may
    override what its layers do. The global random number generators are left as they were.

    Raises ValueError for a layer that holds parameters which neither it nor a module around it can
    reset.
    """
    fresh = _copied(module, "cpu")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**64)
        _reset(fresh, "", covered=False)
    for old, new in zip(_tensors_of(module), _tensors_of(fresh), strict=True):
        frozen = isinstance(old, nn.Parameter) and not old.requires_grad
        new.data = old.detach().clone() if frozen else new.data.to(old.device)
    return fresh


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


def _copied(module: nn.Module, device: str) -> nn.Module:
    """A deep copy with its tensors on `device`; tensors that are shared within it stay shared."""
    moved: dict[int, Any] = {}
    for parameter in module.parameters():
        value = parameter.detach().to(device, copy=True)
        moved[id(parameter)] = nn.Parameter(value, parameter.requires_grad)
    moved |= {id(buffer): buffer.detach().to(device, copy=True) for buffer in module.buffers()}
    return copy.deepcopy(module, moved)


def _tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _refuse_impure(module: nn.Module) -> None:
    for key, layer in module.named_modules():
        where = f"layer {key!r} ({type(layer).__name__})"
        rate = layer.p if isinstance(layer, _DropoutNd) else getattr(layer, "dropout", 0)
        random = isinstance(rate, float | int) and rate > 0  # attention and RNNs have the number
        if random or isinstance(layer, nn.RReLU | nn.FractionalMaxPool2d | nn.FractionalMaxPool3d):
            raise ValueError(
                f"{where} draws random numbers in the forward pass, so it cannot be pure. "
                "Take it out, or feed its noise in as an input."
            )
        if any(nn.parameter.is_lazy(parameter) for parameter in layer.parameters(recurse=False)):
            raise ValueError(f"{where} has no shapes yet: run the module once on a batch first.")
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, SpectralNormHook | WeightNormHook):
                name = "spectral_norm" if isinstance(hook, SpectralNormHook) else "weight_norm"
                raise ValueError(
                    f"{where} uses torch.nn.utils.{name}, whose hook keeps state that no function "
                    f"can see. Use torch.nn.utils.parametrizations.{name}."
                )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError(f"{type(module).__name__} has no trainable parameters")


def _arity(module: nn.Module) -> tuple[int, float]:
    """The fewest and the most positional inputs that the forward method takes."""
    kinds = inspect.Parameter
    inputs = list(inspect.signature(module.forward).parameters.values())
    positional = [
        p for p in inputs if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    fewest = sum(p.default is kinds.empty for p in positional)
    unbounded = any(p.kind is kinds.VAR_POSITIONAL for p in inputs)
    return fewest, float("inf") if unbounded else len(positional)


def _count(fewest: int, most: float) -> str:
    if fewest == most:
        return f"{fewest} input{'s' * (fewest != 1)}"
    return f"{fewest} or more inputs" if most == float("inf") else f"{fewest} to {most} inputs"


def _reset(module: nn.Module, path: str, covered: bool) -> None:
    """Reset `module` and all below it; `covered` when a module above resets its own subtree."""
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    for key, child in module.named_children():
        if key != "parametrizations":
            _reset(child, f"{path}.{key}" if path else key, covered or reset is not None)
    if reset is not None:
        if parametrize.is_parametrized(module):
            _reset_parametrized(module, reset)
        else:
            reset()
    elif not covered and any(True for _ in module.parameters(recurse=False)):
        raise ValueError(
            f"layer {path!r} ({type(module).__name__}) cannot be re-initialised: it holds "
            "parameters and has no reset_parameters(). Define one, or call init() without a seed "
            "to start from the parameters that the module holds."
        )


def _reset_parametrized(layer: nn.Module, reset: Callable[[], None]) -> None:
    """Reset the tensors behind a parametrisation, which a bare reset would leave untouched."""
    behind: Any = layer.parametrizations  # tensor name -> the parametrisations that compute it
    with parametrize.cached():
        reset()  # fills the cached, computed tensors in place
        values = {key: getattr(layer, key).detach().clone() for key in behind}
    for key, value in values.items():
        for step in behind[key]:
            if hasattr(step, "_u"):
                _restart_power_iteration(step, value)
        setattr(layer, key, value)


def _restart_power_iteration(step: Any, weight: Tensor) -> None:
    """Draw the singular vectors of a spectral norm anew, as its constructor did."""
    fresh: _SpectralNorm = type(step)(weight, step.n_power_iterations, step.dim, step.eps)
    step._u.copy_(fresh._u)
    step._v.copy_(fresh._v)
