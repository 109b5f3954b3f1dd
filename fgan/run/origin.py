"""Where the first number that is not finite arises within a round.

Every operation of torch is watched below `torch.func`'s transforms: there `grad` and `vmap` are
plain tensor operations, those of the backward passes too. A result that is not finite is traced
back through its inputs. So an infinity that is made on purpose and masked later is not blamed.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import math
import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import einops
import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from fgan import objectives, tree
from fgan.networks import autocast

_LIBRARIES = (
    *(str(Path(inspect.getfile(package)).parent) + os.sep for package in (torch, einops)),
    *(inspect.getfile(module) for module in (contextlib, functools, autocast)),
)
"""Folders and files whose lines say little: the caller's line is looked for."""
_BACKWARD: set[CodeType] = {torch.autograd.grad.__code__, torch.autograd.backward.__code__}
_PENALTY: CodeType = objectives._penalty_at.__code__


class Origin(NamedTuple):
    """The operation whose result was not finite although its inputs were."""

    position: int
    """Operations of the round before it; -1 for what the round was given."""
    operation: str
    """Such as "aten.mm.default"; the name of a tensor for what the round was given."""
    inputs: tuple[str, ...]
    """Dtype and shape of each tensor."""
    outputs: tuple[str, ...]
    value: str
    """The first such number of the result: "nan", "inf" or "-inf"."""
    phase: str
    """"forward", "penalty", "backward" or "update"; "" for what the round was given."""
    layer: str
    """The module by its name, such as "'layers.2' (Linear) of the critic"; "" outside of one."""
    line: str
    """The innermost line of code outside of torch: "file:line, in function"."""


class _Reached(Exception):  # noqa: N818 (no error: the operation that was waited for)
    """The operation at which a repeated round stops."""


class Watch(TorchDispatchMode):
    """Watches every operation, and remembers where each tensor that is not finite comes from.

    stop: the operation to stop at, by raising an exception; None for none.
    """

    supports_higher_order_operators = True

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.count = 0
        self.is_update = False
        """Whether an optimiser is at work."""
        self.layers = Layers()
        self._stop = stop
        self._origins: dict[int, Origin] = {}  # by the storage of a tensor

    def given(self, name: str, tensor: Tensor) -> None:
        """Note a tensor that the round is given and that is not finite."""
        origin = Origin(-1, name, (), (_describe(tensor),), _first_value(tensor), "", "", "")
        self._origins[_storage(tensor)] = origin

    def origin_of(self, tensor: Tensor) -> Origin | None:
        """Where the numbers of a tensor come from that are not finite, if that was seen."""
        return self._origins.get(_storage(tensor))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        keywords = kwargs or {}
        frames = list(_frames())
        # On CUDA a backward pass runs in a thread of its own, which has no frames of this package.
        is_backward = not frames or any(frame.f_code in _BACKWARD for frame in frames)
        if not is_backward:
            self.layers.entered = ""
        if self.count == self._stop:
            raise _Reached
        result = func(*args, **keywords)
        self.count += 1
        outputs = _floating(result)
        inputs = _floating((args, keywords))
        before = {_storage(x): self._origins.get(_storage(x)) for x in inputs}
        bad = [x for x in outputs if not _is_finite(x)]
        for x in outputs:
            if _storage(x) not in before:  # memory of its own, which may have been another's
                self._origins.pop(_storage(x), None)
        if bad:
            written = {_storage(x) for x in bad}
            # A tensor that was written in place no longer shows whether it was finite before.
            sources = [
                known
                for x in inputs
                if (known := before[_storage(x)]) is not None
                and (_storage(x) in written or not _is_finite(x))
            ]
            origin = min(sources) if sources else self._new(func, inputs, bad, frames, is_backward)
            self._origins |= dict.fromkeys(written, origin)
        return result

    def _new(
        self,
        func: Any,
        inputs: list[Tensor],
        bad: list[Tensor],
        frames: list[FrameType],
        is_backward: bool,
    ) -> Origin:
        is_penalty = any(frame.f_code is _PENALTY for frame in frames)
        phase = "penalty" if is_penalty else "backward" if is_backward else "forward"
        return Origin(
            self.count - 1,
            str(func),
            tuple(map(_describe, inputs)),
            tuple(map(_describe, bad)),
            _first_value(bad[0]),
            "update" if self.is_update else phase,
            self.layers.entered if is_backward else self.layers.current,
            _line(frames),
        )


class Layers:
    """Which layer is running: in a forward pass by hooks, in a backward pass by those of its graph.

    The networks of an algorithm run as copies of the user's modules, and their layers have the same
    names. So the hooks are those for all modules.
    """

    def __init__(self) -> None:
        self.player = ""
        """Of a network that runs now: "generator" or "critic"; of the first one for "both"."""
        self.entered = ""
        """The layer that a backward pass has come to."""
        self._stack: list[str] = []
        self._names: dict[int, str] = {}
        self._generator: nn.Module | None = None
        self._nodes: dict[int, Node] = {}

    @property
    def current(self) -> str:
        """The innermost layer of the forward pass, or ""."""
        return self._stack[-1] if self._stack else ""

    @contextlib.contextmanager
    def hooked(self) -> Iterator[None]:
        """Follow every call of a module."""
        before = register_module_forward_pre_hook(self._enter)
        after = register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        if not self._stack:
            player = self._player_of(module)
            self._names = {
                id(layer): f"{name!r} ({_kind(layer)}) of the {player}" if name else f"the {player}"
                for name, layer in module.named_modules()
            }
        self._stack.append(self._names.get(id(module), _kind(module)))

    def _player_of(self, module: nn.Module) -> str:
        """A generator's update runs both networks, its own first."""
        if self.player != "both":
            return self.player or type(module).__name__
        if self._generator is None:
            self._generator = module
        return "generator" if module is self._generator else "critic"

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        name = self._stack.pop()

        def enter(gradients: Any) -> None:
            self.entered = name

        for tensor in tree.leaves(output):
            node = tensor.grad_fn if isinstance(tensor, Tensor) else None
            # A container gives the output of its last layer, whose name is the better one.
            if node is not None and id(node) not in self._nodes:
                self._nodes[id(node)] = node
                node.register_prehook(enter)

    def start(self, player: str) -> None:
        """A part of a round begins."""
        self.player, self.entered, self._generator = player, "", None
        self._stack.clear()
        self._nodes.clear()


def forward_line(rerun: Callable[[Watch], Any], origin: Origin) -> str:
    """The line of the forward pass that an operation of a backward pass belongs to, or "".

    The round runs once more under `torch.autograd.detect_anomaly`, up to that operation. Anomaly
    detection then tells where the forward operation was called.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with torch.autograd.set_detect_anomaly(True, check_nan=False):
                rerun(Watch(stop=origin.position))
        except _Reached:
            pass
    for warning in reversed(caught):
        found = re.findall(r'File "(.+?)", line (\d+), in (\S+)', str(warning.message))
        for file, line, function in reversed(found):
            if not file.startswith(_LIBRARIES) and file != __file__:
                return f"{file}:{line}, in {function}"
    return ""


def replay_hint(folder: Path, round: int) -> str:
    """How to find the operation at which a round of a run stopped to be finite.

    The command reads the run's settings; a run of a script has only its data on the disk.
    """
    try:
        has_settings = "recipe" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        has_settings = False
    if has_settings:
        return f"fgan replay {shlex.quote(str(folder))} --round {round}"
    return f"fgan.run.replay.replay(algorithm, data, out={str(folder)!r}, round={round}, ...)"


def _frames() -> Iterator[FrameType]:
    """The frames of the call of an operation, the innermost first, without those of this file."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_filename != __file__:
            yield frame
        frame = frame.f_back


def _line(frames: list[FrameType]) -> str:
    for frame in frames:
        file = frame.f_code.co_filename
        if not file.startswith(_LIBRARIES):
            return f"{file}:{frame.f_lineno}, in {frame.f_code.co_name}"
    return ""


def _kind(module: nn.Module) -> str:
    return parametrize.type_before_parametrizations(module).__name__


def _floating(values: Any) -> list[Tensor]:
    """The tensors that may hold a number that is not finite, of any tree.

    Autograd writes some zeros as tensors without memory, which no operation may read here.
    """
    return [
        leaf
        for leaf in tree.leaves(values)
        if isinstance(leaf, Tensor)
        and (leaf.is_floating_point() or leaf.is_complex())
        and leaf.layout is torch.strided
        and leaf.numel()
        and _storage(leaf)
    ]


def _storage(tensor: Tensor) -> int:
    """The address of a tensor's memory; 0 where there is none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except RuntimeError:
        return 0


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _first_value(tensor: Tensor) -> str:
    value = complex(tensor[~torch.isfinite(tensor)][0].item())
    return str(value if value.imag and not math.isnan(value.real) else value.real)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
