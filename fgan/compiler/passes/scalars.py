"""Numbers that many tensors meet, as Adam's bias corrections."""

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import store


def keep_scalars(graph: Graph) -> None:
    """Mark computed 0-d values that several tensors meet, so that the compiler stores them.

    It takes them for cheap, and would have every kernel work them out anew, powers and all.
    """
    for node in graph.nodes:
        if node.op == "call_function" and node.all_input_nodes and _rank(node) == 0:
            met = [user for user in node.users if (_rank(user) or 0) > 0]
            if len(met) > 1:
                store(node)


def _rank(node: Node) -> int | None:
    value = node.meta.get("val")
    return value.ndim if isinstance(value, torch.Tensor) else None
