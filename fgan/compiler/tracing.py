"""Programs: pure functions that are traced by one run without data, and compiled.

The tracer sees what a function does, not how its Python is written: `grad` and `vmap` are gone by
then, and what is left is one straight line of tensor operations, the second derivatives among them.
`jax.jit` traces like this too. It takes a fraction of the time that following the bytecode takes.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.overrides import TorchFunctionMode

from fgan import tree
from fgan.compiler import _torch
from fgan.compiler.trees import signature, unflattener
from fgan.networks.refusals import is_users_file

CompiledFunction = Callable[..., Sequence[Tensor]]
Backend = Callable[[GraphModule, list[Tensor]], CompiledFunction]
"""Compiles a traced graph, with the help of example inputs."""


class Compiled(NamedTuple):
    """A program for one signature of its inputs."""

    function: CompiledFunction
    nest: Callable[[Iterator[Tensor]], Any]
    """Nests the results as the traced function does."""
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
        return compiled.nest(iter(results))

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
        nest: Any = None

        def flat(*traced: Tensor) -> list[Any]:
            nonlocal nest
            values = iter(traced)
            arguments = tree.map(lambda leaf: None if leaf is None else next(values), inputs)
            results = self._function(*arguments)
            nest = unflattener(results)
            return tree.leaves(results)

        with torch.no_grad():
            graph = trace(flat, *examples)
            graph.meta["program"] = self._name
            refuse_randomness(graph, self._name)
            closed_over = lift_closed_over(graph)
            self.host_tensors += [each for each in closed_over if each.device.type == "cpu"]
            examples += [tensor.detach() for tensor in closed_over]
            return Compiled(self._backend(graph, examples), nest, closed_over)


def trace(function: Callable[..., Any], *examples: Tensor) -> GraphModule:
    """The graph of what a function of tensors does."""
    tracer = _torch.make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)
    try:
        with _TraceableOneHot():
            graph: GraphModule = tracer(*examples)
    except RuntimeError as error:
        if type(error).__name__ not in _DATA_DEPENDENT:
            raise
        raise ValueError(
            f"a compiled program cannot read the value of a tensor, and {_last_line(error)} does: "
            "write it without branches on values (torch.where), .item() and float(), or leave the "
            f"round uncompiled ({str(error).partition(chr(10))[0]})"
        ) from error
    return graph


_DATA_DEPENDENT = ("GuardOnDataDependentSymNode", "DataDependentOutputException")


def _last_line(error: BaseException) -> str:
    """The last line of a module that the error came through, of the user's own if possible."""
    lines = [x for x in traceback.extract_tb(error.__traceback__) if not x.filename.startswith("<")]
    told = [x for x in lines if _is_of_a_layer(x.filename)]
    line = (told or lines)[-1]
    return f"line {line.lineno} of {line.filename}, `{line.line}`,"


def _is_of_a_layer(path: str) -> bool:
    """Whether a file is the user's own, or holds a layer of torch."""
    place, _, name = path.rpartition("/")
    if place.endswith("torch/nn/modules"):
        return name not in ("module.py", "container.py")
    return is_users_file(path)


class _TraceableOneHot(TorchFunctionMode):
    """`torch.nn.functional.one_hot` without the look at the largest label.

    A label out of range gives a row of zeros, as in `fgan.models`. Data sets check their labels,
    and on the CPU a compiled round of networks of `fgan.models` does.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        keywords = dict(kwargs or {})
        if func is torch.nn.functional.one_hot:
            given = dict(zip(("tensor", "num_classes"), args, strict=False)) | keywords
            classes: Any = given.get("num_classes", -1)
            if isinstance(classes, int) and classes > 0:
                labels: Any = given.get("tensor", given.get("input"))
                index = torch.arange(classes, device=labels.device)
                return (labels[..., None] == index).long()
        return func(*args, **keywords)


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
