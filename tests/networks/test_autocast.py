"""Autocast: matrix products and convolutions in bfloat16, all else in float32."""

import pytest
import torch
from helpers import assert_identical, pair
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import fgan
from fgan import tree


def products(function, *inputs):
    """The dtypes that a traced function multiplies matrices in."""
    graph = make_fx(function)(*inputs).graph
    names = {"aten.mm.default", "aten.addmm.default", "aten.bmm.default"}
    return {node.meta["val"].dtype for node in graph.nodes if str(node.target) in names}


@pytest.mark.parametrize("name", ["wgan", "wgan_gp", "wgan_div"])
def test_autocast_multiplies_in_bfloat16_and_keeps_the_rest(name):
    """Every matrix product of a round is in bfloat16, backward passes too; the state is not."""
    torch.manual_seed(0)
    networks = [
        fgan.models.mlp_generator((2,), 4, hidden=(32, 32), norm="batch"),
        fgan.models.mlp_critic((2,), hidden=(32, 32)),
    ]
    float32, bfloat16 = (
        getattr(fgan, name)(*networks, n_critic=1, autocast=autocast)
        for autocast in (None, torch.bfloat16)
    )
    state, noise = float32.init(), float32.noise(0, 0, 64)
    batch = fgan.Batch(torch.randn(1, 64, 2))
    assert products(bfloat16.step, state, batch, noise) == {torch.bfloat16}
    assert products(float32.step, state, batch, noise) == {torch.float32}
    (got, got_info), (expected, info) = (a.step(state, batch, noise) for a in (bfloat16, float32))
    assert all(
        leaf.dtype == other.dtype
        for leaf, other in zip(
            tree.leaves((got, got_info)), tree.leaves((expected, info)), strict=True
        )
    )
    # bfloat16 keeps 8 bits of a number.
    torch.testing.assert_close(
        got_info.critic_grad_norm, info.critic_grad_norm, rtol=0.05, atol=1e-3
    )
    torch.testing.assert_close(got_info.critic_loss, info.critic_loss, rtol=0.05, atol=0.02)


def convolutions(norm="batch"):
    """(algorithm of small convolutional networks under autocast, batch, noise)."""
    torch.manual_seed(0)
    networks = [
        fgan.models.conv_generator((1, 28, 28), 4, width=4, norm=norm),
        fgan.models.conv_critic((1, 28, 28), width=4),
    ]
    algorithm = fgan.wgan_gp(*networks, n_critic=2, autocast=torch.bfloat16)
    return algorithm, fgan.Batch(torch.randn(2, 16, 1, 28, 28)), algorithm.noise(0, 0, 16)


def test_autocast_convolves_in_bfloat16_under_vmap():
    """torch.autocast alone leaves convolutions under vmap in float32, or raises."""
    algorithm, _, noise = convolutions(norm="none")
    state = algorithm.init()

    def fakes(latents):
        return torch.func.vmap(lambda latent: algorithm.fakes(state, latent))(latents)

    graph = make_fx(fakes)(noise.critic_latent).graph
    kinds = {torch.ops.aten.convolution.default}
    dtypes = [node.meta["val"].dtype for node in graph.nodes if node.target in kinds]
    assert len(dtypes) == 2
    assert set(dtypes) == {torch.bfloat16}
    one_by_one = torch.stack([algorithm.fakes(state, latent) for latent in noise.critic_latent])
    torch.testing.assert_close(fakes(noise.critic_latent), one_by_one, rtol=2**-6, atol=2**-6)


class WithoutAutocast(nn.Module):
    """A convolution that runs in float32 under autocast."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.layer(x.float())


def test_autocast_stays_off_where_a_module_switches_it_off():
    """As with torch.autocast."""
    network, x = (
        fgan.make_functional(WithoutAutocast(), autocast=torch.bfloat16),
        torch.randn(2, 1, 6, 6),
    )
    expected = torch.nn.functional.conv2d(x, *network.params.values())
    assert_identical(network.apply(network.params, {}, x)[0], expected)


@pytest.mark.parametrize("backend", ["interpreter", "inductor"])
def test_autocast_compiles_with_convolutions(backend):
    """The compiled round, which draws the fakes of all updates at once, equals the eager one."""
    algorithm, *inputs = convolutions()
    compiled = fgan.compile(algorithm, donate=False, backend=backend)
    got, expected = (a.step(a.init(), *inputs)[1] for a in (compiled, algorithm))
    torch.testing.assert_close(got, expected, rtol=2**-5, atol=2**-5)


def test_a_population_trains_under_autocast():
    """vmap(step) with convolutions in bfloat16 equals the step of each member."""
    algorithm, *inputs = convolutions()
    states = [algorithm.init(seed) for seed in (0, 1)]
    step = torch.func.vmap(algorithm.step, in_dims=(0, None, None))
    _, infos = step(tree.stack(states), *inputs)
    for state, info in zip(states, tree.unstack(infos), strict=True):
        torch.testing.assert_close(info, algorithm.step(state, *inputs)[1], rtol=2**-5, atol=2**-5)


def test_autocast_does_not_change_float64():
    """As with torch.autocast."""
    module = nn.Conv1d(1, 1, 3, dtype=torch.float64)
    network = fgan.make_functional(module, torch.bfloat16)
    x = torch.randn(2, 1, 5, dtype=torch.float64)
    got, _ = network.apply(network.params, network.buffers, x)
    assert torch.equal(got, module(x))


def test_autocast_compiles():
    """The compiled round equals the eager one up to the rounding of bfloat16."""
    torch.manual_seed(0)
    networks = [
        fgan.models.mlp_generator((2,), 4, hidden=(8,), norm="none"),
        fgan.models.mlp_critic((2,), hidden=(8,)),
    ]
    algorithm = fgan.wgan_gp(*networks, n_critic=2, autocast=torch.bfloat16)
    inputs = algorithm.init(), fgan.Batch(torch.randn(2, 16, 2)), algorithm.noise(0, 0, 16)
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    got, expected = compiled.step(*inputs)[1], algorithm.step(*inputs)[1]
    torch.testing.assert_close(got, expected, rtol=2**-8, atol=2**-8)


def test_autocast_to_half_precision_is_refused():
    """float16 needs loss scaling, which fgan does not have."""
    with pytest.raises(ValueError, match=r"autocast is torch\.bfloat16"):
        fgan.wgan(*pair(), autocast=torch.float16)


class NamedInput(nn.Module):
    """BatchNorm by its function, with the input as a keyword."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        hidden = torch.nn.functional.linear(x, torch.eye(3))
        assert hidden.dtype is torch.bfloat16
        output = torch.nn.functional.batch_norm(
            input=hidden, running_mean=None, running_var=None, weight=self.weight, training=True
        )
        assert output.dtype is torch.bfloat16
        return output


def test_autocast_finds_the_input_of_batch_norm_by_its_name():
    """The function may be called with keywords alone."""
    network = fgan.make_functional(NamedInput(), torch.bfloat16)
    x = torch.randn(5, 4)[:, :3].float()
    got, _ = network.apply(network.params, network.buffers, x)
    rounded = x.bfloat16().float()
    expected = (rounded - rounded.mean(0)) / (rounded.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(got, expected, rtol=2**-6, atol=2**-6)
