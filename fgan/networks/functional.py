"""Modules as pure functions.

A module has its parameters, its buffers and its training mode as hidden state. The function of a
`Network` takes all three as arguments, and returns the new buffers, which the forward pass of the
module would have written into the old ones.
"""

import copy
import inspect
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.spectral_norm import SpectralNorm as SpectralNormHook
from torch.nn.utils.weight_norm import WeightNorm as WeightNormHook
from torch.utils._python_dispatch import _disable_current_modes

from fgan import tree
from fgan.networks.attributes import Attributes
from fgan.networks.autocast import AutocastUnderVmap
from fgan.networks.mean_score import MeanScore
from fgan.networks.mismatch import Expected, check_module, mismatch
from fgan.networks.refusals import check_kinds, refusal
from fgan.scalars import check_flag
from fgan.scores import ConditionError, check_tensor
from fgan.types import Params


class Apply(Protocol):
    """`output, buffers = apply(params, buffers, *inputs, training=True)`."""

    def __call__(
        self, params: Params, buffers: Params, *inputs: Tensor, training: bool = True
    ) -> tuple[Any, Params]: ...


class Network(NamedTuple):
    """A module as a pure function, and copies of the module's tensors.

    Example:
        >>> network = fgan.make_functional(torch.nn.BatchNorm1d(2))
        >>> sorted(network.params), sorted(network.buffers)
        (['bias', 'weight'], ['num_batches_tracked', 'running_mean', 'running_var'])
    """

    apply: Apply
    """`(params, buffers, *inputs, training=True) -> (output, new buffers)`; mutates nothing."""
    params: Params
    """Copies of the trainable parameters, keyed by their names in the module."""
    buffers: Params
    """Copies of the buffers and of the frozen parameters (`requires_grad=False`)."""


def make_functional(module: nn.Module, autocast: torch.dtype | None = None) -> Network:
    """Turn `module` into a pure function of its parameters, buffers and training mode.

    The module is not changed, and later changes of the module do not change the network. A layer
    that is in evaluation mode within a module in training mode, such as a frozen BatchNorm, stays
    in evaluation mode. With `autocast`, `torch.bfloat16`, the network computes as under
    `torch.autocast` with that dtype; its output has the dtype of the first input.

    Raises ValueError for a module that cannot be pure: with dropout or another layer that draws
    random numbers, with a layer that writes into its parameters, with a lazy layer that has no
    shapes yet, with the hooks of `torch.nn.utils.spectral_norm` or `weight_norm`, or without
    trainable parameters; and for one that `torch.func` does not take, such as one with backward
    hooks. `apply` raises ValueError for tensors of other names or shapes than the
    module's, which it takes in `params` or in `buffers`, and for inputs of another number.

    Example:
        >>> network = fgan.make_functional(torch.nn.BatchNorm1d(2))
        >>> y, buffers = network.apply(network.params, network.buffers, torch.ones(8, 2))
        >>> buffers["running_mean"], network.buffers["running_mean"]
        (tensor([0.1000, 0.1000]), tensor([0., 0.]))
    """
    check_module("the module", module)
    check_kinds(module)
    _check_pure(module)
    if autocast is not None and not _is_float_dtype(autocast):
        raise ValueError(
            f"autocast is a dtype of floating point such as torch.bfloat16, and {autocast!r} was "
            "given"
        )
    # Every call replaces the tensors of these copies, so the copies are on the meta device, without
    # memory. A recipe may be built within a trace, which must not record the copying.
    with _disable_current_modes():
        copies = {training: _frame(module, training) for training in (True, False)}
    attributes = {training: Attributes(copies[training]) for training in copies}
    name = type(module).__name__
    expected = Expected(name, [*module.named_parameters(), *module.named_buffers()])
    fewest, most = arity(module)

    def apply(
        params: Params, buffers: Params, *inputs: Tensor, training: bool = True
    ) -> tuple[Any, Params]:
        if not fewest <= len(inputs) <= most:
            raise ConditionError(
                f"{name}.forward takes {_count(fewest, most)}, and {len(inputs)} were given. "
                "With conditions in the batch, both networks take one: generator(z, condition) and "
                "critic(x, condition). Without conditions, neither does."
            )
        expected.check(params, buffers)
        for i, x in enumerate(inputs):
            check_tensor(f"input {i} of {name}.forward", x, floating=False)
        check_flag("training", training)
        # Layers such as BatchNorm write into their buffers in place; pass clones.
        tensors = params | {key: buffer.clone() for key, buffer in buffers.items()}
        # A first layer such as ReLU(inplace=True) writes into its input; pass a clone.
        inputs = tuple(x.clone() for x in inputs)
        try:
            if autocast is None:
                output = functional_call(copies[training], tensors, inputs)
            else:
                # With its cache, autocast would use the weights of an earlier call or trace again.
                of_torch = torch.autocast(inputs[0].device.type, autocast, cache_enabled=False)
                with of_torch, AutocastUnderVmap(autocast):
                    output = functional_call(copies[training], tensors, inputs)
                output = _cast(output, inputs[0].dtype)
        except RuntimeError as error:
            reason = refusal(name, copies[training], error)
            if reason := reason or mismatch(name, tensors, inputs, str(error)):
                raise ValueError(reason) from error
            raise
        finally:
            if not torch.compiler.is_compiling():  # pragma: no branch (Dynamo takes the other)
                attributes[training].restore()
        return output, {key: tensors[key] for key in buffers}

    return Network(apply, *parameters_and_buffers(module))


def _frame(module: nn.Module, training: bool) -> nn.Module:
    """A copy without memory, in training or evaluation mode; frozen layers keep their mode."""
    frame = copied(module, "meta").train(training)
    for key, layer in module.named_modules():
        if is_frozen(module, layer):
            frame.get_submodule(key).eval()
    return frame


def is_frozen(module: nn.Module, layer: nn.Module) -> bool:
    """Whether a layer is in evaluation mode while the module around it is in training mode."""
    return module.training and not layer.training


def _is_float_dtype(dtype: object) -> bool:
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


def _cast(output: Any, dtype: torch.dtype) -> Any:
    """A network's output, or each of its floating-point outputs, in another dtype."""
    if isinstance(output, Tensor):
        return output.to(dtype) if output.is_floating_point() else output
    return tree.map(lambda part: _cast(part, dtype) if isinstance(part, Tensor) else part, output)


def parameters_and_buffers(module: nn.Module) -> tuple[Params, Params]:
    """(trainable parameters, buffers and frozen parameters) of `module`, as detached copies.

    Example:
        >>> params, buffers = fgan.networks.parameters_and_buffers(torch.nn.Linear(2, 1))
        >>> sorted(params), buffers
        (['bias', 'weight'], {})
    """
    params: Params = {}
    buffers: Params = {}
    for key, parameter in module.named_parameters():
        (params if parameter.requires_grad else buffers)[key] = parameter.detach().clone()
    buffers |= {key: buffer.detach().clone() for key, buffer in module.named_buffers()}
    return params, buffers


def running_statistics(module: nn.Module) -> frozenset[str]:
    """The names of the running means and variances of BatchNorm layers, and of InstanceNorm's.

    They describe the activations under the weights of the rounds before, as no other buffer does.

    Example:
        >>> sorted(fgan.networks.running_statistics(torch.nn.BatchNorm1d(2)))
        ['running_mean', 'running_var']
    """
    found = set()
    for key, layer in module.named_modules():
        if isinstance(layer, _NormBase):
            prefix = f"{key}." if key else ""
            for name in ("running_mean", "running_var"):
                value = getattr(layer, name)
                if value is not None and value.is_floating_point():
                    found.add(prefix + name)
    return frozenset(found)


def copied(module: nn.Module, device: str) -> nn.Module:
    """A deep copy of `module` on `device`; a tensor that two layers share stays shared."""
    moved: dict[int, Any] = {}
    for parameter in module.parameters():
        value = parameter.detach().to(device, copy=True)
        moved[id(parameter)] = nn.Parameter(value, parameter.requires_grad)
    moved |= {id(buffer): buffer.detach().to(device, copy=True) for buffer in module.buffers()}
    # Features and caches that an earlier forward pass has left in an attribute.
    moved |= {id(value): value.detach().clone() for value in _attributes(module)}
    return copy.deepcopy(module, moved)


def _attributes(module: nn.Module) -> list[Tensor]:
    """The results of autograd that layers hold, and that `copy.deepcopy` refuses."""
    return [
        value
        for layer in module.modules()
        for value in tree.leaves(list(vars(layer).values()))
        if isinstance(value, Tensor) and not value.is_leaf
    ]


def _check_pure(module: nn.Module) -> None:
    for key, layer in module.named_modules():
        name = f"layer {key!r} ({type(layer).__name__})"
        _check_draws_nothing(name, layer)
        if any(nn.parameter.is_lazy(parameter) for parameter in layer.parameters(recurse=False)):
            raise ValueError(f"{name} has no shapes yet: run the module once on a batch first.")
        _check_hooks(name, layer)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError(f"{type(module).__name__} has no trainable parameters")


def _check_draws_nothing(name: str, layer: nn.Module) -> None:
    """Raise for the layers of torch.nn that draw; `fgan.networks.randomness` finds all others."""
    # Attention and recurrent layers have their dropout rate as an attribute.
    rate = layer.p if isinstance(layer, _DropoutNd) else getattr(layer, "dropout", 0)
    drops = isinstance(rate, float | int) and rate > 0
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        if layer.max_norm is not None:
            raise ValueError(
                f"{name} has max_norm, so its forward pass writes into its weight. Leave max_norm "
                "out, and divide by the norm in the forward pass"
            )
        if layer.sparse:
            raise ValueError(f"{name} has sparse gradients, which torch.func lacks: sparse=False")
    if drops:
        raise ValueError(
            f"{name} draws random numbers in the forward pass, so the network is no pure function. "
            "Leave the dropout out, or use fgan.networks.NoiseDropout, whose mask is a part of the "
            "round's noise."
        )
    if isinstance(layer, nn.RReLU | nn.FractionalMaxPool2d | nn.FractionalMaxPool3d):
        raise ValueError(
            f"{name} draws random numbers in the forward pass, so the network is no pure function. "
            "Remove the layer, or feed the random numbers in as an input."
        )


def _check_hooks(name: str, layer: nn.Module) -> None:
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, SpectralNormHook | WeightNormHook):
            norm = "spectral_norm" if isinstance(hook, SpectralNormHook) else "weight_norm"
            raise ValueError(
                f"{name} uses torch.nn.utils.{norm}, whose hook keeps hidden state. "
                f"Use torch.nn.utils.parametrizations.{norm}."
            )


def arity(module: nn.Module) -> tuple[int, float]:
    """The fewest and the most positional inputs that the forward method takes."""
    while type(module) is MeanScore:  # it takes what its critic takes
        module = module.critic
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
