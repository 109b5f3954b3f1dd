"""Matrix products with few columns, written as their transposes.

MKL spends on a column what it spends on a row of vectors, so that a product [M, K] x [K, 2] takes
two to five times as long as its transpose, [2, K] x [K, M]. Points of few coordinates make such
products in every update, and a population's round makes a batch of them.
"""

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import call

aten = torch.ops.aten

NARROW = 16
"""Columns from which a product is as fast as its transpose, or faster."""
WORTH = 2**15
"""Entries of the left matrix, or matrices, from which a product gains."""


def turn_narrow(graph: Graph) -> None:
    """Turn narrow products round; for the compiler's last pass on the CPU."""
    for target, axes in ((aten.mm.default, [1, 0]), (aten.bmm.default, [0, 2, 1])):
        for node in graph.find_nodes(op="call_function", target=target):
            if not _is_narrow(node):
                continue
            left, right = node.args
            with graph.inserting_before(node):
                turned = [call(graph, aten.permute.default, x, axes) for x in (right, left)]
                product = call(graph, target, *turned)
                node.replace_all_uses_with(call(graph, aten.permute.default, product, axes))


def _is_narrow(node: Node) -> bool:
    value, left = node.meta["val"], node.args[0]
    assert isinstance(left, Node)
    rows, columns = value.shape[-2:]
    # One column makes a product with a vector, which is no matrix product for the compiler either.
    return bool(
        value.dtype is torch.float32
        and 1 < columns < NARROW <= rows
        and left.meta["val"].numel() >= WORTH
    )
