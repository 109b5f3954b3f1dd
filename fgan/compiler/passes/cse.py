"""Common subexpression elimination (CSE).

A penalty at the samples that are scored, as WGAN-div's, repeats the forward pass of the scores.
"""

import operator
from typing import Any

import torch
from torch.fx import Graph, Node

from fgan.compiler import _torch
from fgan.compiler.passes.nodes import hashable, is_returned


def eliminate_common_subexpressions(graph: Graph) -> int:
    """Replace a call by an earlier call of the same function with the same arguments."""
    first: dict[Any, Node] = {}
    changes = 0
    for node in list(graph.nodes):
        if not _is_pure(node):
            continue
        earlier = first.setdefault((node.target, hashable(node.args), hashable(node.kwargs)), node)
        if earlier is not node and not is_returned(node):
            changes += bool(node.users)
            node.replace_all_uses_with(earlier)
    return changes


def _is_pure(node: Node) -> bool:
    """Whether the value depends on the arguments alone, and the call changes nothing."""
    if isinstance(op := node.target, _torch.OpOverload):
        is_random = torch.Tag.nondeterministic_seeded in op.tags
        return not _torch.schema(op).is_mutable and not is_random
    return op is operator.getitem
