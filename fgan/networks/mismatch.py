"""Messages for tensors that do not fit a network."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from fgan.scores import describe
from fgan.types import Params

_ABOUT_SHAPES = re.compile(
    "shape|size of tensor|sizes|dimension|channels|Expected [0-9]D|expected input|to have|index out"
)


def first_difference(network: str, name: str, shape: torch.Size, given: Tensor | None) -> str:
    """For a state that lacks the tensor `name`, or has it in another shape."""
    if given is None:
        return (
            f"{network} has a tensor {name!r}, and neither params nor buffers do: the state is of "
            "another network, or the name is misspelt"
        )
    if not isinstance(given, Tensor):
        return f"{network} has a tensor {list(shape)} for {name!r}, and {describe(given)} was given"
    return (
        f"{network} has {list(shape)} for {name!r}, and {list(given.shape)} was given: the state "
        "is of another network"
    )


def mismatch(network: str, tensors: Params, inputs: Sequence[object], error: str) -> str:
    """Why a forward pass has failed, where its inputs do not fit its parameters; else ""."""
    given = ", ".join(map(describe, inputs))
    floats = [x for x in inputs if isinstance(x, Tensor) and x.is_floating_point()]
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    for x in floats:
        if dtypes and x.dtype not in dtypes:
            wanted = min(map(str, dtypes)).removeprefix("torch.")
            return (
                f"the parameters of {network} are {wanted}, and its inputs {given}: convert them, "
                f"x.to(torch.{wanted}) ({error})"
            )
    devices = {tensor.device for tensor in tensors.values()}
    elsewhere = {x.device for x in inputs if isinstance(x, Tensor)} - devices
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
        return f"{network}.forward does not take the inputs that were given, {given}: {error}"
    return ""
