"""Views that may become copies.

A tracer writes down a view where the strides of the moment allow one. Some of the compiler's
decompositions stride their results otherwise, that of a concatenation, say, and then the same view
is an error. Reshaped, it is a view where it can be. One that is written into has to be a view.
"""

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import is_view

aten = torch.ops.aten


def loosen_views(graph: Graph) -> None:
    """Write views as reshapes; for graphs as they are traced."""
    for node in graph.find_nodes(op="call_function", target=aten.view.default):
        if not _is_written_to(node):
            node.target = aten.reshape.default


def _is_written_to(node: Node) -> bool:
    """Whether anything writes into this, or into a view of it."""
    return any(
        _writes(user, node) or (is_view(user) and user.args[0] is node and _is_written_to(user))
        for user in node.users
    )


def _writes(user: Node, node: Node) -> bool:
    """Whether an operation takes this, alone or in a list, to write into it."""
    if not isinstance(user.target, OpOverload):
        return False
    arguments = user.target._schema.arguments
    given = {argument.name: value for argument, value in zip(arguments, user.args, strict=False)}
    given |= user.kwargs
    written = [given.get(argument.name) for argument in arguments if argument.is_write]
    return any(node in (value if isinstance(value, list | tuple) else [value]) for value in written)
