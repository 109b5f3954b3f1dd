"""What the passes share: questions about nodes of a graph, and new nodes."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, Node, map_arg

from fgan.compiler import _torch

aten = torch.ops.aten

RESHAPING = {aten.view.default, _torch.unsafe_view, aten.reshape.default}


def call(graph: Graph, target: Callable[..., Any], *args: Any) -> Node:
    """A new node at the graph's insertion point, with its fake value."""
    node = graph.call_function(target, args)
    node.meta["val"] = target(*map_arg(args, lambda argument: argument.meta["val"]))
    return node


def fill_value(node: Node) -> Any:
    """The number that a tensor is filled with; None for any other node."""
    if node.target in (aten.full.default, aten.full_like.default):
        return node.args[1]
    if node.target is aten.scalar_tensor.default:
        return node.args[0]
    if node.target in (aten.zeros.default, aten.zeros_like.default):
        return 0
    return 1 if node.target in (aten.ones.default, aten.ones_like.default) else None


def hashable(argument: Any) -> Any:
    """A key to compare arguments by. The numbers 1, 1.0 and True differ in it, as do 0.0 and -0.0.

    Python's own equality takes these numbers for equal, and an operator does not.
    """
    if isinstance(argument, list | tuple):
        return tuple(hashable(part) for part in argument)
    if isinstance(argument, dict):
        return tuple((name, hashable(part)) for name, part in argument.items())
    return type(argument), repr(argument) if isinstance(argument, float) else argument


def realize(node: Node) -> None:
    """Have Inductor store this value in memory, in the order of its axes."""
    node.meta[_torch.REALIZE] = True


def is_returned(node: Node) -> bool:
    """Whether the graph returns this value, or a view of it.

    Such a value has to keep memory of its own: a donated round would write twice to memory that two
    outputs share, or an input and an output.
    """
    return any(
        user.op == "output" or (is_view(user) and user.args[0] is node and is_returned(user))
        for user in node.users
    )


def is_view(node: Node) -> bool:
    """Whether the value lies in the memory of the node's first argument."""
    if isinstance(op := node.target, _torch.OpOverload):
        return any(result.alias_info is not None for result in _torch.schema(op).returns)
    return op is operator.getitem


def transpose_source(node: Any) -> Any:
    """The matrix whose transpose this node is; None if it is no transpose."""
    is_transpose = node.target is aten.permute.default and node.args[1] == [1, 0]
    return node.args[0] if is_transpose or node.target is aten.t.default else None


def sole_matmul(node: Any) -> Node | None:
    """The matmul behind an even number of transposes, if only this node reads it; else None."""
    odd = False
    while isinstance(node, Node) and len(node.users) == 1:
        if node.target is aten.mm.default:
            return None if odd else node
        node, odd = transpose_source(node), not odd
    return None


def kind(node: Node) -> tuple[torch.Size, torch.dtype, torch.device]:
    """Shape, dtype and device of a node's value."""
    value = node.meta["val"]
    return value.shape, value.dtype, value.device
