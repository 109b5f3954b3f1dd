"""Weight gradients of convolutions that autograd writes as convolutions with image-sized kernels.

A penalty on input gradients differentiates a convolution's backward pass. There the gradient by the
weight appears as a convolution whose batch and channels are exchanged: the input is convolved with
a kernel as large as the output gradient. Libraries have slow algorithms for such kernels and fast
ones for weight gradients, and this is a weight gradient: Σ_b x[b, i, s·u + d·k - p] δ[b, o, u] for
the weight from channel i to channel o at tap k.
"""

import operator
from typing import Any

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import call

aten = torch.ops.aten


def conv_to_weight_gradient(graph: Graph) -> int:
    """Compute such a convolution as the weight gradient that it is."""
    weights: dict[Any, Node] = {}
    changes = 0
    for node in list(graph.nodes):
        if node.target is not aten.convolution.default:
            continue
        arguments: Any = node.args
        found = _weight_gradient(node, arguments)
        if found is None:
            weights.setdefault(_kind(arguments[1].meta["val"]), arguments[1])
            continue
        gradient, x, output_gradient = found
        weight = weights.get(_kind(gradient.meta["val"]))  # convolution_backward reads its shape
        if weight is None:
            continue
        stride, padding, dilation = arguments[3:6]
        with graph.inserting_before(gradient):
            backward = call(
                graph, aten.convolution_backward.default, output_gradient, x, weight, None,
                dilation, padding, stride, False, [0] * len(stride), 1, [False, True, False],
            )  # fmt: skip
            computed = call(graph, operator.getitem, backward, 1)
        gradient.replace_all_uses_with(computed)
        changes += 1
    return changes


def _kind(value: torch.Tensor) -> Any:
    return value.shape, value.dtype, value.device


def _weight_gradient(node: Node, arguments: Any) -> tuple[Node, Node, Node] | None:
    """(the weight gradient that this convolution is, its x, its output gradient), or None."""
    x, output_gradient = map(_exchanged, arguments[:2])
    bias, stride, padding, dilation, transposed, _, groups = arguments[2:]
    if x is None or output_gradient is None or bias is not None or transposed or groups != 1:
        return None
    gradient = _only_user(node)
    if gradient is None or _exchanged(gradient) is not node:
        return None
    while (part := _only_user(gradient)) is not None and _is_leading_slice(part):
        gradient = part
    taps = gradient.meta["val"].shape[2:]
    sizes = x.meta["val"].shape[2:], output_gradient.meta["val"].shape[2:]
    # The stride here is the dilation of the weight's own convolution, and the dilation its stride.
    fits = all(
        (size + 2 * p - s * (k - 1) - 1) // d + 1 == out
        for size, out, k, s, p, d in zip(*sizes, taps, stride, padding, dilation, strict=True)
    )
    return (gradient, x, output_gradient) if fits else None


def _exchanged(node: Node) -> Node | None:
    """The value of which this node exchanges the first two axes; None for any other node."""
    if node.target is aten.clone.default:
        return _exchanged(node.args[0])  # type: ignore[arg-type]
    rest = range(2, node.meta["val"].ndim)
    if node.target is aten.permute.default:
        is_exchange = list(node.args[1]) == [1, 0, *rest]  # type: ignore[arg-type]
    else:
        is_exchange = node.target is aten.transpose.int and set(node.args[1:]) == {0, 1}
    return node.args[0] if is_exchange else None  # type: ignore[return-value]


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_leading_slice(node: Node) -> bool:
    """Whether this takes the first entries along an axis of the kernel."""
    if node.target is not aten.slice.Tensor:
        return False
    names = "axis", "start", "end", "step"
    arguments: dict[str, Any] = dict(zip(names, node.args[1:], strict=False))
    first = not arguments.get("start") and arguments.get("step", 1) == 1
    return arguments.get("axis", 0) >= 2 and first
