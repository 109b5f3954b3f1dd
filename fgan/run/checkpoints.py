"""A run's state on disk: whole or not at all, and loaded without running anyone's code."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from fgan import tree
from fgan.data.files import replacing

_FORMAT = "fgan state 2"
State = TypeVar("State")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another model."""


class DamagedError(CheckpointError):
    """A checkpoint that is missing, truncated or changed: an older one may still be whole."""


def save(path: str | Path, state: object) -> None:
    """Write a tree of tensors to `path`, atomically.

    A crash, a power cut or a full disk at any moment leaves the old file or the new one, never a
    part: the bytes go to a temporary file beside it, reach the disk, and take the name in one step.
    The file is what `torch.save` writes, a ZIP archive with a CRC-32 of every record, and holds a
    SHA-256 of the leaves besides.
    """
    leaves = {name: leaf.detach().cpu() for name, leaf in tree.named_leaves(state).items()}
    content = io.BytesIO()  # torch.save turns a full disk into errors of its own
    checked = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        torch.save({"format": _FORMAT, "sha256": _digest(leaves), "leaves": leaves}, content)
    finally:
        torch.serialization.set_crc32_options(checked)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content.getbuffer())


def load(path: str | Path, like: State) -> State:
    """Read a tree with the structure, shapes, dtypes and devices of `like`, such as `init()` gives.

    Every record is compared with its checksum before anything is made of it, and the leaves with
    theirs.

    Raises CheckpointError where the file is not a checkpoint, or of a state that differs from
    `like`, naming the first difference in the order of `like`; DamagedError, a CheckpointError,
    where it is missing, truncated or changed.
    """
    path = Path(path)
    return fitted(path, read(path), like)


def read(path: Path) -> Mapping[str, Tensor]:
    """The leaves of the tree in the file at `path`, on the CPU, by where they stand in it.

    Every checksum is compared. Raises CheckpointError and DamagedError as `load` does.
    """
    if not path.is_file():
        raise DamagedError(f"there is no checkpoint at {path}")
    found, digest = _leaves(path, _content(path))
    if digest is not None and digest != _digest(found):  # None: by a version before 0.2.0
        raise DamagedError(f"{path} is damaged: the checksum of its content is wrong")
    return found


def fitted(path: Path, found: Mapping[str, Tensor], like: State) -> State:
    """The leaves that `read` found in the file at `path`, as a tree like `like`.

    Raises CheckpointError, naming the first difference, where they do not fit.
    """
    expected = tree.named_leaves(like)
    for name in (*expected, *found):
        if name not in found or name not in expected:
            side = "lacks" if name not in found else "has an additional"
            raise CheckpointError(f"{path} is of another model: it {side} {name}")
    for name, tensor in expected.items():
        have, want = _describe(found[name]), _describe(tensor)
        if have != want:
            raise CheckpointError(f"{path} is of another model: {name} is {have}, expected {want}")
    # Copies: leaves of a file made by others may share memory, which a donated step writes into.
    leaves = [found[name].detach().clone().to(tensor.device) for name, tensor in expected.items()]
    loaded: State = tree.unflatten(leaves, tree.flatten(like)[1])
    return loaded


def not_finite(values: object, since: object = None) -> list[str]:
    """The names of the leaves of a tree that hold a NaN or an infinity, in order.

    since: an earlier tree of the same structure. Its leaves that are not finite do not count, such
        as a buffer with -inf for an attention mask.

    The host waits for the device once, and once more where a number is not finite and `since` is
    given.
    """
    named = {n: x for n, x in tree.named_leaves(values).items() if _has_floats(x)}
    if not named:
        return []
    finite = torch.stack([leaf.isfinite().all() for leaf in named.values()]).tolist()
    bad = [name for name, good in zip(named, finite, strict=True) if not good]
    if not bad or since is None:
        return bad
    excused = set(not_finite(since))
    return [name for name in bad if name not in excused]


def _has_floats(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())


def _content(path: Path) -> Any:
    """What the file holds, once all of it agrees with its checksums."""
    try:
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                packed = [i for i in archive.infolist() if i.compress_type != zipfile.ZIP_STORED]
                if packed:  # torch writes none, and a few bytes could stand for any number
                    raise CheckpointError(
                        f"{path} is no checkpoint: its record {packed[0].filename} is compressed"
                    )
                changed = archive.testzip()
                if changed is not None:
                    raise DamagedError(f"{path} is damaged: the checksum of {changed} is wrong")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # torch and zipfile raise half a dozen kinds for a damaged file
        raise DamagedError(
            f"{path} cannot be read: it is truncated, damaged or no checkpoint "
            f"({type(error).__name__})"
        ) from error


def _leaves(path: Path, content: Any) -> tuple[Mapping[str, Tensor], object]:
    """The leaves by name and their digest, of a content that may be anything at all."""
    written = content.get("format") if isinstance(content, dict) else None
    if not isinstance(written, str):
        raise CheckpointError(f"{path} is not a checkpoint of fgan: it does not say its format")
    if written != _FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this version of fgan, which reads {_FORMAT!r}: its "
            f"format is {written!r}. Use the version of fgan that wrote it"
        )
    leaves, digest = content.get("leaves"), content.get("sha256")
    if not isinstance(leaves, dict):
        raise CheckpointError(
            f"{path} is no checkpoint: its leaves are {_kind(leaves)}, expected a dict of tensors"
        )
    for name, leaf in leaves.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path} is no checkpoint: a leaf is named {name!r}, no string")
        # By type: a subclass may do anything where it is compared or copied.
        plain = type(leaf) in (Tensor, torch.nn.Parameter) and not leaf.is_nested
        plain = plain and not leaf.is_quantized and leaf.device.type == "cpu"
        if not (plain and leaf.layout is torch.strided):
            raise CheckpointError(
                f"{path} is no checkpoint: {name} is {_kind(leaf)}, expected a plain tensor"
            )
    return leaves, digest


def _digest(leaves: Mapping[str, Tensor]) -> str:
    """The SHA-256 of names, dtypes, shapes and values.

    The checksums of a ZIP archive cover its records, not the directory that says which is which.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(leaves.items()):
        digest.update(f"{name} {_describe(leaf)}\n".encode())
        values = leaf.detach().contiguous().reshape(-1).view(torch.uint8)
        digest.update(cast(bytes, values.numpy()))  # any buffer will do
    return digest.hexdigest()


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return "None" if value is None else f"a {type(value).__name__}"
    layout = str(value.layout).removeprefix("torch.")
    return f"a {type(value).__name__} on {value.device.type}, {layout}, {value.dtype}"


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
