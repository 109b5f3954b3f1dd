"""Inputs that become other inputs.

A donated state is overwritten at the end of a program, input by input, and an optimiser may keep
the old parameters beside the new ones. The compiler takes a copy of an input for the input itself,
and so would read it when it has been overwritten. Here it is read before anything is.
"""

from typing import Any

import torch
from torch.fx import Graph

from fgan.compiler.passes.nodes import call, is_view

aten = torch.ops.aten


def read_first(graph: Graph) -> None:
    """Let an input be copied before the first write, if another one is overwritten by it."""
    writes = graph.find_nodes(op="call_function", target=aten.copy_.default)
    written = {write.args[0] for write in writes}
    for write in writes:
        target, value, *options = write.args
        if value is not target and _origin(value) in written:
            with graph.inserting_before(writes[0]):
                held = call(graph, aten.clone.default, value)
            write.args = (target, held, *options)


def _origin(node: Any) -> Any:
    """What this is a view or a copy of."""
    while node.op == "call_function" and (node.target is aten.clone.default or is_view(node)):
        node = node.args[0]
    return node
