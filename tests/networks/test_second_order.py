"""Attention in critics under a penalty: torch's fused kernels have no second derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import grad

import fgan
from fgan import tree
from fgan.algorithm import make_algorithm
from fgan.objectives import CriticObjective, Penalty, adversarial, adversarial_generator
from fgan.penalties import batched_input_gradients, gradient_penalty, input_gradients

BATCH, LENGTH, WIDTH, HEADS = 3, 5, 8, 2


def heads_of(x):
    """[B, T, E] -> [B, H, T, E/H]"""
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


def by_hand(q, k, v):
    """softmax(qkᵀ/√d) v, written out."""
    weights = torch.exp(q @ k.mT / math.sqrt(q.shape[-1]))
    return (weights / weights.sum(-1, keepdim=True)) @ v


def multihead_by_hand(layer, x):
    """`nn.MultiheadAttention` of its own parameters."""
    q, k, v = (x @ layer.in_proj_weight.T + layer.in_proj_bias).chunk(3, dim=2)
    mixed = by_hand(*map(heads_of, (q, k, v))).transpose(1, 2).flatten(2)
    return mixed @ layer.out_proj.weight.T + layer.out_proj.bias


class Functional(nn.Module):
    """`F.scaled_dot_product_attention` with a projection of its own."""

    def __init__(self, hand):
        super().__init__()
        self.project, self.hand = nn.Linear(WIDTH, 3 * WIDTH), hand

    def forward(self, x):
        q, k, v = map(heads_of, self.project(x).chunk(3, dim=2))
        attend = by_hand if self.hand else F.scaled_dot_product_attention
        return attend(q, k, v).transpose(1, 2).flatten(2)


class MultiHead(nn.Module):
    """`nn.MultiheadAttention`."""

    def __init__(self, hand):
        super().__init__()
        self.attention, self.hand = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), hand

    def forward(self, x):
        if self.hand:
            return multihead_by_hand(self.attention, x)
        return self.attention(x, x, x, need_weights=False)[0]


class Encoder(nn.Module):
    """`nn.TransformerEncoderLayer`."""

    def __init__(self, hand):
        super().__init__()
        self.hand = hand
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 6, dropout=0.0, batch_first=True)

    def forward(self, x):
        layer = self.layer
        if not self.hand:
            return layer(x)
        x = layer.norm1(x + multihead_by_hand(layer.self_attn, x))
        return layer.norm2(x + layer.linear2(layer.linear1(x).relu()))


def make(kind, hand):
    """A generator and a critic of sequences in float64, the same whether written by hand or not."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, LENGTH * WIDTH), nn.Unflatten(1, (LENGTH, WIDTH)))
    critic = nn.Sequential(kind(hand), nn.Flatten(1), nn.Linear(LENGTH * WIDTH, 1))
    return generator.double(), critic.double()


def own_penalty(critic, x):
    """A user's penalty that differentiates by itself."""
    return grad(lambda y: critic(y).sum())(x).flatten(1).square().sum(1)


def objective_of(function):
    """WGAN's loss with a penalty in `adversarial`."""
    return adversarial(fgan.losses.wasserstein_critic_loss, Penalty(function, 3.0))


OBJECTIVES = {
    "wgan_gp": objective_of(
        lambda critic, x: gradient_penalty(critic, x, gradients=batched_input_gradients)
    ),
    "per sample": objective_of(gradient_penalty),
    "own": objective_of(own_penalty),
}


def round_of(kind, hand, objective, compiled=lambda algorithm: algorithm.step, updates=2):
    """The leaves of the state and figures after a round."""
    algorithm = make_algorithm(
        *make(kind, hand),
        objective,
        adversarial_generator(fgan.losses.wasserstein_generator_loss),
        latent_dim=4,
        generator_optimizer=fgan.sgd(0.1),
        critic_optimizer=fgan.sgd(0.1),
    )
    source = torch.Generator().manual_seed(1)
    real = torch.randn(updates, BATCH, LENGTH, WIDTH, generator=source, dtype=torch.float64)
    noise = algorithm.noise(0, 0, BATCH)
    noise = noise._replace(
        critic_latent=noise.critic_latent.expand(updates, -1, -1),
        mix=noise.mix.expand(updates, -1),
    )
    return tree.named_leaves(compiled(algorithm)(algorithm.init(), fgan.Batch(real), noise))


def assert_same(got, expected):
    """Equal up to float64's rounding."""
    assert got.keys() == expected.keys()
    for name, leaf in expected.items():
        torch.testing.assert_close(got[name], leaf, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", [Functional, MultiHead, Encoder])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_attention_under_a_penalty_equals_attention_by_hand(kind, objective):
    """Two critic updates and one of the generator, in float64."""
    fused = round_of(kind, False, OBJECTIVES[objective])
    assert_same(fused, round_of(kind, True, OBJECTIVES[objective]))


@pytest.mark.parametrize("objective", ["per sample", "own"])
def test_torch_compile_follows_the_choice_of_the_kernel(objective):
    """In one graph, and equal to attention by hand."""

    def compiled(algorithm):
        return torch.compile(algorithm.step, fullgraph=True, backend="aot_eager")

    fused = round_of(Functional, False, OBJECTIVES[objective], compiled, updates=1)
    assert_same(fused, round_of(Functional, True, OBJECTIVES[objective], updates=1))


@pytest.mark.parametrize("kind", [Functional, Encoder])
def test_a_compiled_step_follows_the_choice_of_the_kernel(kind):
    """The traced programs are equal to attention by hand."""

    def compiled(algorithm):
        return fgan.compile(algorithm, donate=False, backend="interpreter").step

    fused = round_of(kind, False, OBJECTIVES["wgan_gp"], compiled)
    assert_same(fused, round_of(kind, True, OBJECTIVES["wgan_gp"]))


@pytest.mark.parametrize("gradients", [input_gradients, batched_input_gradients])
def test_penalties_outside_of_an_objective_have_second_derivatives(gradients):
    """`torch.autograd.gradcheck` of a penalty of attention, by the samples."""
    _, critic = make(Functional, False)
    x = torch.randn(2, LENGTH, WIDTH, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda y: gradient_penalty(critic, y, gradients=gradients), x)


def squared_gradient(critic, data):
    """An objective that differentiates the critic itself, without fgan's penalties."""
    scores, buffers = critic(data.real)
    slope = grad(lambda x: critic(x)[0].sum())(data.real)
    return slope.square().sum() - scores.mean(), buffers, {}


def test_an_objective_of_ones_own_is_told_which_kernel_to_take():
    """torch names an operation; the error says what to do."""
    with pytest.raises(ValueError, match=r"critic's objective.*attention.*SDPBackend\.MATH"):
        round_of(Functional, False, CriticObjective(squared_gradient))
    hand = round_of(Functional, True, CriticObjective(squared_gradient))
    assert all(leaf.isfinite().all() for name, leaf in hand.items() if "params" in name)
