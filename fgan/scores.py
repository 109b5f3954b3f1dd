"""Scores, the critic's output: one number a sample; and checks of shapes, which read no values."""

import inspect
from typing import Any

import torch
from torch import Tensor


class ConditionError(ValueError):
    """A network takes a condition and was given none, or takes none and was given one."""


def as_scores(output: object, samples: Tensor) -> Tensor:
    """Scores [B] from a critic that returns [B] or [B, 1]; ValueError for anything else."""
    size = samples.shape[0]
    if not isinstance(output, Tensor):
        parts = f" of {len(output)}" if isinstance(output, tuple | list | dict) else ""
        raise ValueError(
            f"a critic gives one tensor of scores, and this one gave a {type(output).__name__}"
            f"{parts}: fgan.objectives.adversarial takes a Head for each further output of a "
            "critic that returns (scores, ...)"
        )
    if not output.is_floating_point():
        raise ValueError(f"scores are of floating point, and the critic gave {describe(output)}")
    if output.shape not in ((size,), (size, 1)):
        raise ValueError(
            f"a critic gives one score a sample, [{size}] or [{size}, 1]; "
            f"this one gave {list(output.shape)} for samples {list(samples.shape)}{_advice(output)}"
        )
    return output.reshape(size)


def _advice(output: Tensor) -> str:
    """For a map of scores; of [B, K] nobody knows whether it is one."""
    if output.ndim < 3:
        return ""
    if output.shape[1:].numel() == 1:
        return ": flatten them, nn.Sequential(critic, nn.Flatten(0))"
    return ": fgan.networks.MeanScore(critic) takes the mean of a map of scores (PatchGAN)"


def check_pairs(**scores: Any) -> None:
    """Raise ValueError unless these are tensors of one shape, so that none is broadcast."""
    (first, a), (second, b) = scores.items()
    check_tensor(first, a)
    check_tensor(second, b, like=a)
    if a.shape != b.shape:
        raise ValueError(
            f"{first} and {second} have one shape, [B], and {list(a.shape)} and {list(b.shape)} "
            "were given"
        )


def check_tensor(
    name: str, value: object, like: Tensor | None = None, *, floating: bool = True
) -> None:
    """Raise ValueError unless `value` is a dense tensor, on the device of `like`.

    floating: it also has to be of floating point.
    """
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        raise ValueError(f"{name} is a tensor, and {describe(value)} was given")
    if floating and not value.is_floating_point():
        raise ValueError(f"{name} is of floating point, and {describe(value)} was given")
    if like is not None and value.device != like.device:
        raise ValueError(
            f"{name} is on the device {value.device}, and what it meets on {like.device}: move one "
            "of them"
        )


def check_rows(name: str, tensor: object, size: int, what: str = "samples") -> None:
    """Raise ValueError unless a tensor has one row for each of `size` samples."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} is a tensor [{size}, ...], and {describe(tensor)} was given")
    if tensor.ndim == 0 or tensor.shape[0] != size:
        raise ValueError(
            f"{name} has one row a sample, [{size}, ...] for {size} {what}, and "
            f"{list(tensor.shape)} was given"
        )


def check_callable(name: str, value: object, form: str, arguments: int) -> None:
    """Raise ValueError unless `value` is a function that takes so many positional arguments."""
    if callable(value):
        try:
            inspect.signature(value).bind(*[None] * arguments)
        except ValueError:  # a builtin without a signature
            return
        except TypeError as error:
            raise ValueError(
                f"{name} is a function {form}, and {describe(value)} is none: {error}"
            ) from error
        return
    raise ValueError(f"{name} is a function {form}, and {describe(value)} was given")


def describe(value: object) -> str:
    """What a value is, in a few words, for a message."""
    if isinstance(value, Tensor):
        kind = "a tensor" if value.layout is torch.strided else f"a {value.layout} tensor"
        return f"{kind} {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
