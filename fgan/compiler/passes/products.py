"""Several matrix products, made one.

`vmap` makes a batch of products of a linear layer, all with its one weight: that is one product of
more rows, on any device.

And a critic's update meets every weight several times: real, fake and interpolates go forward, the
slopes of score and penalty back. Small products in turn leave most of a GPU idle. There rows that
meet the same matrix are put below each other, and sums of products, of which a weight's gradient is
one, are a single product: A B + C D = [A C] [B; D].
"""

from collections import defaultdict
from math import ceil, prod
from typing import Any

import torch
from torch._inductor.pattern_matcher import stable_topological_sort
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import call, goes_out, product_of, untransposed

aten = torch.ops.aten

TILE = 128
"""Rows and columns of a product that one processor of a GPU works on at a time."""


def join_batches(graph: Graph) -> None:
    """Make one product [B·M, K] x [K, N] of a batch of B products with the same matrix [K, N]."""
    for node in list(graph.nodes):
        if node.target is not aten.bmm.default:
            continue
        left, right = node.args
        matrix = _repeated(right)
        if matrix is None:
            continue
        batch, rows, inner = left.meta["val"].shape
        with graph.inserting_before(node):
            joined = call(graph, aten.reshape.default, left, [batch * rows, inner])
            product = call(graph, aten.mm.default, joined, matrix)
            columns = matrix.meta["val"].shape[1]
            parted = call(graph, aten.view.default, product, [batch, rows, columns])
        node.replace_all_uses_with(parted)


def _repeated(node: Node) -> Node | None:
    """The matrix that a batch of matrices consists of, if it is an expanded one."""
    batch = node.meta["val"].shape
    while node.target in (aten.expand.default, aten.view.default):
        source = node.args[0]
        assert isinstance(source, Node)
        if source.meta["val"].shape == batch[1:] and node.target is aten.expand.default:
            return source
        if source.meta["val"].shape != batch:
            return None
        node = source
    return None


def join_rows(graph: Graph) -> None:
    """Make one product of several with the same matrix, where they leave the device idle."""
    met: dict[Any, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if _is_layer(node) and not goes_out(node):  # it would go out as a part of something else
            *term, _, matrix = node.args
            met[(*term, matrix)].append(node)
    joined = False
    for nodes in met.values():
        left = nodes
        while left:
            together = _independent(*left)
            left = [node for node in left if node not in together]
            if len(together) > 1:
                _join_rows(graph, together)
                joined = True
    if joined:  # what reads the first of them is to come after the last one's rows
        stable_topological_sort(graph)


def _is_layer(node: Node) -> bool:
    """Whether this is a product, and added to one row for all if to anything."""
    if node.target is not aten.addmm.default or node.kwargs:
        return node.target is aten.mm.default
    (added, *_) = node.args
    assert isinstance(added, Node)
    shape = added.meta["val"].shape
    return len(shape) < 2 or shape[0] == 1


def _independent(first: Node, *others: Node) -> list[Node]:
    """The first of some products, and those that can be made together with it."""
    together = [first]
    for node in others:
        rows = [each.meta["val"].shape[0] for each in (*together, node)]
        if (
            _is_idle(node, sum(rows))
            and _ancestors(node).isdisjoint(together)
            and not any(node in _ancestors(each) for each in together)
        ):
            together.append(node)
    return together


def _is_idle(node: Node, rows: int) -> bool:
    """Whether a product of so many rows would still leave processors without work."""
    value = node.meta["val"]
    tiles = prod(ceil(extent / TILE) for extent in (rows, value.shape[1]))
    return tiles <= processors(value.device)


def processors(device: torch.device) -> int:
    """How many products a GPU makes at a time, side by side; 0 where they are made in turn."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _ancestors(node: Node) -> set[Node]:
    """All that a node depends on."""
    found: set[Node] = set()
    pending = [node]
    while pending:
        for source in pending.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                pending.append(source)
    return found


def _join_rows(graph: Graph, nodes: list[Node]) -> None:
    *term, _, matrix = nodes[0].args
    with graph.inserting_before(nodes[-1]):
        rows = call(graph, aten.cat.default, [node.args[-2] for node in nodes])
        target: Any = nodes[0].target
        product = call(graph, target, *term, rows, matrix)
        begin = 0
        for node in nodes:
            end = begin + node.meta["val"].shape[0]
            part = call(graph, aten.slice.Tensor, product, 0, begin, end)
            node.replace_all_uses_with(part)
            begin = end
    for node in nodes:
        graph.erase_node(node)


def join_sums(graph: Graph) -> None:
    """Make one product of a sum of two, where they leave the device idle."""
    joined = False
    for node in list(graph.nodes):
        if node.target is not aten.add.Tensor or node.kwargs:
            continue
        terms: list[Any] = [product_of(term) for term in node.args]
        if None in terms or not _is_idle(node, node.meta["val"].shape[0]):
            continue
        if terms[0].meta["val"].shape != terms[1].meta["val"].shape:
            continue
        lefts, rights = ([term.args[i] for term in terms] for i in (0, 1))
        with graph.inserting_before(node):
            if None in map(untransposed, lefts):
                left = call(graph, aten.cat.default, lefts, 1)
            else:
                slopes = [untransposed(left) for left in lefts]
                below = _below(slopes[::-1])
                if below is not None:  # rows that have met the next matrix in the other order
                    rights.reverse()
                below = below or _below(slopes) or call(graph, aten.cat.default, slopes)
                left = call(graph, aten.permute.default, below, [1, 0])
            product = call(graph, aten.mm.default, left, call(graph, aten.cat.default, rights))
        node.replace_all_uses_with(product)
        joined = True
    if joined:
        stable_topological_sort(graph)


def _below(matrices: list[Node]) -> Node | None:
    """The matrices below each other, if the graph has them so."""
    for user in matrices[0].users:
        if user.target is aten.cat.default and user.args == (matrices,):
            return user
    return None
