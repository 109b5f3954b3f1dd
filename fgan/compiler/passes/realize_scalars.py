"""Computed scalars that many tensors are combined with, such as Adam's bias corrections."""

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import realize


def realize_scalars(graph: Graph) -> int:
    """Have Inductor store computed 0-d values that several tensors are combined with.

    Inductor takes a 0-d value for cheap, and would recompute it, powers and all, in every kernel.
    """
    changes = 0
    for node in graph.nodes:
        if node.op == "call_function" and node.all_input_nodes and _rank(node) == 0:
            readers = [user for user in node.users if (_rank(user) or 0) > 0]
            if len(readers) > 1:
                realize(node)
                changes += 1
    return changes


def _rank(node: Node) -> int | None:
    value = node.meta.get("val")
    return value.ndim if isinstance(value, torch.Tensor) else None
