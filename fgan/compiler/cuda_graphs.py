"""A round recorded once as a CUDA graph, and replayed over the same memory from then on.

A small network's round is hundreds of kernels of a few microseconds each, and Python cannot launch
them that fast. A recorded round is one launch. What makes it possible is donation: the new state is
where the old one was, so the recording's addresses stay right.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan import tree
from fgan.compiler.tracing import ambient, leaves, signature
from fgan.types import Batch, GANInfo, GANState, Noise

Round = Callable[[GANState, Batch, Noise], tuple[GANState, GANInfo]]
Record = Callable[[Callable[[], GANInfo]], tuple[Callable[[], Any], GANInfo]]
"""Takes down what a function does without doing it: how to do it, and what it will fill."""


class Recording(NamedTuple):
    """A round, ready to be played again."""

    state: GANState
    """Kept, so that nothing else comes to live at the addresses that are written to."""
    inputs: list[Tensor]
    """Where the replay reads batch and noise."""
    info: GANInfo
    """Where the replay leaves its figures."""
    play: Callable[[], Any]


def cuda_graph(function: Callable[[], GANInfo]) -> tuple[Callable[[], Any], GANInfo]:
    """Record the kernels that `function` launches on the current device."""
    graph, stream = torch.cuda.CUDAGraph(), _stream(torch.cuda.current_device())
    # Another thread may go on fetching data meanwhile.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        info = function()
    return graph.replay, info


@cache
def _stream(device: int) -> torch.cuda.Stream:  # pragma: no cover (needs a GPU)
    """A device's one stream to record on: cuBLAS keeps a workspace of 32 MiB for each stream."""
    return torch.cuda.Stream(device)


class Replayed:
    """A round that updates its state in place, recorded at its second call with the same memory.

    The first call plays the round as it is, since that compiles it, and a compiler cannot be
    recorded. One recording is kept for each shape of batch and noise and each autocast, those of
    the last state.
    """

    def __init__(self, play: Round, record: Record = cuda_graph) -> None:
        self._play, self._record = play, record
        self._recordings: dict[Any, Recording | None] = {}
        self._leaves: list[Tensor] = []
        self._places: list[int] = []

    def __call__(self, state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
        """The state, updated, and figures of their own memory."""
        self.remember(state)
        inputs, shapes = signature((batch, noise))
        kind = shapes, ambient()
        if kind not in self._recordings:
            _, made = self._play(state, *_copied(batch, noise))
            self._recordings[kind] = None
            return state, made
        recording = self._recordings[kind]
        if recording is None:
            own = _copied(batch, noise)
            play, info = self._record(lambda: self._play(state, *own)[1])
            recording = Recording(state, signature(own)[0], info, play)
            self._recordings[kind] = recording
        return state, _replay(recording, inputs)

    def again(self, state: GANState, batch: Batch, noise: Noise) -> GANInfo | None:
        """The figures of a round launched at once; None where more has to be done before.

        At once means that the state is the very one that was remembered last, so that nothing has
        to be checked before the device begins, and the host does its work meanwhile.
        """
        given = leaves(state)
        if len(given) != len(self._leaves) or not all(map(is_, given, self._leaves)):
            return None
        if [leaf.data_ptr() for leaf in given] != self._places:
            return None
        inputs, shapes = signature((batch, noise))
        recording = self._recordings.get((shapes, ambient()))
        return None if recording is None else _replay(recording, inputs)

    def remember(self, state: GANState) -> None:
        """What the next round is to go on with; recordings of other memory go."""
        self._leaves = leaves(state)
        places = [leaf.data_ptr() for leaf in self._leaves]
        if places != self._places:
            self._recordings, self._places = {}, places


def _replay(recording: Recording, inputs: list[Tensor]) -> GANInfo:
    """Launch the round, and give its figures memory of their own."""
    made: GANInfo = tree.map(torch.empty_like, recording.info)
    with torch.no_grad():  # one launch for all inputs, and one for all figures
        torch._foreach_copy_(recording.inputs, inputs)
        recording.play()
        torch._foreach_copy_(list(made), list(recording.info))
    return made


def _copied(batch: Batch, noise: Noise) -> tuple[Batch, Noise]:
    copied: tuple[Batch, Noise] = tree.map(
        lambda leaf: None if leaf is None else leaf.detach().clone(), (batch, noise)
    )
    return copied
