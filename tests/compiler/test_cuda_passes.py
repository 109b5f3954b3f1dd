"""The passes for CUDA, on rounds traced on the CPU whose values are then moved to fake CUDA.

autograd cannot trace fake CUDA tensors without a driver, but the passes read only the shapes,
strides and devices of a graph's values. So a graph is traced on the CPU, its values are moved to a
fake CUDA device, the passes run, and the graph is moved back to the CPU and run there.
"""

import pytest
import torch
from graphs import CRITICS, critic_update, matmuls, traced
from helpers import assert_close
from torch import nn
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

import fgan
from fgan.compiler.passes import occupancy
from fgan.compiler.passes.horizontal_gemm_fusion import fuse_gemms_horizontally
from fgan.compiler.passes.k_concatenated_gemm import concatenate_gemms_along_k
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


def rewritten_for_cuda(function, *inputs):
    """(the traced function after all joint passes for CUDA, how often each pass fired)."""
    module, fired = moved(traced(function, *inputs), "cuda"), {}
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


@pytest.fixture
def gpu(monkeypatch):
    """132 multiprocessors, as an H100 and an H200 have, without a driver."""

    def multiprocessors(device):
        return 132 if device.type == "cuda" else 0

    monkeypatch.setattr(occupancy, "multiprocessors", multiprocessors)


@pytest.mark.parametrize("recipe", [fgan.wgan_gp, fgan.wgan_div, fgan.gan])
@pytest.mark.parametrize("name", list(CRITICS))
def test_a_rewritten_update_equals_the_update(name, recipe, gpu):
    """The graph as rewritten for a GPU gives the update's parameters and figures."""
    update, inputs = critic_update(recipe, *CRITICS[name])
    module, _ = rewritten_for_cuda(update, *inputs)
    assert_close(module(*inputs), update(*inputs), atol=1e-12)


@pytest.mark.parametrize("recipe", [fgan.wgan_gp, fgan.wgan_div])
def test_the_tutorial_critic_has_fewer_matmuls_on_a_gpu(recipe, gpu):
    """27 matmuls of a critic update at batch 64, 5 of them the generator's, become 16."""
    algorithm = recipe(fgan.models.mlp_generator((784,)), fgan.models.mlp_critic((784,)))
    state, noise = algorithm.init(0), algorithm.noise(0, 0, 64)

    def update(state, real, latent, mix):
        return algorithm.critic_update(state, real, None, latent, mix)

    inputs = state, torch.randn(64, 784), noise.critic_latent[0], noise.mix[0]
    module, fired = rewritten_for_cuda(update, *inputs)
    assert (matmuls(traced(update, *inputs)), matmuls(module)) == (27, 16)
    # W-divergence's penalty is taken at the scored samples: row-scaled CSE leaves nothing to fuse.
    assert fired["horizontal_gemm_fusion" if recipe is fgan.wgan_gp else "row_scaled_cse"]


def test_the_cpu_gets_no_fused_matmuls():
    """The same graph on the CPU keeps its matmuls: fusion is for a GPU that is idle."""
    critic = nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(), nn.Linear(6, 1))
    update, inputs = critic_update(fgan.wgan_gp, critic, (3,))
    module = traced(update, *inputs)
    for function in (fuse_gemms_horizontally, concatenate_gemms_along_k):
        before = matmuls(module)
        assert function(module.graph) == 0
        assert matmuls(module) == before
