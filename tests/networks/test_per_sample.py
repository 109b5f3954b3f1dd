"""Which layers mix the samples of a batch: by name, and by the critic's scores and gradients."""

import pytest
import torch
from einops.layers.torch import Rearrange, Reduce
from helpers import Critic, assert_close, assert_identical, make
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import fgan
from fgan.networks import (
    batch_dependence,
    check_batch_independent,
    is_per_sample,
    mixing_layers,
)


def samples(seed=0):
    """[5, 4] of random numbers."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(5, 4, generator=source, dtype=torch.float64)


def critic_of(**options):
    """An MLP critic as a function of samples [5, 4] alone, in training mode."""
    network = fgan.make_functional(make(Critic, (4,), **options))
    return lambda x: network.apply(network.params, network.buffers, x)[0].squeeze(1)


@pytest.mark.parametrize("norm", [None, "layer", "spectral", "weight"])
def test_batch_dependence_is_diagonal_without_batch_norm(norm):
    """The diagonal is the norm of the gradient by the own sample; all other entries are 0."""
    critic, x = critic_of(norm=norm), samples()
    matrix = batch_dependence(critic, x)
    own = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(critic(own).sum(), own)
    assert_close(matrix, torch.diag(slope.pow(2).sum(1).sqrt()), atol=1e-14)
    assert (matrix.diagonal() > 0).all()
    check_batch_independent(critic, x)
    assert_identical(batch_dependence(lambda x: critic(x)[:, None], x), matrix)


def test_batch_dependence_is_full_under_batch_norm():
    """BatchNorm makes every score depend on every sample."""
    assert (batch_dependence(critic_of(norm="batch"), samples()) > 0).all()
    with pytest.raises(ValueError, match=r"mixes samples.*LayerNorm"):
        check_batch_independent(critic_of(norm="batch"), samples())


def test_the_mixed_pair_is_named():
    """The error says which score depends on which sample, in that order."""

    def critic(x):
        scores = x.sum(dim=1)
        return scores + torch.stack([x[0, 0] * 0] * 3 + [x[1, 2] * 3.0] + [x[0, 0] * 0])

    with pytest.raises(ValueError, match=r"sample 3 depends on sample 1 .*= 3"):
        check_batch_independent(critic, samples())


@pytest.mark.parametrize("shape", [(5,), (1, 4)])
def test_the_numeric_check_needs_two_samples(shape):
    """With one sample there is no other sample to depend on."""
    with pytest.raises(ValueError, match="B ≥ 2"):
        check_batch_independent(critic_of(), torch.zeros(shape, dtype=torch.float64))


def test_mixing_layers_names_the_batch_norm_family():
    """All layers of the BatchNorm family, with or without statistics, and no other layers."""
    mixing = {"a": nn.BatchNorm1d(2), "b": nn.BatchNorm2d(2, track_running_stats=False)}
    mixing["c"] = nn.Sequential(nn.SyncBatchNorm(2), nn.BatchNorm3d(2))
    harmless = {"d": nn.LayerNorm(2), "e": nn.GroupNorm(1, 2), "f": nn.InstanceNorm2d(2)}
    module = nn.ModuleDict(mixing | harmless | {"g": spectral_norm(nn.Linear(2, 2))})
    assert mixing_layers(module) == ["a", "b", "c.0", "c.1"]


class MeanWithNext(nn.Module):
    """The mean of a sample and the next one."""

    def forward(self, x):
        return (x + x.roll(1, 0)) / 2


class Marked(nn.Sequential):
    """Has the attribute `per_sample`."""

    per_sample = True


class Subclass(Marked):
    """Inherits the attribute, which does not count."""


def hooked():
    """A layer with a hook that changes its output."""
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, inputs, output: output.flip(0))
    return layer


def patched():
    """A layer with another forward method."""
    layer = nn.Linear(2, 2)
    layer.forward = lambda x: x.flip(0)
    return layer


PER_SAMPLE = {
    "perceptron": fgan.models.mlp_critic((2,), norm="spectral"),
    "convolutions": fgan.models.conv_critic((1, 28, 28), 10, norm="weight"),
    "residual": fgan.models.resnet_critic((3, 32, 32)),
    "layer norm": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), Rearrange("b c -> b 1 c")),
    "instance norm": fgan.models.conv_critic((1, 28, 28), norm="instance"),
    "flattened": nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 1)),
    "marked": Marked(nn.Linear(2, 2)),
}
NOT_KNOWN = {
    "batch norm": fgan.models.mlp_critic((2,), norm="batch"),
    "own layer": nn.Sequential(nn.Linear(2, 2), MeanWithNext()),
    "marked, around an own layer": Marked(MeanWithNext()),
    "subclass": Subclass(nn.Linear(2, 2)),
    "hook": nn.Sequential(hooked()),
    "other axis first": nn.Sequential(Rearrange("b c -> c b")),
    "pairs": nn.Sequential(Rearrange("(b two) c -> b (two c)", two=2)),
    "pairs mixed": nn.Sequential(Rearrange("(b p) c -> (b c) p", p=2)),
    "any axes": nn.Sequential(Rearrange("... a b -> ... b a")),
    "summed up": nn.Sequential(Reduce("b c -> ", "mean")),
    "flattened batch": nn.Sequential(nn.Flatten(0)),
    "instance norm with statistics": nn.Sequential(nn.InstanceNorm1d(2, track_running_stats=True)),
    "any stem": fgan.models.layers.Critic(lambda x, y: x - x.mean(0), nn.Linear(2, 1), (2,)),
    "patched": patched(),
    "attention": nn.Sequential(nn.MultiheadAttention(2, 1)),
}


@pytest.mark.parametrize("name", list(PER_SAMPLE))
def test_layers_that_treat_samples_alone_are_known(name):
    """fgan's critics, the common layers of torch, and modules with `per_sample = True`."""
    assert is_per_sample(PER_SAMPLE[name])


@pytest.mark.parametrize("name", list(NOT_KNOWN))
def test_other_layers_are_not_known(name):
    """Layers that mix samples, or may mix them."""
    assert not is_per_sample(NOT_KNOWN[name])


def test_detached_batch_statistics_are_found():
    """A dependence without a gradient changes scores when another sample is replaced."""
    with pytest.raises(ValueError, match=r"detached batch statistics.*LayerNorm"):
        check_batch_independent(lambda x: (x - x.mean(0).detach()).square().sum(1), samples())


def test_a_critic_that_branches_on_values_can_be_checked():
    """The gradients are computed row by row, without vmap."""
    check_batch_independent(lambda x: x.sum(1) if bool((x > -100).all()) else x[:, 0], samples())
