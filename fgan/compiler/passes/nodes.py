"""What the passes over traced graphs share."""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._inductor.custom_graph_pass import get_hash_for_files
from torch._ops import OpOverload
from torch.fx import Graph, Node, map_arg

aten = torch.ops.aten

RESHAPING = {aten.view.default, aten._unsafe_view.default, aten.reshape.default}


def call(graph: Graph, target: Callable[..., Any], *args: Any) -> Node:
    """A new node where the graph inserts, with what it would give for the tensors at hand."""
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
    """Something to compare arguments by, in which 1, 1.0 and True are three things, as 0 and -0."""
    if isinstance(argument, list | tuple):
        return tuple(hashable(part) for part in argument)
    if isinstance(argument, dict):
        return tuple((name, hashable(part)) for name, part in argument.items())
    return type(argument), repr(argument) if isinstance(argument, float) else argument


def store(node: Node) -> None:
    """Have the compiler store this value, in the order of its axes, for whoever reads it."""
    node.meta["inductor_realize_to_strides"] = True


def goes_out(node: Node) -> bool:
    """Whether the caller gets this value, or a view of it.

    Then it has to keep its own memory: one value under two names, or an input under another, would
    be written to twice by a donated round.
    """
    return any(
        user.op == "output" or (is_view(user) and user.args[0] is node and goes_out(user))
        for user in node.users
    )


def is_view(node: Node) -> bool:
    """Whether this lies in the memory of its first argument."""
    if isinstance(target := node.target, OpOverload):
        return any(result.alias_info is not None for result in target._schema.returns)
    return target is operator.getitem


def untransposed(node: Any) -> Any:
    """The matrix that this is the transposed one of; None if it is none."""
    turned = node.target is aten.permute.default and node.args[1] == [1, 0]
    return node.args[0] if turned or node.target is aten.t.default else None


def product_of(node: Any) -> Node | None:
    """The product that this is, behind an even number of transpositions, if only this reads it."""
    turned = False
    while isinstance(node, Node) and len(node.users) == 1:
        if node.target is aten.mm.default:
            return None if turned else node
        node, turned = untransposed(node), not turned
    return None


def written_in() -> bytes:
    """A hash of the files that the passes are written in, to cache compiled graphs under."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    digest: bytes = get_hash_for_files(tuple(str(file) for file in files))
    return digest
