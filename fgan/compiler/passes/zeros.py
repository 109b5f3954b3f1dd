"""Products with explicit zeros.

The second derivative of a piecewise linear activation is zero, but autograd writes it down as a
tensor of explicit zeros, and every product with it is then carried out: in the critic update of a
LeakyReLU network, about a seventh of all matrix products. They are taken out: x + 0 is x, and 0 · x
is 0 for every finite x.
"""

import operator

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import fill_value, goes_out

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
    if not isinstance(other, Node) or goes_out(node):
        return None
    have, want = other.meta["val"], node.meta["val"]
    same = (have.shape, have.dtype, have.device) == (want.shape, want.dtype, want.device)
    return other if same else None
