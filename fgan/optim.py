"""Functional optimisers: `init(params)` and `update(gradients, opt_state, params)`, both pure.

Each follows the `torch.optim` optimiser of its name, so that a recipe ported from a script trains
alike. Learning rates, weight decay and the limit of `clip_by_norm` are `Scalar`s: numbers, 0-d
tensors, or schedules of the updates made so far (`linear`, `cosine`, `warmup`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan import tree
from fgan.scalars import Scalar, check_scalar, cosine, linear, scalar_at, warmup
from fgan.types import Params

__all__ = [
    "AdamState",
    "Optimizer",
    "RMSpropState",
    "SGDState",
    "adam",
    "adamw",
    "clip_by_norm",
    "cosine",
    "linear",
    "rmsprop",
    "sgd",
    "warmup",
]


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


def sgd(lr: Scalar, momentum: float = 0.0) -> Optimizer:
    """Stochastic gradient descent: m <- momentum · m + g, θ <- θ - lr · m.

    Raises ValueError for a negative rate or a momentum outside [0, 1).
    """
    check_scalar("a learning rate", lr, 0.0)
    check_scalar("momentum", momentum, 0.0, 1.0)

    def init(params: Params) -> SGDState:
        velocity = tree.map(torch.zeros_like, params) if momentum else {}
        return SGDState(_zero_count(params), velocity)

    def update(gradients: Params, state: SGDState, params: Params) -> tuple[Params, SGDState]:
        rate = scalar_at(lr, state.updates)
        direction = gradients
        velocity = state.momentum
        if momentum:
            direction = velocity = tree.map(lambda m, g: momentum * m + g, velocity, gradients)
        new_params = tree.map(lambda p, d: p - tree.like(rate, p) * d, params, direction)
        return new_params, SGDState(state.updates + 1, velocity)

    return Optimizer(init, update)


def rmsprop(lr: Scalar, alpha: float = 0.99, eps: float = 1e-8) -> Optimizer:
    """RMSprop: v <- α v + (1 - α) g², θ <- θ - lr · g / (√v + ε).

    Raises ValueError for a negative rate or eps, or an alpha outside [0, 1).
    """
    check_scalar("a learning rate", lr, 0.0)
    check_scalar("alpha", alpha, 0.0, 1.0)
    check_scalar("eps", eps, 0.0)

    def init(params: Params) -> RMSpropState:
        return RMSpropState(_zero_count(params), tree.map(torch.zeros_like, params))

    def update(
        gradients: Params, state: RMSpropState, params: Params
    ) -> tuple[Params, RMSpropState]:
        rate = scalar_at(lr, state.updates)
        square = tree.map(lambda v, g: alpha * v + (1 - alpha) * g * g, state.square, gradients)
        new_params = tree.map(
            lambda p, g, v: p - tree.like(rate, p) * g / (v.sqrt() + eps), params, gradients, square
        )
        return new_params, RMSpropState(state.updates + 1, square)

    return Optimizer(init, update)


def adam(lr: Scalar, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1).

    θ <- θ - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε). Raises ValueError for a negative rate or
    eps, or a beta outside [0, 1).
    """
    return _adam(lr, betas, eps, 0.0)


def adamw(
    lr: Scalar,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: Scalar = 1e-2,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2).

    θ <- (1 - lr · weight_decay) θ, then Adam's step, as in `torch.optim.AdamW`. Raises ValueError
    as `adam` does, and for a negative weight decay.
    """
    check_scalar("weight_decay", weight_decay, 0.0)
    return _adam(lr, betas, eps, weight_decay)


def _adam(lr: Scalar, betas: tuple[float, float], eps: float, weight_decay: Scalar) -> Optimizer:
    check_scalar("a learning rate", lr, 0.0)
    check_scalar("eps", eps, 0.0)
    beta1, beta2 = betas
    check_scalar("betas[0]", beta1, 0.0, 1.0)
    check_scalar("betas[1]", beta2, 0.0, 1.0)
    decays = not isinstance(weight_decay, float | int) or weight_decay > 0

    def init(params: Params) -> AdamState:
        zeros = tree.map(torch.zeros_like, params)
        return AdamState(_zero_count(params), tree.clone(zeros) if beta1 else {}, zeros)

    def update(gradients: Params, state: AdamState, params: Params) -> tuple[Params, AdamState]:
        # The scalars are computed in float64, as torch.optim does in Python: 1 - 0.999**t loses
        # four digits in float32.
        count = (state.updates + 1).double()
        rate = scalar_at(lr, state.updates)
        if decays:
            kept = 1 - rate * scalar_at(weight_decay, state.updates)
            params = tree.map(lambda p: p * tree.like(kept, p), params)
        step_size = rate
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


def clip_by_norm(optimizer: Optimizer, limit: Scalar) -> Optimizer:
    """The optimiser, given gradients of a Euclidean norm over all parameters of at most `limit`.

    g <- g · min(1, limit / (‖g‖ + 1e-6)), as in `torch.nn.utils.clip_grad_norm_` (Pascanu et al.
    2013, arXiv 1211.5063, algorithm 1). A schedule's count is the optimiser's. Raises ValueError
    for a limit that is not above 0.
    """
    check_scalar("limit", limit, 0.0, above=True)

    def update(gradients: Params, state: Any, params: Params) -> tuple[Params, Any]:
        norm = tree.norm(gradients)
        most = scalar_at(limit, state.updates) if callable(limit) else limit
        factor = (tree.like(most, norm) / (norm + 1e-6)).clamp(max=1)
        clipped = tree.map(lambda g: g * tree.like(factor, g), gradients)
        return optimizer.update(clipped, state, params)

    return Optimizer(optimizer.init, update)


def _zero_count(params: Params) -> Tensor:
    """A 0-d tensor, since a Python counter in the state would recompile every step."""
    device = next(iter(params.values())).device
    return torch.zeros((), dtype=torch.int64, device=device)
