"""A round captured once as a CUDA graph, and launched over the same memory from then on.

A small network's round is hundreds of kernels of a few microseconds each, and Python cannot launch
kernels that fast. A captured round is one launch. Donation makes the capture possible: the new
state lies where the old one was, so the captured addresses stay valid.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan import tree
from fgan.compiler import _torch
from fgan.compiler.tracing import autocast_dtypes
from fgan.compiler.trees import leaves, map_leaves, signature
from fgan.types import Batch, GANInfo, GANState, Noise

Round = Callable[[GANState, Batch, Noise], tuple[GANState, GANInfo]]
Capture = Callable[[Callable[[], GANInfo]], tuple[Callable[[], Any], GANInfo]]
"""Captures a function without running it: (the launch, the info that a launch fills)."""


class CapturedRound(NamedTuple):
    """A CUDA graph of a round, and the memory that it reads and writes."""

    state: GANState
    """Held so that nobody else is given the addresses that a launch writes to."""
    inputs: list[Tensor]
    """The memory from which a launch reads batch and noise."""
    info: GANInfo
    """The memory into which a launch writes its info."""
    launch: Callable[[], Any]
    host_values: list[int]
    """The versions of the tensors in host memory, whose values the graph holds."""


def capture_cuda_graph(  # pragma: no cover (needs a GPU)
    function: Callable[[], GANInfo],
) -> tuple[Callable[[], Any], GANInfo]:
    """Capture the kernels that `function` launches on the current device."""
    graph, stream = torch.cuda.CUDAGraph(), _capture_stream(torch.cuda.current_device())
    # With "thread_local", another thread may go on to fetch data meanwhile.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        info = function()
    return graph.replay, info


@cache
def _capture_stream(device: int) -> torch.cuda.Stream:  # pragma: no cover (needs a GPU)
    """One stream for all captures of a device: cuBLAS keeps a workspace of 32 MiB per stream."""
    return torch.cuda.Stream(device)


class CUDAGraphedStep:
    """A round that updates its state in place, captured at its second call with the same memory.

    The first call runs the round as it is: that call compiles, and a compiler cannot be captured.
    One CUDA graph is kept for each signature of batch and noise and each autocast, all for the
    state of the last call.

    host_tensors: the CPU tensors beside the inputs that the round reads. A CUDA graph holds the
        values that they had at the capture, so the round is captured again after one was written to
        in place.
    agree: the smallest of the numbers that all processes of a data-parallel algorithm give. NCCL
        requires that all of them capture a collective, or none, and launch graphs of the same
        capture (its user guide, "Using NCCL with CUDA Graphs"). So no process captures a round
        until all can. A launch does not call `agree`: if the state or the inputs of one process
        change their memory or shapes after the capture, those of the others have to change in the
        same round, or the processes wait for each other until the time-out.
    """

    def __init__(
        self,
        step: Round,
        capture: Capture = capture_cuda_graph,
        host_tensors: Callable[[], list[Tensor]] = list,
        agree: Callable[[int], int] | None = None,
    ) -> None:
        self._step, self._capture_function, self._host_tensors = step, capture, host_tensors
        self._agree: Callable[[int], int] = agree or int
        self._copy_all = _torch.foreach_copy_
        self._captured: dict[Any, CapturedRound | None] = {}
        self._state_leaves: list[Tensor] = []
        self._state_addresses: list[int] = []

    def __call__(self, state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
        """The state, updated, and an info in memory of its own."""
        self.expect_state(state)
        inputs, shapes = signature((batch, noise))
        key = shapes, autocast_dtypes()
        captured = self._valid(key)
        if captured is None:
            if not self._agree(int(key in self._captured)):
                _, info = self._step(state, *_copy(batch, noise))
                self._captured[key] = None
                return state, info
            captured = self._captured[key] = self._capture(state, batch, noise)
        return state, self._launch(captured, inputs)

    def launch_if_same_state(self, state: GANState, batch: Batch, noise: Noise) -> GANInfo | None:
        """Launch a captured round at once, and return its info; None if there is none to launch.

        The state has to consist of the very tensors that `expect_state` was last told of. Then
        nothing is left to check, and the device works while the host goes on.
        """
        tensors = leaves(state)
        if len(tensors) != len(self._state_leaves):
            return None
        if not all(map(is_, tensors, self._state_leaves)):
            return None
        if [leaf.data_ptr() for leaf in tensors] != self._state_addresses:
            return None
        inputs, shapes = signature((batch, noise))
        captured = self._valid((shapes, autocast_dtypes()))
        return None if captured is None else self._launch(captured, inputs)

    def expect_state(self, state: GANState) -> None:
        """Say with which state the next round goes on; CUDA graphs over other memory are freed."""
        self._state_leaves = leaves(state)
        addresses = [leaf.data_ptr() for leaf in self._state_leaves]
        if addresses != self._state_addresses:
            self._captured, self._state_addresses = {}, addresses

    def _launch(self, captured: CapturedRound, inputs: list[Tensor]) -> GANInfo:
        """Launch the round, and return its info in new memory."""
        info: GANInfo = map_leaves(torch.empty_like, captured.info)
        with torch.no_grad():  # one launch copies all inputs, and one all of the info
            self._copy_all(captured.inputs, inputs)
            captured.launch()
            self._copy_all(leaves(info), leaves(captured.info))
        return info

    def _valid(self, key: Any) -> CapturedRound | None:
        captured = self._captured.get(key)
        if captured is None or captured.host_values != self._host_values():
            return None
        return captured

    def _host_values(self) -> list[int]:
        return [_torch.version(tensor) for tensor in self._host_tensors()]

    def _capture(self, state: GANState, batch: Batch, noise: Noise) -> CapturedRound:
        own = _copy(batch, noise)
        launch, info = self._capture_function(lambda: self._step(state, *own)[1])
        return CapturedRound(state, signature(own)[0], info, launch, self._host_values())


def _copy(batch: Batch, noise: Noise) -> tuple[Batch, Noise]:
    copies: tuple[Batch, Noise] = tree.map(
        lambda leaf: None if leaf is None else leaf.detach().clone(), (batch, noise)
    )
    return copies
