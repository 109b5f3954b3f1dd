"""Spectral norm: its value, torch's own as a reference, its buffers, and `vmap`."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations, parametrize

from fgan.models import SpectralNorm, conv_critic, mlp_critic
from fgan.models.layers import Critic

SHAPE = (2, 28, 28)


def perceptron() -> Critic:
    """A small critic of linear layers in float64."""
    return mlp_critic((3, 4, 5), hidden=(32, 16), norm="spectral").double()


def convolutions() -> Critic:
    """A small critic of convolutions in float64."""
    return conv_critic(SHAPE, width=4, norm="spectral").double()


def samples(*shape: int) -> Tensor:
    """Random samples [4, *shape] in float64."""
    return torch.randn(4, *shape, dtype=torch.float64)


def spectral(layer: nn.Module, dim: int = 0) -> nn.Module:
    """`layer` with fgan's spectral norm on its weight."""
    norm = SpectralNorm(layer.weight.detach(), dim=dim)
    return parametrize.register_parametrization(layer, "weight", norm)


LAYERS = pytest.mark.parametrize(
    ("layer", "dim"),
    [(nn.Linear(7, 5), 0), (nn.Conv2d(3, 6, 4), 0), (nn.ConvTranspose2d(3, 6, 4), 1)],
    ids=["linear", "convolution", "transposed convolution"],
)


@LAYERS
def test_spectral_norm_divides_by_the_largest_singular_value(layer: nn.Module, dim: int) -> None:
    """After enough power iterations the weight, rows along dim, has spectral norm 1.

    The singular values are 3, 2, 2, ...: the error of the power iteration falls by (2/3)² a step.
    """
    layer = copy.deepcopy(layer).double()
    rows = layer.weight.detach().transpose(0, dim)
    u, s, v = torch.linalg.svd(rows.flatten(1), full_matrices=False)
    known = (u * torch.tensor([3.0] + [2.0] * (len(s) - 1), dtype=s.dtype)) @ v
    weight = known.reshape(rows.shape).transpose(0, dim)
    layer.weight = nn.Parameter(weight.clone())
    layer = spectral(layer, dim)
    for _ in range(100):
        layer.weight  # noqa: B018 - reading the weight runs the power iteration
    torch.testing.assert_close(layer.weight, weight / 3)


@LAYERS
def test_spectral_norm_equals_torch(layer: nn.Module, dim: int) -> None:
    """With equal u and v, weights, buffers and gradients equal those of torch's spectral norm."""
    weight = layer.weight.detach().double()
    ours = SpectralNorm(weight, n_power_iterations=2, dim=dim)
    theirs = parametrizations._SpectralNorm(weight, n_power_iterations=2, dim=dim)
    theirs.load_state_dict(ours.state_dict())
    for training in (True, True, False):
        results = []
        for norm in (ours.train(training), theirs.train(training)):
            leaf = weight.clone().requires_grad_()
            out = norm(leaf)
            (gradient,) = torch.autograd.grad(out.pow(3).sum(), leaf)
            results.append((out, gradient, dict(norm.named_buffers())))
        torch.testing.assert_close(results[0], results[1])


def test_spectral_norm_iterates_in_training_mode_only() -> None:
    """Evaluation does not change u and v; training does."""
    layer = spectral(nn.Linear(40, 30).double()).eval()
    start = {key: buffer.clone() for key, buffer in layer.named_buffers()}
    layer(torch.ones(1, 40, dtype=torch.float64))
    assert all(torch.equal(buffer, start[key]) for key, buffer in layer.named_buffers())
    layer.train()(torch.ones(1, 40, dtype=torch.float64))
    assert not any(torch.equal(buffer, start[key]) for key, buffer in layer.named_buffers())


def test_two_forward_passes_can_be_differentiated() -> None:
    """D(real) - D(fake): the second pass does not change tensors in the graph of the first."""
    model = perceptron().eval()
    before = model(samples(3, 4, 5))
    model.train()
    (before.sum() - model(samples(3, 4, 5)).sum()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_the_gradient_takes_u_and_v_as_constants() -> None:
    """A second derivative in training mode equals that at constant u and v of the new values."""
    model = perceptron()
    params, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    start = {key: torch.randn_like(buffer) for key, buffer in buffers.items()}
    x = samples(3, 4, 5)

    def penalty(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        def score(x: Tensor) -> Tensor:
            new = {key: buffer.clone() for key, buffer in buffers.items()}
            return functional_call(model, params | new, (x[None],))[0]

        return vmap(grad(score))(x).square().sum()

    in_training = grad(penalty)(params, start)
    new = {key: buffer.clone() for key, buffer in start.items()}
    functional_call(model, params | new, (x,))
    model.eval()
    torch.testing.assert_close(in_training, grad(penalty)(params, new))


def test_spectral_norm_batched_by_vmap() -> None:
    """vmap over the weights and buffers of several runs equals the separate runs."""
    models = [convolutions() for _ in range(3)]
    params = [dict(model.named_parameters()) for model in models]
    buffers = [dict(model.named_buffers()) for model in models]
    x = samples(*SHAPE)

    def step(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[dict, dict]:
        def loss(params: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            new = {key: buffer.clone() for key, buffer in buffers.items()}
            scores = functional_call(models[0], params | new, (x,))
            gradient = vmap(grad(lambda x: functional_call(models[0], params | new, (x[None],))[0]))
            models[0].eval()
            penalty = gradient(x).square().sum()
            models[0].train()
            return scores.mean() + penalty, new

        return grad(loss, has_aux=True)(params)

    def stack(trees: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {key: torch.stack([tree[key].detach() for tree in trees]) for key in trees[0]}

    mapped = vmap(step)(stack(params), stack(buffers))
    separate = [step(*run) for run in zip(params, buffers, strict=True)]
    for i in range(2):
        torch.testing.assert_close(mapped[i], stack([run[i] for run in separate]))
    inner = "layers.1.parametrizations.weight.0._u"
    assert not torch.equal(mapped[1][inner], stack(buffers)[inner])


def test_spectral_norm_refuses_vectors() -> None:
    """A weight with one axis has no singular values."""
    with pytest.raises(ValueError, match=r"2 or more axes.*\[5\]"):
        SpectralNorm(torch.ones(5))
