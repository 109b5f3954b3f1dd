"""Seeded re-initialisation of a module."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from fgan.networks.functional import copied

_AS_THEY_ARE = (
    "call init() without a seed to start from the module's present parameters, as in "
    "fgan.train(..., state=algorithm.init())"
)


def reinitialized(module: nn.Module, seed: int) -> nn.Module:
    """A copy of `module` with fresh parameters, the same for the same seed on every device.

    The `reset_parameters` method of every layer draws them, children before parents, so that a
    model can override the initialisation of its layers. Frozen parameters keep their values, since
    they have been trained before. The global random number generators do not change.

    Raises ValueError for a layer with parameters if neither the layer nor a module around it has a
    `reset_parameters` method.

    Example:
        >>> module = torch.nn.Linear(2, 1)
        >>> first, second = (fgan.networks.reinitialized(module, seed=0) for _ in range(2))
        >>> torch.equal(first.weight, second.weight)
        True
    """
    fresh = copied(module, "cpu")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**64)
        _reset(fresh, "", covered=False)
    for old, new in zip(_tensors_of(module), _tensors_of(fresh), strict=True):
        frozen = isinstance(old, nn.Parameter) and not old.requires_grad
        new.data = old.detach().clone() if frozen else new.data.to(old.device)
    return fresh


def _tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _reset(module: nn.Module, path: str, covered: bool) -> None:
    """Reset `module` and its children; `covered` if a module around it has a reset."""
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    for key, child in module.named_children():
        if key != "parametrizations":
            _reset(child, f"{path}.{key}" if path else key, covered or reset is not None)
    if reset is not None:
        before = _plain_tensors(module)
        try:
            if parametrize.is_parametrized(module):
                _reset_parametrized(module, reset)
            else:
                reset()
        except (AttributeError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"layer {path!r} ({type(module).__name__}) cannot be re-initialised: its "
                f"reset_parameters() raised {type(error).__name__}: {error}. Mend this method, or "
                f"{_AS_THEY_ARE}."
            ) from error
        for key, (tensor, version) in before.items():
            if tensor._version != version:
                raise ValueError(
                    f"layer {path!r} ({type(module).__name__}) cannot be re-initialised: its "
                    f"reset_parameters() draws {key!r}, which is neither a parameter nor a buffer. "
                    "A spectral norm that assigns this tensor in forward leaves it: use "
                    f"torch.nn.utils.parametrizations.spectral_norm, or {_AS_THEY_ARE}."
                )
    elif not covered and any(True for _ in module.parameters(recurse=False)):
        raise ValueError(
            f"layer {path!r} ({type(module).__name__}) cannot be re-initialised: it has "
            f"parameters and no reset_parameters(). Define this method, or {_AS_THEY_ARE}."
        )


def _plain_tensors(layer: nn.Module) -> dict[str, tuple[Tensor, int]]:
    """The tensors that are plain attributes of a layer, and how often each was written to."""
    return {k: (v, v._version) for k, v in vars(layer).items() if isinstance(v, Tensor)}


def _reset_parametrized(layer: nn.Module, reset: Callable[[], None]) -> None:
    """Reset a parametrised layer, whose original tensors its own reset does not change."""
    parametrizations: Any = layer.parametrizations  # tensor name -> its parametrisations
    with parametrize.cached():
        reset()  # writes into the cached results of the parametrisations
        values = {key: getattr(layer, key).detach().clone() for key in parametrizations}
    for key, value in values.items():
        for step in parametrizations[key]:
            if hasattr(step, "_u"):
                _restart_power_iteration(step, value)
        setattr(layer, key, value)


def _restart_power_iteration(step: Any, weight: Tensor) -> None:
    """Draw the singular vectors of a spectral norm anew, as its constructor does."""
    fresh: _SpectralNorm = type(step)(weight, step.n_power_iterations, step.dim, step.eps)
    step._u.copy_(fresh._u)
    step._v.copy_(fresh._v)
