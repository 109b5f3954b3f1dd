"""Matrix products with few columns, written as their transposes.

MKL spends on a column what it spends on a row of vectors, so that a product [M, K] x [K, 2] takes
two to five times as long as its transpose, [2, K] x [K, M]. Samples with few coordinates, and the
layer that gives the score, make such products in every update. A population's round has one batch
of them for each: there a matrix that repeats one row, as the derivative of a sum does, is written
out as well, since torch has MKL multiply batches of plain and of transposed matrices alone.
"""

import torch
from torch.fx import Graph, Node

from fgan.passes.nodes import call

aten = torch.ops.aten

NARROW = 16
"""Columns from which a product is as fast as its transpose, or faster."""
WORTH = 2**15
"""Entries of the left matrix from which a single product gains; a batch of products always does."""


def turn_narrow(graph: Graph) -> None:
    """Turn narrow products round; for the compiler's last pass on the CPU."""
    for target, axes in ((aten.mm.default, [1, 0]), (aten.bmm.default, [0, 2, 1])):
        for node in graph.find_nodes(op="call_function", target=target):
            left, right = node.args
            if node.meta["val"].dtype is not torch.float32:
                continue
            with graph.inserting_before(node):
                if target is aten.bmm.default:
                    left, right = _plain(graph, left), _plain(graph, right)
                    node.args = (left, right)
                if _is_narrow(node):
                    turned = [call(graph, aten.permute.default, x, axes) for x in (right, left)]
                    product = call(graph, target, *turned)
                    node.replace_all_uses_with(call(graph, aten.permute.default, product, axes))


def _is_narrow(node: Node) -> bool:
    rows, columns = node.meta["val"].shape[-2:]
    left, _ = node.args
    assert isinstance(left, Node)
    if node.target is aten.bmm.default:
        return bool(columns < NARROW <= rows)
    # One column is a product with a vector, which torch knows as such.
    return bool(1 < columns < NARROW <= rows and left.meta["val"].numel() >= WORTH)


def _plain(graph: Graph, operand: Node) -> Node:
    """The matrices themselves where they lie in order or transposed, else a copy in order."""
    value = operand.meta["val"]
    (rows, columns), (down, across) = value.shape[1:], value.stride()[1:]
    if (across == 1 and down >= columns) or (down == 1 and across >= rows):
        return operand
    copy = graph.call_function(
        aten.clone.default, (operand,), {"memory_format": torch.contiguous_format}
    )
    copy.meta["val"] = value.contiguous()
    return copy
