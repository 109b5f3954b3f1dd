"""Inputs that become other inputs: a read of an input has to come before the write to it.

A donated state is overwritten at the end of a program, input by input, and an optimiser may keep
the old parameters beside the new ones. Inductor takes a copy of an input for the input itself, and
so would read the input after it has been overwritten. This pass copies it before the first write.
"""

from typing import Any

import torch
from torch.fx import Graph

from fgan.compiler.passes.nodes import call, is_view

aten = torch.ops.aten


def copy_before_overwrite(graph: Graph) -> int:
    """Copy an input before the first write, if its value is written into another input."""
    writes = graph.find_nodes(op="call_function", target=aten.copy_.default)
    written = {write.args[0] for write in writes}
    changes = 0
    for write in writes:
        target, value, *options = write.args
        if value is not target and _source(value) in written:
            with graph.inserting_before(writes[0]):
                copy = call(graph, aten.clone.default, value)
            write.args = (target, copy, *options)
            changes += 1
    return changes


def _source(node: Any) -> Any:
    """The node that this one is a view or a copy of."""
    while node.op == "call_function" and (node.target is aten.clone.default or is_view(node)):
        node = node.args[0]
    return node
