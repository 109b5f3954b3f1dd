"""`check_penalty`: correct penalties pass, wrong ones fail with the name of their invariant."""

from functools import partial

import pytest
import torch
from torch.func import grad
from torch.nn.functional import relu

from fgan.penalties import gradient_penalty, input_gradients
from fgan.testing import check_penalty


def by_autograd(critic, x):
    """The usual imperative penalty, correctly written."""
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return torch.square(torch.linalg.vector_norm(gradient.flatten(1), dim=1) - 1)


def infinity_norm(critic, x):
    """Banach WGAN's dual norm (Adler & Lunz 2018)."""
    return input_gradients(critic, x).flatten(1).abs().amax(dim=1) ** 2


CORRECT_PENALTIES = {
    "imperative": (
        by_autograd,
        dict(even=True, on_linear=lambda s: (s - 1) ** 2, transformable=False),
    ),
    "one-sided": (
        partial(gradient_penalty, one_sided=True),
        dict(even=True, on_linear=lambda s: max(0.0, s - 1) ** 2),
    ),
    "infinity norm": (infinity_norm, dict(euclidean=False, degree=2)),
}


@pytest.mark.parametrize("name", list(CORRECT_PENALTIES))
def test_correct_penalties_pass(name):
    """Per-sample penalties on the input gradient are accepted, however they are written."""
    penalty, options = CORRECT_PENALTIES[name]
    check_penalty(penalty, max_examples=5, **options)


def gradients(critic, x):
    """Input gradients by one backward pass."""
    return grad(lambda y: critic(y).sum())(x)


def whole_batch(critic, x):
    """One norm for the whole batch."""
    return torch.square(gradients(critic, x).norm() - 1).expand(len(x))


def flags_its_input(critic, x):
    """Changes requires_grad of the user's batch."""
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.flatten(1).norm(dim=1) ** 2


def at_random_points(critic, x):
    """Draws a direction from the global generator."""
    return gradient_penalty(critic, x + torch.randn_like(x))


def without_create_graph(critic, x):
    """The imperative penalty without create_graph=True."""
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    return torch.square(gradient.flatten(1).norm(dim=1) - 1)


def unstable_norm(critic, x):
    """sqrt(sum(g²)), whose second derivative at zero is NaN."""
    return torch.square(gradients(critic, x).square().flatten(1).sum(1).sqrt() - 1)


def image_dims(critic, x):
    """Hard-coded image axes."""
    return torch.square(gradients(critic, x).square().sum([1, 2, 3]))


def scores_too(critic, x):
    """Penalises the scores, which an offset changes."""
    return gradient_penalty(critic, x) + 1e-3 * critic(x).square()


WRONG_PENALTIES = {
    "mean": (lambda c, x: gradient_penalty(c, x).mean(), "shape and dtype"),
    "image axes only": (image_dims, "shape and dtype"),
    "wrong axis": (lambda c, x: gradients(c, x).norm(dim=-1), "shape and dtype"),
    "flags its input": (flags_its_input, "pure"),
    "random points": (at_random_points, "pure"),
    "not a square": (lambda c, x: gradients(c, x).flatten(1).norm(dim=1) - 1, "non-negative"),
    "whole batch": (whole_batch, "per sample"),
    "first axis only": (
        lambda c, x: gradients(c, x).norm(dim=1).flatten(1).sum(1)
        if x.ndim > 2
        else gradients(c, x).norm(dim=1),
        "any rank",
    ),
    "scores too": (scores_too, "offset"),
    "sum of absolute values": (lambda c, x: gradients(c, x).flatten(1).abs().sum(1), "rotation"),
    "at twice the norm of x": (lambda c, x: gradient_penalty(c, x) * x.flatten(1).norm(dim=1),
                               "linear critic"),
    "without create_graph": (without_create_graph, "parameter gradient"),
    "detached": (lambda c, x: gradient_penalty(c, x).detach(), "parameter gradient"),
    "unstable norm": (unstable_norm, "zero gradient"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRONG_PENALTIES))
def test_wrong_penalties_are_caught(name):
    """The message has the invariant, the critic and the samples."""
    penalty, invariant = WRONG_PENALTIES[name]
    with pytest.raises(AssertionError, match=f"the invariant '{invariant}' broke") as error:
        check_penalty(penalty, max_examples=5)
    assert "ExampleCritic('" in str(error.value)


@pytest.mark.parametrize(
    ("penalty", "options", "invariant"),
    [
        (lambda c, x: gradients(c, x).square().flatten(1).sum(1) ** 6, dict(degree=6), "degree"),
        (
            partial(gradient_penalty, one_sided=True),
            dict(on_linear=lambda s: (s - 1) ** 2),
            "closed form",
        ),
        (gradient_penalty, dict(on_linear=lambda s: max(0.0, s - 1) ** 2), "closed form"),
        (by_autograd, {}, "transformable"),
        (
            lambda c, x: relu(gradients(c, x).flatten(1).sum(1)),
            dict(euclidean=False, even=True),
            "even",
        ),
    ],
)
def test_optional_invariants_that_do_not_hold_are_named(penalty, options, invariant):
    """A wrong degree, a wrong closed form, no torch.func.grad, and a penalty that is not even."""
    with pytest.raises(AssertionError, match=f"the invariant '{invariant}' broke"):
        check_penalty(penalty, max_examples=5, **options)


def conditional(conditions_for):
    """A gradient penalty under the conditions that `conditions_for(x, conditions)` returns."""

    def penalty(critic, x, conditions=()):
        return gradient_penalty(critic, x, conditions=conditions_for(x, conditions))

    return penalty


def only_without_conditions(critic, x, conditions=()):
    """Takes conditions and does not use them."""
    return gradient_penalty(critic, x)


def constant_condition(critic, x, conditions=()):
    """Calls the critic at condition 0 of every sample."""
    return gradient_penalty(lambda y: critic(y, *(c[: len(y)] * 0 for c in conditions)), x)


def whole_condition(critic, x, *, conditions=()):
    """Differentiates one sample at a time with the conditions of all."""
    return gradient_penalty(lambda y: critic(y, *conditions).sum(0, keepdim=True), x)


WRONG_CONDITIONS = {
    "ignored": only_without_conditions,
    "constant": constant_condition,
    "all of the batch": whole_condition,
    "of another sample": conditional(lambda x, y: tuple(c.roll(1) for c in y)),
    "of the first sample": conditional(lambda x, y: tuple(c[:1].expand_as(c) for c in y)),
    "swallowed": lambda critic, x, **options: gradient_penalty(critic, x),
}


@pytest.mark.parametrize("name", list(WRONG_CONDITIONS))
def test_penalties_with_wrong_conditions_are_caught(name):
    """A penalty that takes conditions has to differentiate each sample under its own."""
    with pytest.raises(AssertionError, match="the invariant 'per-sample conditions' broke"):
        check_penalty(WRONG_CONDITIONS[name], max_examples=5)


def any_keyword(critic, x, **options):
    """Takes the keyword `conditions` among others."""
    return gradient_penalty(critic, x, **options)


CONDITIONAL = {
    "of fgan": gradient_penalty,
    "partial": partial(gradient_penalty, target=0.5),
    "passed on": conditional(lambda x, y: y),
    "any keyword": any_keyword,
}


@pytest.mark.parametrize("name", list(CONDITIONAL))
def test_penalties_with_per_sample_conditions_pass(name):
    """The keyword may be passed on, and bound arguments do not hide it."""
    check_penalty(CONDITIONAL[name], max_examples=4)
