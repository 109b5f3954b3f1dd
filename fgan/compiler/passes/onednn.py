"""Float32 matrix products of a compiled CPU program, by oneDNN.

Where torch is built with MKL its products go there, and MKL leaves the wider vector instructions of
processors by other makers than Intel alone. oneDNN uses what the processor has; on one by AMD with
AVX-512 that is 10 to 50 % more products a second, most where there are few rows. Small products
stay: what oneDNN does around one takes longer than MKL's whole product. On Intel's all stay: with
64 rows MKL makes up to 30 % more products a second there, with 512 about as many.
"""

from typing import Any

import torch
from torch import Tensor
from torch._inductor import ir, mkldnn_ir
from torch._inductor.lowering import register_lowering
from torch.fx import Graph, Node

from fgan.compiler.passes.nodes import call

aten = torch.ops.aten

LARGE = 2**23
"""Multiplications from which a product by oneDNN is the faster one, measured on the one by AMD."""


def is_faster() -> bool:
    """Whether large products are faster by oneDNN on this processor."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and not torch.cpu.get_capabilities().get("cpu_name", "").startswith("Intel")
    )


def by_onednn(graph: Graph) -> None:
    """Hand products over; for the compiler's last pass, since it knows the usual ones alone."""
    for node in list(graph.nodes):
        if node.target is aten.mm.default and _is_ours(node):
            _replace(graph, node, None, *node.args)
        elif node.target is aten.addmm.default and not node.kwargs and _is_ours(node):
            _replace(graph, node, *node.args)


def _replace(graph: Graph, node: Node, term: Any, left: Any, right: Any) -> None:
    is_bias = term is not None and term.meta["val"].shape == node.meta["val"].shape[1:]
    with graph.inserting_before(node):
        turned = call(graph, aten.permute.default, right, [1, 0])
        product = call(graph, _OP, left, turned, term if is_bias else None)
        if term is not None and not is_bias:
            product = call(graph, aten.add.Tensor, product, term)
    node.replace_all_uses_with(product)


def _is_ours(node: Node) -> bool:
    """Whether this is a large product of matrices; with a vector, MKL is as fast."""
    value, left = node.meta["val"], node.args[-2]
    assert isinstance(left, Node)
    inner = left.meta["val"].shape[1]
    return bool(
        value.device.type == "cpu"
        and value.dtype == torch.float32
        and min(value.shape) > 1
        and value.numel() * inner >= LARGE
    )


@torch.library.custom_op("fgan::linear", mutates_args=())
def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b: [M, K], [N, K], [N] or None -> [M, N]. What it means; programs run its lowering."""
    return torch.nn.functional.linear(x, weight, bias)


@linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


_OP = torch.ops.fgan.linear.default


@register_lowering(_OP, type_promotion_kind=None)
def _lowered(x: Any, weight: Any, bias: Any) -> Any:
    """Inductor's own node for oneDNN, but for weights that are computed, which it demands packed.

    The rows of x are to lie in memory one after the other, since otherwise oneDNN copies them
    itself; the compiler makes the copy of a transposed x in the loop that makes x. The weight is to
    be a whole matrix or a transposed one, since parts of one have no fast product.
    """
    kernel = ir.ExternKernel
    x, weight = kernel.realize_input(x), kernel.realize_input(weight)
    rows, columns = weight.get_size()
    if list(weight.get_stride()) not in ([columns, 1], [1, rows]):
        weight = kernel.require_contiguous(weight)
    inputs = [kernel.require_contiguous(x), weight]
    constants: list[Any] = ["none", [-1], ""]
    if bias is None:
        constants.insert(0, None)
    else:
        inputs.append(kernel.require_contiguous(kernel.realize_input(bias)))
    layout = ir.FixedLayout(x.get_device(), x.get_dtype(), [x.get_size()[0], rows])
    product = mkldnn_ir.LinearUnary(layout, inputs, constants)
    return ir.TensorBox.create(mkldnn_ir._create_output_node(product))
