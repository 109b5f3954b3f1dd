"""Critic updates of every kind of layer, after all joint passes: the values stay.

Each update is traced once, and its graph is rewritten as for a CPU, as for an idle GPU on which
matmuls are fused, and with its values moved to a fake CUDA device.
"""

import copy

import pytest
from fake_cuda import rewritten_for_cuda
from graphs import CRITICS, critic_update, run_passes, traced
from helpers import assert_close
from torch.fx import GraphModule

import fgan
from fgan.compiler.passes import occupancy

RECIPES = [fgan.wgan_gp, fgan.wgan_div, fgan.wgan, fgan.gan]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", list(CRITICS))
def test_a_rewritten_update_equals_the_update(name, recipe, monkeypatch):
    """Parameters and figures, for penalties at the scored samples and at others."""
    update, inputs = critic_update(recipe, *CRITICS[name])
    module, expected = traced(update, *inputs), update(*inputs)

    def again():
        return GraphModule(module, copy.deepcopy(module.graph))

    assert_close(run_passes(again())(*inputs), expected, atol=1e-12)
    # As on an H100 and an H200, without a driver.
    monkeypatch.setattr(occupancy, "multiprocessors", lambda device: 132)
    assert_close(run_passes(again())(*inputs), expected, atol=1e-12)
    assert_close(rewritten_for_cuda(again())[0](*inputs), expected, atol=1e-12)
