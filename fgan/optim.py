"""Functional optimisers: `init(params)` and `update(gradients, opt_state, params)`, both pure.

Each follows the `torch.optim` optimiser of its name, so that a recipe ported from a script trains
alike. A learning rate is a Python number (checked), a 0-d tensor (not checked, so that a vmapped
step can sweep it), or a schedule: a function from the 0-d count of updates made so far to the rate.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan import tree

Params = dict[str, Tensor]
Schedule = Callable[[Tensor], Tensor]
Rate = float | Tensor | Schedule


class Optimizer(NamedTuple):
    """An optimiser as two pure functions."""

    init: Callable[[Params], Any]
    """params -> opt_state, a tree of tensors."""
    update: Callable[[Params, Any, Params], tuple[Params, Any]]
    """(gradients, opt_state, params) -> (new params, new opt_state)."""


class SGDState(NamedTuple):
    """State of `sgd`."""

    updates: Tensor
    """Updates made so far, 0-d integer."""
    momentum: Params
    """The running sum of gradients; an empty dict without momentum."""


class RMSpropState(NamedTuple):
    """State of `rmsprop`."""

    updates: Tensor
    """Updates made so far, 0-d integer."""
    square: Params
    """Running mean of the squared gradients."""


class AdamState(NamedTuple):
    """State of `adam`."""

    updates: Tensor
    """Updates made so far, 0-d integer."""
    mean: Params
    """Running mean of the gradients; an empty dict with β₁ = 0, where it is the gradient itself."""
    square: Params
    """Running mean of the squared gradients."""


def sgd(lr: Rate, momentum: float = 0.0) -> Optimizer:
    """Stochastic gradient descent: m <- momentum · m + g, θ <- θ - lr · m.

    Raises ValueError for a negative rate or a momentum outside [0, 1).
    """
    _check_rate(lr)
    _check_decay("momentum", momentum)

    def init(params: Params) -> SGDState:
        velocity = tree.map(torch.zeros_like, params) if momentum else {}
        return SGDState(_zero_count(params), velocity)

    def update(gradients: Params, state: SGDState, params: Params) -> tuple[Params, SGDState]:
        rate = _rate(lr, state.updates)
        direction = gradients
        velocity = state.momentum
        if momentum:
            direction = velocity = tree.map(lambda m, g: momentum * m + g, velocity, gradients)
        new_params = tree.map(lambda p, d: p - tree.like(rate, p) * d, params, direction)
        return new_params, SGDState(state.updates + 1, velocity)

    return Optimizer(init, update)


def rmsprop(lr: Rate, alpha: float = 0.99, eps: float = 1e-8) -> Optimizer:
    """RMSprop: v <- α v + (1 - α) g², θ <- θ - lr · g / (√v + ε).

    Raises ValueError for a negative rate or eps, or an alpha outside [0, 1).
    """
    _check_rate(lr)
    _check_decay("alpha", alpha)
    _check_eps(eps)

    def init(params: Params) -> RMSpropState:
        return RMSpropState(_zero_count(params), tree.map(torch.zeros_like, params))

    def update(
        gradients: Params, state: RMSpropState, params: Params
    ) -> tuple[Params, RMSpropState]:
        rate = _rate(lr, state.updates)
        square = tree.map(lambda v, g: alpha * v + (1 - alpha) * g * g, state.square, gradients)
        new_params = tree.map(
            lambda p, g, v: p - tree.like(rate, p) * g / (v.sqrt() + eps), params, gradients, square
        )
        return new_params, RMSpropState(state.updates + 1, square)

    return Optimizer(init, update)


def adam(lr: Rate, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1).

    θ <- θ - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε). Raises ValueError for a negative rate or
    eps, or a beta outside [0, 1).
    """
    _check_rate(lr)
    _check_eps(eps)
    beta1, beta2 = betas
    _check_decay("betas[0]", beta1)
    _check_decay("betas[1]", beta2)

    def init(params: Params) -> AdamState:
        zeros = tree.map(torch.zeros_like, params)
        return AdamState(_zero_count(params), tree.clone(zeros) if beta1 else {}, zeros)

    def update(gradients: Params, state: AdamState, params: Params) -> tuple[Params, AdamState]:
        # The scalars are worked out in float64, as torch.optim does in Python: 1 - 0.999**t loses
        # four digits in float32.
        count = (state.updates + 1).double()
        step_size = _rate(lr, state.updates)
        mean, direction = state.mean, gradients
        if beta1:
            step_size = step_size / (1 - torch.pow(beta1, count))
            mean = direction = tree.map(lambda m, g: torch.lerp(m, g, 1 - beta1), mean, gradients)
        root_correction = torch.sqrt(1 - torch.pow(beta2, count))

        square = tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.square, gradients)
        new_params = tree.map(
            lambda p, m, v: (
                p - tree.like(step_size, p) * m / (v.sqrt() / tree.like(root_correction, p) + eps)
            ),
            params,
            direction,
            square,
        )
        return new_params, AdamState(state.updates + 1, mean, square)

    return Optimizer(init, update)


def linear_schedule(start: float, end: float, steps: int) -> Schedule:
    """A rate that runs linearly from `start` to `end` over `steps` updates, and stays there.

    The residual CIFAR-10 runs of Gulrajani et al. 2017 decay Adam's rate so, to zero.
    Raises ValueError for a negative rate or steps below 1.
    """
    _check_rate(start)
    _check_rate(end)
    if steps < 1:
        raise ValueError(f"a schedule needs at least 1 step, and {steps} were given")

    def schedule(count: Tensor) -> Tensor:
        return start + (end - start) * (count.double() / steps).clamp(max=1)

    return schedule


def _zero_count(params: Params) -> Tensor:
    """A 0-d tensor, since a Python counter in the state would recompile every step."""
    device = next(iter(params.values())).device
    return torch.zeros((), dtype=torch.int64, device=device)


def _rate(lr: Rate, count: Tensor) -> float | Tensor:
    return lr if isinstance(lr, float | int | Tensor) else lr(count)


def _check_rate(lr: Rate) -> None:
    if isinstance(lr, float | int) and not lr >= 0:
        raise ValueError(f"a learning rate is at least 0, and {lr} was given")
    if isinstance(lr, Tensor) and lr.ndim:
        raise ValueError(
            f"a learning rate is one number, and a tensor {list(lr.shape)} was given: "
            "vmap over it to sweep it"
        )


def _check_decay(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} lies in [0, 1), and {value} was given")


def _check_eps(eps: float) -> None:
    if not eps >= 0:
        raise ValueError(f"eps is at least 0, and {eps} was given")
