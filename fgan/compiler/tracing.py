"""Programs: pure functions, traced by running them once without data, and compiled.

The tracer sees what a function does, not how its Python is written: `grad` and `vmap` are gone by
then, and what is left is one straight line of tensor operations, the second derivatives among them.
`jax.jit` traces like this too. It takes a fraction of the time that following the bytecode takes.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from fgan import tree

Lowered = Callable[..., Sequence[Tensor]]
Backend = Callable[[GraphModule, list[Tensor]], Lowered]
"""Makes a callable out of a traced graph and inputs like those it will be called with."""


class Program:
    """A function of trees of tensors, compiled once per `signature` of its inputs and autocast.

    Whatever else the function reads must never change. Python runs only while a new signature is
    traced, so branches on values are errors, and gradients do not flow through the result.
    """

    def __init__(self, function: Callable[..., Any], backend: Backend) -> None:
        self._function, self._backend = function, backend
        self._compiled: dict[Any, tuple[Lowered, Any]] = {}
        self.runs = 0
        """How often it has begun to run."""

    def __call__(self, *inputs: Any) -> Any:
        (lowered, structure), tensors = self.prepare(*inputs)
        self.runs += 1
        with torch.no_grad():
            return tree.unflatten(lowered(*tensors), structure)

    def prepare(self, *inputs: Any) -> tuple[tuple[Lowered, Any], list[Tensor]]:
        """All but running it: the code, how its results nest, and the tensors it takes."""
        tensors, key = signature(inputs)
        key = key, ambient()
        if key not in self._compiled:
            self._compiled[key] = self._compile(inputs, tensors)
        return self._compiled[key], tensors

    def _compile(self, inputs: Any, tensors: list[Tensor]) -> tuple[Lowered, Any]:
        # Objects of their own: were one tensor to be two inputs, it would be taken to be so always.
        examples = [tensor.detach() for tensor in tensors]
        structure: Any = None

        def flat(*traced: Tensor) -> list[Any]:
            nonlocal structure
            values = iter(traced)
            given = tree.map(lambda leaf: None if leaf is None else next(values), inputs)
            made, structure = tree.flatten(self._function(*given))
            return made

        with torch.no_grad():
            graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*examples)
            return self._backend(graph, examples), structure


def ambient() -> tuple[torch.dtype | None, ...]:
    """What autocast would have traced functions compute in, where the caller has switched it on."""
    return tuple(
        torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        for kind in ("cpu", "cuda")
    )


def signature(inputs: Any) -> tuple[list[Tensor], Any]:
    """The tensors, and how they nest beside the shape, strides, dtype and device of each.

    The tensors come in the order of `tree.leaves`, at a fraction of its time: a round of a small
    network has none to lose.
    """
    tensors: list[Tensor] = []
    key: list[Any] = []
    _sign(inputs, tensors, key)
    return tensors, tuple(key)


def _sign(node: Any, tensors: list[Tensor], key: list[Any]) -> None:
    if isinstance(node, Tensor):
        tensors.append(node)
        key += (node.shape, node.stride(), node.dtype, node.device)
    elif node is None:
        key.append(None)
    else:
        parts, structure = _opened(node)
        key += (type(node), structure)
        for part in parts:
            _sign(part, tensors, key)


def leaves(node: Any) -> list[Tensor]:
    """The tensors in the order of `tree.leaves`, at a fraction of its time."""
    if isinstance(node, Tensor):
        return [node]
    return [] if node is None else [leaf for part in _opened(node)[0] for leaf in leaves(part)]


def _opened(node: Any) -> tuple[Sequence[Any], Any]:
    if isinstance(node, dict):
        return list(node.values()), tuple(node)
    if isinstance(node, tuple | list):
        return node, len(node)
    parts, structure = tree.flatten(node)  # a container that somebody has registered with torch
    if any(part is node for part in parts):
        raise TypeError(f"a compiled step takes tensors, and it was given {node!r}")
    return parts, structure


def inductor(graph: GraphModule, inputs: list[Tensor]) -> Lowered:
    """Have torch.compile's own compiler generate code, and keep it in that compiler's cache."""
    from torch._inductor import standalone_compile  # the whole compiler, seconds of it

    from fgan.compiler.passes import Rewrite
    from fgan.compiler.passes.moves import read_first
    from fgan.compiler.passes.views import loosen_views

    loosen_views(graph.graph)
    graph.recompile()
    kinds = {tensor.device.type for tensor in inputs}
    options, last = {}, [read_first]
    if kinds == {"cpu"}:
        from fgan.compiler.passes.biases import part_biases
        from fgan.compiler.passes.narrow import turn_narrow
        from fgan.compiler.passes.onednn import by_onednn, is_faster

        options = _for_cpu()
        last += [by_onednn] * is_faster() + [part_biases, turn_narrow]
    elif "cuda" in kinds:
        # Kernels that do not wait for each other in one launch: a small network's have so little to
        # do that the launches take most of a round.
        options = {"combo_kernels": True}
    options["joint_custom_pre_pass"] = Rewrite()
    options["post_grad_custom_post_pass"] = Rewrite(*last)
    return standalone_compile(
        graph,
        list(inputs),
        dynamic_shapes="from_example_inputs",
        options={"config_patches": options},
    )


def _for_cpu() -> dict[str, Any]:
    """The compiler's options for a program on the CPU, and the C library's."""
    keep_freed_memory()
    return {
        # The kernels of a program in one C++ file, not in one each: the headers are most of what
        # the C++ compiler reads.
        "cpp_wrapper": True,
        "cpp_wrapper_build_separate": True,
        # The processor knows its vector instructions. To try them takes seconds.
        "cpp.vec_isa_ok": True,
    }


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what a round frees for the next round.

    glibc gives large freed blocks back to the kernel, which clears them page by page when they are
    taken again: some ten thousand page faults a round, a tenth of its time. What counts as large is
    the largest block freed so far, up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD), so one of nearly
    that size is taken and freed.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8, device="cpu")


def interpreter(graph: GraphModule, inputs: list[Tensor]) -> Lowered:
    """Run the traced graph as it is: the semantics of a compiled round at no compile time."""
    return graph
