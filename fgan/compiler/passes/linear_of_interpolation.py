"""The first linear layer at interpolated samples, by linearity.

A linear layer commutes with interpolation, one ε per sample: (εx + (1 - ε)x̃) W + b is
ε(xW + b) + (1 - ε)(x̃W + b). A critic scores real and fake samples in one pass. So its first layer,
the largest of a perceptron, need not run at interpolated samples: its results at the real and the
fake ones are interpolated.

The first layer of a convolutional critic is its smallest, and there the interpolation costs what it
saves.
"""

from collections import defaultdict
from typing import Any

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import RESHAPING, call, hashable

aten, prims = torch.ops.aten, torch.ops.prims

Weights = tuple[Node, Node]
"""ε and 1 - ε, each [B, 1, ...]."""

_ROWWISE = {aten.unsqueeze.default, aten.eq.Tensor, prims.convert_element_type.default}
"""The operations of a one-hot encoding: each maps rows of its first argument to rows."""


def reuse_linear_of_interpolation(graph: Graph) -> int:
    """Replace a matmul of interpolated rows by the interpolation of an earlier matmul's rows."""
    earlier: dict[Any, list[Node]] = defaultdict(list)
    changes = 0
    for node in list(graph.nodes):
        if node.target not in (aten.mm.default, aten.addmm.default) or node.kwargs:
            continue
        *term, rows, matrix = node.args
        same_layer = earlier[hashable((*term, matrix))]
        for matmul in same_layer:
            if (weights := _weights(rows, matmul.args[-2])) is not None:
                _replace(graph, node, weights, matmul)
                changes += 1
                break
        else:
            same_layer.append(node)
    return changes


def _replace(graph: Graph, node: Node, weights: Weights, matmul: Node) -> None:
    size = _shape(node)[0]
    terms = []
    with graph.inserting_before(node):
        for i, weight in enumerate(weights):
            column = call(graph, aten.view.default, weight, [size, 1])
            half = call(graph, aten.slice.Tensor, matmul, 0, i * size, (i + 1) * size)
            terms.append(call(graph, aten.mul.Tensor, column, half))
        interpolated = call(graph, aten.add.Tensor, *terms)
    node.replace_all_uses_with(interpolated)


def _weights(rows: Any, pair: Any) -> Weights | None:
    """The weights with which `rows` interpolates between the halves of `pair`; None if it does not.

    rows: [B, ...]
    pair: [2B, ...], two batches below each other.
    """
    rows, pair = _source(rows), _source(pair)
    if pair.target is aten.cat.default and pair.args[1:] in ((), (0,)):
        return _weights_of_sum(rows, pair.args[0])
    if rows.target in RESHAPING and pair.target in RESHAPING and _keep_rows(rows, pair):
        return _weights(rows.args[0], pair.args[0])
    if rows.target is pair.target is aten.cat.default and rows.args[1:] == pair.args[1:] == (1,):
        # Samples beside their conditions, which are the same for both halves.
        parts, pairs = rows.args[0], pair.args[0]
        if len(parts) == len(pairs):
            other = [both for both in zip(parts, pairs, strict=True) if not _is_repeated(*both)]
            return _weights(*other[0]) if len(other) == 1 else None
    return None


def _weights_of_sum(node: Any, samples: list[Node]) -> Weights | None:
    """The weights, if the node is ε times the first batch plus 1 - ε times the second."""
    if len(samples) != 2 or not _calls(node, aten.add.Tensor):
        return None
    if not all(_calls(term, aten.mul.Tensor) for term in node.args):
        return None
    (epsilon, first), (rest, second) = (term.args for term in node.args)
    if [first, second] != samples or not _calls(rest, aten.sub.Tensor):
        return None
    if rest.args != (1, epsilon):
        return None
    size, *extents = _shape(node)
    whole = _shape(first) == _shape(second) == _shape(node)
    per_sample = _shape(epsilon) == (size, *[1] * len(extents))
    return (epsilon, rest) if whole and per_sample else None


def _is_repeated(once: Any, twice: Any) -> bool:
    """Whether `twice` holds the rows of `once` two times, one block below the other."""
    once, twice = _source(once), _source(twice)
    size, *extents = _shape(once)
    if _shape(twice) != (2 * size, *extents):
        return False
    same_call = once.target is twice.target and once.args[1:] == twice.args[1:]
    if once.target in _ROWWISE and same_call:
        return _is_repeated(once.args[0], twice.args[0])
    # Inductor's decompositions write torch.cat([x, x]) as a view of the expanded x[None].
    expanded = _source(twice.args[0]) if twice.target in RESHAPING else twice
    if expanded.target is not aten.expand.default or _shape(expanded) != (2, size, *extents):
        return False
    (row, *_) = expanded.args
    return _calls(row, aten.unsqueeze.default) and (_source(row.args[0]), row.args[1]) == (once, 0)


def _calls(node: Any, target: Any) -> bool:
    """Whether the node calls a function with positional arguments alone."""
    return isinstance(node, Node) and node.target is target and not node.kwargs


def _source(node: Any) -> Any:
    """The node that this one is a copy of."""
    while node.target is aten.clone.default:
        node = node.args[0]
    return node


def _keep_rows(*views: Any) -> bool:
    """Whether each view has as many rows as its source, and all have rows of one shape."""
    kept = all(_shape(view)[0] == _shape(view.args[0])[0] for view in views)
    return kept and len({_shape(view)[1:] for view in views}) == 1


def _shape(node: Any) -> torch.Size:
    shape: torch.Size = node.meta["val"].shape
    return shape
