"""Per-sample input gradients, the penalties made of them, and where they are taken.

The gradient of critic D at sample i is ∇D(x_i), with everything but x_i held: `vmap(grad(D))`. A
penalty is a function of its norm, one value per sample, so a batch mean is taken once and in plain
sight where the objective is put together.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, vmap

from fgan import tree
from fgan.networks.second_order import twice_differentiable
from fgan.scalars import check_flag, check_number
from fgan.scores import as_scores, check_rows, check_tensor, describe

__all__ = [
    "SAMPLE_AT",
    "Points",
    "batched_input_gradients",
    "gradient_norms",
    "gradient_penalty",
    "input_gradients",
    "interpolate",
    "perturb",
    "square_norms",
    "w_divergence_penalty",
    "zero_centered_penalty",
]

Critic = Callable[..., Tensor]
"""Maps samples [B, ...], and conditions [B, ...] if there are any, to scores [B] or [B, 1]."""
InputGradients = Callable[..., Tensor]


def input_gradients(critic: Critic, x: Tensor, *conditions: Tensor) -> Tensor:
    """∇D(x_i) for every sample i, by `vmap(grad(D))`; the shape of `x`.

    Conditions are sliced along with `x` and are not differentiated. This is the definition. It
    cannot mix samples: a critic that would (BatchNorm) either raises or sees batches of one. Fused
    attention, which has no second derivative, is replaced by torch's math kernel.
    Raises ValueError for samples that are not floating point, for conditions that are not one a
    sample, and for a critic that gives no scores.

    Example:
        >>> critic = lambda x: x @ torch.tensor([3.0, 4.0])
        >>> fgan.penalties.input_gradients(critic, torch.zeros(2, 2))
        tensor([[3., 4.],
                [3., 4.]])
    """
    _check_inputs(critic, x, conditions)
    twice = twice_differentiable(critic)

    def score(sample: Tensor, *condition: Tensor) -> Tensor:
        one = sample[None]
        return as_scores(twice(one, *(c[None] for c in condition)), one).squeeze(0)

    return vmap(grad(score))(x, *conditions)


def batched_input_gradients(critic: Critic, x: Tensor, *conditions: Tensor) -> Tensor:
    """The same by one backward pass of Σ_i D(x_i); the shape of `x`.

    Equal to `input_gradients` exactly when ∂D_i/∂x_j = 0 for i ≠ j, which is for the caller to
    ensure (`fgan.networks.check_batch_independent`), and faster: its matrix products stay large.
    Raises ValueError as `input_gradients` does.

    Example:
        >>> critic = lambda x: x @ torch.tensor([3.0, 4.0])
        >>> fgan.penalties.batched_input_gradients(critic, torch.zeros(1, 2))
        tensor([[3., 4.]])
    """
    _check_inputs(critic, x, conditions)
    twice = twice_differentiable(critic)
    return grad(lambda samples: as_scores(twice(samples, *conditions), samples).sum())(x)


def _check_inputs(critic: object, x: Tensor, conditions: tuple[object, ...]) -> None:
    if not callable(critic):
        raise ValueError(
            f"the critic is a function (x, *conditions) -> scores, and {describe(critic)} was given"
        )
    check_tensor("x", x)
    if x.ndim == 0:
        raise ValueError(f"a penalty takes samples [B, ...], and {describe(x)} was given")
    _check_conditions(conditions, x)


def _tuple(conditions: object) -> tuple[Tensor, ...]:
    """The conditions; an error for one that is a tensor, whose rows would count as conditions."""
    if not isinstance(conditions, tuple | list):
        raise ValueError(
            f"conditions are a tuple of tensors [B, ...], and {describe(conditions)} was given: "
            "conditions=(labels,)"
        )
    return tuple(conditions)


def _check_conditions(conditions: object, x: Tensor) -> None:
    for condition in _tuple(conditions):
        check_tensor("a condition", condition, x, floating=False)
        check_rows("a condition", condition, x.shape[0])


def gradient_norms(gradients: Tensor) -> Tensor:
    """‖∇D(x_i)‖₂ over all but the first axis, [B, ...] -> [B], in float32 or better.

    Derivatives of every order are 0 at zero, where those of sqrt(sum(g²)) are NaN.

    Example:
        >>> fgan.penalties.gradient_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([5., 0.])
    """
    squares = square_norms(gradients)
    zero = squares == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())


def square_norms(gradients: Tensor) -> Tensor:
    """‖∇D(x_i)‖₂², [B, ...] -> [B], in float32 or better: half precision would overflow at 256.

    Example:
        >>> fgan.penalties.square_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([25.,  0.])
    """
    if gradients.dtype in (torch.float16, torch.bfloat16):
        gradients = gradients.float()
    # Samples of any rank, single numbers too.
    return torch.square(gradients.reshape(gradients.shape[0], -1)).sum(dim=1)


def gradient_penalty(
    critic: Critic,
    x: Tensor,
    target: float | Tensor = 1.0,
    one_sided: bool = False,
    *,
    conditions: tuple[Tensor, ...] = (),
    gradients: InputGradients = input_gradients,
) -> Tensor:
    """(‖∇D(x)‖₂ - target)², one value per sample: [B, ...] -> [B].

    With `one_sided`, max(0, ‖∇D(x)‖₂ - target)². Gulrajani et al. 2017 (arXiv 1704.00028), eq. 3
    and section 4, with x at random interpolates (`interpolate`). Raises ValueError for a negative
    target.

    Example:
        >>> critic = lambda x: x @ torch.tensor([3.0, 4.0])
        >>> fgan.penalties.gradient_penalty(critic, torch.zeros(2, 2))  # (5 - 1)²
        tensor([16., 16.])
    """
    target = check_number("target", target, 0.0)
    check_flag("one_sided", one_sided)
    norms = gradient_norms(gradients(critic, x, *_tuple(conditions)))
    excess = norms - tree.like(target, norms)
    return torch.square(torch.relu(excess) if one_sided else excess)


def w_divergence_penalty(
    critic: Critic,
    x: Tensor,
    k: float | Tensor = 2.0,
    p: float | Tensor = 6.0,
    *,
    conditions: tuple[Tensor, ...] = (),
    gradients: InputGradients = input_gradients,
) -> Tensor:
    """k ‖∇D(x)‖₂^p, one value per sample: [B, ...] -> [B].

    Wu et al. 2018 (arXiv 1712.01026), the gradient term of the W-divergence, for x ~ Pu. Raises
    ValueError for a negative k, and for p below 1.

    Example:
        >>> critic = lambda x: x @ torch.tensor([3.0, 4.0])
        >>> fgan.penalties.w_divergence_penalty(critic, torch.zeros(2, 2), k=2.0, p=2.0)
        tensor([50., 50.])
    """
    k, p = check_number("k", k, 0.0), check_number("p", p, 1.0)
    squares = square_norms(gradients(critic, x, *_tuple(conditions)))
    half = tree.like(p, squares) / 2
    # At zero the power rule is 0 · ∞ for p < 4. There the penalty is, to second order, ‖∇D‖² for
    # p = 2, and 0 for a larger p; below 2 the curvature is infinite, and left out.
    zero = squares == 0
    powers = torch.where(zero, squares * (half == 1), torch.where(zero, 1.0, squares) ** half)
    return tree.like(k, squares) * powers


def zero_centered_penalty(
    critic: Critic,
    x: Tensor,
    *,
    conditions: tuple[Tensor, ...] = (),
    gradients: InputGradients = input_gradients,
) -> Tensor:
    """‖∇D(x)‖₂², one value per sample: [B, ...] -> [B].

    R1 with x real and R2 with x fake, times γ/2 (Mescheder et al. 2018, arXiv 1801.04406, eq. 9
    and 10).

    Example:
        >>> critic = lambda x: x @ torch.tensor([3.0, 4.0])
        >>> fgan.penalties.zero_centered_penalty(critic, torch.zeros(2, 2))
        tensor([25., 25.])
    """
    return square_norms(gradients(critic, x, *_tuple(conditions)))


def takes_conditions(penalty: Callable[..., Tensor]) -> bool:
    """Whether a penalty `(critic, x) -> [P]` takes the keyword `conditions` too."""
    found = inspect.signature(penalty).parameters
    return "conditions" in found or any(p.kind is p.VAR_KEYWORD for p in found.values())


def interpolate(real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """x̂ = ε x + (1 - ε) x̃ with one ε per sample: [B, ...], [B, ...], [B] -> [B, ...].

    Exactly `real` at ε = 1 and exactly `fake` at ε = 0 (Gulrajani et al. 2017, algorithm 1). Raises
    ValueError for any other shapes.

    Example:
        >>> real, fake = torch.ones(2, 3), torch.zeros(2, 3)
        >>> fgan.penalties.interpolate(real, fake, mix=torch.tensor([0.25, 1.0]))
        tensor([[0.2500, 0.2500, 0.2500],
                [1.0000, 1.0000, 1.0000]])
    """
    _check_pairs(real, fake, mix)
    return _interpolate(real, fake, mix)


def _interpolate(real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    mix = mix.reshape(-1, *[1] * (real.ndim - 1)).to(real.dtype)
    return mix * real + (1 - mix) * fake


def _check_pairs(real: Tensor, fake: Tensor, mix: Tensor) -> None:
    """One ε a sample, and one fake for each real sample: nothing is broadcast."""
    check_tensor("real", real)
    check_tensor("fake", fake, real)
    check_tensor("mix", mix, real)
    if real.shape != fake.shape or not real.ndim:
        raise ValueError(
            f"real and fake samples have one shape [B, ...], and {list(real.shape)} and "
            f"{list(fake.shape)} were given"
        )
    if mix.shape != real.shape[:1]:
        raise ValueError(
            f"mix has one number a sample, {list(real.shape[:1])}, and {list(mix.shape)} was given"
        )


def perturb(real: Tensor, uniform: Tensor, mix: Tensor) -> Tensor:
    """x + ε · ½ std(x) · u, a random point beside each sample: three tensors -> [B, ...].

    real and uniform [B, ...], mix [B]. u, uniform on [0, 1), has a number for each coordinate, and
    ε, `mix`, is one number a sample; std(x) is taken over all numbers of the batch, with division
    by their count. This is the form of the code that the authors of DRAGAN published; the paper
    has x + δ with an unspecified noise δ (Kodali et al. 2017, arXiv 1705.07215, section 2.4).
    Raises ValueError for any other shapes.

    Example:
        >>> real = torch.tensor([[1.0], [-1.0]])  # with standard deviation 1
        >>> mix = torch.tensor([0.5, 0.0])
        >>> fgan.penalties.perturb(real, uniform=torch.full((2, 1), 0.5), mix=mix)
        tensor([[ 1.1250],
                [-1.0000]])
    """
    _check_pairs(real, uniform, mix)
    spread = 0.5 * real.std(correction=0)
    mix = mix.reshape(-1, *[1] * (real.ndim - 1)).to(real.dtype)
    return real + mix * spread * uniform.to(real.dtype)


class Points(NamedTuple):
    """Where a penalty is taken.

    Example:
        >>> def at_real(data):
        ...     return fgan.penalties.Points(data.real, conditions=())
        >>> penalty = fgan.objectives.Penalty(fgan.penalties.zero_centered_penalty, at=at_real)
    """

    samples: Tensor
    """[P, ...]"""
    conditions: tuple[Tensor, ...]
    """The condition that the critic is held at for each sample, [P, ...]; empty without one."""


def partners(conditions: tuple[Tensor, ...], size: int, device: torch.device) -> Tensor:
    """For each of `size` samples, the index of the next one under the same condition: [size].

    Batches are drawn independently, so the next sample is as good as a random one. A sample whose
    condition nobody shares is its own partner. Conditions of many numbers, such as images, are
    compared by their `fingerprints`: in memory of the conditions' size, not [size, size] of them.
    """
    index = torch.arange(size, device=device)
    steps = (index[None, :] - index[:, None] - 1) % size  # 0 for the next, size - 1 for itself
    for condition in conditions:
        rows = condition.reshape(size, -1)
        if rows.shape[1] > MOST_COLUMNS:
            rows = fingerprints(rows)
        same = (rows[:, None] == rows[None, :]).all(dim=-1)
        steps = torch.where(same, steps, size)  # itself is always left
    return steps.argmin(dim=1)


MOST_COLUMNS = 64
"""Conditions of more numbers than that are compared by their fingerprints."""


def fingerprints(rows: Tensor) -> Tensor:
    """[B, N] -> [B, 2] integers, equal for equal rows, and different for different ones.

    Two hashes of 64 bits, each a weighted sum of the folded bits of the numbers (Carter & Wegman
    1979, "Universal classes of hash functions"). Two different rows agree with a very small
    probability.
    """
    if rows.is_floating_point():
        # Adding zero makes 0.0 of -0.0.
        integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[rows.element_size()]
        rows = (rows + 0.0).view(integer)
    bits = rows.long()
    # The float64 numbers 0.0 and 1.0 differ in their highest 12 bits only. Their products modulo
    # 2^64 would differ in as few bits.
    bits = bits ^ ((bits >> 32) & (2**32 - 1))
    columns = torch.arange(rows.shape[1], device=rows.device)
    return torch.stack([(bits * _odd(columns, key)).sum(dim=1) for key in (1, 2)], dim=1)


def _odd(index: Tensor, key: int) -> Tensor:
    """An odd number of 64 bits for each index, by splitmix64 (Steele, Lea and Flood 2014)."""
    x = (index + 1) * -7046029254386353131 + key * 2685821657736338717
    for shift, factor in (30, -4658895280553007687), (27, -7723592293110705685):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * factor
    return (x ^ ((x >> 31) & (2**33 - 1))) | 1


def _at_real(real: Tensor, fake: Tensor, mix: Tensor, conditions: tuple[Tensor, ...]) -> Points:
    return Points(real, conditions)


def _at_fake(real: Tensor, fake: Tensor, mix: Tensor, conditions: tuple[Tensor, ...]) -> Points:
    return Points(fake, conditions)


def _at_both(real: Tensor, fake: Tensor, mix: Tensor, conditions: tuple[Tensor, ...]) -> Points:
    return Points(torch.cat([real, fake]), tuple(torch.cat([c, c]) for c in conditions))


def _between(real: Tensor, fake: Tensor, mix: Tensor, conditions: tuple[Tensor, ...]) -> Points:
    return Points(_interpolate(real, fake, mix), conditions)


def _within(real: Tensor, fake: Tensor, mix: Tensor, conditions: tuple[Tensor, ...]) -> Points:
    """Real with real and fake with fake."""
    other = partners(conditions, real.shape[0], real.device)
    return _at_both(
        _interpolate(real, real[other], mix), _interpolate(fake, fake[other], mix), mix, conditions
    )


def _mixed(real: Tensor, fake: Tensor, mix: Tensor, conditions: tuple[Tensor, ...]) -> Points:
    """Pairs of the pooled set: every second sample meets its own kind, the others the other kind.

    Two independent draws from ½Pr + ½Pg are of one kind half of the time; this takes exactly half.
    """
    other = partners(conditions, real.shape[0], real.device)
    own_kind = torch.arange(real.shape[0], device=real.device) % 2 == 0
    own_kind = own_kind.reshape(-1, *[1] * (real.ndim - 1))
    return _at_both(
        _interpolate(real, torch.where(own_kind, real[other], fake), mix),
        _interpolate(fake, torch.where(own_kind, fake[other], real), mix),
        mix,
        conditions,
    )


Place = Callable[[Tensor, Tensor, Tensor, tuple[Tensor, ...]], Points]


def _checked(place: Place) -> Place:
    """The place for inputs of one row a sample only."""

    @wraps(place)
    def checked(
        real: Tensor, fake: Tensor, mix: Tensor, conditions: tuple[Tensor, ...] = ()
    ) -> Points:
        _check_pairs(real, fake, mix)
        _check_conditions(conditions, real)
        return place(real, fake, mix, conditions)

    return checked


SAMPLE_AT: dict[str, Place] = {
    "real": _checked(_at_real),
    "fake": _checked(_at_fake),
    "real_and_fake": _checked(_at_both),
    "interpolate": _checked(_between),
    "interpolate_within": _checked(_within),
    "interpolate_mixed": _checked(_mixed),
}
"""Choices of the penalty's distribution Pu, compared in Wu et al. 2018 (arXiv 1712.01026).

Functions `(real [B, ...], fake [B, ...], mix [B], conditions) -> Points`, which raise ValueError
for other shapes. None of them ever mixes two conditions in one interpolate."""

PAIRING = ("interpolate_within", "interpolate_mixed")
"""Those of them that pair the samples of a batch."""
