"""Messages for tensors that do not fit a network."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fgan.scores import describe
from fgan.types import Params

_ABOUT_SHAPES = re.compile(
    "shape|size of tensor|sizes|dimension|channels|Expected [0-9]D|expected input|to have|index out"
)


_OF_MORE_AXES = re.compile(
    "Expected [0-9]D|conv_transpose|must be [0-9]-D|expected (3D|4D|5D) input"
)


def _about_latents(x: Tensor) -> str:
    """What a generator that takes latents of more axes has to say."""
    if x.ndim != 2:
        return ""
    return (
        f". A generator that takes latents [B, {x.shape[1]}, 1, 1] says so by a setting or an "
        f"attribute, latent_shape=({x.shape[1]}, 1, 1)"
    )


def check_module(name: str, module: object) -> None:
    """Raise ValueError unless `module` is an nn.Module whose parameters have values.

    Example:
        >>> fgan.networks.check_module("the critic", torch.nn.Linear(2, 1))
        >>> fgan.networks.check_module("the critic", "linear")
        Traceback (most recent call last):
        ValueError: ...
    """
    if not isinstance(module, nn.Module):
        advice = "call the class" if isinstance(module, type) else "wrap functions in a module"
        raise ValueError(f"{name} is an nn.Module, and {describe(module)} was given: {advice}")
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise ValueError(
                f"{name} has its tensor {key!r} on the device meta, without values, and networks "
                "have values: module.to_empty(device=...), and then load or draw them"
            )


class Expected:
    """The names, shapes and dtypes of a module's tensors, and a check of those that it is given.

    A state may be converted as a whole, to float64 say; within it, tensors that have one dtype in
    the module have one dtype, and all are on one device.
    """

    def __init__(self, network: str, tensors: Sequence[tuple[str, Tensor]]) -> None:
        self._network = network
        self._known = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors}
        self._last: Any = None

    def check(self, params: Params, buffers: Params) -> None:
        """Raise ValueError unless params and buffers together are the module's tensors.

        Which of the two holds a tensor is free: a parameter among the buffers is frozen.
        """
        if not isinstance(params, dict) or not isinstance(buffers, dict):
            wrong = buffers if isinstance(params, dict) else params
            raise ValueError(
                f"params and buffers of {self._network} are dicts of tensors by name, and "
                f"{describe(wrong)} was given"
            )
        if torch.compiler.is_compiling():  # pragma: no cover (Dynamo goes this way)
            self._compare(params, buffers)
            return
        # In a round the same few forms of one state come again and again.
        try:
            form = [(k, x.shape, x.dtype, x.device) for k, x in params.items()]
            form += [(k, x.shape, x.dtype, x.device) for k, x in buffers.items()]
        except AttributeError:
            form = None
        if form is None or form != self._last:
            self._compare(params, buffers)
            self._last = form

    def _compare(self, params: Params, buffers: Params) -> None:
        dtypes: dict[torch.dtype, torch.dtype] = {}
        device = None
        for name, (shape, dtype) in self._known.items():
            tensor = params[name] if name in params else buffers.get(name)
            if not isinstance(tensor, Tensor) or tensor.shape != shape:
                raise ValueError(self._difference(name, shape, tensor))
            given = tensor.dtype
            if dtypes.setdefault(dtype, given) is not given:
                raise ValueError(
                    f"{name!r} of {self._network} is {given}, and other tensors of the state are "
                    f"{dtypes[dtype]}: convert the whole state, or none of it"
                )
            device = tensor.device if device is None else device
            if tensor.device != device:
                raise ValueError(
                    f"{name!r} of {self._network} is on {tensor.device}, and other tensors of the "
                    f"state are on {device}: move the whole state"
                )
        if len(params) + len(buffers) != len(self._known):
            if twice := params.keys() & buffers.keys():
                raise ValueError(f"params and buffers of {self._network} both have {min(twice)!r}")
            extra = min((params.keys() | buffers.keys()) - self._known.keys())
            raise ValueError(
                f"{self._network} has no tensor {extra!r}, and one of that name was given"
            )

    def _difference(self, name: str, shape: torch.Size, given: object) -> str:
        if given is None:
            return (
                f"{self._network} has a tensor {name!r}, and neither params nor buffers do: the "
                "state is of another network, or the name is misspelt"
            )
        if not isinstance(given, Tensor):
            return (
                f"{self._network} has a tensor {list(shape)} for {name!r}, and {describe(given)} "
                "was given"
            )
        return (
            f"{self._network} has {list(shape)} for {name!r}, and {list(given.shape)} was given: "
            "the state is of another network"
        )


def mismatch(network: str, tensors: Params, inputs: Sequence[Tensor], error: str) -> str:
    """Why a forward pass has failed, where its inputs do not fit its parameters; else ""."""
    given = ", ".join(map(describe, inputs))
    floats = [inputs[0], *(x for x in inputs[1:] if x.is_floating_point() or x.is_complex())]
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    for x in floats:
        if dtypes and x.dtype not in dtypes:
            wanted = min(map(str, dtypes)).removeprefix("torch.")
            return (
                f"the parameters of {network} are {wanted}, and its inputs {given}: convert them, "
                f"x.to(torch.{wanted}) ({error})"
            )
    devices = {tensor.device for tensor in tensors.values()}
    elsewhere = {x.device for x in inputs} - devices
    if devices and elsewhere:
        return (
            f"the parameters of {network} are on {next(iter(devices))}, and an input on "
            f"{min(map(str, elsewhere))} ({error})"
        )
    if "mutating directly with `.data`" in error:
        return (
            f"{network}.forward assigns to the data of a tensor, which torch.func cannot follow: "
            "compute new tensors, or use torch.nn.utils.parametrizations.spectral_norm where this "
            f"is a spectral norm ({error})"
        )
    if _ABOUT_SHAPES.search(error):
        hint = _about_latents(inputs[0]) if _OF_MORE_AXES.search(error) else ""
        return f"{network}.forward does not take the inputs that were given, {given}: {error}{hint}"
    return ""
