"""Augmentations beside loops over samples, and rounds under an augmentation."""

import math
from functools import partial

import pytest
import torch
from helpers import (
    RECIPES,
    Counting,
    assert_close,
    assert_identical,
    critic_extra,
    make_batch,
    make_round,
    pair,
    unchanged,
)
from torch import nn
from torch.func import functional_call, vmap

import fgan
from fgan import losses, tree
from fgan.algorithm import make_algorithm
from fgan.augment import (
    Augmentation,
    adjust_colour,
    chain,
    colour,
    cut_out,
    cutout,
    flip,
    flip_last_axis,
    translate,
    translation,
)
from fgan.augmented import augmented
from fgan.objectives import Penalty, adversarial, adversarial_generator
from fgan.penalties import batched_input_gradients, gradient_penalty

SHAPE = (2, 5, 8)
SIZE = 6
ALL = {
    "colour": (colour(), colour(0.0)),
    "translation": (translation(0.4), translation(0.0)),
    "cutout": (cutout(), cutout(0.0)),
    "flip": (flip(), flip(0.0)),
    "chain": (
        chain(colour(), translation(0.4), cutout(), flip()),
        chain(colour(0.0), translation(0.0), cutout(0.0), flip(0.0)),
    ),
}
every = pytest.mark.parametrize("name", list(ALL))


def drawn(*shape, seed=0, uniform=False):
    """Normal or uniform numbers in float64."""
    source = torch.Generator().manual_seed(seed)
    return (torch.rand if uniform else torch.randn)(shape, generator=source, dtype=torch.float64)


def inputs(augmentation, shape=SHAPE, seed=0):
    """Samples and uniform numbers for an augmentation."""
    return drawn(SIZE, *shape, seed=seed), drawn(
        SIZE, augmentation.numbers, seed=seed + 1, uniform=True
    )


# --- the functions -------------------------------------------------------------------------------


@every
def test_strength_zero_is_the_identity(name):
    """Bit for bit."""
    augmentation = ALL[name][1]
    x, uniform = inputs(augmentation)
    assert torch.equal(augmentation.function(x, uniform), x)


@every
def test_a_sample_depends_on_its_own_row_alone(name):
    """Sample i is a function of image i and noise i; each of both matters."""
    augmentation = ALL[name][0]
    x, uniform = inputs(augmentation)
    whole = augmentation.function(x, uniform)
    assert not torch.equal(whole, x)
    alone = [augmentation.function(x[i : i + 1], uniform[i : i + 1])[0] for i in range(SIZE)]
    assert torch.equal(torch.stack(alone), whole)
    mapped = vmap(lambda x, u: augmentation.function(x[None], u[None])[0])(x, uniform)
    assert torch.equal(mapped, whole)
    other = augmentation.function(x, torch.cat([1 - uniform[:1], uniform[1:]]))
    changed = (other != whole).flatten(1).any(dim=1).tolist()
    assert changed == [True] + [False] * (SIZE - 1)


@every
def test_derivatives_by_the_samples(name):
    """First and second derivatives equal finite differences."""
    augmentation = ALL[name][0]
    x, uniform = inputs(augmentation, (2, 3, 3))
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augmentation.function(x, uniform), x)
    assert torch.autograd.gradgradcheck(lambda x: augmentation.function(x, uniform) ** 2, x)


@every
def test_compiled_augmentations(name):
    """One graph, the same values, float32 and bfloat16 kept."""
    augmentation = ALL[name][0]
    x, uniform = (t.float() for t in inputs(augmentation))
    backend = Counting()
    compiled = torch.compile(augmentation.function, fullgraph=True, backend=backend)
    assert torch.equal(compiled(x, uniform), augmentation.function(x, uniform))
    assert backend.graphs == 1
    assert augmentation.function(x.bfloat16(), uniform).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(2, 5, 8), (1, 9), (2, 3, 4, 5), (3, 1, 1)])
def test_translation_equals_a_hand_made_shift(shape):
    """Every position goes by whole numbers of positions, and zeros come in."""
    axes = len(shape) - 1
    x, uniform = drawn(SIZE, *shape), drawn(SIZE, axes, seed=1, uniform=True)
    expected = torch.zeros_like(x)
    shifts = []
    for i in range(SIZE):
        moved = x[i]
        for axis, n in enumerate(shape[1:]):
            most = math.floor(0.3 * n + 0.5)
            shift = math.floor(uniform[i, axis].item() * (2 * most + 1)) - most
            shifts.append(shift)
            moved = moved.roll(shift, dims=1 + axis)
            edge = [slice(None)] * moved.ndim
            edge[1 + axis] = slice(0, shift) if shift >= 0 else slice(n + shift, n)
            moved = moved.clone()
            moved[tuple(edge)] = 0
        expected[i] = moved
    assert torch.equal(translate(x, uniform, ratio=0.3), expected)
    assert max(shape[1:]) == 1 or len(set(shifts)) > 1


def test_every_shift_is_as_likely():
    """The uniform numbers are divided into equal parts, the last of which ends below 1."""
    x = torch.zeros(9 * 4, 1, 16)
    x[:, 0, 8] = 1
    uniform = (torch.arange(36) + 0.5)[:, None] / 36
    places = translate(x, uniform, ratio=0.25)[:, 0].argmax(dim=1)
    assert places.tolist() == [8 + shift for shift in range(-4, 5) for _ in range(4)]
    last = torch.full((1, 1), 1 - 2**-24)
    assert translate(x[:1], last, ratio=0.25)[0, 0].argmax() == 12


@pytest.mark.parametrize("ratio", [0.2, 0.5, 1.0])
def test_cutout_equals_a_loop_over_positions(ratio):
    """A position is zero where it lies in the box about the centre."""
    x, uniform = drawn(SIZE, *SHAPE), drawn(SIZE, 2, seed=1, uniform=True)
    expected = x.clone()
    for i in range(SIZE):
        boxes = []
        for axis, n in enumerate(SHAPE[1:]):
            length = math.floor(ratio * n + 0.5)
            centre = math.floor(uniform[i, axis].item() * (n + 1 - length % 2))
            boxes.append({centre - length // 2 + j for j in range(length)})
        for row in range(SHAPE[1]):
            for column in range(SHAPE[2]):
                if row in boxes[0] and column in boxes[1]:
                    expected[i, :, row, column] = 0
    assert torch.equal(cut_out(x, uniform, ratio=ratio), expected)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_colour_equals_its_three_steps(strength):
    """Brightness, saturation and contrast as factors of differences from means."""
    x, uniform = drawn(SIZE, *SHAPE), drawn(SIZE, 3, seed=1, uniform=True)
    expected = []
    for image, (b, s, c) in zip(x, uniform, strict=True):
        bright = image + strength * (b - 0.5)
        grey = bright.mean(0)
        saturated = torch.stack(
            [grey + (1 - strength + 2 * strength * s) * (p - grey) for p in bright]
        )
        mean = saturated.mean()
        expected.append(mean + (1 + strength * (c - 0.5)) * (saturated - mean))
    assert_close(adjust_colour(x, uniform, strength=strength), torch.stack(expected), atol=1e-12)


def test_flips_where_the_number_is_below_the_probability():
    """Left and right change places."""
    x, uniform = drawn(4, *SHAPE), torch.tensor([[0.0], [0.29], [0.3], [0.9]])
    got = flip_last_axis(x, uniform, probability=0.3)
    assert torch.equal(got, torch.stack([x[0].flip(2), x[1].flip(2), x[2], x[3]]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: colour(1.5), r"strength is a number in \[0, 1\], and 1\.5"),
        (lambda: translation(-0.1), "ratio is a number.*-0.1"),
        (lambda: cutout("half"), "ratio is a number.*'half'"),
        (lambda: flip(True), "probability is a number.*True"),
        (lambda: cutout(axes=0), "axes is a whole number from 1, and 0"),
        (chain, "at least one augmentation"),
        (lambda: translate(drawn(2, 1, 4), drawn(2, 2)), r"n = 1; samples \[2, 1, 4\].*\[2, 2\]"),
        (lambda: cut_out(drawn(2, 1, 4, 4), drawn(1, 2)), r"n = 2; samples \[2, 1, 4, 4\].*axes="),
        (lambda: flip_last_axis(drawn(2, 4), drawn(2, 1)), r"samples \[2, 4\]"),
    ],
)
def test_what_is_refused(wrong, message):
    """The error says what was given and what was expected."""
    with pytest.raises(ValueError, match=message):
        wrong()


# --- rounds --------------------------------------------------------------------------------------

STRONG = chain(colour(), translation(0.4), cutout(), flip())
IMAGE = (2, 5, 9)


def build(name="wgan_gp", augmentation=STRONG, **options):
    """A recipe on small images, under an augmentation or not."""
    more = {} if augmentation is None else dict(augmentation=augmentation)
    return RECIPES[name](*pair(IMAGE, norm=True), **{"n_critic": 2} | more | options)


def test_a_round_is_a_function_of_seed_and_round(recipe):
    """Each recipe under an augmentation: declared numbers, pure, the same twice, unlike without."""
    algorithm = recipe(*pair(IMAGE, norm=True), n_critic=2, augmentation=STRONG)
    state, (batch, noise) = algorithm.init(0), make_round(algorithm, IMAGE)
    declared = {role: named["augmentation"].shape for role, named in noise.extra.items()}
    assert declared == {"critic": (2, 4, 8), "generator": (4, 8)}
    with unchanged(state, batch, noise):
        first, second = (algorithm.step(state, batch, noise) for _ in range(2))
    assert_identical(first, second)
    assert_identical(algorithm.noise(0, 0, 4), noise)
    plain = recipe(*pair(IMAGE, norm=True), n_critic=2)
    other = fgan.Noise(*noise[:3], plain.noise(0, 0, 4).extra)
    assert plain.step(state, batch, other)[1].critic_loss != first[1].critic_loss


@pytest.mark.parametrize("name", ["gan", "wgan_gp", "dragan", "r3gan"])
def test_without_strength_the_round_is_the_one_without_augmentation(name):
    """To the bit, penalties and the generator's update included."""
    algorithm, plain = build(name, ALL["chain"][1]), build(name, None)
    state, (batch, noise) = algorithm.init(0), make_round(algorithm, IMAGE)
    of_critic = {n: x for n, x in noise.extra["critic"].items() if n != "augmentation"}
    bare = fgan.Noise(*noise[:3], {"critic": of_critic} if of_critic else {})
    assert_identical(algorithm.step(state, batch, noise), plain.step(state, batch, bare))


@pytest.mark.parametrize("of_known_layers", [False, True])
def test_real_fake_and_penalty_are_under_the_same_augmentation(of_known_layers):
    """The critic's loss is D(T(G(z))) - D(T(x)) + λ (‖∇ D(T(x̂))‖ - 1)², by autograd through T.

    Known layers score real and fake in one pass, a module of one's own in two.
    """
    generator, critic = pair(IMAGE, norm=True)
    if of_known_layers:
        layers = nn.Flatten(), nn.Linear(math.prod(IMAGE), 7), nn.Tanh(), nn.Linear(7, 1)
        critic = nn.Sequential(*layers).double()
    algorithm = RECIPES["wgan_gp"](generator, critic, n_critic=1, augmentation=STRONG)
    state, (batch, noise) = algorithm.init(0), make_round(algorithm, IMAGE)
    inputs = batch.real[0], None, noise.critic_latent[0], noise.mix[0]
    _, info = algorithm.critic_update(state, *inputs, extra=critic_extra(noise))
    uniform = noise.extra["critic"]["augmentation"][0]
    fake = algorithm.fakes(state, noise.critic_latent[0])

    def scores(x):
        return functional_call(critic, state.critic.params, STRONG.function(x, uniform)).reshape(-1)

    mix = noise.mix[0].reshape(-1, 1, 1, 1)
    points = (mix * batch.real[0] + (1 - mix) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(scores(points).sum(), points)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    assert_close(info.real_score, scores(batch.real[0]).mean().detach())
    assert_close(info.fake_score, scores(fake).mean().detach())
    assert_close(info.penalty, penalty)


@pytest.mark.parametrize("name", ["wgan_gp", "r3gan"])
def test_the_generator_learns_through_the_augmentation(name):
    """Its gradient is the central difference of its loss."""
    rate = 1e-3
    algorithm = build(name, generator_optimizer=fgan.sgd(rate))
    state, (batch, noise) = algorithm.init(0), make_round(algorithm, IMAGE)
    rest = noise.generator_latent, None, batch.real[-1], noise.extra["generator"]
    moved, _ = algorithm.generator_update(state, *rest)
    params = state.generator.params
    gradient = {n: (p - moved.generator.params[n]) / rate for n, p in params.items()}
    direction = {n: drawn(*p.shape, seed=i) for i, (n, p) in enumerate(params.items())}

    def loss(step):
        shifted = {n: p + step * direction[n] for n, p in params.items()}
        player = state.generator._replace(params=shifted)
        return algorithm.generator_update(state._replace(generator=player), *rest)[1].generator_loss

    difference = (loss(1e-5) - loss(-1e-5)) / 2e-5
    slope = sum((gradient[n] * direction[n]).sum() for n in params)
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-8)


def test_a_compiled_round_under_an_augmentation():
    """`fgan.compile` and `torch.compile` equal the eager round."""
    algorithm = build(n_critic=1)
    state, round_ = algorithm.init(0), make_round(algorithm, IMAGE)
    expected = algorithm.step(state, *round_)
    whole = torch.compile(algorithm.step, fullgraph=True, backend=(one := Counting()))
    assert_close(whole(state, *round_), expected)
    ours = fgan.compile(algorithm, backend=(three := Counting()), donate=False)
    assert_close(ours.step(state, *round_), expected)
    assert (one.graphs, three.graphs) == (1, 3)


def test_parts_and_populations_under_an_augmentation():
    """A batch in parts is the whole batch, and a population is its members."""
    # SGD: Adam would make noise of the last bias, whose gradient is 0.
    rates = dict(generator_optimizer=fgan.sgd(0.1), critic_optimizer=fgan.sgd(0.1))
    players = pair(IMAGE)
    algorithm = fgan.wgan_gp(*players, n_critic=2, augmentation=STRONG, **rates)
    state, (batch, noise) = algorithm.init(0), make_round(algorithm, IMAGE)
    expected = algorithm.step(state, batch, noise)
    got, _ = fgan.accumulate(algorithm, 2).step(state, batch, noise)
    assert_close(got, expected[0])
    many = fgan.population(algorithm)
    states, _ = many.step(many.init([0, 1]), batch, many.noise([0, 1], 0, 4))
    assert_close(tree.unstack(states)[0], expected[0])


def test_an_objective_is_augmented_once_and_by_an_augmentation():
    """The error names what to use instead."""
    objective = augmented(adversarial(losses.hinge_critic_loss), flip())
    with pytest.raises(ValueError, match=r"'augmentation' already.*fgan\.augment\.chain"):
        augmented(objective, flip())
    with pytest.raises(ValueError, match=r"is a fgan\.augment\.Augmentation, and <fun"):
        build(augmentation=translate)


@pytest.mark.parametrize("whole_batch", [False, True])
def test_a_penalty_of_single_samples_is_refused(whole_batch):
    """A critic that sees one sample at a time cannot know whose random numbers to take."""
    function = gradient_penalty
    if whole_batch:
        function = partial(gradient_penalty, gradients=batched_input_gradients)
    rate = fgan.sgd(0.1)
    algorithm = make_algorithm(
        *pair(IMAGE),
        adversarial(losses.wasserstein_critic_loss, Penalty(function)),
        adversarial_generator(losses.wasserstein_generator_loss),
        generator_optimizer=rate, critic_optimizer=rate, augmentation=flip(),
    )  # fmt: skip
    state, round_ = algorithm.init(0), make_round(algorithm, IMAGE)
    if whole_batch:
        algorithm.step(state, *round_)
        return
    with pytest.raises(ValueError, match=r"for 4 samples.* called on 1.*batched_input_gradients"):
        algorithm.step(state, *round_)


def test_an_augmentation_that_draws_or_changes_the_shape_is_refused():
    """Before the first round where it draws, at the first round where the shape changes."""
    with pytest.raises(ValueError, match="draws random numbers"):
        build(augmentation=Augmentation(lambda x, u: x + torch.randn_like(x), 1))
    algorithm = build(augmentation=Augmentation(lambda x, u: x[:, :, 1:], 1))
    with pytest.raises(
        ValueError, match=r"keeps the samples' shape \[4, 2, 5, 9\].*\[4, 2, 4, 9\]"
    ):
        algorithm.step(algorithm.init(0), make_batch(IMAGE), algorithm.noise(0, 0, 4))
