"""Backward passes that are, sample by sample, multiples of one that is there already.

A penalty at the samples that are scored, as WGAN-div's, has the critic's gradient by its input: one
backward pass, from 1 for every sample. The loss takes another one through the very same layers,
from its slope s at every sample. Every layer's backward pass is linear and mixes no samples, so the
second is the first with its rows multiplied by s. In the gradient of a weight both meet, and
δᵀ u + (s δ)ᵀ a = δᵀ (u + s a) is one product for two: of the twelve products that WGAN-div's update
makes with a hidden layer's weights, eight are left.

Nothing here knows of critics: it follows rows through the operations of a graph.
"""

import operator
from typing import Any, NamedTuple

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import (
    RESHAPING,
    call,
    fill_value,
    goes_out,
    hashable,
    product_of,
    untransposed,
)

aten = torch.ops.aten

_MULTIPLYING = {aten.mul.Tensor, aten.mul.Scalar}
_INPUT_GRADIENT = "the first of what a convolution's backward pass gives"


class Multiple(NamedTuple):
    """A value whose rows are those of another, each times a number of its own."""

    base: Node
    factor: Node
    """[B, 1]"""


class Step(NamedTuple):
    """An operation, linear in the first arguments together, row by row."""

    name: Any
    linear: tuple[Any, ...]
    others: tuple[Any, ...]


def share_rows(graph: Graph) -> None:
    """Take products for proportional rows, and for the sums in which they meet, out of a graph."""
    multiples: dict[Node, Multiple] = {}
    made: dict[Any, Node] = {}
    ones: dict[Any, Node] = {}
    columns = [node for node in graph.nodes if _is_column(node)]
    for node in filter(_is_ones, columns):
        first = ones.setdefault(_kind(node), node)
        if not goes_out(node):
            node.replace_all_uses_with(first)
    for node in columns:
        if _kind(node) in ones and not _is_ones(node):
            multiples[node] = Multiple(ones[_kind(node)], node)
    for node in list(graph.nodes):
        for step in _steps(node):
            known = _multiple(node, step, multiples, made)
            if known is None:
                made.setdefault(_key(step), node)
            elif step.name in (aten.mm.default, _INPUT_GRADIENT):
                multiples[_replace(graph, node, known)] = known
                break
            else:  # as cheap as what would stand in its place
                multiples[node] = known
                break
    for node in list(graph.nodes):
        if node.target is aten.add.Tensor and not node.kwargs:
            _join_products(graph, node, multiples)


def _steps(node: Node) -> list[Step]:
    """The ways to see a node as a step; none for most operations."""
    arguments: tuple[Any, ...] = node.args
    if node.kwargs:
        return []
    if node.target is aten.mm.default or node.target in RESHAPING:
        return [Step(node.target, arguments[:1], arguments[1:])]
    if node.target in _MULTIPLYING:
        one, other = arguments
        return [Step(node.target, (one,), (other,)), Step(node.target, (other,), (one,))]
    if node.target in (aten.add.Tensor, aten.sub.Tensor):
        return [Step(node.target, arguments, ())]
    if node.target is aten.where.self:
        return [Step(node.target, arguments[1:], arguments[:1])]
    if node.target is operator.getitem and arguments[1] == 0:
        source = arguments[0]
        if source.target is aten.convolution_backward.default:
            slope, *others, _ = source.args
            return [Step(_INPUT_GRADIENT, (slope,), tuple(others))]
    return []


def _multiple(
    node: Node, step: Step, multiples: dict[Node, Multiple], made: dict[Any, Node]
) -> Multiple | None:
    """What a step of multiples is a multiple of, if the step of their bases has been made."""
    found = [multiples.get(argument) for argument in step.linear if isinstance(argument, Node)]
    factors = {multiple.factor for multiple in found if multiple is not None}
    if len(factors) != 1:
        return None
    factor = factors.pop()
    rows, rank = factor.meta["val"].shape[0], node.meta["val"].ndim
    bases = []
    for argument in step.linear:
        multiple = multiples.get(argument)
        if multiple is not None:
            value = argument.meta["val"]
            # Where shapes are widened to the left, rows are no rows any more.
            if value.shape[0] != rows or (step.name not in RESHAPING and value.ndim != rank):
                return None
            bases.append(multiple.base)
        elif isinstance(argument, Node) and fill_value(argument) == 0:
            bases.append(argument)
        else:
            return None
    if rank < 1 or node.meta["val"].shape[0] != rows:
        return None
    base = made.get(_key(step._replace(linear=tuple(bases))))
    return None if base is None else Multiple(base, factor)


def _key(step: Step) -> Any:
    return step.name, *(hashable(part) for part in (*step.linear, *step.others))


def _is_column(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.ndim == 2 and value.shape[1] == 1


def _kind(node: Node) -> Any:
    value = node.meta["val"]
    return value.shape, value.dtype, value.device


def _is_ones(node: Node) -> bool:
    while node.target in RESHAPING or node.target is aten.expand.default:
        source = node.args[0]
        assert isinstance(source, Node)
        node = source
    return bool(fill_value(node) == 1)


def _replace(graph: Graph, node: Node, multiple: Multiple) -> Node:
    """Put the product of base and factor in the place of a node."""
    factor, value = multiple.factor, multiple.base.meta["val"]
    with graph.inserting_before(node):
        if value.ndim != 2:
            shape = [value.shape[0], *[1] * (value.ndim - 1)]
            factor = call(graph, aten.view.default, factor, shape)
        product = call(graph, aten.mul.Tensor, multiple.base, factor)
    node.replace_all_uses_with(product)
    if node.target is operator.getitem:
        source: Any = node.args[0]
        graph.erase_node(node)
        read = any(user.args[1] == 0 for user in source.users)  # by somebody else
        source.args = (*source.args[:-1], [read, *source.args[-1][1:]])
    return product


def _join_products(graph: Graph, node: Node, multiples: dict[Node, Multiple]) -> None:
    """(s δ)ᵀ a + δᵀ u as δᵀ (s a + u)."""
    terms = [product_of(term) for term in node.args]
    for one, other in (terms, terms[::-1]):
        if one is None or other is None:
            return
        (left, a), (delta, u) = one.args, other.args
        multiple = multiples.get(untransposed(left))
        if multiple is None or multiple.base is not untransposed(delta):
            continue
        with graph.inserting_before(node):
            together = call(
                graph, aten.add.Tensor, call(graph, aten.mul.Tensor, a, multiple.factor), u
            )
            product = call(graph, aten.mm.default, delta, together)
        node.replace_all_uses_with(product)
        return
