"""Each optimiser beside its twin in torch.optim, and what only a pure one can do."""

import pytest
import torch
from helpers import assert_close, assert_identical, unchanged
from torch.func import vmap

import fgan
from fgan import tree
from fgan.optim import clip_by_norm, cosine, linear, warmup

STEPS = 60
SHAPES = {"w": (3, 2), "b": (2,), "scale": (), "empty": (0, 4)}

# name -> (the pure one, its twin), each as a function of the learning rate
TWINS = {
    "sgd": (fgan.sgd, torch.optim.SGD, {}),
    "sgd momentum": (fgan.sgd, torch.optim.SGD, {"momentum": 0.9}),
    "rmsprop": (fgan.rmsprop, torch.optim.RMSprop, {}),
    "rmsprop other": (fgan.rmsprop, torch.optim.RMSprop, {"alpha": 0.6, "eps": 1e-3}),
    "adam": (fgan.adam, torch.optim.Adam, {}),
    "adam dcgan": (fgan.adam, torch.optim.Adam, {"betas": (0.5, 0.999)}),
    "adam wgan-gp": (fgan.adam, torch.optim.Adam, {"betas": (0.0, 0.9)}),
    "adamw": (fgan.adamw, torch.optim.AdamW, {}),
    "adamw heavy": (
        fgan.adamw,
        torch.optim.AdamW,
        {"betas": (0.0, 0.9), "eps": 1e-3, "weight_decay": 0.5},
    ),
    "adamw without": (fgan.adamw, torch.optim.AdamW, {"weight_decay": 0.0}),
    "adam other": (fgan.adam, torch.optim.Adam, {"betas": (0.3, 0.0), "eps": 1e-2}),
}
LR = 0.05


@pytest.fixture(params=list(TWINS))
def twin(request):
    """(pure optimiser of lr, torch.optim class of params and lr) with the same other arguments."""
    ours, theirs, options = TWINS[request.param]
    return (
        lambda lr: ours(lr, **options),
        lambda params, lr: theirs(params, lr=lr, foreach=False, **options),
    )


def draw(steps=STEPS, dtype=torch.float64):
    """Start parameters and `steps` gradients; a third of the gradients of `b` are exactly zero."""
    source = torch.Generator().manual_seed(0)

    def tensors(scale):
        return {
            name: (scale * torch.randn(shape, generator=source, dtype=torch.float64)).to(dtype)
            for name, shape in SHAPES.items()
        }

    gradients = [tensors(10.0 ** (i % 5 - 2)) for i in range(steps)]
    for i in range(0, steps, 3):
        gradients[i]["b"].zero_()
    return tensors(1.0), gradients


def run(optimizer, params, gradients):
    """The parameters after every step."""
    state, path = optimizer.init(params), []
    for gradient in gradients:
        params, state = optimizer.update(gradient, state, params)
        path.append(params)
    return path


def run_twin(build, params, gradients, factor=None):
    """The same by torch.optim; `factor(t)` scales the rate of update t through a LambdaLR."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    optimizer = build(list(leaves.values()), LR)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor) if factor else None
    path = []
    for gradient in gradients:
        for name, leaf in leaves.items():
            leaf.grad = gradient[name].clone()
        optimizer.step()
        if scheduler:
            scheduler.step()
        path.append(tree.clone(leaves))
    return path


def test_equals_its_twin_at_every_step(twin):
    """In float64 the whole path is torch.optim's to rounding, 0-d and empty parameters included."""
    ours, theirs = twin
    params, gradients = draw()
    assert_close(run(ours(LR), params, gradients), run_twin(theirs, params, gradients), atol=1e-12)


def test_follows_its_twin_in_float32(twin):
    """In float32 the path stays within single precision of torch.optim's."""
    ours, theirs = twin
    params, gradients = draw(dtype=torch.float32)
    got, expected = run(ours(LR), params, gradients), run_twin(theirs, params, gradients)
    assert_close(got, expected, atol=2e-5, rtol=2e-5)


def test_linear_equals_lambda_lr(twin):
    """The rate decays as a LambdaLR's does, from the first update on, and then stays."""
    ours, theirs = twin
    params, gradients = draw()
    schedule = linear(LR, LR / 4, steps=40)
    expected = run_twin(theirs, params, gradients, lambda t: 1 - 0.75 * min(t / 40, 1))
    assert_close(run(ours(schedule), params, gradients), expected, atol=1e-12)


def test_linear_in_closed_form():
    """`start` at update 0, halfway at half the steps, `end` from then on, in float64."""
    schedule = linear(1.0, 0.5, steps=10)
    rates = [schedule(torch.tensor(count)) for count in (0, 5, 10, 1000)]
    assert [rate.item() for rate in rates] == [1.0, 0.75, 0.5, 0.5]
    assert linear(3e-4, 0.0, steps=7)(torch.tensor(7)).item() == 0.0


def test_rate_as_tensor_equals_rate_as_number(twin):
    """A 0-d tensor as learning rate changes nothing, nor does a schedule that is constant."""
    ours, _ = twin
    params, gradients = draw(10)
    expected = run(ours(LR), params, gradients)
    tensor = torch.tensor(LR, dtype=torch.float64)
    assert_close(run(ours(tensor), params, gradients), expected, atol=1e-13)
    assert_close(run(ours(lambda count: tensor), params, gradients), expected, atol=1e-13)


def test_vmap_over_rates_equals_separate_runs(twin):
    """A population with one rate each is as many runs alone."""
    ours, _ = twin
    params, gradients = draw(10)
    rates = torch.tensor([0.0, 0.01, 0.3], dtype=torch.float64)
    swept = vmap(lambda lr: run(ours(lr), params, gradients)[-1])(rates)
    alone = [run(ours(lr.item()), params, gradients)[-1] for lr in rates]
    assert_close(swept, tree.stack(alone), atol=1e-13)


def test_vmap_over_members_equals_separate_runs(twin):
    """A stacked population of parameters and gradients steps as its members do alone."""
    ours, _ = twin
    starts, paths = zip(*[draw(4), [draw(8)[0], draw(8)[1][4:]]], strict=True)
    alone = [run(ours(LR), *member)[-1] for member in zip(starts, paths, strict=True)]
    swept = vmap(lambda p, g: run(ours(LR), p, g)[-1])(tree.stack(starts), tree.stack(paths))
    assert_close(swept, tree.stack(alone), atol=1e-13)


def test_update_is_pure(twin):
    """Nothing that goes in is written to, and the same arguments give the same answer."""
    optimizer = twin[0](LR)
    params, gradients = draw(2)
    with unchanged(params, gradients):
        state = optimizer.init(params)
    params, state = optimizer.update(gradients[0], state, params)
    with unchanged(params, gradients, state):
        first = optimizer.update(gradients[1], state, params)
        second = optimizer.update(gradients[1], state, params)
    assert_identical(first, second)


def test_init_shares_no_memory(twin):
    """No two tensors of the state, and none of the parameters, live in one place."""
    params, _ = draw(0)
    tensors = tree.leaves((params, twin[0](LR).init(params)))
    places = [tensor.data_ptr() for tensor in tensors if tensor.numel()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rate", ["number", "float32", "float64", "schedule"])
def test_keeps_dtype_shape_and_structure(twin, dtype, rate):
    """Whatever the rate is written in, parameters and state keep their dtypes, 0-d ones too."""
    lr = {
        "number": LR,
        "float32": torch.tensor(LR),
        "float64": torch.tensor(LR, dtype=torch.float64),
        "schedule": linear(LR, 0.0, 10),
    }[rate]
    optimizer = twin[0](lr)
    params, gradients = draw(1, dtype)
    state = optimizer.init(params)
    before, after = (params, state), optimizer.update(gradients[0], state, params)
    assert tree.same_structure(before, after)
    for old, new in zip(tree.leaves(before), tree.leaves(after), strict=True):
        assert isinstance(new, torch.Tensor)
        assert (new.dtype, new.shape) == (old.dtype, old.shape)


@pytest.mark.parametrize("limit", [0.05, 1.0, 1e6])
def test_clip_by_norm_equals_clip_grad_norm(twin, limit):
    """The path is torch.optim's after `torch.nn.utils.clip_grad_norm_`."""
    ours, theirs = twin
    params, gradients = draw(12)
    clipped = []
    for gradient in gradients:
        leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
        for name, leaf in leaves.items():
            leaf.grad = gradient[name].clone()
        torch.nn.utils.clip_grad_norm_(leaves.values(), limit, foreach=False)
        clipped.append({name: leaf.grad for name, leaf in leaves.items()})
    got = run(clip_by_norm(ours(LR), limit), params, gradients)
    assert_close(got, run_twin(theirs, params, clipped), atol=1e-12)
    tensor = run(clip_by_norm(ours(LR), torch.tensor(limit).double()), params, gradients)
    assert_close(tensor, got, atol=1e-7)


def test_a_limit_may_be_scheduled():
    """The limit of an update is the schedule's at the optimiser's count."""
    params, gradients = draw(3)
    gradients = [tree.map(lambda g: 1e3 * g, gradient) for gradient in gradients]
    path = run(clip_by_norm(fgan.sgd(LR), linear(0.1, 0.3, 2)), params, gradients)
    before = params
    for after, limit in zip(path, (0.1, 0.2, 0.3), strict=True):
        step = tree.norm(tree.map(lambda a, b: a - b, before, after))
        assert step.item() == pytest.approx(LR * limit, rel=1e-5)
        before = after


def test_cosine_in_closed_form():
    """Half a cosine from start to end, and the end from then on."""
    schedule = cosine(1.0, 0.2, steps=10)
    for count, expected in [(0, 1.0), (5, 0.6), (10, 0.2), (99, 0.2)]:
        assert schedule(torch.tensor(count)).item() == pytest.approx(expected)
    parameter = torch.zeros(1, requires_grad=True)
    theirs = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=10, eta_min=0.2)
    for count in range(10):
        rate = schedule(torch.tensor(count)).item()
        assert rate == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)
        theirs.step()
        scheduler.step()


@pytest.mark.parametrize("inner", [0.4, torch.tensor(0.4).double(), linear(0.4, 0.4, 3)])
def test_warmup_in_closed_form(inner):
    """A quarter, a half, three quarters, and the whole rate from the fourth update on."""
    schedule = warmup(inner, 4)
    rates = [schedule(torch.tensor(count)).item() for count in range(6)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_weight_decay_may_be_scheduled():
    """With zero gradients a parameter shrinks by 1 - lr · decay at each update."""
    params = {"w": torch.ones(2, dtype=torch.float64)}
    optimizer = fgan.adamw(0.1, weight_decay=linear(0.0, 1.0, 2))
    path = run(optimizer, params, [tree.map(torch.zeros_like, params)] * 3)
    assert [p["w"][0].item() for p in path] == pytest.approx([1.0, 0.95, 0.95 * 0.9])


def test_counts_updates_in_a_tensor(twin):
    """The count is a 0-d integer tensor that begins at 0: a Python number would recompile."""
    optimizer = twin[0](LR)
    params, gradients = draw(1)
    state = optimizer.init(params)
    _, after = optimizer.update(gradients[0], state, params)
    assert [s.updates.item() for s in (state, after)] == [0, 1]
    assert after.updates.shape == ()
    assert not after.updates.is_floating_point()


def test_rate_is_differentiable():
    """The derivative by the rate equals a central difference: rates can be learned."""
    params, gradients = draw(5)

    def loss(lr):
        return run(fgan.adam(lr), params, gradients)[-1]["w"].square().sum()

    lr, h = torch.tensor(0.1, dtype=torch.float64), 1e-6
    slope = torch.func.grad(loss)(lr)
    assert slope.item() == pytest.approx(((loss(lr + h) - loss(lr - h)) / (2 * h)).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fgan.sgd(-0.1), "learning rate.*-0.1"),
        (lambda: fgan.rmsprop(-1), "learning rate.*-1"),
        (lambda: fgan.adam(float("nan")), "learning rate.*nan"),
        (lambda: fgan.sgd(0.1, momentum=1.0), "momentum.*1.0"),
        (lambda: fgan.sgd(0.1, momentum=-0.5), "momentum.*-0.5"),
        (lambda: fgan.rmsprop(0.1, alpha=1.0), "alpha.*1.0"),
        (lambda: fgan.rmsprop(0.1, eps=-1e-8), "eps.*-1e-08"),
        (lambda: fgan.adam(0.1, betas=(1.0, 0.9)), r"betas\[0\].*1.0"),
        (lambda: fgan.adam(0.1, betas=(0.9, -0.1)), r"betas\[1\].*-0.1"),
        (lambda: fgan.adam(0.1, eps=float("nan")), "eps.*nan"),
        (lambda: fgan.adam(torch.full((2,), 0.1)), r"one number.*\[2\].*vmap"),
        (lambda: linear(-1.0, 0.0, 5), "schedule's start.*-1"),
        (lambda: linear(1.0, -0.5, 5), "schedule's end.*-0.5"),
        (lambda: fgan.adamw(0.1, weight_decay=-1.0), "weight_decay.*-1"),
        (lambda: clip_by_norm(fgan.sgd(0.1), 0.0), "limit is above 0 and finite, and 0.0"),
        (lambda: clip_by_norm(fgan.sgd(0.1), torch.ones(2)), r"limit is one number.*\[2\]"),
        (lambda: fgan.sgd("fast"), "learning rate is a number, a 0-d tensor or a schedule.*'fast'"),
        (lambda: fgan.sgd(True), "learning rate is a number.*True"),
        (lambda: cosine(1.0, 0.0, 0), "steps is a whole number from 1, and 0"),
        (lambda: cosine(torch.ones(()), 0.0, 5), "schedule's start is a number"),
        (lambda: warmup(-1.0, 5), "warmed-up value is at least 0"),
        (lambda: warmup(1.0, 0), "steps is a whole number from 1, and 0"),
        (lambda: linear(1.0, 0.0, 0), "steps is a whole number from 1, and 0"),
    ],
)
def test_arguments_out_of_range_are_named(build, message):
    """The error says which argument, and what was given, before any update is made."""
    with pytest.raises(ValueError, match=message):
        build()


def test_zero_rate_moves_nothing(twin):
    """A rate of 0 is in range and leaves the parameters where they are."""
    params, gradients = draw(5)
    assert_identical(run(twin[0](0.0), params, gradients)[-1], params)
