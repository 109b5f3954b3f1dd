"""The inputs of the example networks: labels, and errors for what does not fit."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from example_models import (
    BATCH,
    CLASSES,
    SHAPES,
    make_critic,
    make_generator,
    samples,
)
from torch import nn
from torch.func import vmap

import fgan
from fgan.models import (
    conv_critic,
    conv_generator,
    mlp_critic,
    mlp_generator,
    one_hot,
    resnet_critic,
    resnet_generator,
)
from fgan.models.blocks import LabelConv2d, UpsampleConv2d
from fgan.models.layers import Generator, join

# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (mlp_generator, (2,)),
        (mlp_critic, (2,)),
        (conv_generator, (1, 28, 28)),
        (conv_critic, (1, 28, 28)),
        (resnet_generator, (1, 32, 32)),
        (resnet_critic, (1, 32, 32)),
    ],
)
def test_unknown_norm(make: Callable[..., nn.Module], shape: tuple[int, ...]) -> None:
    """An unknown norm is refused with the list of choices."""
    with pytest.raises(ValueError, match=r"'batchnorm'.*none, batch, layer, group"):
        make(shape, norm="batchnorm")


@pytest.mark.parametrize("make", [mlp_generator, mlp_critic])
def test_instance_norm_of_flat_features(make: Callable[..., nn.Module]) -> None:
    """Instance norm in an MLP would make every feature zero, and is refused with alternatives."""
    with pytest.raises(ValueError, match=r"zero.*norm='layer' or norm='group'"):
        make((2,), norm="instance")


def test_unknown_output() -> None:
    """An unknown output of the MLP generator is refused with the choices."""
    with pytest.raises(ValueError, match="tanh or linear"):
        mlp_generator((2,), output="sigmoid")


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("make", [make_generator, make_critic])
def test_wrong_input_shape(kind: str, make: Callable[..., nn.Module]) -> None:
    """An input of another shape is refused with the expected and the given shape."""
    model = make(kind)
    inner = (6,) if isinstance(model, Generator) else SHAPES[kind]
    expected = re.escape(f"[B, {', '.join(map(str, inner))}]")
    for shape in [(BATCH, *inner[:-1], inner[-1] + 1), inner, (BATCH, *inner, 1), ()]:
        with pytest.raises(ValueError, match=f"{expected}, got {re.escape(str(list(shape)))}"):
            model(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("make", [make_generator, make_critic])
def test_condition_missing_or_unasked_for(make: Callable[..., nn.Module]) -> None:
    """Missing labels, and labels for an unconditional model, raise an error with a remedy."""
    size = (BATCH, 6) if make is make_generator else (BATCH, *SHAPES["mlp"])
    x, y = torch.zeros(size, dtype=torch.float64), torch.zeros(BATCH, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"build the model with num_classes=\.\.\."):
        make("mlp")(x, y)
    with pytest.raises(ValueError, match=r"5 classes and needs labels.*num_classes=None"):
        make("mlp", num_classes=CLASSES)(x)


@pytest.mark.parametrize("kind", SHAPES)
def test_labels_out_of_range_or_of_another_kind(kind: str) -> None:
    """Labels out of range, of another dtype or of another length raise an error."""
    model, x = make_critic(kind, num_classes=CLASSES), samples(kind)
    with pytest.raises(ValueError, match="label 5 is outside the model's 5 classes"):
        model(x, torch.tensor([0, 1, 5, 9]))
    with pytest.raises(ValueError, match="label -1 is outside"):
        model(x, torch.tensor([0, -1, 2, 3]))
    for dtype in (torch.float32, torch.bool):
        with pytest.raises(ValueError, match=f"integers.*{dtype}"):
            model(x, torch.zeros(BATCH, dtype=dtype))
    with pytest.raises(ValueError, match=r"expected labels \[4\], got \[4, 1\]"):
        model(x, torch.zeros(BATCH, 1, dtype=torch.int64))


WRONG_SIZES = [
    (
        "mlp_generator",
        dict(sample_shape=(2, 0)),
        r"sample_shape\[1\] is a whole number from 1.* 0 ",
    ),
    ("mlp_critic", dict(sample_shape=2), r"sample_shape is a sequence of whole numbers.* 2 was"),
    ("mlp_critic", dict(sample_shape=(2,), hidden=(8, 2.5)), r"hidden\[1\] is a whole.* 2\.5 "),
    ("mlp_generator", dict(sample_shape=(2,), latent_dim="3"), "latent_dim is a whole.* '3' "),
    ("mlp_critic", dict(sample_shape=(2,), num_classes=True), "num_classes is a whole.* True "),
    ("conv_generator", dict(image_shape=(1, 28, 28), width=0), "width is a whole.* 0 was"),
    ("conv_critic", dict(image_shape=None), "image_shape is a sequence.* None was"),
    ("resnet_generator", dict(image_shape=(1, 32.0, 32)), r"image_shape\[1\] is a whole.* 32\.0 "),
    ("resnet_critic", dict(image_shape=(1, 32, 32), num_classes=-1), "num_classes is .* -1 was"),
]


@pytest.mark.parametrize(("make", "sizes", "message"), WRONG_SIZES)
def test_sizes_are_whole_numbers(make: str, sizes: dict[str, Any], message: str) -> None:
    """The error names the argument and what was given, before a layer is made."""
    with pytest.raises(ValueError, match=message):
        getattr(fgan.models, make)(**sizes)


@pytest.mark.parametrize("wrap", [lambda a: fgan.accumulate(a, 2), fgan.compile, fgan.population])
def test_what_is_no_algorithm_is_not_wrapped(wrap: Callable[[Any], Any]) -> None:
    """A module in place of the algorithm is an error that says so."""
    kind = "the algorithm is one that a recipe made.* a dict of 0 was"
    with pytest.raises(ValueError, match=kind):
        wrap({})


def test_training_refuses_labels_that_one_player_lacks() -> None:
    """A class that one of the networks does not have is an error in both updates."""
    few, many = (
        {make: make("mlp", num_classes=classes) for make in (make_generator, make_critic)}
        for classes in (CLASSES, CLASSES + 1)
    )
    labels = torch.tensor([0, 1, CLASSES, 2])
    for generator, critic in (
        (few[make_generator], many[make_critic]),
        (many[make_generator], few[make_critic]),
    ):
        algorithm = fgan.wgan_gp(generator, critic)
        state, noise = algorithm.init(), algorithm.noise(0, 0, BATCH)
        with pytest.raises(ValueError, match="label 5 is outside the model's 5 classes"):
            algorithm.critic_update(
                state, samples("mlp"), labels, noise.critic_latent[0], noise.mix[0]
            )
        with pytest.raises(ValueError, match="label 5 is outside the model's 5 classes"):
            algorithm.generator_update(state, noise.generator_latent, labels)


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("integer", [torch.int64, torch.int32, torch.uint8])
def test_one_hot(dtype: torch.dtype, integer: torch.dtype) -> None:
    """one_hot equals torch's for every integer type, also under vmap and compiled."""
    y = torch.tensor([[0, 4, 2], [1, 1, 3]])
    expected = F.one_hot(y, CLASSES).to(dtype)
    encode = torch.compile(one_hot, backend="eager", fullgraph=True)
    for actual in (
        one_hot(y.to(integer), CLASSES, dtype),
        vmap(lambda label: one_hot(label, CLASSES, dtype))(y.to(integer)),
        encode(y.to(integer), CLASSES, dtype),
    ):
        assert actual.dtype == dtype
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("norm", ["none", "group", "spectral"])
def test_labels_matter(kind: str, norm: str) -> None:
    """Another label gives another sample and another score, and the same label the same."""
    x, z = samples(kind), torch.randn(BATCH, 6, dtype=torch.float64)
    y = torch.arange(BATCH)
    changed = y.clone()
    changed[1] = 4
    for model, value in [
        (make_generator(kind, norm, CLASSES).eval(), z),
        (make_critic(kind, norm, CLASSES).eval(), x),
    ]:
        before, after = model(value, y), model(value, changed)
        differs = (before != after).reshape(BATCH, -1).any(dim=1)
        assert differs.tolist() == [False, True, False, False]


@pytest.mark.parametrize("norm", ["none", "weight", "spectral"])
def test_label_convolution_equals_constant_channels(norm: str) -> None:
    """One plane per class gives the same as the convolution of constant channels."""
    stem = conv_critic((2, 28, 28), CLASSES, width=4, norm=norm).double().eval().stem
    assert isinstance(stem, LabelConv2d)
    x, label = samples("conv"), one_hot(torch.tensor([0, 3, 3, 4]), CLASSES, torch.float64)
    expected = F.conv2d(join(x, label), stem.weight, stem.bias, stride=2, padding=1)
    torch.testing.assert_close(stem(x, label), expected)
    assert torch.equal(join(x, label)[1, 2:, 5, 6], label[1])


def test_upsampling_convolution_equals_its_two_steps() -> None:
    """It equals nearest-neighbour upsampling followed by a 3x3 convolution."""
    layer, x = UpsampleConv2d(3, 5).double(), torch.randn(2, 3, 4, 6, dtype=torch.float64)
    upsampled = F.interpolate(x, scale_factor=2, mode="nearest")
    expected = F.conv2d(upsampled, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)
