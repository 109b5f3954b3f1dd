"""Programs: pure functions that are traced by one run without data, and compiled.

The tracer sees what a function does, not how its Python is written: `grad` and `vmap` are gone by
then, and what is left is one straight line of tensor operations, the second derivatives among them.
`jax.jit` traces like this too. It takes a fraction of the time that following the bytecode takes.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from fgan import tree
from fgan.compiler import _torch

CompiledFunction = Callable[..., Sequence[Tensor]]
Backend = Callable[[GraphModule, list[Tensor]], CompiledFunction]
"""Compiles a traced graph, with the help of example inputs."""


class Compiled(NamedTuple):
    """A program for one signature of its inputs."""

    function: CompiledFunction
    structure: Any
    """How the results nest."""
    closed_over: list[Tensor]
    """Tensors that the traced function reads beside its inputs, passed at every call."""


class Program:
    """A function of trees of tensors, compiled once per `signature` of its inputs and autocast.

    The function may read other tensors, such as hyper-parameters: the program reads their values
    anew at every call. All else that it reads must never change, since Python runs only while a new
    signature is traced. Branches on values are errors, and no gradient flows through the result.

    name: what a log calls the program.
    """

    def __init__(self, function: Callable[..., Any], backend: Backend, name: str = "") -> None:
        self._function, self._backend = function, backend
        self._name = name or function.__name__
        self._compiled: dict[Any, Compiled] = {}
        self.started = 0
        """How many calls have begun to run the compiled code."""
        self.host_tensors: list[Tensor] = []
        """The closed-over tensors on the CPU: a CUDA graph does not read them again."""

    def __call__(self, *inputs: Any) -> Any:
        compiled, tensors = self.prepare(*inputs)
        self.started += 1
        with torch.no_grad():
            results = compiled.function(*tensors, *compiled.closed_over)
        return tree.unflatten(results, compiled.structure)

    def prepare(self, *inputs: Any) -> tuple[Compiled, list[Tensor]]:
        """Compile for these inputs if that has not been done; the program and the tensors."""
        tensors, key = signature(inputs)
        key = key, autocast_dtypes()
        if key not in self._compiled:
            self._compiled[key] = self._compile(inputs, tensors)
        return self._compiled[key], tensors

    def _compile(self, inputs: Any, tensors: list[Tensor]) -> Compiled:
        # New tensor objects: if two inputs were one object, the compiler would make one input of
        # them, for all later calls too.
        examples = [tensor.detach() for tensor in tensors]
        structure: Any = None

        def flat(*traced: Tensor) -> list[Any]:
            nonlocal structure
            values = iter(traced)
            arguments = tree.map(lambda leaf: None if leaf is None else next(values), inputs)
            results, structure = tree.flatten(self._function(*arguments))
            return results

        with torch.no_grad():
            graph = trace(flat, *examples)
            graph.meta["program"] = self._name
            refuse_randomness(graph, self._name)
            closed_over = lift_closed_over(graph)
            self.host_tensors += [each for each in closed_over if each.device.type == "cpu"]
            examples += [tensor.detach() for tensor in closed_over]
            return Compiled(self._backend(graph, examples), structure, closed_over)


def trace(function: Callable[..., Any], *examples: Tensor) -> GraphModule:
    """The graph of what a function of tensors does."""
    graph: GraphModule = _torch.make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(
        *examples
    )
    return graph


def lift_closed_over(module: GraphModule) -> list[Tensor]:
    """Make inputs of the tensors that the graph holds, after its own inputs; in order.

    The tracer writes down a tensor that a function closes over as an attribute of the graph, and
    the compiler takes the value of an attribute for a constant. A tensor literal stays an
    attribute: nobody else holds it.
    """
    graph = module.graph
    lifted: dict[str, Node] = {}
    tensors: list[Tensor] = []
    first = next(node for node in graph.nodes if node.op != "placeholder")
    for node in graph.find_nodes(op="get_attr"):
        value = attrgetter(node.target)(module)
        if not isinstance(value, Tensor) or _is_literal(node):
            continue
        if node.target not in lifted:
            with graph.inserting_before(first):
                placeholder = graph.placeholder(f"closed_over_{len(tensors)}")
            placeholder.meta |= node.meta
            lifted[node.target] = placeholder
            tensors.append(value)
        node.replace_all_uses_with(lifted[node.target])
        if node is first:
            first = node.next
        graph.erase_node(node)
    module.recompile()
    return tensors


def _is_literal(node: Node) -> bool:
    """Whether a tensor was made of Python numbers while the function was traced."""
    literal = torch.ops.aten.lift_fresh_copy.default
    return all(user.target is literal for user in node.users)


def refuse_randomness(module: GraphModule, name: str) -> None:
    """Raise ValueError if a graph draws from a global random number generator."""
    for node in module.graph.nodes:
        if _is_random(node):
            raise ValueError(
                f"{name} calls {node.target}: a network or an objective draws from a global random "
                "number generator, and a pure round cannot. Draw the random numbers outside of the "
                "round, and feed them in as data"
            )


def _is_random(node: Node) -> bool:
    op = node.target
    if not isinstance(op, _torch.OpOverload):
        return False
    if torch.Tag.nondeterministic_seeded not in op.tags:
        return False
    # Fused attention has the tag, and is random only with dropout.
    for i, argument in enumerate(_torch.schema(op).arguments):
        if argument.name == "dropout_p":
            value = node.args[i] if i < len(node.args) else argument.default_value
            return bool(node.kwargs.get(argument.name, value))
    return True


def autocast_dtypes() -> tuple[torch.dtype | None, ...]:
    """The dtypes of autocast where the caller has switched it on: traced functions would use it."""
    return tuple(
        torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        for device in ("cpu", "cuda")
    )


def signature(inputs: Any) -> tuple[list[Tensor], Any]:
    """The tensors, and how they nest beside the shape, strides, dtype and device of each.

    The tensors come in the order of `tree.leaves`. This function takes a fraction of the time of
    `tree.leaves`, and it runs in every round.
    """
    tensors: list[Tensor] = []
    key: list[Any] = []
    _append_signature(inputs, tensors, key)
    return tensors, tuple(key)


def _append_signature(node: Any, tensors: list[Tensor], key: list[Any]) -> None:
    if isinstance(node, Tensor):
        tensors.append(node)
        key += (node.shape, node.stride(), node.dtype, node.device)
    elif node is None:
        key.append(None)
    else:
        children, structure = _children(node)
        key += (type(node), structure)
        for child in children:
            _append_signature(child, tensors, key)


def leaves(node: Any) -> list[Tensor]:
    """The tensors in the order of `tree.leaves`, in a fraction of its time."""
    if isinstance(node, Tensor):
        return [node]
    return [] if node is None else [leaf for each in _children(node)[0] for leaf in leaves(each)]


def _children(node: Any) -> tuple[Sequence[Any], Any]:
    """What a container holds, and what identifies its structure."""
    if isinstance(node, dict):
        return list(node.values()), tuple(node)
    if isinstance(node, tuple | list):
        return node, len(node)
    children, structure = tree.flatten(node)  # a container registered with torch's pytree
    if any(child is node for child in children):
        raise TypeError(f"a compiled step takes tensors, and its inputs hold {node!r}")
    return children, structure
