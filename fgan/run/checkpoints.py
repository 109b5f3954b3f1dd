"""A run's state on disk: whole or not at all, and loaded without running anyone's code."""

import io
import os
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from fgan import tree
from fgan.data.files import replacing

_FORMAT = "fgan state 2"
State = TypeVar("State")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another model."""


def save(path: str | Path, state: object) -> None:
    """Write a tree of tensors to `path`, atomically.

    A crash or a full disk at any moment leaves the old file or the new one, never a part: the bytes
    go to a temporary file beside it, reach the disk, and take the name in one step.
    """
    path = Path(path)
    content = io.BytesIO()  # torch.save turns a full disk into errors of its own
    torch.save({"format": _FORMAT, "leaves": tree.named_leaves(state)}, content)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is in the folder, which has to reach the disk as well
    finally:
        os.close(folder)


def load(path: str | Path, like: State) -> State:
    """Read a tree with the structure, shapes, dtypes and devices of `like`, such as `init()` gives.

    Raises CheckpointError where the file is missing, truncated, not a checkpoint, or of a state
    that differs from `like`, naming the first difference.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise CheckpointError(
            f"{path} cannot be read: it is truncated or no checkpoint ({type(error).__name__})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this version of fgan")
    found: dict[str, Tensor] = content["leaves"]
    expected = tree.named_leaves(like)
    for name in expected.keys() | found.keys():
        if name not in found or name not in expected:
            side = "lacks" if name not in found else "has an additional"
            raise CheckpointError(f"{path} is of another model: it {side} {name}")
    for name, tensor in expected.items():
        have, want = _describe(found[name]), _describe(tensor)
        if have != want:
            raise CheckpointError(f"{path} is of another model: {name} is {have}, expected {want}")
    leaves = [found[name].to(tensor.device) for name, tensor in expected.items()]
    loaded: State = tree.unflatten(leaves, tree.flatten(like)[1])
    return loaded


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
