"""What was computed before is not computed again.

A penalty at the very samples that are scored, as WGAN-div's, finds their way through the critic
already there.
"""

import operator
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import goes_out, hashable


def share_repeats(graph: Graph) -> None:
    """Let calls of one function on the same arguments share the first one's result."""
    first: dict[Any, Node] = {}
    for node in list(graph.nodes):
        if not _is_function(node):
            continue
        earlier = first.setdefault((node.target, hashable(node.args), hashable(node.kwargs)), node)
        if earlier is not node and not goes_out(node):
            node.replace_all_uses_with(earlier)


def _is_function(node: Node) -> bool:
    """Whether the node's value depends on its arguments alone, and nothing else changes."""
    if isinstance(target := node.target, OpOverload):
        return (
            not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags
        )
    return target is operator.getitem
