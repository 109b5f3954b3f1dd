"""First layers at interpolated samples come from those at real and fake ones, in float64."""

import pytest
import torch
from graphs import matmuls, numbers, rewritten, traced
from helpers import assert_close
from torch import addmm, cat

import fgan
from fgan.compiler.passes.cse import eliminate_common_subexpressions
from fgan.compiler.passes.linear_of_interpolation import reuse_linear_of_interpolation
from fgan.models import mlp_critic, mlp_generator
from fgan.models.layers import one_hot
from fgan.penalties import interpolate

LABELS = torch.tensor([0, 2, 1, 2])
INPUTS = (
    *(numbers(4, 6), numbers(4, 6).exp(), numbers(4).abs() % 1),
    *(numbers(6, 3), numbers(3), LABELS),
)


def images(x):
    return x.view(-1, 1, 2, 3).clone()


def labelled(x, c, w):
    """A layer of samples beside their labels."""
    return cat([x, one_hot(c, 3, x.dtype)], 1) @ cat([w, w[:3]])


REUSED = {
    "matmul": lambda x, y, e, w, b, c: (cat([x, y]) @ w, interpolate(x, y, e) @ w),
    "with a bias": lambda x, y, e, w, b, c: (
        addmm(b, cat([x, y]), w),
        addmm(b, interpolate(x, y, e), w),
    ),
    "with a row as bias": lambda x, y, e, w, b, c: (
        addmm(w[:1], cat([x, y]), w),
        addmm(w[:1], interpolate(x, y, e), w),
    ),
    "of images": lambda x, y, e, w, b, c: (
        cat([images(x), images(y)]).reshape(-1, 6) @ w,
        interpolate(images(x), images(y), e).reshape(-1, 6) @ w,
    ),
    "with labels": lambda x, y, e, w, b, c: (
        labelled(cat([x, y]), cat([c, c]), w),
        labelled(interpolate(x, y, e), c, w),
    ),
    "with any condition": lambda x, y, e, w, b, c: (
        cat([cat([x, y]), cat([e, e])[:, None]], 1) @ cat([w, b[None]]),
        cat([interpolate(x, y, e), e[:, None]], 1) @ cat([w, b[None]]),
    ),
}


def before_and_after(function, *inputs):
    """The traced function before and after."""
    return traced(function, *inputs), rewritten(
        function, *inputs, passes=(eliminate_common_subexpressions, reuse_linear_of_interpolation)
    )


@pytest.mark.parametrize("name", list(REUSED))
def test_a_matmul_of_interpolated_rows_is_removed(name):
    """The results at real and fake samples are interpolated instead."""
    before, after = before_and_after(REUSED[name], *INPUTS)
    assert (matmuls(before), matmuls(after)) == (2, 1)
    assert_close(after(*INPUTS), REUSED[name](*INPUTS), atol=1e-12)


KEPT = {
    "other matrix": lambda x, y, e, w, b, c: (cat([x, y]) @ w, interpolate(x, y, e) @ (2 * w)),
    "other bias": lambda x, y, e, w, b, c: (
        addmm(b, cat([x, y]), w),
        addmm(2 * b, interpolate(x, y, e), w),
    ),
    "other order": lambda x, y, e, w, b, c: (cat([y, x]) @ w, interpolate(x, y, e) @ w),
    "before the pair": lambda x, y, e, w, b, c: (interpolate(x, y, e) @ w, cat([x, y]) @ w),
    "three batches": lambda x, y, e, w, b, c: (cat([x, y, x]) @ w, interpolate(x, y, e) @ w),
    "concatenated features": lambda x, y, e, w, b, c: (
        cat([x, y], 1).reshape(-1, 6) @ w,
        interpolate(x, y, e) @ w,
    ),
    "other samples": lambda x, y, e, w, b, c: (cat([x, y]) @ w, interpolate(x, 2 * y, e) @ w),
    "weights that do not sum to 1": lambda x, y, e, w, b, c: (
        cat([x, y]) @ w,
        (e[:, None] * x + (2 - e[:, None]) * y) @ w,
    ),
    "one number per feature": lambda x, y, e, w, b, c: (
        cat([x, y]) @ w,
        (w[:, 0] * x + (1 - w[:, 0]) * y) @ w,
    ),
    "other rows": lambda x, y, e, w, b, c: (
        cat([x.reshape(8, 3), y.reshape(8, 3)]).reshape(-1, 6) @ w,
        interpolate(x.reshape(2, 12), y.reshape(2, 12), e[:2]).reshape(4, 6) @ w,
    ),
    "other labels": lambda x, y, e, w, b, c: (
        labelled(cat([x, y]), cat([c, c.flip(0)]), w),
        labelled(interpolate(x, y, e), c, w),
    ),
    "labels in another order": lambda x, y, e, w, b, c: (
        labelled(cat([x, y]), cat([c, c]), w),
        labelled(interpolate(x, y, e), c.flip(0), w),
    ),
    "with the mean sample": lambda x, y, e, w, b, c: (
        cat([x.mean(0, keepdim=True), y]) @ w,
        (e[:, None] * x.mean(0, keepdim=True) + (1 - e[:, None]) * y) @ w,
    ),
    "a weight of 1 - 2ε": lambda x, y, e, w, b, c: (
        cat([x, y]) @ w,
        (e[:, None] * x + torch.rsub(e[:, None], 1, alpha=2) * y) @ w,
    ),
    "a constant added": lambda x, y, e, w, b, c: (cat([x, y]) @ w, (x * 0.5 + 1) @ w),
    "conditions clamped in one of the two": lambda x, y, e, w, b, c: (
        cat([cat([x, y]), w[:4].clamp_min(0).expand(2, 4, 3).reshape(8, 3)], 1) @ cat([w, w[:3]]),
        cat([interpolate(x, y, e), w[:4]], 1) @ cat([w, w[:3]]),
    ),
    "conditions repeated row by row": lambda x, y, e, w, b, c: (
        cat([cat([x, y]), e[:, None].expand(4, 2).reshape(8, 1)], 1) @ cat([w, w[:1]]),
        cat([interpolate(x, y, e), e[:, None]], 1) @ cat([w, w[:1]]),
    ),
    "interpolated conditions": lambda x, y, e, w, b, c: (
        cat([cat([x, y]), cat([x, x])], 1) @ cat([w, w]),
        cat([interpolate(x, y, e), interpolate(x, y, e)], 1) @ cat([w, w]),
    ),
}


@pytest.mark.parametrize("name", list(KEPT))
def test_other_matmuls_stay(name):
    """Rows that are no interpolation, sample by sample, of the rows of an earlier matmul."""
    before, after = before_and_after(KEPT[name], *INPUTS)
    assert (matmuls(before), matmuls(after)) == (2, 2)
    assert_close(after(*INPUTS), KEPT[name](*INPUTS), atol=1e-12)


@pytest.mark.parametrize("recipe", [fgan.wgan_gp, fgan.wgan_div])
@pytest.mark.parametrize("classes", [None, 3])
def test_a_penalty_runs_no_first_layer(recipe, classes):
    """A perceptron's update has one matmul less, and equals the update."""
    generator = mlp_generator((1, 2, 3), 3, classes, hidden=(4,), norm="none").double()
    critic = mlp_critic((1, 2, 3), classes, hidden=(5, 4)).double()
    options = {} if recipe is fgan.wgan_gp else {"sample_at": "interpolate"}
    algorithm = recipe(generator, critic, critic_optimizer=fgan.sgd(0.1), **options)
    condition = () if classes is None else (LABELS,)

    def update(state, real, latent, mix, *condition):
        return algorithm.critic_update(state, real, *(condition or [None]), latent, mix)

    inputs = algorithm.init(seed=0), numbers(4, 1, 2, 3), numbers(4, 3), INPUTS[2], *condition
    before = rewritten(update, *inputs, passes=(eliminate_common_subexpressions,))
    after = rewritten(
        update, *inputs, passes=(eliminate_common_subexpressions, reuse_linear_of_interpolation)
    )
    assert matmuls(before) - matmuls(after) == 1
    assert_close(after(*inputs), update(*inputs), atol=1e-12)
