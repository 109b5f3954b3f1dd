"""A batch of matmuls with one matrix, as one matmul of more rows.

`vmap` turns a linear layer into a batch of matmuls, all with the layer's one weight.
"""

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import call

aten = torch.ops.aten


def bmm_to_mm(graph: Graph) -> int:
    """Replace B matmuls [M, K] x [K, N] with the same matrix by one, [B·M, K] x [K, N]."""
    changes = 0
    for node in list(graph.nodes):
        if node.target is not aten.bmm.default:
            continue
        left, right = node.args
        matrix = _expanded_matrix(right)
        if matrix is None:
            continue
        batch, rows, inner = left.meta["val"].shape
        with graph.inserting_before(node):
            all_rows = call(graph, aten.reshape.default, left, [batch * rows, inner])
            matmul = call(graph, aten.mm.default, all_rows, matrix)
            columns = matrix.meta["val"].shape[1]
            result = call(graph, aten.view.default, matmul, [batch, rows, columns])
        node.replace_all_uses_with(result)
        changes += 1
    return changes


def _expanded_matrix(node: Node) -> Node | None:
    """The matrix that was expanded to this batch of matrices; None if there is none."""
    batch = node.meta["val"].shape
    while node.target in (aten.expand.default, aten.view.default):
        source = node.args[0]
        assert isinstance(source, Node)
        if source.meta["val"].shape == batch[1:] and node.target is aten.expand.default:
            return source
        if source.meta["val"].shape != batch:
            return None
        node = source
    return None
