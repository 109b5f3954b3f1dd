"""The first layer of interpolates.

A linear layer commutes with mixing, one ε per sample: (εx + (1 - ε)x̃) W + b is
ε(xW + b) + (1 - ε)(x̃W + b). A critic scores real and fake in one pass, so what its first layer, in
a perceptron the largest, makes of their interpolates is there already, but for the mixing.

A convolutional critic's first layer is its smallest, and there the mixing costs what it saves.
"""

from collections import defaultdict
from typing import Any

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import RESHAPING, call, hashable

aten, prims = torch.ops.aten, torch.ops.prims

Weights = tuple[Node, Node]
"""ε and 1 - ε, each [B, 1, ...]."""

_BY_ROWS = {aten.unsqueeze.default, aten.eq.Tensor, prims.convert_element_type.default}
"""What makes one-hot labels: a row of every row of its first argument."""


def mix_layers(graph: Graph) -> None:
    """Take products of interpolates from the products of what they lie between."""
    made: dict[Any, list[Node]] = defaultdict(list)
    for node in list(graph.nodes):
        if node.target not in (aten.mm.default, aten.addmm.default) or node.kwargs:
            continue
        *term, rows, matrix = node.args
        alike = made[hashable((*term, matrix))]
        for both in alike:
            if (weights := _weights(rows, both.args[-2])) is not None:
                _replace(graph, node, weights, both)
                break
        else:
            alike.append(node)


def _replace(graph: Graph, node: Node, weights: Weights, both: Node) -> None:
    size = _shape(node)[0]
    terms = []
    with graph.inserting_before(node):
        for i, weight in enumerate(weights):
            column = call(graph, aten.view.default, weight, [size, 1])
            half = call(graph, aten.slice.Tensor, both, 0, i * size, (i + 1) * size)
            terms.append(call(graph, aten.mul.Tensor, column, half))
        mixed = call(graph, aten.add.Tensor, *terms)
    node.replace_all_uses_with(mixed)


def _weights(mixed: Any, both: Any) -> Weights | None:
    """With which the halves of `both` make `mixed`, sample by sample; None if they do not."""
    mixed, both = _original(mixed), _original(both)
    if both.target is aten.cat.default and both.args[1:] in ((), (0,)):
        return _weights_of_sum(mixed, both.args[0])
    if mixed.target in RESHAPING and both.target in RESHAPING and _keep_rows(mixed, both):
        return _weights(mixed.args[0], both.args[0])
    if mixed.target is both.target is aten.cat.default and mixed.args[1:] == both.args[1:] == (1,):
        parts, double = mixed.args[0], both.args[0]
        if len(parts) == len(double):
            pairs = [pair for pair in zip(parts, double, strict=True) if not _is_twice(*pair)]
            return _weights(*pairs[0]) if len(pairs) == 1 else None
    return None


def _weights_of_sum(node: Any, samples: list[Node]) -> Weights | None:
    """The factors, if this is ε times the first batch and 1 - ε times the second."""
    if len(samples) != 2 or not _calls(node, aten.add.Tensor):
        return None
    if not all(_calls(term, aten.mul.Tensor) for term in node.args):
        return None
    (share, first), (rest, second) = (term.args for term in node.args)
    if [first, second] != samples or not _calls(rest, aten.sub.Tensor) or rest.args != (1, share):
        return None
    size, *extents = _shape(node)
    whole = _shape(first) == _shape(second) == _shape(node)
    per_sample = _shape(share) == (size, *[1] * len(extents))
    return (share, rest) if whole and per_sample else None


def _is_twice(one: Any, two: Any) -> bool:
    """Whether `two` is `one`, and once more below."""
    one, two = _original(one), _original(two)
    size, *extents = _shape(one)
    if _shape(two) != (2 * size, *extents):
        return False
    if one.target in _BY_ROWS and one.target is two.target and one.args[1:] == two.args[1:]:
        return _is_twice(one.args[0], two.args[0])
    # The compiler writes torch.cat([x, x]) as a view of x[None], expanded.
    spread = _original(two.args[0]) if two.target in RESHAPING else two
    if spread.target is not aten.expand.default or _shape(spread) != (2, size, *extents):
        return False
    (row, *_) = spread.args
    return _calls(row, aten.unsqueeze.default) and (_original(row.args[0]), row.args[1]) == (one, 0)


def _calls(node: Any, target: Any) -> bool:
    """Whether this is what a function makes of its positional arguments."""
    return isinstance(node, Node) and node.target is target and not node.kwargs


def _original(node: Any) -> Any:
    """What this is a copy of."""
    while node.target is aten.clone.default:
        node = node.args[0]
    return node


def _keep_rows(*views: Any) -> bool:
    """Whether these have as many rows as what they show, and rows of one shape."""
    kept = all(_shape(view)[0] == _shape(view.args[0])[0] for view in views)
    return kept and len({_shape(view)[1:] for view in views}) == 1


def _shape(node: Any) -> torch.Size:
    shape: torch.Size = node.meta["val"].shape
    return shape
