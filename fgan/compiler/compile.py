"""Compiled rounds: the parts of a round compiled once each, and reused for every update.

One graph of the whole round would repeat the critic's update `n_critic` times, and the compiler's
work with it. Here the compiler sees three programs, whatever `n_critic` is: the fakes of all critic
updates in one pass, one critic update, one generator update.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.func import vmap

from fgan import tree
from fgan.compiler.cuda_graphs import Replayed
from fgan.compiler.tracing import Backend, Program, inductor, interpreter
from fgan.types import (
    Algorithm,
    Batch,
    CriticInfo,
    GANInfo,
    GANState,
    GeneratorInfo,
    Noise,
    Player,
    Tensors,
)

BACKENDS: dict[str, Backend] = {"inductor": inductor, "interpreter": interpreter}


def compile(
    algorithm: Algorithm,
    donate: bool = True,
    backend: str | Backend = "inductor",
    cuda_graph: bool = True,
) -> Algorithm:
    """The same algorithm with a compiled `step`.

    donate: the new state takes the memory of the old one, so there is never a second copy of
        parameters and moments. The state that was passed in is spent, and any use of it raises
        RuntimeError. With `donate=False` the step stays pure.
    backend: "inductor", the compiler behind `torch.compile`; "interpreter", which runs the traced
        programs as they are, to see whether it is the compiler that errs; or a function from a
        traced graph and its example inputs to a callable.

    cuda_graph: on CUDA, with donation, the second round with the same shapes is recorded, and from
        then on a round is one launch (`fgan.compiler.cuda_graphs`). The recording keeps a copy of
        its batch and noise, the memory of the last state, and all that a round holds on its way.

    The compiled step equals the eager one up to the rounding of reordered sums. It compiles at the
    first call, and again only when shapes, layouts or autocast change; gradients do not flow
    through it. On the CPU the process keeps what it frees from then on, up to some 64 MiB
    (`programs.keep_freed_memory`).

    Raises ValueError for an unknown backend; the step does within `vmap` or `grad`, and, with
    donation, for a state two of whose numbers share their memory, or two of whose leaves are
    interleaved there.
    """
    if isinstance(backend, str) and backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    lower = BACKENDS[backend] if isinstance(backend, str) else backend

    def program(function: Callable[..., Any]) -> Program:
        return Program(function, lower)

    def fakes_of(params: Tensors, buffers: Tensors, latent: Tensor, *condition: Tensor) -> Tensor:
        return algorithm.fakes(_state_of(generator=(params, buffers)), latent, *condition)

    @program
    def one_batch_program(params: Tensors, buffers: Tensors, *inputs: Tensor) -> Tensor:
        return fakes_of(params, buffers, *inputs)

    @program
    def all_batches_program(params: Tensors, buffers: Tensors, *inputs: Tensor) -> Tensor:
        # A module that writes into its buffers needs one set of them per batch.
        updates = inputs[0].shape[0]
        copies = tree.map(lambda buffer: buffer.expand(updates, *buffer.shape), buffers)
        return vmap(fakes_of, in_dims=(None, 0, *[0] * len(inputs)))(params, copies, *inputs)

    @program
    def critic_program(
        critic: Player, real: Tensor, condition: Tensor | None, mix: Tensor, fake: Tensor
    ) -> tuple[Player, CriticInfo]:
        state, info = algorithm.critic_update(
            _state_of(critic=critic), real, condition, None, mix, fake
        )
        return _handed_back(state.critic, critic), info

    @program
    def generator_program(
        own: GANState, critic: tuple[Tensors, Tensors], *inputs: Tensor | None
    ) -> tuple[GANState, GeneratorInfo]:
        state, info = algorithm.generator_update(own._replace(critic=Player(*critic, {})), *inputs)
        return _handed_back(state._replace(critic=own.critic), own), info

    def _handed_back(new: Any, old: Any) -> Any:
        """Within a program: the new values, in the old ones' memory if that was donated."""
        if not donate:
            return new
        targets, values = tree.leaves(old), tree.leaves(new)
        places = set(map(_place, targets))
        # A leaf that has become another one is read before it is written.
        kept = [value.clone() if _place(value) in places else value for value in values]
        for target, value, held in zip(targets, values, kept, strict=True):
            if value is not target:
                target.copy_(held)
        return ()

    together: bool | None = None

    def draw(state: GANState, latents: Tensor, conditions: Tensor | None) -> Tensor:
        nonlocal together
        weights = state.generator[:2]
        inputs = (latents,) if conditions is None else (latents, conditions)
        if together is None:
            # Not all that layers do has a rule for batches of batches: torch's spectral norm, say.
            try:
                all_batches_program.prepare(*weights, *inputs)
            except RuntimeError:
                together = False
            else:
                together = True
        if together:
            fakes: Tensor = all_batches_program(*weights, *inputs)
            return fakes
        batches = zip(*inputs, strict=True)
        return torch.stack([one_batch_program(*weights, *batch) for batch in batches])

    def critic_update(
        state: GANState,
        real: Tensor,
        condition: Tensor | None,
        latent: Tensor,
        mix: Tensor,
        fake: Tensor,
    ) -> tuple[GANState, CriticInfo]:
        critic, info = critic_program(state.critic, real, condition, mix, fake)
        return state if donate else state._replace(critic=critic), info

    def generator_update(state: GANState, *inputs: Tensor | None) -> tuple[GANState, GeneratorInfo]:
        own = state._replace(critic=_NOBODY)
        new, info = generator_program(own, tuple(state.critic[:2]), *inputs)
        return state if donate else new._replace(critic=state.critic), info

    play = algorithm.play(critic_update, generator_update, draw)
    replayed = Replayed(play)

    def writers_runs() -> int:
        return critic_program.runs + generator_program.runs

    def step(state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
        if peek_interpreter_stack() is not None:  # compiled code knows nothing of it
            raise ValueError(
                "a compiled step cannot be called within vmap, grad and the like: gradients flow "
                "through algorithm.step, and fgan.compile(fgan.population(algorithm)) is the "
                "compiled step of a population"
            )
        if not donate:
            return play(state, batch, noise)
        device = state.round.device
        graphed = cuda_graph and device.type == "cuda"
        with torch.cuda.device(device) if graphed else nullcontext():
            return donated_round(state, batch, noise, graphed)

    def donated_round(
        state: GANState, batch: Batch, noise: Noise, graphed: bool
    ) -> tuple[GANState, GANInfo]:
        if graphed and (info := replayed.again(state, batch, noise)) is not None:
            claimed = _claimed(state, checked=True)
            replayed.remember(claimed)
            return claimed, info
        runs, claimed = writers_runs(), _claimed(state)
        try:
            return (replayed if graphed else play)(claimed, batch, noise)
        except BaseException:
            if writers_runs() == runs:  # a refused round leaves the state alone
                _give_back(state)
            raise

    return algorithm._replace(step=step)


_NOBODY = Player({}, {}, {})


def _state_of(generator: tuple[Tensors, Tensors] = ({}, {}), critic: Player = _NOBODY) -> GANState:
    """A state with just the parts that a program reads, so that it takes and copies no others."""
    nothing: Any = {}
    return GANState(Player(*generator, {}), critic, nothing, nothing)


def _place(tensor: Tensor) -> int:
    """Something that tells memory apart, also where there is none yet."""
    return tensor.untyped_storage()._cdata


class _Spent(Tensor):
    """What a donated leaf turns into: every use of it says what happened."""

    @classmethod
    def __torch_function__(cls, *unused: Any, **also_unused: Any) -> Any:
        raise RuntimeError(
            "this state was donated to a compiled step, which overwrote it: go on with the state "
            "that the step returned, or use fgan.compile(algorithm, donate=False)"
        )


def _claimed(state: GANState, checked: bool = False) -> GANState:
    """The same memory under new names; the old names raise from now on.

    checked: whether the leaves are known to have memory of their own each.
    """
    leaves, structure = tree.flatten(state)
    # Spans, though interleaved leaves need not meet: to tell takes more than a round has to spare.
    spans = [] if checked else sorted(_span(leaf) for leaf in leaves if leaf.numel())
    meet = any(end > begin for (_, end), (begin, _) in pairwise(spans))
    if meet or (not checked and any(map(_is_shared, leaves))):
        raise ValueError(
            "two leaves of this state, or two numbers of a leaf, share their memory, and a donated "
            "state is written into: donate a copy (fgan.tree.clone), or use "
            "fgan.compile(algorithm, donate=False)"
        )
    claimed: GANState = tree.unflatten([leaf.detach() for leaf in leaves], structure)
    for leaf in leaves:
        leaf.__class__ = _Spent
    return claimed


def _span(leaf: Tensor) -> tuple[int, int]:
    """Where a leaf begins in memory, and where it ends."""
    begin, size = leaf.data_ptr(), leaf.nbytes
    if not leaf.is_contiguous():
        size = leaf.element_size() * (1 + sum(step * last for step, last in _axes(leaf)))
    return begin, begin + size


def _is_shared(leaf: Tensor) -> bool:
    """Whether two numbers of a leaf share memory, as where `expand` has one stand for several."""
    if leaf.is_contiguous():
        return False
    extent = 0
    for step, last in sorted(_axes(leaf)):
        if step <= extent:
            return True
        extent += step * last
    return False


def _axes(leaf: Tensor) -> list[tuple[int, int]]:
    """The stride and the last index of each axis that has more than one."""
    sizes = zip(leaf.stride(), leaf.shape, strict=True)
    return [(step, size - 1) for step, size in sizes if size > 1]


def _give_back(state: GANState) -> None:
    """Undo a claim: the old names are good again."""
    for leaf in tree.leaves(state):
        leaf.__class__ = Tensor
