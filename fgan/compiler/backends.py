"""What compiles a traced program: Inductor, or Python that runs the graph as it is."""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from fgan.compiler import _torch
from fgan.compiler.tracing import Backend, CompiledFunction


def inductor(
    graph: GraphModule, inputs: list[Tensor], disable_passes: Sequence[str] = ()
) -> CompiledFunction:
    """Have torch.compile's own compiler generate code, and keep the code in its cache."""
    from fgan.compiler.passes.manager import PassManager, passes_of  # needs torch's compiler

    devices = {tensor.device.type for tensor in inputs}
    device = "cuda" if "cuda" in devices else "cpu" if devices == {"cpu"} else "other"
    program = graph.meta.get("program", "graph")
    pre_grad, joint, post_grad = (
        PassManager(passes_of(stage, device, disable_passes), stage, program)
        for stage in ("pre_grad", "joint", "post_grad")
    )
    pre_grad(graph.graph)
    graph.recompile()
    options = _OPTIONS[device]() | {_torch.JOINT_PASS: joint, _torch.POST_GRAD_PASS: post_grad}
    compiled: CompiledFunction = _torch.standalone_compile(
        graph,
        list(inputs),
        dynamic_shapes="from_example_inputs",
        options={"config_patches": options},
    )
    return compiled


def interpreter(graph: GraphModule, inputs: list[Tensor]) -> CompiledFunction:
    """Run the traced graph as it is: the semantics of a compiled round at no compile time."""
    return graph


BACKENDS: dict[str, Backend] = {"inductor": inductor, "interpreter": interpreter}


def backend_of(backend: str | Backend, disable_passes: Sequence[str]) -> Backend:
    """The function for a backend's name; for a function, itself."""
    if backend == "inductor":
        return partial(inductor, disable_passes=tuple(disable_passes))
    return BACKENDS[backend] if isinstance(backend, str) else backend


def _cpu_options() -> dict[str, Any]:
    keep_freed_memory()
    return {
        # All kernels of a program in one C++ file: the C++ compiler spends most of its time on the
        # headers, which every file includes.
        _torch.CPP_WRAPPER: True,
        _torch.CPP_WRAPPER_BUILD_SEPARATE: True,
        # The processor reports its vector instructions. A trial of them takes seconds.
        _torch.CPP_VEC_ISA_OK: True,
    }


def _cuda_options() -> dict[str, Any]:  # pragma: no cover (needs a GPU)
    # Kernels that do not depend on each other in one launch: the kernels of a small network are so
    # short that the launches take most of a round.
    return {_torch.COMBO_KERNELS: True}


_OPTIONS = {"cpu": _cpu_options, "cuda": _cuda_options, "other": dict}


@cache
def keep_freed_memory() -> None:
    """Have the C library keep the memory that a round frees, for the next round.

    glibc returns large freed blocks to the kernel, and the kernel clears their pages when they are
    allocated again: some ten thousand page faults a round, a tenth of its time. glibc takes for
    large what is larger than the largest block freed so far, up to 32 MiB (mallopt(3),
    M_MMAP_THRESHOLD). So a block of nearly that size is allocated and freed here.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8, device="cpu")
