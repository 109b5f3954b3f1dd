"""The self-attention block, alone and in the example networks."""

import pytest
import torch
from test_conditioning import Counting

import fgan
from fgan import models, tree
from fgan.models import SelfAttention


def drawn(*shape):
    """Normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def block(channels=16, gain=0.7):
    """A block in float64 with a gain that lets the attention through."""
    torch.manual_seed(0)
    layer = SelfAttention(channels).double()
    layer.gain.data.fill_(gain)
    return layer


@pytest.mark.parametrize("size", [(7,), (3, 4), (2, 3, 2)])
def test_attention_equals_a_loop_over_positions(size):
    """y_j = γ W_v Σ_i softmax_i(f(x_i)·g(x_j)) h(x_i) + x_j, written position by position."""
    layer, x = block(), drawn(2, 16, *size)

    def of(convolution, column):
        return convolution.weight[:, :, 0] @ column + convolution.bias

    expected = x.clone()
    for b in range(2):
        columns = x[b].reshape(16, -1).T
        for j, column in enumerate(columns):
            exponents = [of(layer.keys, c) @ of(layer.queries, column) for c in columns]
            terms = [e.exp() for e in exponents]
            mixed = sum(
                t / sum(terms) * of(layer.values, c) for t, c in zip(terms, columns, strict=True)
            )
            expected[b].view(16, -1)[:, j] += layer.gain * of(layer.output, mixed)
    torch.testing.assert_close(layer(x), expected)
    assert [c.out_channels for c in (layer.keys, layer.queries, layer.values)] == [2, 2, 8]


def test_attention_starts_as_the_identity():
    """The gain is zero, bit for bit nothing is added, and a reset brings the zero back."""
    layer, x = block(gain=0.0), drawn(2, 16, 3, 4)
    assert torch.equal(layer(x), x)
    layer.gain.data.fill_(1.0)
    layer.reset_parameters()
    assert layer.gain.item() == 0


def test_attention_has_second_derivatives():
    """They equal finite differences."""
    layer, x = block(8), drawn(1, 8, 2, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(layer, x)


def places(model):
    """The sizes of the feature maps that a network's attention sees."""
    sizes = []
    for layer in model.modules():
        if isinstance(layer, SelfAttention):
            layer.register_forward_hook(lambda m, inputs, out: sizes.append(inputs[0].shape[2:]))
    shape = (model.latent_dim,) if hasattr(model, "latent_dim") else model.sample_shape
    x = drawn(2, *shape)
    model.double().eval()(x)
    return [tuple(size) for size in sizes]


@pytest.mark.parametrize(
    ("kind", "shape", "at"),
    [
        ("conv", (1, 28, 28), (14, 14)),
        ("conv", (1, 64, 64), (32, 32)),
        ("conv", (1, 12, 20), (6, 10)),
        ("conv", (1, 5, 5), (5, 5)),
        ("resnet", (1, 32, 32), (16, 16)),
        ("conv1d", (2, 128), (64,)),
        ("conv3d", (1, 8, 8, 8), (4, 4, 4)),
    ],
)
@pytest.mark.parametrize("part", ["generator", "critic"])
def test_one_block_at_the_finest_map_below_the_sample(kind, shape, at, part):
    """Both networks have it at the same size, and only where it was asked for."""
    make = getattr(models, f"{kind}_{part}")
    assert places(make(shape, width=4, attention=True)) == [at]
    assert places(make(shape, width=4)) == []


def test_attention_is_nowhere_above_its_limit():
    """An image of 256 x 256 has 128 x 128 positions below it; attention comes at 32 x 32."""
    assert places(models.conv_critic((1, 256, 256), width=2, attention=True)) == [(32, 32)]


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_attention_under_a_penalty_eager_and_compiled(norm):
    """A WGAN-GP round with attention in both networks; the compiled one equals it."""
    torch.manual_seed(0)
    generator = models.conv_generator((1, 8, 9), 4, width=8, attention=True)
    critic = models.conv_critic((1, 8, 9), width=8, norm=norm, attention=True)
    for model in (generator, critic):
        for layer in model.double().modules():
            if isinstance(layer, SelfAttention):
                layer.gain.data.fill_(0.5)
    assert fgan.networks.is_per_sample(critic)
    algorithm = fgan.wgan_gp(generator, critic, n_critic=1)
    state, noise = algorithm.init(), algorithm.noise(0, 0, 3)
    batch, backend = fgan.Batch(drawn(1, 3, 1, 8, 9)), Counting()
    expected = algorithm.step(state, batch, noise)
    compiled = fgan.compile(algorithm, backend=backend, donate=False)
    got = tree.named_leaves(compiled.step(state, batch, noise))
    for name, leaf in tree.named_leaves(expected).items():
        torch.testing.assert_close(got[name], leaf, msg=name)
    assert backend.graphs == 3
    for player in ("generator", "critic"):
        before, after = (getattr(each, player).params for each in (state, expected[0]))
        (gain,) = [key for key in before if key.endswith("gain")]
        assert before[gain] == 0.5 != after[gain]
