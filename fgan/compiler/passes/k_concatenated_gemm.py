"""K-concatenated GEMM: a sum of two matmuls as one, A B + C D = [A C] [B; D].

The gradient of a weight is such a sum, with a term for each pass through the layer. One larger
matmul keeps more of a GPU busy than two small ones in turn.
"""

from typing import Any

import torch
from torch.fx import Graph, Node

from fgan.compiler import _torch
from fgan.compiler.passes.nodes import call, sole_matmul, transpose_source
from fgan.compiler.passes.occupancy import leaves_gpu_idle

aten = torch.ops.aten


def concatenate_gemms_along_k(graph: Graph) -> int:
    """Compute a sum of two matmuls as one, where both leave the device idle."""
    changes = 0
    for node in list(graph.nodes):
        if node.target is not aten.add.Tensor or node.kwargs:
            continue
        terms: list[Any] = [sole_matmul(term) for term in node.args]
        if None in terms or not leaves_gpu_idle(node, node.meta["val"].shape[0]):
            continue
        if terms[0].meta["val"].shape != terms[1].meta["val"].shape:
            continue
        _replace(graph, node, terms)
        changes += 1
    if changes:
        _torch.stable_topological_sort(graph)
    return changes


def _replace(graph: Graph, node: Node, terms: list[Any]) -> None:
    lefts, rights = ([term.args[i] for term in terms] for i in (0, 1))
    with graph.inserting_before(node):
        if None in map(transpose_source, lefts):
            left = call(graph, aten.cat.default, lefts, 1)
        else:
            sources = [transpose_source(left) for left in lefts]
            rows = _concatenated(sources[::-1])
            if rows is not None:  # another pass has concatenated the rows in the other order
                rights.reverse()
            rows = rows or _concatenated(sources) or call(graph, aten.cat.default, sources)
            left = call(graph, aten.permute.default, rows, [1, 0])
        matmul = call(graph, aten.mm.default, left, call(graph, aten.cat.default, rights))
    node.replace_all_uses_with(matmul)


def _concatenated(matrices: list[Node]) -> Node | None:
    """The node that concatenates the rows of these matrices, if the graph has one."""
    for user in matrices[0].users:
        if user.target is aten.cat.default and user.args == (matrices,):
            return user
    return None
