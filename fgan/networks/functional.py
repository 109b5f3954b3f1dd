"""From `nn.Module` to pure function, and the checks that keep it one.

A module keeps three things hidden: its parameters, its buffers and its training mode. A `Network`
has all three as arguments, and returns the buffers that the forward pass would have overwritten.
"""

import copy
import inspect
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.spectral_norm import SpectralNorm as SpectralNormHook
from torch.nn.utils.weight_norm import WeightNorm as WeightNormHook
from torch.utils._python_dispatch import _disable_current_modes

from fgan.networks.autocast import Narrow
from fgan.types import Params


class Apply(Protocol):
    """`output, buffers = apply(params, buffers, *inputs, training=True)`."""

    def __call__(
        self, params: Params, buffers: Params, *inputs: Tensor, training: bool = True
    ) -> tuple[Any, Params]: ...


class Network(NamedTuple):
    """A module as a pure function beside the tensors that it held."""

    apply: Apply
    """`(params, buffers, *inputs, training=True) -> (output, new buffers)`; mutates nothing."""
    params: Params
    """Copies of the trainable parameters, keyed by their names in the module."""
    buffers: Params
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
        frames = {training: copied(module, "meta").train(training) for training in (True, False)}
    name = type(module).__name__
    fewest, most = arity(module)

    def apply(
        params: Params, buffers: Params, *inputs: Tensor, training: bool = True
    ) -> tuple[Any, Params]:
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


def parameters_and_buffers(module: nn.Module) -> tuple[Params, Params]:
    """Detached copies of what `module` holds now: (trainable parameters, everything else)."""
    params: Params = {}
    buffers: Params = {}
    for key, parameter in module.named_parameters():
        (params if parameter.requires_grad else buffers)[key] = parameter.detach().clone()
    buffers |= {key: buffer.detach().clone() for key, buffer in module.named_buffers()}
    return params, buffers


def copied(module: nn.Module, device: str) -> nn.Module:
    """A deep copy with its tensors on `device`; tensors that are shared within it stay shared."""
    moved: dict[int, Any] = {}
    for parameter in module.parameters():
        value = parameter.detach().to(device, copy=True)
        moved[id(parameter)] = nn.Parameter(value, parameter.requires_grad)
    moved |= {id(buffer): buffer.detach().to(device, copy=True) for buffer in module.buffers()}
    return copy.deepcopy(module, moved)


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


def arity(module: nn.Module) -> tuple[int, float]:
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
