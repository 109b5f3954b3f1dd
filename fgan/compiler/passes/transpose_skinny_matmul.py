"""Skinny matmuls, of few columns, computed as their transposes.

MKL spends on a column what it spends on a row of vectors, so that a matmul [M, K] x [K, 2] takes
two to five times as long as its transpose, [2, K] x [K, M]. Points of few coordinates lead to such
matmuls in every update, and a population's round has a batch of them.
"""

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import call

aten = torch.ops.aten

SKINNY = 16
"""With this many columns, a matmul is as fast as its transpose, or faster."""
LARGE = 2**15
"""The fewest entries of the left matrix, or matrices, for which the transpose pays."""


def transpose_skinny_matmul(graph: Graph) -> int:
    """Compute A B as (Bᵀ Aᵀ)ᵀ where B has few columns; a post-grad pass for the CPU."""
    changes = 0
    for target, axes in ((aten.mm.default, [1, 0]), (aten.bmm.default, [0, 2, 1])):
        for node in graph.find_nodes(op="call_function", target=target):
            if not _is_skinny(node):
                continue
            left, right = node.args
            with graph.inserting_before(node):
                transposed = [call(graph, aten.permute.default, x, axes) for x in (right, left)]
                matmul = call(graph, target, *transposed)
                node.replace_all_uses_with(call(graph, aten.permute.default, matmul, axes))
            changes += 1
    return changes


def _is_skinny(node: Node) -> bool:
    value, left = node.meta["val"], node.args[0]
    assert isinstance(left, Node)
    rows, columns = value.shape[-2:]
    # A matmul of one column is a matrix-vector product, for Inductor too.
    return bool(
        value.dtype is torch.float32
        and 1 < columns < SKINNY <= rows
        and left.meta["val"].numel() >= LARGE
    )
