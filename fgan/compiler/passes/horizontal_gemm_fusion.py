"""Horizontal GEMM fusion: independent small matmuls with one matrix, as one matmul.

A critic's update multiplies by every weight several times: real, fake and interpolated samples go
forward, the gradients of score and penalty back. A GPU that computes such small matmuls one after
the other is mostly idle. So the rows that are multiplied by the same matrix are concatenated.
"""

from collections import defaultdict
from typing import Any

import torch
from torch.fx import Graph, Node

from fgan.compiler import _torch
from fgan.compiler.passes.nodes import call, is_returned
from fgan.compiler.passes.occupancy import leaves_gpu_idle

aten = torch.ops.aten


def fuse_gemms_horizontally(graph: Graph) -> int:
    """Compute [A; C] B for A B and C B, where both leave the device idle."""
    by_matrix: dict[Any, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        # A returned value would become a view of a larger one.
        if _is_linear(node) and not is_returned(node):
            *term, _, matrix = node.args
            by_matrix[(*term, matrix)].append(node)
    changes = 0
    for nodes in by_matrix.values():
        rest = nodes
        while rest:
            group = _fusible(*rest)
            rest = [node for node in rest if node not in group]
            if len(group) > 1:
                _fuse(graph, group)
                changes += 1
    if changes:  # a reader of the group's first matmul has to come after the rows of its last
        _torch.stable_topological_sort(graph)
    return changes


def _is_linear(node: Node) -> bool:
    """Whether this is a matmul, alone or plus a term that is the same for all rows."""
    if node.target is not aten.addmm.default or node.kwargs:
        return node.target is aten.mm.default
    (term, *_) = node.args
    assert isinstance(term, Node)
    shape = term.meta["val"].shape
    return len(shape) < 2 or shape[0] == 1


def _fusible(first: Node, *others: Node) -> list[Node]:
    """The first of some matmuls, and the others that can be fused with it."""
    group = [first]
    for node in others:
        rows = [each.meta["val"].shape[0] for each in (*group, node)]
        if (
            leaves_gpu_idle(node, sum(rows))
            and _ancestors(node).isdisjoint(group)
            and not any(node in _ancestors(each) for each in group)
        ):
            group.append(node)
    return group


def _ancestors(node: Node) -> set[Node]:
    """All nodes that a node depends on."""
    found: set[Node] = set()
    pending = [node]
    while pending:
        for source in pending.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                pending.append(source)
    return found


def _fuse(graph: Graph, nodes: list[Node]) -> None:
    *term, _, matrix = nodes[0].args
    with graph.inserting_before(nodes[-1]):
        rows = call(graph, aten.cat.default, [node.args[-2] for node in nodes])
        target: Any = nodes[0].target
        matmul = call(graph, target, *term, rows, matrix)
        begin = 0
        for node in nodes:
            end = begin + node.meta["val"].shape[0]
            part = call(graph, aten.slice.Tensor, matmul, 0, begin, end)
            node.replace_all_uses_with(part)
            begin = end
    for node in nodes:
        graph.erase_node(node)
