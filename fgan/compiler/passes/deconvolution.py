"""Transposed convolutions of a compiled CPU program whose outcome is an image, of few channels.

A generator ends in one, and the gradient of a critic by its image is one, so a penalty has it too.
oneDNN fills the channels up to the width of the processor's vectors, and for one channel takes up
to ten times as long as a matrix product and the sums that are left.
"""

import operator
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import reduce
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch._inductor.decomposition import select_decomp_table
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import pad

aten = torch.ops.aten

FEW = 4
"""The most channels for which this is the faster way."""
MOST = 36
"""The most taps, each of them a sum over the image; the patches of a transformer have hundreds."""


def transposed_convolution(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], size: Sequence[int]
) -> Tensor:
    """`[B, C, H, W]`, `[C, O, K, L]` -> `[B, O, *size]`, by one product and K·L / stride² sums.

    Output pixel y takes x at h through tap k where y = stride · h + k - padding. Pixels that are
    equal modulo the stride take the same taps, each from one shift of x.
    """
    batch, channels, *image = x.shape
    _, out_channels, *taps = weight.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    through = rows @ weight.permute(0, 2, 3, 1).reshape(channels, -1)  # all pixels, all taps
    through = through.reshape(batch, *image, *taps, out_channels)
    places = [-(-extent // step) for extent, step in zip(size, stride, strict=True)]

    def phase(*at: int) -> Tensor:
        """[B, O, *places]: the pixels at these places modulo the stride."""
        first = [(y + p) % s for y, p, s in zip(at, padding, stride, strict=True)]
        parts = []
        for tap in product(*map(range, first, taps, stride)):
            offsets = [
                (t - y - p) // s for t, y, p, s in zip(tap, at, padding, stride, strict=True)
            ]
            # Else all of it falls outside.
            if all(-i < o < n for i, o, n in zip(image, offsets, places, strict=True)):
                part = through[:, :, :, tap[0], tap[1]].permute(0, 3, 1, 2)
                parts.append(_placed(part, offsets, places))
        return reduce(operator.add, parts or [x.new_zeros(batch, out_channels, *places)])

    rows_of = [torch.stack([phase(y, x) for x in range(stride[1])], 4) for y in range(stride[0])]
    whole = torch.stack(rows_of, 3).flatten(4, 5).flatten(2, 3)
    return whole[:, :, : size[0], : size[1]]


def _placed(part: Tensor, offsets: Sequence[int], places: Sequence[int]) -> Tensor:
    """`[B, O, H, W]` -> `[B, O, *places]`, moved by the offsets: cut off, or zeros around it."""
    margins: list[int] = []
    for offset, place, extent in reversed([*zip(offsets, places, part.shape[2:], strict=True)]):
        margins += [offset, place - offset - extent]
    return pad(part, margins)


def by_products(graph: Graph) -> None:
    """Replace the transposed convolutions of a graph that end in few channels."""
    for node in list(graph.nodes):
        if node.target is aten.convolution.default:
            _replace_forward(graph, node, node.args)
        elif node.target is aten.convolution_backward.default:
            _replace_backward(graph, node, node.args)


def _replace_forward(graph: Graph, node: Node, arguments: Any) -> None:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = arguments
    image = node.meta["val"]
    if not transposed or not _is_ours(image, weight.meta["val"], dilation, groups):
        return

    def forward(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        made = transposed_convolution(x, weight, stride, padding, image.shape[2:])
        return made + bias[0][:, None, None] if bias else made

    given = [x, weight] if bias is None else [x, weight, bias]
    node.replace_all_uses_with(_inline(graph, node, forward, *given))


def _replace_backward(graph: Graph, node: Node, arguments: Any) -> None:
    """The gradient by the input; those by weight and bias stay where they are."""
    slope, x, weight, _, stride, padding, dilation, transposed, _, groups, mask = arguments
    image = x.meta["val"]
    if transposed or not mask[0] or not _is_ours(image, weight.meta["val"], dilation, groups):
        return

    def backward(slope: Tensor, weight: Tensor) -> Tensor:
        return transposed_convolution(slope, weight, stride, padding, image.shape[2:])

    made = _inline(graph, node, backward, slope, weight)
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            user.replace_all_uses_with(made)
            graph.erase_node(user)
    node.args = (*node.args[:-1], [False, *mask[1:]])


def _is_ours(image: Tensor, weight: Tensor, dilation: list[int], groups: int) -> bool:
    """Whether this is an image of few channels, on the CPU, out of a plain, small convolution."""
    return (
        image.device.type == "cpu"
        and image.dtype in (torch.float32, torch.float64)  # half a dozen sums want the digits
        and image.ndim == 4
        and image.shape[1] <= FEW
        and prod(weight.shape[2:]) <= MOST
        and set(dilation) == {1}
        and groups == 1
    )


def _inline(graph: Graph, before: Node, function: Callable[..., Tensor], *inputs: Node) -> Node:
    """The traced function, put before a node of the graph and fed with other nodes."""
    values = [node.meta["val"] for node in inputs]
    with detect_fake_mode(values) or nullcontext():  # new tensors are to be as fake as these are
        traced = make_fx(function, select_decomp_table())(*values)
    feed = iter(inputs)
    copies: dict[Node, Node] = {}
    *body, output = traced.graph.nodes
    with graph.inserting_before(before):
        for node in body:
            is_input = node.op == "placeholder"
            copies[node] = next(feed) if is_input else graph.node_copy(node, copies.__getitem__)
    return copies[output.args[0]]
