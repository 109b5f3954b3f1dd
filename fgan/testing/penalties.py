"""The properties of a penalty on a critic's input gradients."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, grad

from fgan.penalties import takes_conditions
from fgan.testing.engine import check_property, require, require_close, require_pure, show
from fgan.testing.strategies import ExampleCritic, critics, normal, samples, shapes

Penalty = Callable[..., Tensor]
Case = tuple[ExampleCritic, Tensor]
"""(critic, x [3, ...])."""


def check_penalty(
    penalty: Penalty,
    *,
    euclidean: bool = True,
    even: bool = False,
    degree: float | None = None,
    on_linear: Callable[[float], float] | None = None,
    transformable: bool = True,
    max_examples: int = 15,
) -> None:
    """Check the invariants of a penalty `penalty(critic, x [B, ...]) -> [B]` on input gradients.

    The critic maps [B, ...] to [B]. Of every penalty: shape and dtype, non-negative, inputs and
    global generators unchanged, the penalty of sample i a function of x_i alone (Gulrajani et al.
    2017, arXiv 1704.00028, section 4), the same for samples of any rank, unchanged by a constant
    added to the critic, constant in x for a linear critic, with a gradient by the critic's
    parameters that is that of the value (by central differences in float64: without
    `create_graph=True` it is zero), and finite where the critic's input gradient is zero.

    A recipe with conditions calls `penalty(critic, x, conditions=(y,))` with y [B, ...] and a
    critic of x and y. Where the penalty takes this keyword, the penalty of sample i must also be
    that of the critic at y_i. A recipe accepts every penalty that passes.

    euclidean: unchanged when samples and critic are rotated by the same rotation, as every function
        of ‖∇D‖₂ is. Pass False for other norms.
    even: the same for D and -D.
    degree: the penalty of cD is |c|^degree times that of D (p for the W-divergence).
    on_linear: the penalty of w·x as a function of ‖w‖, for example `lambda s: (s - 1) ** 2`.
    transformable: runs under `torch.func.grad`, as in a recipe. Pass False for a penalty that is
        not meant for fgan's recipes, such as one with `torch.autograd.grad`.
    max_examples: how many examples Hypothesis draws for each invariant.

    Raises AssertionError with the invariant's name and the smallest example.

    Example:
        >>> from fgan.testing import check_penalty
        >>> check_penalty(fgan.penalties.zero_centered_penalty, even=True, degree=2, max_examples=1)
    """
    cases, seeds = _cases(), st.integers(0, 999)
    linear, flat = _cases(("linear",)), _cases(("constant",))
    dtypes = st.sampled_from([torch.float32, torch.float64])
    constants = st.integers(-50, 50).map(float)
    factors = st.sampled_from([0.5, 2.0, -1.0, -3.0])
    norms = st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0])
    degrees, values = st.just(degree), st.just(on_linear)
    conditional = takes_conditions(penalty)
    battery: list[tuple[Any, ...]] = [
        (True, "shape and dtype", _shape_and_dtype, cases, dtypes),
        (True, "pure", _pure, cases),
        (True, "non-negative", _non_negative, cases),
        (True, "per sample", _per_sample, cases),
        (conditional, "per-sample conditions", _per_sample_conditions, cases, seeds),
        (True, "any rank", _any_rank, cases),
        (True, "offset", _offset, cases, constants),
        (euclidean, "rotation", _rotation, cases, seeds),
        (True, "linear critic", _linear_critic, linear, seeds),
        (True, "parameter gradient", _parameter_gradient, cases, seeds),
        (True, "zero gradient", _zero_gradient, flat),
        (even, "even", _even, cases),
        (degree is not None, "degree", _degree, cases, factors, degrees),
        (on_linear is not None, "closed form", _closed_form, linear, norms, values),
        (transformable, "transformable", _transformable, cases),
    ]
    for wanted, name, test, *strategies in battery:
        if wanted:
            check_property(name, test, (penalty,), *strategies, max_examples=max_examples)


def _shape_and_dtype(penalty: Penalty, case: Case, dtype: torch.dtype) -> None:
    """samples [B, ...] give a penalty [B] of their dtype."""
    critic, x = case
    for size in (1, x.shape[0]):
        value = penalty(copy.deepcopy(critic).to(dtype), x[:size].to(dtype))
        kind = type(value).__name__
        require(isinstance(value, Tensor), f"the penalty is a {kind}, not a tensor")
        require(
            value.shape == (size,) and value.dtype == dtype,
            f"samples {list(x[:size].shape)} {dtype} gave {list(value.shape)} {value.dtype}",
        )


def _pure(penalty: Penalty, case: Case) -> None:
    """the penalty changes no tensor, draws no random numbers, and gives the same value twice."""
    critic, x = case
    with require_pure(x, list(critic.parameters())):
        first, second = (penalty(critic, x) for _ in range(2))
    require_close(second, first, "the penalty twice of the same critic", rtol=0)


def _non_negative(penalty: Penalty, case: Case) -> None:
    """a penalty is finite and at least 0."""
    value = penalty(*case)
    require((value.isfinite() & (value >= 0)).all(), f"the penalty is {show(value)}")


def _per_sample(penalty: Penalty, case: Case) -> None:
    """the penalty of sample i depends on x_i alone."""
    critic, x = case
    alone = torch.cat([penalty(critic, sample[None]) for sample in x])
    batch = penalty(critic, x)
    require_close(batch, alone, "the penalty of the batch, and of its samples one by one")


def _per_sample_conditions(penalty: Penalty, case: Case, seed: int) -> None:
    """with conditions=(y,), the penalty of sample i is that of the critic at y_i."""
    critic, x = case
    # Different labels, so that a label of another sample changes the penalty.
    labels = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))

    def conditional(samples: Tensor, label: Tensor) -> Tensor:
        return (1 + label) * critic(samples)

    batch = penalty(conditional, x, conditions=(labels,))
    alone = []
    for sample, label in zip(x, labels, strict=True):
        alone.append(penalty(partial(conditional, label=label), sample[None]))
    message = f"conditions=({labels.tolist()},), and each sample at its own condition"
    require_close(batch, torch.cat(alone), message)


def _any_rank(penalty: Penalty, case: Case) -> None:
    """flattening the samples changes nothing."""
    critic, x = case
    flat = penalty(lambda rows: critic(rows.reshape(-1, *x.shape[1:])), x.flatten(1))
    require_close(penalty(critic, x), flat, f"samples {list(x.shape[1:])}, and flattened")


def _offset(penalty: Penalty, case: Case, constant: float) -> None:
    """a constant added to the critic changes nothing."""
    critic, x = case
    shifted = penalty(lambda samples: critic(samples) + constant, x)
    require_close(shifted, penalty(critic, x), f"D + {constant}, and D")


def _rotation(penalty: Penalty, case: Case, seed: int) -> None:
    """the same rotation of samples and critic changes nothing."""
    critic, x = case
    size = x[0].numel()
    q = torch.linalg.qr(normal(seed, size, size)).Q
    rotated = (x.flatten(1) @ q.T).reshape(x.shape)
    value = penalty(lambda y: critic((y.flatten(1) @ q).reshape(y.shape)), rotated)
    require_close(value, penalty(critic, x), "rotated, and not rotated")


def _linear_critic(penalty: Penalty, case: Case, seed: int) -> None:
    """a linear critic has the same penalty at every sample."""
    critic, x = case
    here, there = penalty(critic, x), penalty(critic, x + normal(seed, *x.shape))
    require_close(here, here[0].expand_as(here), "the penalties of a linear critic")
    require_close(here, there, "a linear critic at some samples, and at others")


def _parameter_gradient(penalty: Penalty, case: Case, seed: int) -> None:
    """the gradient by the critic's parameters is that of the value (central differences)."""
    critic, x = case
    weight = 1 + normal(seed, x.shape[0]).abs()
    direction = [normal(seed + 1 + i, *p.shape) for i, p in enumerate(critic.parameters())]
    gradients = _gradients_by_parameters(penalty, critic, x, weight)
    got = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    step = 1e-5
    ahead, behind = (
        (weight * penalty(_moved(critic, direction, s), x)).sum().detach() for s in (step, -step)
    )
    expected = (ahead - behind) / (2 * step)
    require_close(torch.as_tensor(got), expected, "by autograd, and by differences", rtol=1e-5)


def _zero_gradient(penalty: Penalty, case: Case) -> None:
    """where the critic's input gradient is zero, the penalty and its gradients are finite."""
    critic, x = case
    value = penalty(critic, x)
    require(value.isfinite().all(), f"the penalty is {show(value)}")
    for gradient in _gradients_by_parameters(penalty, critic, x, torch.ones_like(value)):
        require(gradient.isfinite().all(), f"the gradient by a parameter is {show(gradient)}")


def _even(penalty: Penalty, case: Case) -> None:
    """D and -D have the same penalty."""
    critic, x = case
    require_close(penalty(lambda y: -critic(y), x), penalty(critic, x), "of -D, and of D")


def _degree(penalty: Penalty, case: Case, factor: float, degree: float) -> None:
    """the penalty of cD is |c|^degree times that of D."""
    critic, x = case
    expected = abs(factor) ** degree * penalty(critic, x)
    require_close(penalty(lambda y: factor * critic(y), x), expected, f"of {factor} D")


def _closed_form(
    penalty: Penalty, case: Case, norm: float, on_linear: Callable[[float], float]
) -> None:
    """the penalty of w·x is `on_linear(‖w‖)`."""
    critic, x = case
    factor = norm / critic.weights[0].detach().norm()
    value = penalty(lambda y: factor * critic(y), x)
    expected = torch.full_like(value, on_linear(norm))
    require_close(value, expected, f"‖w‖ = {norm}: the penalty, and on_linear")


def _transformable(penalty: Penalty, case: Case) -> None:
    """torch.func.grad gives the gradient that backward gives."""
    critic, x = case
    params = {name: p.detach() for name, p in critic.named_parameters()}

    def total(params: dict[str, Tensor]) -> Tensor:
        return penalty(lambda y: functional_call(critic, params, (y,)), x).sum()

    weight = torch.ones(x.shape[0], dtype=x.dtype)
    by_backward = _gradients_by_parameters(penalty, critic, x, weight)
    for got, expected in zip(grad(total)(params).values(), by_backward, strict=True):
        require_close(got, expected, "by torch.func.grad, and by backward")


def _cases(kinds: tuple[str, ...] = ("linear", "tanh", "softplus")) -> st.SearchStrategy[Case]:
    """A critic and samples of one shape."""
    return shapes().flatmap(lambda shape: st.tuples(critics(shape, kinds), samples(shape, 3)))


def _moved(critic: ExampleCritic, direction: list[Tensor], step: float) -> ExampleCritic:
    """A copy of the critic with its parameters moved by `step` times `direction`."""
    moved = copy.deepcopy(critic)
    for parameter, d in zip(moved.parameters(), direction, strict=True):
        parameter.data.add_(d, alpha=step)
    return moved


def _gradients_by_parameters(
    penalty: Penalty, critic: ExampleCritic, x: Tensor, weight: Tensor
) -> tuple[Tensor, ...]:
    """The gradient of Σ weight_i penalty_i by every parameter; zero where there is none."""
    total = (weight * penalty(critic, x)).sum()
    parameters = tuple(critic.parameters())
    if not total.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters)
    return torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
