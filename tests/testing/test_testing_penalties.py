"""The testing kit judges strangers' penalties: sound ones pass, and mistakes are called by name."""

from functools import partial

import pytest
import torch
from torch.func import grad
from torch.nn.functional import relu

from fgan.penalties import gradient_penalty, input_gradients
from fgan.testing import check_penalty


def by_autograd(critic, x):
    """The usual imperative way, done right."""
    x = x.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return torch.square(torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1)


def infinity_norm(critic, x):
    """Banach WGAN's dual norm (Adler & Lunz 2018)."""
    return input_gradients(critic, x).flatten(1).abs().amax(dim=1) ** 2


SOUND_PENALTIES = {
    "imperative": (by_autograd, dict(even=True, on_linear=lambda s: (s - 1) ** 2)),
    "one-sided": (
        partial(gradient_penalty, one_sided=True),
        dict(even=True, on_linear=lambda s: max(0.0, s - 1) ** 2, transformable=True),
    ),
    "infinity norm": (infinity_norm, dict(euclidean=False, degree=2)),
}


@pytest.mark.parametrize("name", list(SOUND_PENALTIES))
def test_sound_penalties_pass(name):
    """However it is written, a per-sample penalty on the input gradient is accepted."""
    penalty, claims = SOUND_PENALTIES[name]
    check_penalty(penalty, max_examples=8, **claims)


def slopes(critic, x):
    """Input gradients by one backward pass."""
    return grad(lambda y: critic(y).sum())(x)


def whole_batch(critic, x):
    """One norm for the whole batch."""
    return torch.square(slopes(critic, x).norm() - 1).expand(len(x))


def flags_its_input(critic, x):
    """Leaves its mark on the user's batch."""
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return slope.flatten(1).norm(dim=1) ** 2


def at_random_points(critic, x):
    """Draws a direction from the global generator."""
    return gradient_penalty(critic, x + torch.randn_like(x))


def without_tape(critic, x):
    """The usual way with create_graph forgotten."""
    x = x.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x)
    return torch.square(slope.flatten(1).norm(dim=1) - 1)


def unstable_norm(critic, x):
    """sqrt(sum(g²)), whose second derivative at zero is NaN."""
    return torch.square(slopes(critic, x).square().flatten(1).sum(1).sqrt() - 1)


def image_dims(critic, x):
    """Hard-coded image axes."""
    return torch.square(slopes(critic, x).square().sum([1, 2, 3]))


def scores_too(critic, x):
    """Penalises the scores, which an offset changes."""
    return gradient_penalty(critic, x) + 1e-3 * critic(x).square()


WRONG_PENALTIES = {
    "mean": (lambda c, x: gradient_penalty(c, x).mean(), "shape and dtype"),
    "image axes only": (image_dims, "shape and dtype"),
    "wrong axis": (lambda c, x: slopes(c, x).norm(dim=-1), "shape and dtype"),
    "flags its input": (flags_its_input, "pure"),
    "random points": (at_random_points, "pure"),
    "not a square": (lambda c, x: slopes(c, x).flatten(1).norm(dim=1) - 1, "non-negative"),
    "whole batch": (whole_batch, "per sample"),
    "first axis only": (
        lambda c, x: slopes(c, x).norm(dim=1).flatten(1).sum(1)
        if x.ndim > 2
        else slopes(c, x).norm(dim=1),
        "any rank",
    ),
    "scores too": (scores_too, "offset"),
    "sum of absolute values": (lambda c, x: slopes(c, x).flatten(1).abs().sum(1), "rotation"),
    "at twice the norm of x": (lambda c, x: gradient_penalty(c, x) * x.flatten(1).norm(dim=1),
                               "linear critic"),
    "without the tape": (without_tape, "parameter gradient"),
    "detached": (lambda c, x: gradient_penalty(c, x).detach(), "parameter gradient"),
    "unstable norm": (unstable_norm, "zero gradient"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRONG_PENALTIES))
def test_wrong_penalties_are_caught(name):
    """The message names the invariant, and shows the critic and the samples."""
    penalty, invariant = WRONG_PENALTIES[name]
    with pytest.raises(AssertionError, match=f"the invariant '{invariant}' broke") as error:
        check_penalty(penalty, max_examples=8)
    assert "ExampleCritic('" in str(error.value)


@pytest.mark.parametrize(
    ("penalty", "claim", "invariant"),
    [
        (lambda c, x: slopes(c, x).square().flatten(1).sum(1) ** 6, dict(degree=6), "degree"),
        (
            partial(gradient_penalty, one_sided=True),
            dict(on_linear=lambda s: (s - 1) ** 2),
            "closed form",
        ),
        (gradient_penalty, dict(on_linear=lambda s: max(0.0, s - 1) ** 2), "closed form"),
        (by_autograd, dict(transformable=True), "transformable"),
        (
            lambda c, x: relu(slopes(c, x).flatten(1).sum(1)),
            dict(euclidean=False, even=True),
            "even",
        ),
    ],
)
def test_false_claims_about_penalties_are_caught(penalty, claim, invariant):
    """p for p/2, one side for two, and the other way round."""
    with pytest.raises(AssertionError, match=f"the invariant '{invariant}' broke"):
        check_penalty(penalty, max_examples=8, **claim)
