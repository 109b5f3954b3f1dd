"""The passes for CUDA, on rounds whose values are moved to a fake CUDA device."""

import pytest
import torch
from fake_cuda import rewritten_for_cuda
from graphs import critic_update, matmuls, traced
from torch import nn

import fgan
from fgan.compiler.passes import occupancy
from fgan.compiler.passes.horizontal_gemm_fusion import fuse_gemms_horizontally
from fgan.compiler.passes.k_concatenated_gemm import concatenate_gemms_along_k


@pytest.fixture
def gpu(monkeypatch):
    """132 multiprocessors, as an H100 and an H200 have, without a driver."""

    def multiprocessors(device):
        return 132 if device.type == "cuda" else 0

    monkeypatch.setattr(occupancy, "multiprocessors", multiprocessors)


@pytest.mark.parametrize("recipe", [fgan.wgan_gp, fgan.wgan_div])
def test_the_tutorial_critic_has_fewer_matmuls_on_a_gpu(recipe, gpu):
    """27 matmuls of a critic update at batch 64, 5 of them the generator's, become 16."""
    algorithm = recipe(fgan.models.mlp_generator((784,)), fgan.models.mlp_critic((784,)))
    state, noise = algorithm.init(0), algorithm.noise(0, 0, 64)

    def update(state, real, latent, mix):
        return algorithm.critic_update(state, real, None, latent, mix)

    inputs = state, torch.randn(64, 784), noise.critic_latent[0], noise.mix[0]
    before = matmuls(module := traced(update, *inputs))
    module, fired = rewritten_for_cuda(module)
    assert (before, matmuls(module)) == (27, 16)
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
