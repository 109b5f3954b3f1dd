"""Example networks for signals, images and volumes of any size, and the blocks that they are of."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from fgan import models
from fgan.models.blocks import (
    LabelConv1d,
    LabelConv2d,
    LabelConv3d,
    MeanPool,
    Upsample,
    UpsampleConv1d,
    UpsampleConv2d,
    UpsampleConv3d,
)
from fgan.models.layers import join
from fgan.penalties import batched_input_gradients, input_gradients

CASES = [
    *[("conv", s) for s in [(1, 12, 20), (2, 27, 27), (1, 8, 8), (3, 9, 33), (1, 5, 40)]],
    *[("conv", s) for s in [(1, 1, 1), (1, 96, 96), (2, 7, 15)]],
    *[("resnet", s) for s in [(1, 12, 20), (2, 28, 28), (1, 8, 8), (1, 33, 17), (1, 2, 9)]],
    *[("conv1d", s) for s in [(2, 128), (1, 101), (3, 7), (1, 1), (1, 1000)]],
    *[("conv3d", s) for s in [(1, 8, 8, 8), (2, 5, 12, 9)]],
]


def make(kind, part, shape, **options):
    """A small network of a kind, drawn from one seed, in float64."""
    torch.manual_seed(0)
    return getattr(models, f"{kind}_{part}")(shape, width=4, **options).double()


@pytest.mark.parametrize(("kind", "shape"), CASES)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_networks_take_any_size(kind, shape, num_classes):
    """A generator makes the shape, and every number of a sample changes its score."""
    labels = [] if num_classes is None else [torch.arange(3)]
    generator = make(kind, "generator", shape, num_classes=num_classes)
    critic = make(kind, "critic", shape, num_classes=num_classes, norm="group")
    z = torch.randn(3, generator.latent_dim, dtype=torch.float64)
    fakes = generator(z, *labels).detach().requires_grad_()
    assert fakes.shape == (3, *shape)
    scores = critic(fakes, *labels)
    assert scores.shape == (3,)
    (slopes,) = torch.autograd.grad(scores.sum(), fakes)
    assert (slopes != 0).all()


@pytest.mark.parametrize(
    ("kind", "shape"), [("conv", (2, 9, 12)), ("resnet", (1, 9, 12)), ("conv1d", (2, 13))]
)
def test_input_gradients_of_odd_sizes(kind, shape):
    """`vmap(grad)` equals one backward pass of the sum."""
    critic = make(kind, "critic", shape, num_classes=3)
    params = {name: p.detach() for name, p in critic.named_parameters()}
    x, y = torch.randn(3, *shape, dtype=torch.float64), torch.arange(3)

    def score(x, y):
        return functional_call(critic, params, (x, y))

    expected = batched_input_gradients(score, x, y)
    torch.testing.assert_close(input_gradients(score, x, y), expected)


@pytest.mark.parametrize("make_network", [models.conv_generator, models.conv_critic])
def test_large_images_have_few_parameters(make_network):
    """The channels stop at eight times the width: no perceptron of tens of millions."""
    for shape in [(3, 96, 96), (3, 128, 96), (3, 256, 256)]:
        assert sum(p.numel() for p in make_network(shape).parameters()) < 3e6


# The image's shape, the names of the parameters, and their sizes.
EARLIER = {
    "conv_generator": (
        (1, 28, 28),
        [f"{i}.{name}" for i in (0, 2, 4, 5, 7) for name in ("weight", "bias")],
        [(3136, 64), (3136,), (64,), (64,), (32, 64, 3, 3), *[(32,)] * 3, (1, 32, 3, 3), (1,)],
    ),
    "conv_critic": (
        (1, 28, 28),
        ["1.weight", "1.bias", "4.weight", "4.bias"],
        [(16, 1, 4, 4), (16,), (32, 16, 4, 4), (32,), (1, 1568), (1,)],
    ),
}


@pytest.mark.parametrize("name", list(EARLIER))
def test_the_networks_of_square_images_are_as_they_were(name):
    """Names and sizes of version 0.1.0, which stored runs have."""
    shape, names, sizes = EARLIER[name]
    stem = ["stem.weight", "stem.bias"] if name.endswith("critic") else []
    params = dict(getattr(models, name)(shape).named_parameters())
    assert list(params) == [*stem, *(f"layers.{n}" for n in names)]
    assert [tuple(p.shape) for p in params.values()] == sizes


@pytest.mark.parametrize(
    ("layer", "size", "scale", "target"),
    [
        (UpsampleConv1d, (4,), (2,), (7,)),
        (UpsampleConv1d, (4,), None, None),
        (UpsampleConv2d, (3, 5), (2, 1), (6, 5)),
        (UpsampleConv2d, (3, 5), (1, 2), (3, 9)),
        (UpsampleConv2d, (3, 5), (1, 1), (3, 5)),
        (UpsampleConv3d, (2, 3, 4), (2, 2, 2), (3, 6, 7)),
        (UpsampleConv3d, (2, 3, 4), (1, 2, 1), (2, 6, 4)),
    ],
)
def test_upsampling_convolution_of_any_axes(layer, size, scale, target):
    """It equals repetition, a convolution of three positions, and a cut."""
    torch.manual_seed(0)
    module = layer(3, 5, scale, target).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    repeated = x
    for axis, times in enumerate(scale or (2,) * len(size)):
        repeated = repeated.repeat_interleave(times, dim=2 + axis)
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(size)]
    expected = convolve(repeated, module.weight, module.bias, padding=1)
    for axis, n in enumerate(target or expected.shape[2:]):
        expected = expected.narrow(2 + axis, 0, n)
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(
    ("layer", "size", "scale"),
    [
        (LabelConv1d, (9,), (2,)),
        (LabelConv2d, (6, 5), (2, 1)),
        (LabelConv3d, (4, 6, 5), (2, 1, 2)),
    ],
)
def test_label_convolution_of_any_axes(layer, size, scale):
    """One plane per class gives the same as the convolution of constant channels."""
    torch.manual_seed(0)
    module = layer(2, 3, 4, scale).double()
    x = torch.randn(3, 2, *size, dtype=torch.float64)
    label = torch.eye(3, dtype=torch.float64)[[2, 0, 0]]
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(size)]
    expected = convolve(join(x, label), module.weight, module.bias, scale, padding=1)
    torch.testing.assert_close(module(x, label), expected)


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (5, 7), (1, 3)])
def test_mean_pool_of_odd_sizes(size):
    """It equals torch's average over the positions that there are."""
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(MeanPool((2, 2))(x), expected)
    rows = F.avg_pool2d(x, (2, 1), ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(MeanPool((2, 1))(x), rows)


def test_upsampling_cuts_to_the_size():
    """Every position is repeated, and the last repetition of an odd size left out."""
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    expected = x.repeat_interleave(2, dim=2)[:, :, :3].repeat_interleave(2, dim=3)[..., :5]
    assert torch.equal(Upsample((2, 2), (3, 5))(x), expected)


@pytest.mark.parametrize("part", ["generator", "critic"])
@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (
            "conv",
            (28, 28),
            r"image_shape \(channels, height, width\).*\(28, 28\).*conv1d_generator",
        ),
        ("conv", (1, 0, 28), r"image_shape\[1\] is a whole number from 1, and 0"),
        ("conv", (1, 28.0, 28), r"image_shape\[1\] is a whole number from 1, and 28\.0"),
        ("resnet", (32,), r"image_shape .*\(32,\).*mlp_generator"),
        ("conv1d", (1, 28, 28), r"signal_shape \(channels, length\).*conv_generator"),
        ("conv3d", (1, 28, 28), r"volume_shape \(channels, depth, height, width\)"),
    ],
)
def test_shapes_that_cannot_be(kind, part, shape, message):
    """The error has the expected and the given shape, and names the networks for other shapes."""
    with pytest.raises(ValueError, match=message):
        getattr(models, f"{kind}_{part}")(shape)


@pytest.mark.parametrize("kind", ["conv1d", "conv3d"])
def test_outputs_of_signals_and_volumes(kind):
    """They are linear unless tanh is asked for."""
    shape = (1, 6) if kind == "conv1d" else (1, 6, 6, 6)
    for output, squashed in [("linear", False), ("tanh", True)]:
        layers = make(kind, "generator", shape, output=output).modules()
        assert any(isinstance(layer, nn.Tanh) for layer in layers) is squashed
    with pytest.raises(ValueError, match="tanh or linear"):
        make(kind, "generator", shape, output="relu")
