"""The weights of a run's networks as safetensors files, with the names of the modules."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fgan.data.files import replacing
from fgan.run.history import CHECKPOINT

PLAYERS = ("generator", "critic")
_ROUND = "round"


def fill(module: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    """Write `values` into the parameters and buffers of a module, by name; the same module."""
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            tensor.copy_(values[name])
    return module


def path_of(folder: Path, player: str) -> Path:
    """Where the weights of the generator or the critic are."""
    return folder / f"{player}.safetensors"


def is_export(folder: Path) -> bool:
    """Whether a folder has weights instead of checkpoints."""
    return not (folder / CHECKPOINT).exists() and path_of(folder, PLAYERS[0]).exists()


def pack(module: nn.Module, done: int) -> bytes:
    """The module's `state_dict` as the content of a safetensors file, with the round as metadata.

    Each name has a tensor of its own, so that two names of one parameter are written twice.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    }
    metadata = {"format": "pt", _ROUND: str(done)}
    content: bytes = _safetensors().torch.save(tensors, metadata)
    return content


def unpack(path: Path, module: nn.Module) -> nn.Module:
    """Read a safetensors file into `module`; the same module.

    Raises ValueError where the file cannot be read, or the names or shapes are others.
    """
    library = _safetensors()
    try:
        tensors = library.torch.load_file(path)
    except FileNotFoundError as error:
        raise ValueError(f"there are no weights at {path}") from error
    except (OSError, library.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error
    expected = module.state_dict()
    for name in (*expected, *tensors):
        if name not in tensors or name not in expected:
            side = "lacks" if name not in tensors else "has an additional"
            raise ValueError(f"{path} is of another model: it {side} {name}")
        have, want = (f"{t.dtype} {list(t.shape)}" for t in (tensors[name], expected[name]))
        if have != want:
            raise ValueError(f"{path} is of another model: {name} is {have}, expected {want}")
    with torch.no_grad():
        for name, tensor in expected.items():  # which share the module's memory
            tensor.copy_(tensors[name])
    return module


def read_weights(folder: Path, player: str, module: nn.Module) -> nn.Module:
    """`unpack` the file of one of the two players."""
    return unpack(path_of(folder, player), module)


def read_round(folder: Path) -> int:
    """The rounds that the exported weights were trained for."""
    path = path_of(folder, PLAYERS[0])
    with _safetensors().safe_open(path, "pt") as file:
        number = (file.metadata() or {}).get(_ROUND, "")
    if not number.isdecimal():
        raise ValueError(f"{path} was not written by fgan export: its metadata have no round")
    return int(number)


def write(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ValueError(
            "safetensors is not installed: pip install 'fgan[export]', or pip install safetensors"
        ) from error
    return safetensors
