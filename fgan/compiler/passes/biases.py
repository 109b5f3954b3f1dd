"""Biases, added in the loop that comes after their product.

torch's product with a bias first copies the bias into every row of the result, a kernel of its own.
A loop that reads the product anyway, an activation's say, adds it for nothing.
"""

import torch
from torch.fx import Graph

from fgan.compiler.passes.nodes import call

aten = torch.ops.aten


def part_biases(graph: Graph) -> None:
    """Write A B + C as a product and a sum; for the compiler's last pass, since it joins them.

    In bfloat16 that would be rounded once more.
    """
    for node in graph.find_nodes(op="call_function", target=aten.addmm.default):
        term, left, right = node.args
        if node.kwargs or node.meta["val"].dtype not in (torch.float32, torch.float64):
            continue
        with graph.inserting_before(node):
            product = call(graph, aten.mm.default, left, right)
            node.replace_all_uses_with(call(graph, aten.add.Tensor, product, term))
