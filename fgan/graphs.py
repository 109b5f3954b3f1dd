"""Rewriting of the traced round, before the compiler lowers it.

The second derivative of a piecewise linear activation is zero, but autograd writes it down as a
tensor of explicit zeros, and every product with it is then carried out: in the critic update of a
LeakyReLU network, about a seventh of all matrix products. Such products are taken out: x + 0 is x,
and 0 · x is 0 for every finite x.

What was computed before is not computed again: a penalty at the very samples that are scored, as
WGAN-div's, finds their way through the critic already there.

Nor is a backward pass whose rows are multiples of another's (`fgan.proportional`).

A batch of products with one matrix, which is what `vmap` makes of a linear layer, becomes one
product of many rows.

And a number that many tensors meet, as Adam's bias corrections, is worked out once.
"""

import operator
from typing import Any

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._ops import OpOverload
from torch.fx import Graph, Node

from fgan import deconvolution, nodes, proportional
from fgan.nodes import call, fill_value, hashable
from fgan.proportional import share_rows

aten, prims = torch.ops.aten, torch.ops.prims

# Zero where their first argument is, whatever the others are; two more are in `_is_zero`.
_KEEP_ZERO = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.permute.default,
    aten.transpose.int,
    aten.t.default,
    aten.expand.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.clone.default,
    aten.alias.default,
    aten.neg.default,
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.mean.dim,
    aten.avg_pool2d_backward.default,
    aten.leaky_relu_backward.default,
    prims.convert_element_type.default,
}
# Zero where any of their first two arguments is.
_PRODUCTS = {
    aten.mul.Tensor,
    aten.mul.Scalar,
    aten.mm.default,
    aten.bmm.default,
}


class Rewrite(CustomGraphPass):
    """All of it, for `torch.compile(..., options={"joint_custom_pre_pass": Rewrite()})`.

    The compiler's graphs write nothing in place but, at their end, into donated inputs; a graph of
    other origin has to be made so first (`torch.func.functionalize`).
    """

    def __call__(self, graph: Graph) -> None:
        share_repeats(graph)
        drop_zeros(graph)
        join_batches(graph)
        graph.eliminate_dead_code()
        share_rows(graph)
        graph.eliminate_dead_code()
        deconvolution.by_products(graph)
        graph.eliminate_dead_code()
        keep_scalars(graph)

    def uuid(self) -> bytes:
        """The key under which compiled graphs are cached: what the rewriting is written in."""
        parts = (nodes, proportional, deconvolution)
        return get_hash_for_files((__file__, *(part.__file__ for part in parts)))


def share_repeats(graph: Graph) -> None:
    """Let calls of one function on the same arguments share the first one's result."""
    first: dict[Any, Node] = {}
    for node in list(graph.nodes):
        if not _is_function(node):
            continue
        earlier = first.setdefault((node.target, hashable(node.args), hashable(node.kwargs)), node)
        if earlier is not node and not _goes_out(node):
            node.replace_all_uses_with(earlier)


def _goes_out(node: Node) -> bool:
    """Whether the caller gets this value, or a view of it.

    Then it has to keep its own memory: one value under two names, or an input under another, would
    be written to twice by a donated round.
    """
    return any(
        user.op == "output" or (_is_view(user) and user.args[0] is node and _goes_out(user))
        for user in node.users
    )


def _is_view(node: Node) -> bool:
    if isinstance(target := node.target, OpOverload):
        return any(result.alias_info is not None for result in target._schema.returns)
    return target is operator.getitem


def _is_function(node: Node) -> bool:
    """Whether the node's value depends on its arguments alone, and nothing else changes."""
    if isinstance(target := node.target, OpOverload):
        return (
            not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags
        )
    return target is operator.getitem


def drop_zeros(graph: Graph) -> None:
    """Take sums and products with tensors of explicit zeros out of a graph."""
    zeros: set[Node] = set()
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if fill_value(node) == 0:
            zeros.add(node)
        elif _is_zero(node, zeros):
            zeros.add(_replace_by_zeros(graph, node))
        elif (remaining := _without_zero_terms(node, zeros)) is not None:
            node.replace_all_uses_with(remaining)


def _is_zero(node: Node, zeros: set[Node]) -> bool:
    """Whether the value is a single tensor of zeros, judged by the arguments."""
    target, arguments = node.target, node.args
    if not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    if target in _KEEP_ZERO:
        return arguments[0] in zeros
    if target in (aten.div.Tensor, aten.div.Scalar):
        divisor = arguments[1]
        return arguments[0] in zeros and isinstance(divisor, int | float) and bool(divisor)
    if target is aten.constant_pad_nd.default:
        return arguments[0] in zeros and (len(arguments) < 3 or not arguments[2])
    if target in _PRODUCTS:
        return any(argument in zeros for argument in arguments[:2])
    if target in (aten.add.Tensor, aten.sub.Tensor):
        return all(argument in zeros for argument in arguments[:2])
    if target is aten.where.self:
        return all(argument in zeros for argument in arguments[1:])
    if target is aten.convolution.default:
        no_bias = arguments[2] is None
        return no_bias and any(argument in zeros for argument in arguments[:2])
    if target is operator.getitem:
        source = arguments[0]
        assert isinstance(source, Node)
        return _backward_of_zero(source, int(arguments[1]), zeros)  # type: ignore[arg-type]
    return False


def _backward_of_zero(source: Node, output: int, zeros: set[Node]) -> bool:
    """Whether this output (by input, weight, bias) of a convolution's backward pass is zero."""
    if source.target is not aten.convolution_backward.default:
        return False
    slope, signal, weight = source.args[:3]
    return slope in zeros or (output == 0 and weight in zeros) or (output == 1 and signal in zeros)


def _replace_by_zeros(graph: Graph, node: Node) -> Node:
    value = node.meta["val"]
    with graph.inserting_before(node):
        fill = graph.call_function(
            aten.full.default,
            (list(value.shape), 0),
            {"dtype": value.dtype, "device": value.device, "pin_memory": False},
        )
    fill.meta["val"] = value
    node.replace_all_uses_with(fill)
    return fill


def _without_zero_terms(node: Node, zeros: set[Node]) -> Node | None:
    """The other term of `x + 0`, `0 + x` or `x - 0`, where it is what the sum would be."""
    if node.target not in (aten.add.Tensor, aten.sub.Tensor):
        return None
    left, right = node.args[:2]
    if right in zeros:
        other = left
    elif left in zeros and node.target is aten.add.Tensor and not node.kwargs:
        other = right
    else:
        return None
    if not isinstance(other, Node) or _goes_out(node):
        return None
    have, want = other.meta["val"], node.meta["val"]
    same = (have.shape, have.dtype, have.device) == (want.shape, want.dtype, want.device)
    return other if same else None


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


def keep_scalars(graph: Graph) -> None:
    """Mark computed 0-d values that several tensors meet, so that the compiler stores them.

    It takes them for cheap, and would have every kernel work them out anew, powers and all.
    """
    for node in graph.nodes:
        if node.op == "call_function" and node.all_input_nodes and _rank(node) == 0:
            met = [user for user in node.users if (_rank(user) or 0) > 0]
            if len(met) > 1:
                node.meta["inductor_realize_to_strides"] = True


def _rank(node: Node) -> int | None:
    value = node.meta.get("val")
    return value.ndim if isinstance(value, torch.Tensor) else None
