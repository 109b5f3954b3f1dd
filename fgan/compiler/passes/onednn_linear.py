"""Large float32 matmuls of a CPU program by oneDNN, not by MKL.

Where torch is built with MKL its matmuls go there, and MKL does not use the wider vector
instructions on processors by other makers than Intel. oneDNN uses what the processor has; on one by
AMD with AVX-512 that is 10 to 50 % more matmuls a second, most where there are few rows. Small
matmuls stay with MKL: what oneDNN does around a matmul takes longer than MKL's whole matmul. On
Intel's processors all stay with MKL: with 64 rows MKL computes up to 30 % more matmuls a second
there, with 512 about as many.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from fgan.compiler import _torch
from fgan.compiler.passes.nodes import call

aten = torch.ops.aten

LARGE = 2**23
"""The fewest multiplications for which oneDNN is faster, measured on the processor by AMD."""


def is_faster() -> bool:
    """Whether oneDNN is faster for large matmuls on this processor."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and not torch.cpu.get_capabilities().get("cpu_name", "").startswith("Intel")
    )


def matmul_to_onednn_linear(graph: Graph) -> int:
    """Replace large matmuls; a post-grad pass, since Inductor knows only its own before."""
    changes = 0
    for node in list(graph.nodes):
        if node.target is aten.mm.default and _is_large(node):
            _replace(graph, node, None, *node.args)
        elif node.target is aten.addmm.default and not node.kwargs and _is_large(node):
            _replace(graph, node, *node.args)
        else:
            continue
        changes += 1
    return changes


def _replace(graph: Graph, node: Node, term: Any, left: Any, right: Any) -> None:
    _register_lowering()
    is_bias = term is not None and term.meta["val"].shape == node.meta["val"].shape[1:]
    with graph.inserting_before(node):
        weight = call(graph, aten.permute.default, right, [1, 0])
        result = call(graph, _OP, left, weight, term if is_bias else None)
        if term is not None and not is_bias:
            result = call(graph, aten.add.Tensor, result, term)
    node.replace_all_uses_with(result)


def _is_large(node: Node) -> bool:
    """Whether this is a large matmul of matrices; with a vector, MKL is as fast."""
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
    """x Wᵀ + b: [M, K], [N, K], [N] or None -> [M, N]. A compiled program runs its lowering."""
    return torch.nn.functional.linear(x, weight, bias)


@linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


_OP = torch.ops.fgan.linear.default


@cache
def _register_lowering() -> None:
    """Tell Inductor how to generate code for `fgan::linear`."""
    _torch.register_lowering(_OP, type_promotion_kind=None)(_lower)


def _lower(x: Any, weight: Any, bias: Any) -> Any:
    """Inductor's own node for oneDNN. Inductor itself uses it only for constant, packed weights.

    The rows of x have to lie one after the other in memory, since otherwise oneDNN copies x itself;
    Inductor copies a transposed x in the loop that computes x. The weight has to be a whole matrix
    or a transposed one, since oneDNN has no fast matmul for a part of a matrix.
    """
    kernel = _torch.ExternKernel
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
    layout = _torch.FixedLayout(x.get_device(), x.get_dtype(), [x.get_size()[0], rows])
    result = _torch.LinearUnary(layout, inputs, constants)
    return _torch.TensorBox.create(_torch.create_output_node(result))
