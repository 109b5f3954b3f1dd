"""Transposed convolutions that result in an image, of few channels, as a matmul and sums.

A generator ends in a transposed convolution, and the gradient of a critic by its image is one, so a
penalty has one too. On the CPU, oneDNN pads the channels to the width of the processor's vectors,
and for one channel takes up to ten times as long as a matmul and the remaining sums.
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
from torch.fx import Graph, Node
from torch.nn.functional import pad

from fgan.compiler import _torch

aten = torch.ops.aten

MAX_CHANNELS = 4
"""The most channels of the image for which this is faster."""
MAX_TAPS = 36
"""The most taps of the kernel, each of them a sum over the image. A patch embedding of a vision
transformer has hundreds."""


def conv_transpose_by_gemm(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], size: Sequence[int]
) -> Tensor:
    """`[B, C, H, W]`, `[C, O, K, L]` -> `[B, O, *size]`, by one matmul and K·L / stride² sums.

    Output pixel y gets x at h through tap k where y = stride · h + k - padding. Pixels that are
    equal modulo the stride (a phase) get the same taps, each from one shift of x.
    """
    batch, channels, *image = x.shape
    _, out_channels, *taps = weight.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    columns = rows @ weight.permute(0, 2, 3, 1).reshape(channels, -1)  # every pixel by every tap
    columns = columns.reshape(batch, *image, *taps, out_channels)
    phase_size = [-(-extent // step) for extent, step in zip(size, stride, strict=True)]

    def phase(*at: int) -> Tensor:
        """[B, O, *phase_size]: the output pixels that equal `at` modulo the stride."""
        first = [(y + p) % s for y, p, s in zip(at, padding, stride, strict=True)]
        terms = []
        for tap in product(*map(range, first, taps, stride)):
            offsets = [
                (t - y - p) // s for t, y, p, s in zip(tap, at, padding, stride, strict=True)
            ]
            inside = zip(image, offsets, phase_size, strict=True)
            if all(-extent < offset < new for extent, offset, new in inside):
                term = columns[:, :, :, tap[0], tap[1]].permute(0, 3, 1, 2)
                terms.append(_shifted(term, offsets, phase_size))
        return reduce(operator.add, terms or [x.new_zeros(batch, out_channels, *phase_size)])

    lines = [torch.stack([phase(y, x) for x in range(stride[1])], 4) for y in range(stride[0])]
    whole = torch.stack(lines, 3).flatten(4, 5).flatten(2, 3)
    return whole[:, :, : size[0], : size[1]]


def _shifted(image: Tensor, offsets: Sequence[int], size: Sequence[int]) -> Tensor:
    """`[B, O, H, W]` -> `[B, O, *size]`, shifted by the offsets: cropped, or padded with zeros."""
    margins: list[int] = []
    for offset, new, extent in reversed([*zip(offsets, size, image.shape[2:], strict=True)]):
        margins += [offset, new - offset - extent]
    return pad(image, margins)


def conv_transpose_to_gemm(graph: Graph) -> int:
    """Replace the transposed convolutions of a graph that result in few channels."""
    changes = 0
    for node in list(graph.nodes):
        if node.target is aten.convolution.default:
            changes += _replace_forward(graph, node, node.args)
        elif node.target is aten.convolution_backward.default:
            changes += _replace_backward(graph, node, node.args)
    return changes


def _replace_forward(graph: Graph, node: Node, arguments: Any) -> bool:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = arguments
    image = node.meta["val"]
    if not transposed or not _is_suitable(image, weight.meta["val"], dilation, groups):
        return False

    def forward(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        result = conv_transpose_by_gemm(x, weight, stride, padding, image.shape[2:])
        return result + bias[0][:, None, None] if bias else result

    inputs = [x, weight] if bias is None else [x, weight, bias]
    node.replace_all_uses_with(_inline(graph, node, forward, *inputs))
    return True


def _replace_backward(graph: Graph, node: Node, arguments: Any) -> bool:
    """Replace the gradient by the input; those by weight and bias stay in the node."""
    gradient, x, weight, _, stride, padding, dilation, transposed, _, groups, mask = arguments
    image = x.meta["val"]
    if transposed or not mask[0]:
        return False
    if not _is_suitable(image, weight.meta["val"], dilation, groups):
        return False

    def backward(gradient: Tensor, weight: Tensor) -> Tensor:
        return conv_transpose_by_gemm(gradient, weight, stride, padding, image.shape[2:])

    by_input = _inline(graph, node, backward, gradient, weight)
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            user.replace_all_uses_with(by_input)
            graph.erase_node(user)
    node.args = (*node.args[:-1], [False, *mask[1:]])
    return True


def _is_suitable(image: Tensor, weight: Tensor, dilation: list[int], groups: int) -> bool:
    """Whether this is an image of few channels, on the CPU, and a plain, small convolution."""
    return (
        image.device.type == "cpu"
        # In bfloat16, the sums would be rounded several times.
        and image.dtype in (torch.float32, torch.float64)
        and image.ndim == 4
        and image.shape[1] <= MAX_CHANNELS
        and prod(weight.shape[2:]) <= MAX_TAPS
        and set(dilation) == {1}
        and groups == 1
    )


def _inline(graph: Graph, before: Node, function: Callable[..., Tensor], *inputs: Node) -> Node:
    """Trace a function, and insert its graph before a node, applied to other nodes."""
    values = [node.meta["val"] for node in inputs]
    with _torch.detect_fake_mode(values) or nullcontext():  # new tensors are fake, as the values
        traced = _torch.make_fx(function, _torch.select_decomp_table())(*values)
    sources = iter(inputs)
    copies: dict[Node, Node] = {}
    *body, output = traced.graph.nodes
    with graph.inserting_before(before):
        for node in body:
            is_input = node.op == "placeholder"
            copies[node] = next(sources) if is_input else graph.node_copy(node, copies.__getitem__)
    return copies[output.args[0]]
