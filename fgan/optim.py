"""Functional optimisers: `init(params)` and `update(gradients, opt_state, params)`, both pure.

Each follows the `torch.optim` optimiser of its name, so that a recipe ported from a script trains
alike. Learning rates, weight decay and the limit of `clip_by_norm` are `Scalar`s: numbers, 0-d
tensors, or schedules of the updates made so far (`linear`, `cosine`, `warmup`). A complex parameter
is two real ones, as in `torch.optim`. Every `update` raises ValueError for gradients of other names
or shapes than the parameters', and for the state of another optimiser or other parameters.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan import tree
from fgan.scalars import (
    Scalar,
    check_number,
    check_scalar,
    cosine,
    linear,
    scalar_at,
    warmup,
    widest,
)
from fgan.scores import describe
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
    """An optimiser as two pure functions.

    Example:
        >>> def update(gradients, opt_state, params):  # sign descent
        ...     return {key: params[key] - 0.1 * gradients[key].sign() for key in params}, opt_state
        >>> signs = fgan.optim.Optimizer(init=lambda params: {}, update=update)
        >>> signs.update({"w": torch.tensor([5.0])}, {}, {"w": torch.tensor([1.0])})[0]
        {'w': tensor([0.9000])}
    """

    init: Callable[[Params], Any]
    """params -> opt_state, a tree of tensors."""
    update: Callable[[Params, Any, Params], tuple[Params, Any]]
    """(gradients, opt_state, params) -> (new params, new opt_state)."""


class SGDState(NamedTuple):
    """State of `sgd`.

    Example:
        >>> fgan.sgd(0.1, momentum=0.9).init({"w": torch.ones(2)}).momentum
        {'w': tensor([0., 0.])}
    """

    updates: Tensor
    """Updates made so far, 0-d integer."""
    momentum: Params
    """The running sum of gradients; an empty dict without momentum."""


class RMSpropState(NamedTuple):
    """State of `rmsprop`.

    Example:
        >>> fgan.rmsprop(1e-3).init({"w": torch.ones(2)}).square
        {'w': tensor([0., 0.])}
    """

    updates: Tensor
    """Updates made so far, 0-d integer."""
    square: Params
    """Running mean of the squared gradients."""


class AdamState(NamedTuple):
    """State of `adam`.

    Example:
        >>> fgan.adam(1e-3).init({"w": torch.ones(2)}).mean
        {'w': tensor([0., 0.])}
    """

    updates: Tensor
    """Updates made so far, 0-d integer."""
    mean: Params
    """Running mean of the gradients; an empty dict with β₁ = 0, where it is the gradient itself."""
    square: Params
    """Running mean of the squared gradients."""


def sgd(lr: Scalar, momentum: float = 0.0) -> Optimizer:
    """Stochastic gradient descent: m <- momentum · m + g, θ <- θ - lr · m.

    Raises ValueError for a negative rate or a momentum outside [0, 1).

    Example:
        >>> optimizer, params = fgan.sgd(0.1), {"w": torch.tensor([1.0])}
        >>> gradients, opt_state = {"w": torch.tensor([2.0])}, optimizer.init(params)
        >>> optimizer.update(gradients, opt_state, params)[0]
        {'w': tensor([0.8000])}
    """
    lr = check_scalar("a learning rate", lr, 0.0)
    decay = check_number("momentum", momentum, 0.0, 1.0)
    keeps_momentum = bool(decay)

    def init(params: Params) -> SGDState:
        velocity = tree.map(torch.zeros_like, params) if keeps_momentum else {}
        return SGDState(_zero_count(params), velocity)

    def update(gradients: Params, state: SGDState, params: Params) -> tuple[Params, SGDState]:
        _check_update(SGDState, gradients, state, params, momentum=keeps_momentum)
        rate = scalar_at(lr, state.updates)
        direction = gradients
        velocity = state.momentum
        if keeps_momentum:
            direction = velocity = tree.map(lambda m, g: decay * m + g, velocity, gradients)
        new_params = tree.map(lambda p, d: p - tree.like(rate, p) * d, params, direction)
        return new_params, SGDState(state.updates + 1, velocity)

    return _of_real_pairs(Optimizer(init, update))


def rmsprop(lr: Scalar, alpha: float = 0.99, eps: float = 1e-8) -> Optimizer:
    """RMSprop: v <- α v + (1 - α) g², θ <- θ - lr · g / (√v + ε).

    Raises ValueError for a negative rate or eps, or an alpha outside [0, 1).

    Example:
        >>> optimizer, params = fgan.rmsprop(0.01), {"w": torch.tensor([1.0])}
        >>> gradients, opt_state = {"w": torch.tensor([2.0])}, optimizer.init(params)
        >>> optimizer.update(gradients, opt_state, params)[0]
        {'w': tensor([0.9000])}
    """
    lr = check_scalar("a learning rate", lr, 0.0)
    decay = check_number("alpha", alpha, 0.0, 1.0)
    least = check_number("eps", eps, 0.0)

    def init(params: Params) -> RMSpropState:
        return RMSpropState(_zero_count(params), tree.map(torch.zeros_like, params))

    def update(
        gradients: Params, state: RMSpropState, params: Params
    ) -> tuple[Params, RMSpropState]:
        _check_update(RMSpropState, gradients, state, params, square=True)
        rate = scalar_at(lr, state.updates)
        square = tree.map(lambda v, g: decay * v + (1 - decay) * g * g, state.square, gradients)
        new_params = tree.map(
            lambda p, g, v: p - tree.like(rate, p) * g / (v.sqrt() + least),
            params,
            gradients,
            square,
        )
        return new_params, RMSpropState(state.updates + 1, square)

    return _of_real_pairs(Optimizer(init, update))


def adam(lr: Scalar, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1).

    θ <- θ - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε). Raises ValueError for a negative rate or
    eps, or a beta outside [0, 1).

    Example:
        >>> optimizer, params = fgan.adam(0.1), {"w": torch.tensor([1.0])}
        >>> gradients, opt_state = {"w": torch.tensor([2.0])}, optimizer.init(params)
        >>> optimizer.update(gradients, opt_state, params)[0]
        {'w': tensor([0.9000])}
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

    Example:
        >>> optimizer, params = fgan.adamw(0.1, weight_decay=0.5), {"w": torch.tensor([1.0])}
        >>> gradients, opt_state = {"w": torch.tensor([2.0])}, optimizer.init(params)
        >>> optimizer.update(gradients, opt_state, params)[0]
        {'w': tensor([0.8500])}
    """
    return _adam(lr, betas, eps, check_scalar("weight_decay", weight_decay, 0.0))


def _adam(lr: Scalar, betas: tuple[float, float], eps: float, weight_decay: Scalar) -> Optimizer:
    lr = check_scalar("a learning rate", lr, 0.0)
    least = check_number("eps", eps, 0.0)
    beta1, beta2 = _check_betas(betas)
    keeps_mean = bool(beta1)
    decays = not isinstance(weight_decay, float | int) or weight_decay > 0

    def init(params: Params) -> AdamState:
        zeros = tree.map(torch.zeros_like, params)
        return AdamState(_zero_count(params), tree.clone(zeros) if keeps_mean else {}, zeros)

    def update(gradients: Params, state: AdamState, params: Params) -> tuple[Params, AdamState]:
        _check_update(AdamState, gradients, state, params, mean=keeps_mean, square=True)
        # The scalars are computed in float64, as torch.optim does in Python: 1 - 0.999**t loses
        # four digits in float32.
        count = widest(state.updates + 1)
        rate = scalar_at(lr, state.updates)
        if decays:
            kept = 1 - rate * scalar_at(weight_decay, state.updates)
            params = tree.map(lambda p: p * tree.like(kept, p), params)
        step_size = rate
        mean, direction = state.mean, gradients
        if keeps_mean:
            step_size = step_size / _correction(beta1, count)
            mean = direction = tree.map(lambda m, g: torch.lerp(m, g, 1 - beta1), mean, gradients)
        root_correction = torch.sqrt(_correction(beta2, count))

        square = tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.square, gradients)
        new_params = tree.map(
            lambda p, m, v: (
                p - tree.like(step_size, p) * m / (v.sqrt() / tree.like(root_correction, p) + least)
            ),
            params,
            direction,
            square,
        )
        return new_params, AdamState(state.updates + 1, mean, square)

    return _of_real_pairs(Optimizer(init, update))


def _correction(beta: float | Tensor, count: Tensor) -> Tensor:
    """1 - βᵗ, in float64 as torch.optim has it in Python: in float32, 1 - 0.999ᵗ loses four digits.

    On a device without float64 it is -expm1(t log β), which loses none.
    """
    if count.dtype == torch.float64:
        return 1 - torch.pow(beta, count)
    if isinstance(beta, Tensor):
        return -torch.expm1(count * torch.log(beta))
    return -torch.expm1(count * math.log(beta)) if beta else torch.ones_like(count)


def _check_betas(betas: object) -> tuple[float | Tensor, float | Tensor]:
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas are two numbers, (β₁, β₂), and {describe(betas)} was given")
    first, second = (check_number(f"betas[{i}]", betas[i], 0.0, 1.0) for i in range(2))
    return first, second


def clip_by_norm(optimizer: Optimizer, limit: Scalar) -> Optimizer:
    """The optimiser, given gradients of a Euclidean norm over all parameters of at most `limit`.

    g <- g · min(1, limit / (‖g‖ + 1e-6)), as in `torch.nn.utils.clip_grad_norm_` (Pascanu et al.
    2013, arXiv 1211.5063, algorithm 1). A schedule's count is the optimiser's. Raises ValueError
    for a limit that is not above 0.

    Example:
        >>> optimizer = fgan.optim.clip_by_norm(fgan.sgd(1.0), limit=1.0)
        >>> params, gradients = {"w": torch.zeros(2)}, {"w": torch.tensor([3.0, 4.0])}  # of norm 5
        >>> optimizer.update(gradients, optimizer.init(params), params)[0]
        {'w': tensor([-0.6000, -0.8000])}
    """
    if not isinstance(optimizer, Optimizer):
        raise ValueError(
            "clip_by_norm takes a functional optimiser such as fgan.adam(1e-4), and "
            f"{describe(optimizer)} was given"
        )
    limit = check_scalar("limit", limit, 0.0, above=True)

    def update(gradients: Params, state: Any, params: Params) -> tuple[Params, Any]:
        norm = tree.norm(gradients)
        most = scalar_at(limit, state.updates) if callable(limit) else limit
        factor = (tree.like(most, norm) / (norm + 1e-6)).clamp(max=1)
        clipped = tree.map(lambda g: g * tree.like(factor, g), gradients)
        return optimizer.update(clipped, state, params)

    return Optimizer(optimizer.init, update)


def _of_real_pairs(optimizer: Optimizer) -> Optimizer:
    """The optimiser, with two real numbers in place of every complex one."""

    def real(values: Params) -> Params:
        return {
            name: torch.view_as_real(value) if value.is_complex() else value
            for name, value in values.items()
        }

    def init(params: Params) -> Any:
        check_params("the parameters", params)
        return optimizer.init(real(params))

    def update(gradients: Params, state: Any, params: Params) -> tuple[Params, Any]:
        if not isinstance(params, dict) or not isinstance(gradients, dict):
            check_params("the parameters", params)
            check_params("the gradients", gradients)
        if not any(isinstance(p, Tensor) and p.is_complex() for p in params.values()):
            return optimizer.update(gradients, state, params)
        new, new_state = optimizer.update(real(gradients), state, real(params))
        whole = {
            name: torch.view_as_complex(new[name]) if param.is_complex() else new[name]
            for name, param in params.items()
        }
        return whole, new_state

    return Optimizer(init, update)


def _check_update(kind: type, gradients: Params, state: Any, params: Params, **kept: bool) -> None:
    """Raise ValueError unless gradients and moments have the parameters' names and shapes.

    kept: the fields of the state with a tensor for each parameter, or (False) with none.
    """
    if not isinstance(state, kind):
        raise ValueError(
            f"this optimiser keeps a {kind.__name__}, and {describe(state)} was given. Was the "
            "state made by another optimiser?"
        )
    updates = getattr(state, "updates", None)
    if not isinstance(updates, Tensor):
        raise ValueError(
            "the optimiser state's updates are a 0-d integer tensor, and "
            f"{describe(updates)} was given"
        )
    moments = [getattr(state, name) for name, is_kept in kept.items() if is_kept]
    empty = [getattr(state, name) for name, is_kept in kept.items() if not is_kept]
    if all(each == {} for each in empty) and _are_alike(params, gradients, *moments):
        return
    check_alike("the gradients", gradients, params)
    for name, is_kept in kept.items():
        moments = getattr(state, name)
        if not isinstance(moments, dict):
            check_params(f"the optimiser state's {name}", moments)
        check_alike(f"the optimiser state's {name}", moments, params if is_kept else {})


def _are_alike(params: Params, *others: Params) -> bool:
    """Whether all have the parameters' names, in order, shapes and dtypes: the usual case, fast."""
    try:
        names = list(params)
        return all(list(other) == names for other in others) and all(
            x.shape == p.shape and x.dtype is p.dtype and x.device == p.device
            for p, *rest in zip(params.values(), *(o.values() for o in others), strict=True)
            for x in rest
        )
    except (AttributeError, TypeError, ValueError):
        return False


def check_params(what: str, params: object) -> None:
    if not isinstance(params, dict):
        raise ValueError(f"{what} are a dict of tensors by name, and {describe(params)} was given")
    for name, value in params.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{what} are tensors, and {name!r} is {describe(value)}")


def check_alike(what: str, given: Params, params: Params) -> None:
    """Raise ValueError unless there is a tensor like each parameter: shape, dtype and device."""
    for name, param in params.items():
        value = given.get(name)
        if not isinstance(value, Tensor) or not isinstance(param, Tensor):
            check_params("the parameters", params)
            told = describe(value) if name in given else "none"
            raise ValueError(f"{what} have a tensor for each parameter, and for {name!r} {told}")
        if value.shape != param.shape:
            raise ValueError(
                f"{what} have {list(value.shape)} for {name!r}, and the parameter is "
                f"{list(param.shape)}"
            )
        if value.dtype is not param.dtype or value.device != param.device:
            raise ValueError(
                f"{what} are {value.dtype} on {value.device} for {name!r}, and the parameter is "
                f"{param.dtype} on {param.device}"
            )
    if len(given) != len(params):
        extra = min(given.keys() - params.keys())
        raise ValueError(f"{what} have {extra!r}, and the parameters do not")


def _zero_count(params: Params) -> Tensor:
    """A 0-d tensor, since a Python counter in the state would recompile every step."""
    device = next((param.device for param in params.values()), torch.device("cpu"))
    return torch.zeros((), dtype=torch.int64, device=device)
