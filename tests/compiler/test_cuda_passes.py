"""The passes that are for CUDA, on rounds traced on the CPU whose values are then said to be there.

autograd cannot trace fake CUDA tensors without a driver, but the passes only read a graph's values:
their shapes, strides and devices. So a graph is traced on the CPU, its values are moved to a fake
CUDA device, the passes run, and the graph comes back to the CPU to be played.
"""

import pytest
import torch
from helpers import assert_close
from torch import nn
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree
from tracing import CRITICS, critic_update, products, traced

import fgan
from fgan.compiler.passes import PASSES
from fgan.compiler.passes import products as passes


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
    """(the traced function after all passes as for a GPU, how often each pass changed it)."""
    module, fired = moved(traced(function, *inputs), "cuda"), {}
    for rewrite in PASSES:
        before = [(node.target, node.args) for node in module.graph.nodes]
        rewrite(module.graph)
        module.graph.eliminate_dead_code()
        fired[rewrite.__name__] = before != [(n.target, n.args) for n in module.graph.nodes]
    kinds = {
        leaf.device.type
        for node in module.graph.nodes
        for leaf in pytree.tree_leaves(node.meta.get("val"))
        if isinstance(leaf, torch.Tensor)
    }
    assert kinds == {"cuda"}  # what the passes made is where the rest is
    module.graph.lint()
    moved(module, "cpu").recompile()
    return module, fired


@pytest.fixture
def gpu(monkeypatch):
    """132 multiprocessors, as an H100 and an H200 have, without asking a driver."""

    def processors(device):
        return 132 if device.type == "cuda" else 0

    monkeypatch.setattr(passes, "processors", processors)


@pytest.mark.parametrize("recipe", [fgan.wgan_gp, fgan.wgan_div, fgan.gan])
@pytest.mark.parametrize("name", list(CRITICS))
def test_an_update_is_the_update(name, recipe, gpu):
    """The graph as rewritten for a GPU gives the update's parameters and figures."""
    update, given = critic_update(recipe, *CRITICS[name])
    module, _ = rewritten_for_cuda(update, *given)
    assert_close(module(*given), update(*given), atol=1e-12)


@pytest.mark.parametrize("recipe", [fgan.wgan_gp, fgan.wgan_div])
def test_the_tutorial_critic_makes_fewer_matmuls_on_a_gpu(recipe, gpu):
    """27 matmuls of a critic update at batch 64, 5 of them the generator's, become 16."""
    algorithm = recipe(fgan.models.mlp_generator((784,)), fgan.models.mlp_critic((784,)))
    state, noise = algorithm.init(0), algorithm.noise(0, 0, 64)

    def update(state, real, latent, mix):
        return algorithm.critic_update(state, real, None, latent, mix)

    given = state, torch.randn(64, 784), noise.critic_latent[0], noise.mix[0]
    module, fired = rewritten_for_cuda(update, *given)
    assert (products(traced(update, *given)), products(module)) == (27, 16)
    # The points of W-divergence's penalty are the scored ones: `share_rows` leaves nothing to join.
    assert fired["join_rows" if recipe is fgan.wgan_gp else "share_rows"]


def test_the_cpu_gets_no_joined_products():
    """The same graph on the CPU keeps its products apart: joining is for a GPU that is idle."""
    critic = nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(), nn.Linear(6, 1))
    update, given = critic_update(fgan.wgan_gp, critic, (3,))
    module = traced(update, *given)
    for rewrite in (passes.join_rows, passes.join_sums):
        count = products(module)
        rewrite(module.graph)
        assert products(module) == count
