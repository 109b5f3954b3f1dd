"""Views written as reshapes, for Inductor.

The tracer writes down a view where the strides of its inputs allow one. Some decompositions of
Inductor, that of a concatenation for one, return other strides, and the same view is an error then.
A reshape is a view where the strides allow one, and a copy elsewhere. A view that is written into
has to stay a view.
"""

import torch
from torch.fx import Graph, Node

from fgan.compiler import _torch
from fgan.compiler.passes.nodes import is_view

aten = torch.ops.aten


def view_to_reshape(graph: Graph) -> int:
    """Write views as reshapes; for graphs as they are traced."""
    changes = 0
    for node in graph.find_nodes(op="call_function", target=aten.view.default):
        if not _is_written_to(node):
            node.target = aten.reshape.default
            changes += 1
    return changes


def _is_written_to(node: Node) -> bool:
    """Whether any operation writes into this value, or into a view of it."""
    return any(
        _writes(user, node) or (is_view(user) and user.args[0] is node and _is_written_to(user))
        for user in node.users
    )


def _writes(user: Node, node: Node) -> bool:
    """Whether an operation writes into this argument, which may stand alone or in a list."""
    if not isinstance(user.target, _torch.OpOverload):
        return False
    parameters = _torch.schema(user.target).arguments
    passed = {each.name: value for each, value in zip(parameters, user.args, strict=False)}
    passed |= user.kwargs
    written = [passed.get(each.name) for each in parameters if each.is_write]
    return any(node in (value if isinstance(value, list | tuple) else [value]) for value in written)
