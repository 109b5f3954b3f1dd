"""Penalties: the kit's battery, closed forms, and second-order gradients under every norm."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import NORMS, critic_of, normal, seeds, shapes
from torch.func import functional_call, grad, jacrev

from fgan.penalties import (
    batched_input_gradients,
    gradient_norms,
    gradient_penalty,
    input_gradients,
    w_divergence_penalty,
    zero_centered_penalty,
)
from fgan.testing import check_penalty

KINDS = {
    "gradient": (gradient_penalty, {}, lambda s: (s - 1) ** 2, None),
    "gradient, target 0": (gradient_penalty, dict(target=0.0), lambda s: s**2, 2.0),
    "gradient, target 2": (gradient_penalty, dict(target=2.0), lambda s: (s - 2) ** 2, None),
    "one-sided": (gradient_penalty, dict(one_sided=True), lambda s: max(0.0, s - 1) ** 2, None),
    "divergence": (w_divergence_penalty, {}, lambda s: 2 * s**6, 6.0),
    "divergence, k 3": (w_divergence_penalty, dict(k=3.0, p=2.5), lambda s: 3 * s**2.5, 2.5),
    "zero-centred": (zero_centered_penalty, {}, lambda s: s**2, 2.0),
}
"""name -> (penalty, keywords, its value at slope s, its degree if it is homogeneous)."""
POWERS = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]
PENALTIES = [partial(w_divergence_penalty, p=p) for p in POWERS] + [
    gradient_penalty,
    partial(gradient_penalty, target=0.01, one_sided=True),
    zero_centered_penalty,
]


def exactly(got, expected, tolerance=1e-11):
    """Equal to rounding, relative to the larger of 1 and the value."""
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("gradients", [input_gradients, batched_input_gradients])
@pytest.mark.parametrize("name", list(KINDS))
def test_passes_the_battery(name, gradients):
    """Groups 4 to 6, with the value on linear critics exact, by either form of the gradient."""
    penalty, options, value, degree = KINDS[name]
    check_penalty(
        partial(penalty, gradients=gradients, **options),
        even=True,
        degree=degree,
        on_linear=value,
        transformable=True,
        max_examples=4,
    )


@given(shapes(), seeds, st.floats(1, 8), st.floats(0.1, 5))
def test_linear_critic_in_closed_form(shape, seed, p, k):
    """w·x: (‖w‖ - 1)², max(0, ‖w‖ - 1)², k‖w‖^p, ‖w‖², exactly, for tensors as settings too."""
    w = normal(seed, torch.Size(shape).numel())
    norm, x = w.norm(), normal(seed + 1, 3, *shape)

    def critic(x):
        return x.flatten(1) @ w

    for value, expected in [
        (gradient_penalty(critic, x), (norm - 1) ** 2),
        (gradient_penalty(critic, x, target=torch.tensor(2.0)), (norm - 2) ** 2),
        (gradient_penalty(critic, x, one_sided=True), (norm - 1).clamp(min=0) ** 2),
        (w_divergence_penalty(critic, x, k, p), k * norm**p),
        (w_divergence_penalty(critic, x, *torch.tensor([k, p], dtype=torch.float64)), k * norm**p),
        (zero_centered_penalty(critic, x), norm**2),
    ]:
        exactly(value, expected.expand(3))


@given(shapes(), seeds)
def test_quadratic_critic_has_the_samples_as_gradients(shape, seed):
    """½‖x‖² slopes like x at x, so norms, axes and the order of samples are all seen."""
    x = normal(seed, 4, *shape)

    def critic(x):
        return x.flatten(1).square().sum(1) / 2

    for gradients in (input_gradients, batched_input_gradients):
        exactly(gradients(critic, x), x)
        exactly(
            gradient_penalty(critic, x, gradients=gradients), (x.flatten(1).norm(dim=1) - 1) ** 2
        )
    exactly(gradient_norms(x), x.flatten(1).norm(dim=1))


@pytest.mark.parametrize("norm", list(NORMS))
@settings(max_examples=4)
@given(seed=seeds)
def test_two_forms_of_the_gradient_agree(norm, seed):
    """vmap(grad) equals the gradient of the sum, to first and to second order, under every norm."""
    score, params = critic_of(norm, seed)
    x = normal(seed, 3, 2, 4, 3)
    one, other = (g(partial(score, params), x) for g in (input_gradients, batched_input_gradients))
    assert one.any()
    exactly(one, other)

    def by_params(gradients):
        return grad(lambda p: gradient_penalty(partial(score, p), x, gradients=gradients).sum())(
            params
        )

    torch.testing.assert_close(
        by_params(input_gradients), by_params(batched_input_gradients), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("norm", list(NORMS))
@settings(max_examples=3)
@given(seed=seeds)
def test_input_gradients_against_differences(norm, seed):
    """∇D·v is the central difference of D along v, one sample at a time."""
    score, params = critic_of(norm, seed, training=False)
    x, v, step = normal(seed, 3, 2, 4, 3), normal(seed + 1, 3, 2, 4, 3), 1e-6
    along = (input_gradients(partial(score, params), x) * v).flatten(1).sum(1)
    difference = (score(params, x + step * v) - score(params, x - step * v)) / (2 * step)
    exactly(along, difference, 1e-7)


@pytest.mark.parametrize("norm", list(NORMS))
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: str(getattr(p, "keywords", "")))
def test_second_order_against_differences(norm, penalty):
    """The penalty's gradient by every parameter is the central difference along a direction."""
    score, params = critic_of(norm, 3, training=False)
    x, step = normal(1, 2, 2, 4, 3), 1e-5
    direction = {k: normal(7 + i, *v.shape) for i, (k, v) in enumerate(params.items())}

    def objective(params):
        return (penalty(partial(score, params), x) * torch.tensor([1.0, 2.0])).sum()

    def moved(step):
        return {k: v + step * direction[k] for k, v in params.items()}

    slope = grad(objective)(params)
    got = sum((slope[k] * direction[k]).sum() for k in params)
    expected = (objective(moved(step)) - objective(moved(-step))) / (2 * step)
    assert expected.abs() > 1e-9, "a direction along which nothing changes shows nothing"
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: str(getattr(p, "keywords", "")))
def test_second_order_by_gradcheck(penalty):
    """torch's own gradcheck, over weights and samples of a smooth critic at once."""
    weight, bias = normal(0, 3, 2), normal(1, 3)

    def value(weight, bias, x):
        return penalty(lambda y: torch.tanh(y @ weight.T + bias).sum(1), x)

    inputs = tuple(t.requires_grad_() for t in (weight, bias, normal(2, 2, 2)))
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


@pytest.mark.parametrize("norm", list(NORMS))
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: str(getattr(p, "keywords", "")))
def test_zero_gradient_is_no_nan(norm, penalty):
    """A critic whose last layer is zero has input gradient 0; penalty and gradients are finite."""
    score, params = critic_of(norm)
    x = normal(0, 2, 2, 4, 3)

    def dead(params, x):
        return 0 * score(params, x)

    slope = input_gradients(partial(dead, params), x)
    assert not slope.any()
    target = {} if penalty in PENALTIES[: len(POWERS)] or penalty is zero_centered_penalty else 1
    value, back = (
        penalty(partial(dead, params), x),
        grad(lambda p: penalty(partial(dead, p), x).sum())(params),
    )
    expected = 0.0 if target == {} or penalty is not gradient_penalty else 1.0
    assert value.tolist() == [expected] * 2
    assert all(leaf.isfinite().all() for leaf in back.values())


@pytest.mark.parametrize("p", POWERS)
def test_zero_weight_is_no_nan(p):
    """At w = 0 itself the W-divergence penalty of w·x has gradient exactly 0 for every p."""
    x = normal(0, 3, 2)
    slope = grad(lambda w: w_divergence_penalty(lambda y: y @ w, x, 2.0, p).sum())(
        torch.zeros(2, dtype=torch.float64)
    )
    assert slope.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("penalty", "curvature"),
    [(partial(w_divergence_penalty, k=3.0, p=p), 6.0 if p == 2 else 0.0) for p in POWERS]
    + [(partial(w_divergence_penalty, k=3.0, p=torch.tensor(2.0)), 6.0)]
    + [(zero_centered_penalty, 2.0), (gradient_penalty, 0.0)],
)
def test_curvature_at_a_zero_gradient(penalty, curvature):
    """Whoever differentiates through a round needs it: 2k I of k‖w‖², and no NaN for any other p.

    For p > 2 it is 0. Below, and for the gradient penalty, it does not exist, and 0 stands for it.
    """
    x = normal(0, 3, 2)
    zero = torch.zeros(2, dtype=torch.float64)
    found = jacrev(grad(lambda w: penalty(lambda y: y @ w, x).mean()))(zero)
    exactly(found, curvature * torch.eye(2, dtype=torch.float64))


@given(shapes(), seeds)
def test_conditions_are_held(shape, seed):
    """Each sample's penalty is taken at its own condition, which is not differentiated."""
    x, c = normal(seed, 4, *shape), normal(seed + 1, 4).abs() + 0.5

    def critic(x, c):
        return c * x.flatten(1).sum(1)

    slope = torch.Size(shape).numel() ** 0.5 * c
    for gradients in (input_gradients, batched_input_gradients):
        given_c = dict(conditions=(c,), gradients=gradients)
        exactly(gradient_penalty(critic, x, **given_c), (slope - 1) ** 2)
        exactly(w_divergence_penalty(critic, x, 2.0, 3.0, **given_c), 2 * slope**3)
        exactly(zero_centered_penalty(critic, x, **given_c), slope**2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_lifted(dtype):
    """Penalties of half-precision slopes are float32, where 300² does not overflow."""
    x = torch.ones(2, 3, dtype=dtype)

    def critic(x):
        return (300 * x).sum(1)

    for penalty, expected in [
        (zero_centered_penalty, 3 * 300.0**2),
        (partial(gradient_penalty, target=0.0), 3 * 300.0**2),
        (partial(w_divergence_penalty, k=1.0, p=4.0), 9 * 300.0**4),
    ]:
        value = penalty(critic, x)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, torch.full((2,), expected), rtol=1e-5, atol=0)


def test_batch_norm_cannot_mix_in_vmap():
    """With running statistics the definition raises, where the sum form would mix silently."""
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1)).double()

    def critic(x):
        return functional_call(module, dict(module.named_parameters()), (x,)).squeeze(1)

    with pytest.raises((RuntimeError, ValueError)):
        input_gradients(critic, normal(0, 4, 3))
