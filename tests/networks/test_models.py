"""The example networks: shapes, norms, per-sample gradients and compilation."""

from collections.abc import Callable

import pytest
import torch
from example_models import (
    BATCH,
    CLASSES,
    SHAPES,
    conditional_or_not,
    every_independent_network,
    every_network,
    labels,
    make_critic,
    make_generator,
    samples,
)
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrize

from fgan.models import (
    conv_critic,
    conv_generator,
    mlp_critic,
    mlp_generator,
    resnet_critic,
    resnet_generator,
)
from fgan.models.layers import Critic

# --- shapes, types and ranges ---------------------------------------------------------------------


@every_network
@conditional_or_not
def test_generator_shape(kind: str, norm: str, num_classes: int | None) -> None:
    """Every generator maps latents [B, latent_dim] to images in [-1, 1] and knows its own shape."""
    model = make_generator(kind, norm, num_classes)
    images = model(torch.randn(BATCH, 6, dtype=torch.float64), *labels(num_classes))
    assert images.shape == (BATCH, *SHAPES[kind])
    assert images.dtype == torch.float64
    assert images.abs().max() <= 1
    assert (model.latent_dim, model.num_classes) == (6, num_classes)
    assert model.sample_shape == SHAPES[kind]


@every_network
@conditional_or_not
def test_critic_shape(kind: str, norm: str, num_classes: int | None) -> None:
    """Every critic maps samples to unsquashed scores of shape [B] and knows its own shape."""
    model = make_critic(kind, norm, num_classes)
    scores = model(samples(kind), *labels(num_classes))
    assert scores.shape == (BATCH,)
    assert scores.dtype == torch.float64
    assert model.num_classes == num_classes
    assert model.sample_shape == SHAPES[kind]
    assert not any(isinstance(layer, nn.Sigmoid | nn.Tanh) for layer in model.modules())
    negative_slopes = {
        layer.negative_slope for layer in model.modules() if isinstance(layer, nn.LeakyReLU)
    }
    assert negative_slopes == {0.2}


@pytest.mark.parametrize("kind", SHAPES)
def test_scores_are_unbounded(kind: str) -> None:
    """A critic's scores are linear in its last layer, so no sigmoid follows."""
    model = make_critic(kind)
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    before = model(x := samples(kind))
    with torch.no_grad():
        last.weight.mul_(1e6)
        last.bias.mul_(1e6)
    torch.testing.assert_close(model(x), before * 1e6)


@pytest.mark.parametrize("shape", [(2,), (7, 3), (1, 28, 28), (3, 17, 23), (2, 3, 4, 5)])
@conditional_or_not
def test_mlp_takes_samples_of_any_rank(shape: tuple[int, ...], num_classes: int | None) -> None:
    """The MLP pair works for points, matrices, odd images and volumes."""
    generator = mlp_generator(shape, 3, num_classes, hidden=(8,))
    critic = mlp_critic(shape, num_classes, hidden=())
    fakes = generator(torch.randn(BATCH, 3), *labels(num_classes))
    assert fakes.shape == (BATCH, *shape)
    assert critic(fakes, *labels(num_classes)).shape == (BATCH,)


@pytest.mark.parametrize(
    ("shape", "output", "squashed"),
    [
        ((1, 5, 5), None, True),
        ((2,), None, False),
        ((2,), "tanh", True),
        ((1, 5, 5), "linear", False),
    ],
)
def test_mlp_output(shape: tuple[int, ...], output: str | None, squashed: bool) -> None:
    """The MLP generator ends in tanh for images and is linear for points, by default."""
    generator = mlp_generator(shape, 3, hidden=(8,), output=output)
    assert any(isinstance(layer, nn.Tanh) for layer in generator.modules()) is squashed


@pytest.mark.parametrize("size", [28, 32, 64])
def test_conv_sizes(size: int) -> None:
    """The conv pair takes all three image sizes and any number of channels."""
    images = conv_generator((5, size, size), width=2)(torch.randn(2, 64))
    assert images.shape == (2, 5, size, size)
    assert conv_critic((5, size, size), width=2)(images).shape == (2,)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_resnet_sizes(size: int) -> None:
    """The residual pair takes powers of two from 32."""
    images = resnet_generator((1, size, size), width=2)(torch.randn(2, 128))
    assert images.shape == (2, 1, size, size)
    assert resnet_critic((1, size, size), width=2)(images).shape == (2,)


def test_mlp_defaults_are_the_tutorial_pair() -> None:
    """The defaults are exactly the networks of benchmark workload 1, layer by layer."""

    def describe(model: nn.Module) -> list[str]:
        def name(layer: nn.Module) -> str:
            if isinstance(layer, nn.Linear):
                return f"{layer.in_features}-{layer.out_features}"
            return type(layer).__name__

        return [name(layer) for layer in model.layers]

    act, norm = "LeakyReLU", "BatchNorm1d"
    assert describe(mlp_generator((1, 28, 28))) == [
        *("100-128", act),
        *("128-256", norm, act),
        *("256-512", norm, act),
        *("512-1024", norm, act),
        *("1024-784", "Tanh", "Rearrange"),
    ]
    assert describe(mlp_critic((1, 28, 28))) == ["784-512", act, "512-256", act, "256-1"]


@pytest.mark.parametrize(("make", "channels"), [(conv_critic, [4, 8]), (resnet_critic, [8] * 8)])
def test_first_and_last_layer_of_a_critic_have_no_norm(
    make: Callable[..., Critic], channels: list[int]
) -> None:
    """Activations are normalised inside the critic only, never at the image or at the score."""
    shape = (1, 32, 32) if make is conv_critic else (1, 64, 64)
    width = 2 if make is conv_critic else 8
    model = make(shape, width=width, norm="group")
    norms = [layer for layer in model.modules() if isinstance(layer, nn.GroupNorm)]
    assert [norm.num_channels for norm in norms] == channels


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("norm", ["spectral", "weight"])
@pytest.mark.parametrize("make", [make_generator, make_critic])
def test_weight_constraints_are_on_every_layer(
    kind: str, norm: str, make: Callable[..., nn.Module]
) -> None:
    """Spectral and weight norm reparametrise every layer that has a weight."""
    model = make(kind, norm, CLASSES)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    assert layers
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers)


@pytest.mark.parametrize("kind", SHAPES)
def test_every_layer_can_be_reset(kind: str) -> None:
    """Every layer with parameters has a reset_parameters, which seeded initialisation calls."""
    for model in (make_generator(kind), make_critic(kind, "group", CLASSES)):
        for layer in model.modules():
            if list(layer.parameters(recurse=False)):
                assert callable(layer.reset_parameters)


@pytest.mark.parametrize("kind", ["conv", "resnet"])
def test_channels_last(kind: str) -> None:
    """The memory format of the images changes results by rounding alone."""
    model, x = make_critic(kind, "group", CLASSES), samples(kind)
    expected = model(x, *labels(CLASSES))
    model = model.to(memory_format=torch.channels_last)
    actual = model(x.to(memory_format=torch.channels_last), *labels(CLASSES))
    torch.testing.assert_close(actual, expected)


# --- samples are not mixed ------------------------------------------------------------------------


@every_independent_network
@conditional_or_not
def test_critic_does_not_mix_samples(kind: str, norm: str, num_classes: int | None) -> None:
    """A change of one sample changes its own score and no other."""
    model = make_critic(kind, norm, num_classes).eval()
    x = samples(kind)
    perturbed = x.clone()
    perturbed[2] += torch.randn_like(x[2])
    before, after = model(x, *labels(num_classes)), model(perturbed, *labels(num_classes))
    others = torch.tensor([0, 1, 3])
    torch.testing.assert_close(after[others], before[others], rtol=0, atol=1e-14)
    assert (after[2] - before[2]).abs() > 1e-6


@pytest.mark.parametrize("kind", SHAPES)
def test_batch_norm_does_mix_samples(kind: str) -> None:
    """With BatchNorm, a change of one sample changes another score."""
    model, x = make_critic(kind, "batch"), samples(kind)
    perturbed = x.clone()
    perturbed[2] += 1
    assert (model(perturbed) - model(x))[0].abs() > 1e-6


@every_independent_network
@conditional_or_not
def test_per_sample_gradients(kind: str, norm: str, num_classes: int | None) -> None:
    """vmap(grad) of the pure critic equals batched autograd.grad, first and second order."""
    model = make_critic(kind, norm, num_classes).eval()
    params, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    x, condition = samples(kind), labels(num_classes)

    def score(params: dict[str, Tensor], x: Tensor, *condition: Tensor) -> Tensor:
        one = (value[None] for value in (x, *condition))
        return functional_call(model, (params, buffers), tuple(one))[0]

    def penalty(params: dict[str, Tensor]) -> Tensor:
        per_sample = vmap(grad(lambda x, *y: score(params, x, *y)))(x, *condition)
        return (torch.linalg.vector_norm(per_sample.flatten(1), dim=1) - 1).square().mean()

    actual = vmap(grad(score, argnums=1), in_dims=(None, 0, *[0] * len(condition)))
    x.requires_grad_()
    (expected,) = torch.autograd.grad(model(x, *condition).sum(), x, create_graph=True)
    torch.testing.assert_close(actual(params, x.detach(), *condition), expected)

    norms = torch.linalg.vector_norm(expected.flatten(1), dim=1)
    second = torch.autograd.grad(
        (norms - 1).square().mean(), list(params.values()), allow_unused=True
    )
    for key, by_vmap in grad(penalty)(params).items():
        by_autograd = second[list(params).index(key)]
        zero = torch.zeros_like(by_vmap)
        torch.testing.assert_close(by_vmap, zero if by_autograd is None else by_autograd)


# --- compilation ----------------------------------------------------------------------------------


def test_compiled_critic_penalty() -> None:
    """A conditional critic in training mode, with its penalty, compiles into one graph."""
    model = make_critic("conv", "spectral", CLASSES)
    params, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    x, (y,) = samples("conv"), labels(CLASSES)

    def penalty(params: dict[str, Tensor]) -> Tensor:
        def score(x: Tensor, y: Tensor) -> Tensor:
            tensors = params | {key: buffer.clone() for key, buffer in buffers.items()}
            return functional_call(model, tensors, (x[None], y[None]))[0]

        per_sample = vmap(grad(score))(x, y)
        return (torch.linalg.vector_norm(per_sample.flatten(1), dim=1) - 1).square().mean()

    expected = grad(penalty)(params)
    compiled = torch.compile(grad(penalty), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(params), expected)


@pytest.mark.parametrize(
    ("kind", "norm"), [("mlp", "layer"), ("conv", "instance"), ("resnet", "weight")]
)
def test_compiled_critic(kind: str, norm: str) -> None:
    """A conditional critic compiles into one graph."""
    model, x = make_critic(kind, norm, CLASSES), samples(kind)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, *labels(CLASSES)), model(x, *labels(CLASSES)))


@pytest.mark.parametrize("kind", SHAPES)
def test_compiled_generator(kind: str) -> None:
    """A conditional generator compiles into one graph."""
    model = make_generator(kind, num_classes=CLASSES).eval()
    z = torch.randn(BATCH, 6, dtype=torch.float64)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z, *labels(CLASSES)), model(z, *labels(CLASSES)))
