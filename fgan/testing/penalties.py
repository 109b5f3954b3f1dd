"""The batteries for a penalty, and for a critic that a penalty shall be taken of."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad

from fgan.testing.engine import InvariantError, demand, demand_close, hold, show, untouched
from fgan.testing.strategies import ExampleCritic, critics, normal, samples, shapes

Penalty = Callable[..., Tensor]
Given = tuple[ExampleCritic, Tensor]


def check_penalty(
    penalty: Penalty,
    *,
    euclidean: bool = True,
    even: bool = False,
    degree: float | None = None,
    on_linear: Callable[[float], float] | None = None,
    transformable: bool = False,
    max_examples: int = 15,
) -> None:
    """Put a penalty `penalty(critic, x [B, ...]) -> [B]` on a critic's input gradients through all.

    The critic maps [B, ...] to [B]. Of every penalty: shape and dtype, non-negative, inputs and
    global generators untouched, sample i's penalty a function of x_i alone (Gulrajani et al. 2017,
    arXiv 1704.00028, section 4), the same for samples of any rank, unchanged by a constant added to
    the critic, constant in x for a linear critic, with a gradient by the critic's parameters that
    is that of the value (by central differences in float64: a penalty computed outside the tape
    has none), and finite where the critic's input gradient is zero.

    euclidean: unchanged when samples and critic are rotated together, as every function of ‖∇D‖₂
        is. Pass False for other norms.
    even: the same for D and -D.
    degree: the penalty of cD is |c|^degree times that of D (p for the W-divergence).
    on_linear: the penalty of w·x as a function of ‖w‖, say `lambda s: (s - 1) ** 2`.
    transformable: runs under `torch.func.grad` too, as fgan's recipes need it.
    max_examples: how many examples Hypothesis draws for each invariant.

    Raises AssertionError with the invariant's name and the smallest example.
    """

    def shape(given: Given, dtype: torch.dtype) -> None:
        """samples [B, ...] give a penalty [B] of their dtype."""
        critic, x = given
        for size in (1, x.shape[0]):
            out = penalty(copy.deepcopy(critic).to(dtype), x[:size].to(dtype))
            demand(isinstance(out, Tensor), f"the penalty is a {type(out).__name__}, not a tensor")
            demand(
                out.shape == (size,) and out.dtype == dtype,
                f"samples {list(x[:size].shape)} {dtype} gave {list(out.shape)} {out.dtype}",
            )

    def pure(given: Given) -> None:
        """the penalty writes to nothing, draws no random numbers, and is the same twice."""
        critic, x = given
        with untouched(x, list(critic.parameters())):
            first, second = (penalty(critic, x) for _ in range(2))
        demand_close(second, first, "the penalty twice of the same critic", rtol=0)

    def non_negative(given: Given) -> None:
        """a penalty is finite and at least 0."""
        value = penalty(*given)
        demand((value.isfinite() & (value >= 0)).all(), f"the penalty is {show(value)}")

    def per_sample(given: Given) -> None:
        """the penalty of sample i depends on x_i alone."""
        critic, x = given
        together = penalty(critic, x)
        alone = torch.cat([penalty(critic, sample[None]) for sample in x])
        demand_close(together, alone, "the penalty of the batch, and of its samples one by one")

    def any_rank(given: Given) -> None:
        """flattening the samples changes nothing."""
        critic, x = given
        flat = penalty(lambda rows: critic(rows.reshape(-1, *x.shape[1:])), x.flatten(1))
        demand_close(penalty(critic, x), flat, f"samples {list(x.shape[1:])}, and flattened")

    def offset(given: Given, constant: float) -> None:
        """a constant added to the critic changes nothing."""
        critic, x = given
        shifted = penalty(lambda samples: critic(samples) + constant, x)
        demand_close(shifted, penalty(critic, x), f"D + {constant}, and D")

    def rotation(given: Given, seed: int) -> None:
        """rotating samples and critic together changes nothing."""
        critic, x = given
        size = x[0].numel()
        q = torch.linalg.qr(normal(seed, size, size)).Q
        back = penalty(lambda y: critic((y.flatten(1) @ q).reshape(y.shape)), _turn(x, q))
        demand_close(back, penalty(critic, x), "rotated, and as it was")

    def linear(given: Given, seed: int) -> None:
        """a linear critic has the same penalty at every sample."""
        critic, x = given
        here, there = penalty(critic, x), penalty(critic, x + normal(seed, *x.shape))
        demand_close(here, here[0].expand_as(here), "the penalties of a linear critic")
        demand_close(here, there, "a linear critic at some samples, and at others")

    def gradient(given: Given, seed: int) -> None:
        """the gradient by the critic's parameters is that of the value (central differences)."""
        critic, x = given
        weight = 1 + normal(seed, x.shape[0]).abs()
        direction = [normal(seed + 1 + i, *p.shape) for i, p in enumerate(critic.parameters())]
        slopes = _parameter_gradients(penalty, critic, x, weight)
        got = sum((g * d).sum() for g, d in zip(slopes, direction, strict=True))
        step = 1e-5
        ahead, behind = (
            (weight * penalty(_moved(critic, direction, s), x)).sum().detach()
            for s in (step, -step)
        )
        expected = (ahead - behind) / (2 * step)
        demand_close(torch.as_tensor(got), expected, "by autograd, and by differences", rtol=1e-5)

    def flat_critic(given: Given) -> None:
        """where the critic's input gradient is zero, all is finite, and so are the gradients."""
        critic, x = given
        value = penalty(critic, x)
        demand(value.isfinite().all(), f"the penalty is {show(value)}")
        for slope in _parameter_gradients(penalty, critic, x, torch.ones_like(value)):
            demand(slope.isfinite().all(), f"the gradient by a parameter is {show(slope)}")

    def reflected(given: Given) -> None:
        """D and -D have the same penalty."""
        critic, x = given
        demand_close(penalty(lambda y: -critic(y), x), penalty(critic, x), "of -D, and of D")

    def scaled(given: Given, factor: float) -> None:
        """the penalty of cD is |c|^degree times that of D."""
        critic, x = given
        expected = abs(factor) ** (degree or 0.0) * penalty(critic, x)
        demand_close(penalty(lambda y: factor * critic(y), x), expected, f"of {factor} D")

    def closed_form(given: Given, norm: float) -> None:
        """the penalty of w·x is the function of ‖w‖ that was claimed."""
        critic, x = given
        assert on_linear is not None
        factor = norm / critic.weights[0].detach().norm()
        value = penalty(lambda y: factor * critic(y), x)
        expected = torch.full_like(value, on_linear(norm))
        demand_close(value, expected, f"‖w‖ = {norm}: the penalty, and the claim")

    def transformed(given: Given) -> None:
        """torch.func.grad gives the gradient that backward gives."""
        critic, x = given
        params = {name: p.detach() for name, p in critic.named_parameters()}
        found = grad(lambda p: penalty(lambda y: functional_call(critic, p, (y,)), x).sum())(params)
        weight = torch.ones(x.shape[0], dtype=x.dtype)
        for got, expected in zip(
            found.values(), _parameter_gradients(penalty, critic, x, weight), strict=True
        ):
            demand_close(got, expected, "by torch.func.grad, and by backward")

    any_case, seeds = _given(), st.integers(0, 999)
    linears, flats = _given(("linear",)), _given(("constant",))
    dtypes = st.sampled_from([torch.float32, torch.float64])
    constants = st.integers(-50, 50).map(float)
    factors = st.sampled_from([0.5, 2.0, -1.0, -3.0])
    norms = st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0])
    battery: list[tuple[Any, ...]] = [
        (True, "shape and dtype", shape, any_case, dtypes),
        (True, "pure", pure, any_case),
        (True, "non-negative", non_negative, any_case),
        (True, "per sample", per_sample, any_case),
        (True, "any rank", any_rank, any_case),
        (True, "offset", offset, any_case, constants),
        (euclidean, "rotation", rotation, any_case, seeds),
        (True, "linear critic", linear, linears, seeds),
        (True, "parameter gradient", gradient, any_case, seeds),
        (True, "zero gradient", flat_critic, flats),
        (even, "even", reflected, any_case),
        (degree is not None, "degree", scaled, any_case, factors),
        (on_linear is not None, "closed form", closed_form, linears, norms),
        (transformable, "transformable", transformed, any_case),
    ]
    for claimed, name, prop, *drawn in battery:
        if claimed:
            hold(name, prop, *drawn, max_examples=max_examples)


def check_batch_independent(critic: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Check that a critic's score of a sample depends on that sample alone: ∂D_i/∂x_j = 0, i ≠ j.

    critic: maps samples [B, ...] to scores [B] or [B, 1]; a module is run as it is, in a copy.
    x: samples [B, ...], B at least 2.

    Raises AssertionError with the worst pair of samples, also where the dependence is hidden from
    autograd (detached batch statistics). A penalty per sample is defined for such critics only
    (Gulrajani et al. 2017, arXiv 1704.00028, section 4).
    """

    def scores(samples: Tensor) -> Tensor:
        # Spectral norm and its like move at every call: begin from the same state each time.
        fresh = copy.deepcopy(critic) if isinstance(critic, nn.Module) else critic
        out = fresh(samples)
        demand(
            out.shape in ((len(samples),), (len(samples), 1)),
            f"a critic gives [B] or [B, 1], and this one {list(out.shape)} for {len(samples)}",
        )
        return out.reshape(-1)

    title = "the invariant 'batch independent' broke: a score depends on its own sample alone."
    try:
        demand(x.ndim > 1 and len(x) > 1, f"samples [B >= 2, ...] are needed, got {list(x.shape)}")
        _look_for_mixing(scores, x.detach())
    except Exception as error:
        what = (
            error
            if isinstance(error, InvariantError)
            else f"it raised {type(error).__name__}: {error}"
        )
        raise AssertionError(f"{title}\n{what}") from (
            None if isinstance(error, InvariantError) else error
        )


def _look_for_mixing(scores: Callable[[Tensor], Tensor], x: Tensor) -> None:
    given = x.clone().requires_grad_()
    out = scores(given)
    influence = torch.zeros(len(x), len(x), dtype=torch.float64)
    for i in range(len(x)):
        (slope,) = torch.autograd.grad(
            out[i], given, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        influence[i] = slope.flatten(1).double().norm(dim=1)
    influence.fill_diagonal_(0)
    i, j = divmod(int(influence.argmax()), len(x))
    demand(
        influence[i, j] == 0,
        f"the score of sample {i} moves with sample {j}: |∂D_{i}/∂x_{j}| = {influence[i, j]:.3g}",
    )
    before = scores(x)
    if not torch.equal(before, scores(x)):
        return  # a critic with hidden state: two of its answers cannot be compared
    for j in range(len(x)):
        other = x.clone()
        other[j] = 2 - 3 * x[j]
        change = (scores(other) - before).abs()
        change[j] = 0
        i = int(change.argmax())
        demand(
            change[i] <= 1e-5 * (1 + before[i].abs()),
            f"the score of sample {i} moves by {change[i]:.3g} when sample {j} is replaced, "
            "though its gradient is zero (detached batch statistics?)",
        )


def _given(kinds: tuple[str, ...] = ("linear", "tanh", "softplus")) -> st.SearchStrategy[Given]:
    """(critic, x [3, ...]) of one shape."""
    return shapes().flatmap(lambda shape: st.tuples(critics(shape, kinds), samples(shape, 3)))


def _turn(x: Tensor, q: Tensor) -> Tensor:
    return (x.flatten(1) @ q.T).reshape(x.shape)


def _moved(critic: ExampleCritic, direction: list[Tensor], step: float) -> ExampleCritic:
    moved = copy.deepcopy(critic)
    for parameter, d in zip(moved.parameters(), direction, strict=True):
        parameter.data.add_(d, alpha=step)
    return moved


def _parameter_gradients(
    penalty: Penalty, critic: ExampleCritic, x: Tensor, weight: Tensor
) -> tuple[Tensor, ...]:
    """The gradient of Σ weight_i penalty_i by every parameter; zero where there is none."""
    total = (weight * penalty(critic, x)).sum()
    parameters = tuple(critic.parameters())
    if not total.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters)
    return torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
