"""Biases added in the loop that follows their matmul, not in the matmul.

torch's `addmm` first copies the bias into every row of the result, in a kernel of its own. A loop
that reads the result anyway, an activation's for one, adds the bias at no cost.
"""

import torch
from torch.fx import Graph

from fgan.compiler.passes.nodes import call

aten = torch.ops.aten


def unfuse_addmm(graph: Graph) -> int:
    """Write A B + C as a matmul and a sum; a post-grad pass, since Inductor itself fuses them.

    bfloat16 stays as it is: the result would be rounded once more.
    """
    changes = 0
    for node in graph.find_nodes(op="call_function", target=aten.addmm.default):
        term, left, right = node.args
        if node.kwargs or node.meta["val"].dtype not in (torch.float32, torch.float64):
            continue
        with graph.inserting_before(node):
            matmul = call(graph, aten.mm.default, left, right)
            node.replace_all_uses_with(call(graph, aten.add.Tensor, matmul, term))
        changes += 1
    return changes
