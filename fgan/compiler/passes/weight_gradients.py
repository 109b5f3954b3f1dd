"""Gradients of a convolution's weight that are written as convolutions with images for kernels.

A penalty on input gradients sends a backward pass through a convolution's backward pass. In it, the
gradient of the weight is written down with the batch in the place of the channels: the signal is
convolved with a kernel as large as the slope. Libraries are not made for such kernels. But they
know gradients of weights, and this is one: Σ_b x[b, i, s·u + d·k - p] δ[b, o, u], for the weight
that leads from i to o by tap k.
"""

import operator
from typing import Any

import torch
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import call

aten = torch.ops.aten


def name_weight_gradients(graph: Graph) -> None:
    """Have such convolutions computed as what they are."""
    weights: dict[Any, Node] = {}
    for node in list(graph.nodes):
        if node.target is not aten.convolution.default:
            continue
        arguments: Any = node.args
        found = _gradient(node, arguments)
        if found is None:
            weights.setdefault(_kind(arguments[1].meta["val"]), arguments[1])
            continue
        gradient, signal, slope = found
        weight = weights.get(_kind(gradient.meta["val"]))  # which is read for its shape alone
        if weight is None:
            continue
        stride, padding, dilation = arguments[3:6]
        with graph.inserting_before(gradient):
            backward = call(
                graph, aten.convolution_backward.default, slope, signal, weight, None,
                dilation, padding, stride, False, [0] * len(stride), 1, [False, True, False],
            )  # fmt: skip
            named = call(graph, operator.getitem, backward, 1)
        gradient.replace_all_uses_with(named)


def _kind(value: torch.Tensor) -> Any:
    return value.shape, value.dtype, value.device


def _gradient(node: Node, arguments: Any) -> tuple[Node, Node, Node] | None:
    """(the gradient of a weight that this convolution ends in, the signal, the slope), if it is."""
    signal, slope = map(_exchanged, arguments[:2])
    bias, stride, padding, dilation, transposed, _, groups = arguments[2:]
    if signal is None or slope is None or bias is not None or transposed or groups != 1:
        return None
    gradient = _only_user(node)
    if gradient is None or _exchanged(gradient) is not node:
        return None
    while (part := _only_user(gradient)) is not None and _is_start(part):
        gradient = part
    taps = gradient.meta["val"].shape[2:]
    sizes = signal.meta["val"].shape[2:], slope.meta["val"].shape[2:]
    # Here and in the weight's own convolution, stride and dilation are exchanged.
    fits = all(
        (x + 2 * p - s * (k - 1) - 1) // d + 1 == y
        for x, y, k, s, p, d in zip(*sizes, taps, stride, padding, dilation, strict=True)
    )
    return (gradient, signal, slope) if fits else None


def _exchanged(node: Node) -> Node | None:
    """What this is with the first two axes exchanged; None if it is nothing of the kind."""
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


def _is_start(node: Node) -> bool:
    """Whether this is the first entries along an axis of an image."""
    if node.target is not aten.slice.Tensor:
        return False
    given: dict[str, Any] = dict(zip(("axis", "start", "end", "step"), node.args[1:], strict=False))
    return given.get("axis", 0) >= 2 and not given.get("start") and given.get("step", 1) == 1
