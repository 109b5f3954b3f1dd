"""The passes for CUDA, on graphs traced on the CPU whose values are moved to fake CUDA.

autograd cannot trace fake CUDA tensors without a driver, but the passes read only the shapes,
strides and devices of a graph's values. So a graph is traced on the CPU, its values are moved to a
fake CUDA device, the passes run, and the graph is moved back to the CPU and run there.
"""

import torch
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

from fgan.compiler.passes.manager import passes_of


def moved(module, device):
    """The graph with every value, and every argument that names a device, on `device`; in place."""

    def value(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        with leaf.fake_mode:
            return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=device)

    def argument(leaf):
        return torch.device(device) if isinstance(leaf, torch.device) else leaf

    for node in module.graph.nodes:
        if "val" in node.meta:
            node.meta["val"] = pytree.tree_map(value, node.meta["val"])
        node.args = map_aggregate(node.args, argument)
        node.kwargs = map_aggregate(node.kwargs, argument)
    return module


def rewritten_for_cuda(module):
    """(the graph after all joint passes for CUDA, how often each pass fired); in place."""
    fired = {}
    moved(module, "cuda")
    for each in passes_of("joint", "cuda"):
        fired[each.name] = each.function(module.graph)
        module.graph.eliminate_dead_code()
    devices = {
        leaf.device.type
        for node in module.graph.nodes
        for leaf in pytree.tree_leaves(node.meta.get("val"))
        if isinstance(leaf, torch.Tensor)
    }
    assert devices == {"cuda"}  # no pass has made a value on another device
    module.graph.lint()
    moved(module, "cpu").recompile()
    return module, fired
