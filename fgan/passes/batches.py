"""Batches of products with one matrix, which is what `vmap` makes of a linear layer."""

import torch
from torch.fx import Graph, Node

from fgan.passes.nodes import call

aten = torch.ops.aten


def join_batches(graph: Graph) -> None:
    """Make one product [B·M, K] x [K, N] of a batch of B products with the same matrix [K, N]."""
    for node in list(graph.nodes):
        if node.target is not aten.bmm.default:
            continue
        left, right = node.args
        matrix = _repeated(right)
        if matrix is None:
            continue
        batch, rows, inner = left.meta["val"].shape
        with graph.inserting_before(node):
            joined = call(graph, aten.reshape.default, left, [batch * rows, inner])
            product = call(graph, aten.mm.default, joined, matrix)
            columns = matrix.meta["val"].shape[1]
            parted = call(graph, aten.view.default, product, [batch, rows, columns])
        node.replace_all_uses_with(parted)


def _repeated(node: Node) -> Node | None:
    """The matrix that a batch of matrices consists of, if it is an expanded one."""
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
