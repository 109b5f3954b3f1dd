"""`check_batch_independent`, the example critics, and the strategies for latents and batches."""

import copy

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from fgan.penalties import gradient_penalty
from fgan.testing import ExampleCritic, batches, check_batch_independent, latents


def samples(size=4):
    """[size, 3] of random numbers."""
    return torch.randn(size, 3, generator=torch.Generator().manual_seed(0))


class Centred(nn.Module):
    """Subtracts the mean of the batch, detached or not."""

    def __init__(self, detach):
        super().__init__()
        self.detach, self.last = detach, nn.Linear(3, 1)

    def forward(self, x):
        mean = x.mean(dim=0)
        return self.last(torch.tanh(x - (mean.detach() if self.detach else mean)))


@pytest.mark.parametrize(
    "critic",
    [
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 1)),
        nn.Sequential(spectral_norm(nn.Linear(3, 1)), nn.Flatten(0)),
        nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)).eval(),
        lambda x: x.square().sum(dim=1),
    ],
)
def test_independent_critics_pass(critic):
    """Layers that treat each sample alone, and fixed statistics, are accepted."""
    x = samples()
    check_batch_independent(critic, x)
    assert torch.equal(x, samples())
    assert not x.requires_grad


def test_of_a_critic_with_hidden_state_only_gradients_are_checked():
    """Two calls differ without any mixing, so scores of two calls cannot be compared."""
    calls = []

    def critic(x):
        calls.append(x)
        return len(calls) * x.sum(dim=1)

    check_batch_independent(critic, samples())


@pytest.mark.parametrize("detach", [False, True])
def test_mixing_critics_are_caught(detach):
    """Batch statistics are found by their gradients, or by replacing samples where detached."""
    with pytest.raises(AssertionError, match="'batch independent' broke") as error:
        check_batch_independent(Centred(detach), samples())
    assert ("detached batch statistics" in str(error.value)) == detach


def test_batch_norm_is_caught_and_not_changed():
    """The check changes no buffer of the module."""
    critic = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    before = copy.deepcopy(critic.state_dict())
    with pytest.raises(AssertionError, match=r"sample \d depends on sample \d"):
        check_batch_independent(critic, samples())
    assert all(torch.equal(before[name], value) for name, value in critic.state_dict().items())


@pytest.mark.parametrize(
    ("critic", "x", "message"),
    [
        (nn.Linear(3, 2), samples(), r"\[B\] or \[B, 1\]"),
        (nn.Linear(3, 1), samples(1), "B ≥ 2"),
        (nn.Linear(4, 1), samples(), "raised RuntimeError"),
    ],
)
def test_what_cannot_be_checked_is_reported(critic, x, message):
    """Wrong shapes and the critic's own errors raise AssertionError too."""
    with pytest.raises(AssertionError, match=message):
        check_batch_independent(critic, x)


def test_a_linear_example_critic_has_the_penalty_of_its_weight():
    """Its gradient penalty is (‖w‖ - 1)²."""
    critic = ExampleCritic("linear", (3,), seed=2)
    penalty = gradient_penalty(critic, samples().double())
    expected = (critic.weights[0].norm() - 1) ** 2
    torch.testing.assert_close(penalty, expected.expand(4), rtol=1e-12, atol=0)


def test_kinds_of_example_critics_are_named():
    """The error for an unknown kind lists all kinds."""
    with pytest.raises(ValueError, match=r"'cubic'.*linear, constant, tanh, softplus"):
        ExampleCritic("cubic", (2,))


@given(latents(3, 5), batches((2, 1), n_critic=2, num_classes=3), batches((2,)))
def test_strategies_draw_the_inputs_of_a_round(latent, labelled, plain):
    """Latents [B, Z]; real samples [n_critic, B, ...], float64, with labels if `num_classes`."""
    assert (latent.shape, latent.dtype) == ((5, 3), torch.float64)
    assert labelled.real.shape == (2, 4, 2, 1)
    assert labelled.condition.shape == (2, 4)
    assert 0 <= labelled.condition.min() <= labelled.condition.max() < 3
    assert plain.real.shape == (1, 4, 2)
    assert plain.condition is None
