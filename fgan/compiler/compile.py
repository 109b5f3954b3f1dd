"""Compiled rounds: the parts of a round compiled once each, and reused for every update.

One graph of the whole round would repeat the critic's update `n_critic` times, and the compiler's
work with it. Here the compiler sees three programs, whatever `n_critic` is: the fakes of all critic
updates in one pass, one critic update, one generator update.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from fgan import game, tree
from fgan.checks import check_gan_state
from fgan.compiler import _torch
from fgan.compiler.backends import BACKENDS, backend_of
from fgan.compiler.cuda_graphs import CUDAGraphedStep
from fgan.compiler.donation import donate as donate_state
from fgan.compiler.donation import undo_donation, write_in_place
from fgan.compiler.fallback import torch_compiled_parts, warning
from fgan.compiler.tracing import Backend, Program
from fgan.compiler.trees import entry_at, leading_size
from fgan.models.layers import check_labels
from fgan.recipes import check_algorithm
from fgan.scalars import check_flag
from fgan.types import (
    Algorithm,
    Batch,
    CriticInfo,
    GANInfo,
    GANState,
    GeneratorInfo,
    Noise,
    Params,
    PlayerState,
    StepFunction,
)


def compile(
    algorithm: Algorithm,
    donate: bool = True,
    backend: str | Backend = "inductor",
    cuda_graph: bool = True,
    disable_passes: Sequence[str] = (),
) -> Algorithm:
    """The same algorithm with a compiled `step`.

    donate: the new state takes the memory of the old one, so there is never a second copy of
        parameters and moments. Any later use of the state that was passed in raises RuntimeError.
        With `donate=False` the step stays pure.
    backend: "inductor", the compiler behind `torch.compile`; "interpreter", which runs the traced
        programs as they are, to tell an error of the compiler from one of fgan; or a function from
        a traced graph and its example inputs to a callable.
    cuda_graph: on CUDA, with donation, the second round with the same shapes is captured as a CUDA
        graph, and from then on a round is one launch (`fgan.compiler.cuda_graphs`). The CUDA graph
        keeps a copy of its batch and noise, the memory of the last state, and all temporary memory
        of a round.
    disable_passes: names of graph passes that the backend "inductor" leaves out, to find out what a
        pass is worth or which one errs (`fgan.compiler.passes.PASSES` lists them).

    The compiled step equals the eager one up to the rounding of reordered sums. It compiles at the
    first call, and again only when shapes, layouts or autocast change, or when a lazy penalty is
    taken or left out for the first time. Gradients do not flow through it. A tensor that networks
    or objectives close over, such as a penalty weight, may be changed in place between rounds. On
    the CPU the process keeps the memory that it frees from then on, up to some 64 MiB
    (`backends.keep_freed_memory`).

    Where this torch lacks a private name that fgan needs, UserWarning names it, and the parts are
    compiled by `torch.compile(fullgraph=True)`, without donation.

    Raises ValueError for an unknown backend or pass. The step raises ValueError within `vmap` or
    `grad`; for a network or objective that draws from a global random number generator; on the CPU,
    for labels that networks of `fgan.models` have no class for; and, with donation, for a state two
    of whose elements share memory, or two of whose leaves are interleaved in memory.

    Example:
        >>> algorithm = fgan.wgan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> compiled = fgan.compile(algorithm, backend="interpreter")  # for Inductor, no backend
        >>> noise, batch = algorithm.noise(0, 0, batch_size=8), fgan.Batch(torch.ones(5, 8, 2))
        >>> state, info = compiled.step(algorithm.init(seed=0), batch, noise)
        >>> int(state.round)
        1
    """
    check_algorithm(algorithm)
    check_flag("donate", donate)
    check_flag("cuda_graph", cuda_graph)
    if not callable(backend) and not (isinstance(backend, str) and backend in BACKENDS):
        raise ValueError(
            f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}, or give a function"
        )
    if missing := _torch.missing(inductor=backend == "inductor"):
        warnings.warn(warning(missing, donate), UserWarning, stacklevel=2)
        return algorithm._replace(step=_round(algorithm, *torch_compiled_parts(algorithm, backend)))
    if not isinstance(disable_passes, tuple | list) or disable_passes:
        from fgan.compiler.passes import check_names  # needs parts of torch's compiler

        check_names(disable_passes)
    step = CompiledStep(algorithm, backend_of(backend, disable_passes), donate, cuda_graph)
    return algorithm._replace(step=step)


def check_one_eager_run(algorithm: Algorithm, name: str, arguments: str, made: str) -> None:
    """Raise ValueError unless this is an algorithm of one run that is not compiled.

    name, arguments: those of the wrapper, such as "accumulate" and "algorithm, parts".
    made: what the wrapper makes, such as "accumulated".
    """
    check_algorithm(algorithm)
    call = f"fgan.{name}({arguments})"
    if algorithm.members:
        raise ValueError(
            f"{name} takes one run: make the population of the {made} algorithm, "
            f"fgan.population({call})"
        )
    if isinstance(algorithm.step, CompiledStep):
        raise ValueError(
            f"{name} would replace the compiled step: compile the {made} algorithm, "
            f"fgan.compile({call})"
        )


def _round(
    algorithm: Algorithm,
    critic_update: Callable[..., tuple[GANState, CriticInfo]],
    generator_update: Callable[..., tuple[GANState, GeneratorInfo]],
    all_fakes: Callable[..., Tensor],
) -> StepFunction:
    """The algorithm's round with compiled parts."""
    num_classes = algorithm.parts.num_classes

    def step(state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
        if num_classes is not None:  # compiled networks do not see the values of labels
            _check_labels(batch, num_classes)
        return game.step(
            algorithm.parts,
            state,
            batch,
            noise,
            update_critic=critic_update,
            update_generator=generator_update,
            all_fakes=all_fakes,
        )

    return step


_LABELS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _check_labels(batch: Batch, num_classes: int) -> None:
    """Raise ValueError for a label out of range, where it can be read; others are checked later."""
    labels = getattr(batch, "condition", None)
    if isinstance(labels, Tensor) and labels.dtype in _LABELS:
        check_labels(labels, num_classes)


class CompiledStep:
    """`step` of a compiled algorithm.

    The methods `_trace_…` run only while a program is traced; the others run in every round. All
    take trees of tensors, so that an input of the algorithm's functions may be any tree.
    """

    def __init__(
        self, algorithm: Algorithm, backend: Backend, donate: bool, cuda_graph: bool
    ) -> None:
        self._algorithm, self._donate, self._cuda_graph = algorithm, donate, cuda_graph
        self._fakes_program = Program(self._trace_fakes, backend, "fakes")
        self._all_fakes_program = Program(self._trace_all_fakes, backend, "all_fakes")
        self._critic_program = Program(self._trace_critic, backend, "critic_update")
        self._generator_program = Program(self._trace_generator, backend, "generator_update")
        self._peek_transforms = _torch.peek_interpreter_stack
        self._vmap_takes_generator: bool | None = None
        self._round_of_parts = _round(
            algorithm, self._critic_update, self._generator_update, self._all_fakes
        )
        self._graphed = CUDAGraphedStep(
            self._in_place_round, host_tensors=self._host_tensors, agree=algorithm.agree
        )

    def __call__(self, state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
        """One round."""
        # Compiled code does not see the batch and gradient levels of torch.func.
        if self._peek_transforms() is not None:
            raise ValueError(
                "a compiled step cannot be called within vmap, grad and the like: gradients flow "
                "through algorithm.step, and fgan.compile(fgan.population(algorithm)) is the "
                "compiled step of a population"
            )
        check_gan_state(state)
        if not self._donate:
            return self._round_of_parts(state, batch, noise)
        device = state.round.device
        if not (self._cuda_graph and device.type == "cuda"):
            return self._donated_round(self._in_place_round, state, batch, noise)
        with torch.cuda.device(device):  # pragma: no cover (needs a GPU)
            return self._graphed_round(state, batch, noise)

    def _graphed_round(
        self, state: GANState, batch: Batch, noise: Noise
    ) -> tuple[GANState, GANInfo]:
        """A donated round, launched as a CUDA graph where one is captured."""
        info = self._graphed.launch_if_same_state(state, batch, noise)
        if info is None:
            return self._donated_round(self._graphed, state, batch, noise)
        donated = donate_state(state, checked=True)
        self._graphed.expect_state(donated)
        return donated, info

    def _donated_round(
        self, step: StepFunction, state: GANState, batch: Batch, noise: Noise
    ) -> tuple[GANState, GANInfo]:
        writes, donated = self._writes_started(), donate_state(state)
        try:
            return step(donated, batch, noise)
        except BaseException:
            if self._writes_started() == writes:  # nothing has been overwritten
                undo_donation(state)
            raise

    def _in_place_round(
        self, state: GANState, batch: Batch, noise: Noise
    ) -> tuple[GANState, GANInfo]:
        new, info = self._round_of_parts(state, batch, noise)
        if new.round is not state.round:
            state.round.copy_(new.round)
        return new._replace(round=state.round), info

    def _writes_started(self) -> int:
        return self._critic_program.started + self._generator_program.started

    def _host_tensors(self) -> list[Tensor]:
        programs = (
            self._fakes_program,
            self._all_fakes_program,
            self._critic_program,
            self._generator_program,
        )
        return [tensor for program in programs for tensor in program.host_tensors]

    # --- the parts of a round ---------------------------------------------------------------------

    def _all_fakes(self, state: GANState, *inputs: Any) -> Tensor:
        """The fakes of all critic updates; the inputs' leading axis counts the updates."""
        weights = state.generator[:2]
        if self._vmap_takes_generator is None:
            # torch's spectral norm, for one, has an operation that vmap has no rule for.
            try:
                self._all_fakes_program.prepare(*weights, *inputs)
            except RuntimeError:
                # Or else the error is real.
                self._fakes_program.prepare(*weights, *entry_at(inputs, 0))
                self._vmap_takes_generator = False
            else:
                self._vmap_takes_generator = True
        if self._vmap_takes_generator:
            fakes: Tensor = self._all_fakes_program(*weights, *inputs)
            return fakes
        batches = [entry_at(inputs, i) for i in range(leading_size(inputs))]
        return torch.stack([self._fakes_program(*weights, *batch) for batch in batches])

    def _critic_update(
        self,
        state: GANState,
        real: Any,
        condition: Any,
        latent: Any,
        mix: Any,
        fake: Any,
        *extra: Any,
    ) -> tuple[GANState, CriticInfo]:
        # The fakes are there, so the latents are no input of the program.
        critic, info = self._critic_program(
            state.critic, state.round, real, condition, mix, fake, *extra
        )
        return state if self._donate else state._replace(critic=critic), info

    def _generator_update(self, state: GANState, *inputs: Any) -> tuple[GANState, GeneratorInfo]:
        # The generator's update reads the critic's weights and not its optimiser's state.
        own = state._replace(critic=_NO_PLAYER)
        if self._donate and self._algorithm.parts.simultaneous:
            # The critic's update comes later and reads the old count of rounds.
            own = own._replace(round=state.round.clone())
        new, info = self._generator_program(own, tuple(state.critic[:2]), *inputs)
        return (own if self._donate else new)._replace(critic=state.critic), info

    # --- what the programs are traced from --------------------------------------------------------

    def _trace_fakes(self, params: Params, buffers: Params, *inputs: Any) -> Tensor:
        nothing: Any = {}  # no input of the program
        state = GANState(PlayerState(params, buffers, {}), _NO_PLAYER, nothing, nothing)
        return self._algorithm.fakes(state, *inputs)

    def _trace_all_fakes(self, params: Params, buffers: Params, *inputs: Any) -> Tensor:
        # A module that writes into its buffers needs one set of buffers per batch.
        updates = leading_size(inputs)
        copies = tree.map(lambda buffer: buffer.expand(updates, *buffer.shape), buffers)
        axes = [None if each is None else 0 for each in inputs]
        return vmap(self._trace_fakes, in_dims=(None, 0, *axes))(params, copies, *inputs)

    def _trace_critic(
        self,
        critic: PlayerState,
        rounds: Tensor,
        real: Any,
        condition: Any,
        mix: Any,
        fake: Any,
        *extra: Any,
    ) -> tuple[Any, CriticInfo]:
        before = GANState(_NO_PLAYER, critic, {}, rounds)
        state, info = self._algorithm.critic_update(
            before, real, condition, None, mix, fake, *extra
        )
        return self._result(state.critic, critic), info

    def _trace_generator(
        self, own: GANState, critic: tuple[Params, Params], *inputs: Any
    ) -> tuple[Any, GeneratorInfo]:
        state, info = self._algorithm.generator_update(
            own._replace(critic=PlayerState(*critic, {})), *inputs
        )
        return self._result(state._replace(critic=own.critic), own), info

    def _result(self, new: Any, old: Any) -> Any:
        """What a program returns: the new values, or nothing where it writes them in place."""
        if not self._donate:
            return new
        write_in_place(new, old)
        return ()


_NO_PLAYER = PlayerState({}, {}, {})
