"""CSE up to a factor per row: backward passes that are multiples, row by row, of earlier ones.

A penalty at the samples that are scored, as WGAN-div's, needs the critic's gradient by its input:
one backward pass, from 1 for every sample. The loss takes another backward pass through the very
same layers, from its own gradient s at every sample. The backward pass of every layer is linear and
mixes no samples, so the second pass is the first with its rows multiplied by s. The gradient of a
weight gets a term from each pass, and δᵀ u + (s δ)ᵀ a = δᵀ (u + s a) is one matmul for two: of the
twelve matmuls of WGAN-div's update with the weights of a hidden layer, eight are left.

The pass knows nothing of critics: it follows rows through the operations of a graph.
"""

import operator
from typing import Any, NamedTuple

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import (
    RESHAPING,
    call,
    fill_value,
    hashable,
    is_returned,
    kind,
    sole_matmul,
    transpose_source,
)

aten = torch.ops.aten

_MULTIPLYING = {aten.mul.Tensor, aten.mul.Scalar}
_INPUT_GRADIENT = "the input's gradient of convolution_backward"


class Multiple(NamedTuple):
    """A value whose rows are those of another value, each times a factor of its own."""

    base: Node
    factor: Node
    """[B, 1]"""


class LinearCall(NamedTuple):
    """A call that is linear, row by row, in its first arguments taken as one."""

    name: Any
    linear: tuple[Any, ...]
    others: tuple[Any, ...]


def eliminate_row_scaled_subexpressions(graph: Graph) -> int:
    """Remove matmuls of rows that are multiples of others, and merge those of their sums."""
    multiples = _columns(graph)
    earlier: dict[Any, Node] = {}
    changes = 0
    for node in list(graph.nodes):
        for linear in _linear_calls(node):
            multiple = _multiple(node, linear, multiples, earlier)
            if multiple is None:
                earlier.setdefault(_key(linear), node)
            elif linear.name in (aten.mm.default, _INPUT_GRADIENT):
                multiples[_replace(graph, node, multiple)] = multiple
                changes += 1
                break
            else:  # the multiplication by the factor would cost as much as this operation
                multiples[node] = multiple
                break
    for node in list(graph.nodes):
        if node.target is aten.add.Tensor and not node.kwargs:
            changes += _merge_matmuls(graph, node, multiples)
    return changes


def _columns(graph: Graph) -> dict[Node, Multiple]:
    """Every column [B, 1] as a multiple of the column of ones, where the graph has one."""
    ones: dict[Any, Node] = {}
    columns = [node for node in graph.nodes if _is_column(node)]
    for node in filter(_is_ones, columns):
        first = ones.setdefault(kind(node), node)
        if not is_returned(node):
            node.replace_all_uses_with(first)
    return {
        node: Multiple(ones[kind(node)], node)
        for node in columns
        if kind(node) in ones and not _is_ones(node)
    }


def _linear_calls(node: Node) -> list[LinearCall]:
    """The ways to see a node as a linear call; none for most operations."""
    arguments: tuple[Any, ...] = node.args
    if node.kwargs:
        return []
    if node.target is aten.mm.default or node.target in RESHAPING:
        return [LinearCall(node.target, arguments[:1], arguments[1:])]
    if node.target in _MULTIPLYING:
        one, other = arguments
        return [
            LinearCall(node.target, (one,), (other,)),
            LinearCall(node.target, (other,), (one,)),
        ]
    if node.target in (aten.add.Tensor, aten.sub.Tensor):
        return [LinearCall(node.target, arguments, ())]
    if node.target is aten.where.self:
        return [LinearCall(node.target, arguments[1:], arguments[:1])]
    if node.target is operator.getitem and arguments[1] == 0:
        source = arguments[0]
        if source.target is aten.convolution_backward.default:
            gradient, *others, _ = source.args
            return [LinearCall(_INPUT_GRADIENT, (gradient,), tuple(others))]
    return []


def _multiple(
    node: Node, linear: LinearCall, multiples: dict[Node, Multiple], earlier: dict[Any, Node]
) -> Multiple | None:
    """The node as a multiple of an earlier call on the bases of its arguments, if there is one."""
    found = [multiples.get(argument) for argument in linear.linear if isinstance(argument, Node)]
    factors = {multiple.factor for multiple in found if multiple is not None}
    if len(factors) != 1:
        return None
    factor = factors.pop()
    rows, rank = factor.meta["val"].shape[0], node.meta["val"].ndim
    bases = []
    for argument in linear.linear:
        multiple = multiples.get(argument)
        if multiple is not None:
            value = argument.meta["val"]
            # Broadcasting to a higher rank moves the rows to another axis.
            if value.shape[0] != rows or (linear.name not in RESHAPING and value.ndim != rank):
                return None
            bases.append(multiple.base)
        elif isinstance(argument, Node) and fill_value(argument) == 0:
            bases.append(argument)
        else:
            return None
    if rank < 1 or node.meta["val"].shape[0] != rows:
        return None
    base = earlier.get(_key(linear._replace(linear=tuple(bases))))
    return None if base is None else Multiple(base, factor)


def _key(linear: LinearCall) -> Any:
    return linear.name, *(hashable(part) for part in (*linear.linear, *linear.others))


def _is_column(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.ndim == 2 and value.shape[1] == 1


def _is_ones(node: Node) -> bool:
    while node.target in RESHAPING or node.target is aten.expand.default:
        source = node.args[0]
        assert isinstance(source, Node)
        node = source
    return bool(fill_value(node) == 1)


def _replace(graph: Graph, node: Node, multiple: Multiple) -> Node:
    """Replace a node by base times factor."""
    factor, value = multiple.factor, multiple.base.meta["val"]
    with graph.inserting_before(node):
        if value.ndim != 2:
            shape = [value.shape[0], *[1] * (value.ndim - 1)]
            factor = call(graph, aten.view.default, factor, shape)
        scaled = call(graph, aten.mul.Tensor, multiple.base, factor)
    node.replace_all_uses_with(scaled)
    if node.target is operator.getitem:
        source: Any = node.args[0]
        graph.erase_node(node)
        still_read = any(user.args[1] == 0 for user in source.users)
        source.args = (*source.args[:-1], [still_read, *source.args[-1][1:]])
    return scaled


def _merge_matmuls(graph: Graph, node: Node, multiples: dict[Node, Multiple]) -> bool:
    """Replace (s δ)ᵀ a + δᵀ u by δᵀ (s a + u)."""
    terms = [sole_matmul(term) for term in node.args]
    for one, other in (terms, terms[::-1]):
        if one is None or other is None:
            return False
        (left, a), (delta, u) = one.args, other.args
        multiple = multiples.get(transpose_source(left))
        if multiple is None or multiple.base is not transpose_source(delta):
            continue
        with graph.inserting_before(node):
            scaled = call(graph, aten.mul.Tensor, a, multiple.factor)
            matmul = call(graph, aten.mm.default, delta, call(graph, aten.add.Tensor, scaled, u))
        node.replace_all_uses_with(matmul)
        return True
    return False
