"""What every recipe promises of a round: purity, shapes and dtypes, figures, noise."""

import math

import pytest
import torch
from helpers import (
    CLASSES,
    LATENT,
    RECIPES,
    Critic,
    Generator,
    assert_close,
    assert_identical,
    critic_extra,
    make,
    make_batch,
    make_round,
    pair,
    unchanged,
)
from torch.func import functional_call

import fgan
from fgan import tree
from fgan.recipes import clip_parameters

SHAPES = [(2,), (1, 28, 28), (3, 64, 64), (3, 17, 23), (4, 3)]
WASSERSTEIN = ["wgan", "wgan_gp", "wgan_div"]


def build(recipe, shape=(2,), conditional=False, dtype=torch.float64, **options):
    """An algorithm of two critic updates whose generator has BatchNorm."""
    return recipe(*pair(shape, conditional, norm=True, dtype=dtype), **{"n_critic": 2} | options)


def described(state):
    """Where each tensor stands, its shape and its dtype."""
    return {name: (leaf.shape, leaf.dtype) for name, leaf in tree.named_leaves(state).items()}


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_step_is_pure(recipe, conditional, ema_decay):
    """State, batch and noise keep their bits, no generator is drawn, and a replay is exact."""
    algorithm = build(recipe, conditional=conditional, ema_decay=ema_decay)
    state = algorithm.init(0)
    batch, noise = make_round(algorithm, (2,), conditional)
    with unchanged(state, batch, noise):
        first = algorithm.step(state, batch, noise)
        second = algorithm.step(state, batch, noise)
    assert_identical(first, second)
    assert not any(leaf.requires_grad for leaf in tree.leaves(first))


def test_the_parts_of_a_round_are_pure(recipe, conditional):
    """So are `critic_update`, `generator_update`, `generate`, `score`, `init` and `noise`."""
    algorithm = build(recipe, conditional=conditional, ema_decay=0.9)
    state = algorithm.init(0)
    batch, noise = make_round(algorithm, (2,), conditional)
    label = batch.condition[0] if conditional else None
    with unchanged(state, batch, noise):
        arguments = state, batch.real[0], label, noise.critic_latent[0], noise.mix[0]
        extra = critic_extra(noise)
        assert_identical(*(algorithm.critic_update(*arguments, extra=extra) for _ in range(2)))
        arguments, real = (state, noise.generator_latent, label), batch.real[0]
        assert_identical(*(algorithm.generator_update(*arguments, real) for _ in range(2)))
        assert_identical(*(algorithm.generate(*arguments) for _ in range(2)))
        assert_identical(*(algorithm.score(state, batch.real[0], label) for _ in range(2)))
        assert_identical(*(algorithm.init(1) for _ in range(2)))
        assert_identical(*(algorithm.noise(1, 2, 3) for _ in range(2)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_step_keeps_the_tree_for_samples_of_any_rank(recipe, conditional, dtype, shape):
    """Structure, shapes and dtypes go out as they came in, and everything moved is finite."""
    algorithm = build(recipe, shape, conditional, dtype, ema_decay=0.9)
    state = algorithm.init(0)
    batch, noise = make_round(algorithm, shape, conditional, size=3, dtype=dtype)
    stepped, info = algorithm.step(state, batch, noise)
    assert tree.same_structure(stepped, state)
    assert described(stepped) == described(state)
    names = [f".{name}" for name in fgan.GANInfo._fields if name != "terms"]
    names += [f".terms['{name}']" for name in info.terms]
    assert described(info) == {name: ((), dtype) for name in names}
    assert all(isinstance(leaf, torch.Tensor) for leaf in tree.leaves((stepped, noise, info)))
    assert all(leaf.isfinite().all() for leaf in tree.leaves((stepped, info)))
    assert stepped.round.item() == 1
    samples = algorithm.generate(
        stepped, noise.generator_latent, *batch[1][:1] if conditional else ()
    )
    assert (samples.shape, samples.dtype) == ((3, *shape), dtype)


def test_both_players_learn(recipe, conditional):
    """Every parameter of both moves; statistics of the generator move once, critic's not at all."""
    algorithm = build(recipe, conditional=conditional)
    state = algorithm.init()
    stepped, _ = algorithm.step(state, *make_round(algorithm, (2,), conditional))
    for player in ("generator", "critic"):
        old, new = getattr(state, player).params, getattr(stepped, player).params
        still = {name for name in old if torch.equal(old[name], new[name])}
        # A shift of all scores cancels in fake - real, so only clipping can move the last bias.
        assert still <= {"last.bias"} if player == "critic" else not still
    assert stepped.generator.buffers["norm.num_batches_tracked"].item() == 1
    assert stepped.generator.opt_state.updates.item() == 1
    assert stepped.critic.opt_state.updates.item() == 2


@pytest.mark.parametrize("name", list(RECIPES))
def test_figures_are_those_of_the_last_critic_update(name):
    """The scores are the critic's before that update; distance, loss and penalty follow."""
    algorithm = build(RECIPES[name])
    state = algorithm.init()
    batch, noise = make_round(algorithm)
    _, info = algorithm.step(state, batch, noise)
    state, _ = algorithm.critic_update(
        state, batch.real[0], None, noise.critic_latent[0], noise.mix[0], extra=critic_extra(noise)
    )
    generator, critic = pair(norm=True)
    fake = functional_call(generator, state.generator.params, noise.critic_latent[1])
    real_scores = functional_call(critic, state.critic.params, batch.real[1])
    fake_scores = functional_call(critic, state.critic.params, fake)
    assert_close(info.real_score, real_scores.mean().detach())
    assert_close(info.fake_score, fake_scores.mean().detach())
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    loss = {
        "hinge_gan": lambda real, fake: ((1 - real).clamp(0) + (1 + fake).clamp(0), 1, 2),
        "lsgan": lambda real, fake: ((real - 1) ** 2 / 2 + fake**2 / 2, 1, 0.25),
        "r3gan": lambda real, fake: (bce(real - fake, torch.ones_like(real)), math.log(2), 1),
        **dict.fromkeys(WASSERSTEIN, lambda real, fake: (fake - real, 0, 1)),
    }.get(
        name,
        lambda real, fake: (
            bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake)),
            math.log(2),
            2,
        ),
    )
    value, at_best, scale = loss(real_scores.detach(), fake_scores.detach())
    assert_close(info.distance, at_best - value.mean() / scale)
    weight = 10.0 if name in ("wgan_gp", "dragan") else 1.0
    assert_close(info.critic_loss, weight * info.penalty + value.mean())
    assert (info.penalty.item() > 0) == (name in ("wgan_gp", "wgan_div", "dragan", "r3gan"))


def test_clipping_bounds_every_parameter_and_writes_to_none():
    """After a round of WGAN the critic lies in its box, touching it; the generator does not."""
    algorithm = build(fgan.wgan, clip=0.02)
    state, _ = algorithm.step(algorithm.init(0), *make_round(algorithm))
    assert max(p.abs().max() for p in state.critic.params.values()).item() == 0.02
    assert max(p.abs().max() for p in state.generator.params.values()).item() > 0.02
    params = {"w": torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])}
    with unchanged(params):
        clipped = clip_parameters(params, 1.0)
    assert clipped["w"].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_noise_is_a_function_of_seed_and_round(recipe):
    """Shapes, range and dtype as promised, equal when drawn again, unlike any other round's."""
    algorithm = build(recipe, dtype=torch.float32)
    noise = algorithm.noise(3, 4, 50)
    *parts, extra = noise
    assert [part.shape for part in parts] == [(2, 50, LATENT), (50, LATENT), (2, 50)]
    drawn = {"critic": {"perturbation": (2, 50, 2)}} if recipe is fgan.dragan else {}
    assert tree.map(lambda part: tuple(part.shape), extra) == drawn
    assert {part.dtype for part in parts} == {torch.float32}
    wide = algorithm.noise(3, 4, 5, dtype=torch.float64)
    assert {part.dtype for part in tree.leaves(wide)} == {torch.float64}
    torch.rand(1)
    assert_identical(algorithm.noise(3, 4, 50), noise)
    for seed, index in [(3, 5), (4, 4), (4, 3), (2, 5), (-3, 4)]:
        others = tree.leaves(algorithm.noise(seed, index, 50))
        for part, other in zip([*parts, *tree.leaves(extra)], others, strict=True):
            assert not torch.isclose(part, other).any()


def test_noise_has_the_right_distribution():
    """Latents are standard normal, mixes uniform on [0, 1), and no two parts are correlated."""
    latent, last, mix, _ = build(fgan.wgan_gp).noise(0, 0, 10_000)
    for part in (latent, last):
        assert part.mean().item() == pytest.approx(0, abs=0.03)
        assert part.std().item() == pytest.approx(1, abs=0.03)
    assert 0 <= mix.min() < 0.01
    assert 0.99 < mix.max() < 1
    assert mix.mean().item() == pytest.approx(0.5, abs=0.01)
    columns = torch.cat([*latent, last, mix.T], dim=1)
    assert (torch.corrcoef(columns.T) - torch.eye(columns.shape[1])).abs().max() < 0.05


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_generate_and_score_are_in_evaluation_mode(conditional, ema_decay):
    """Each sample is treated alone, by running statistics, with the averaged weights where kept."""
    generator, critic = pair(conditional=conditional, norm=True, critic_norm="batch")
    algorithm = fgan.gan(generator, critic, ema_decay=ema_decay, n_critic=2)
    state = algorithm.init()
    batch, noise = make_round(algorithm, (2,), conditional)
    for _ in range(2):
        state, _ = algorithm.step(state, batch, noise)
    kept = state.ema if ema_decay else state.generator
    labels = (batch.condition[0],) if conditional else ()
    samples = algorithm.generate(state, noise.generator_latent, *labels)
    scores = algorithm.score(state, samples, *labels)
    own = (noise.generator_latent, *labels)
    assert_close(
        samples, functional_call(generator.eval(), kept.params | kept.buffers, own).detach()
    )
    tensors = state.critic.params | state.critic.buffers
    expected = functional_call(critic.eval(), tensors, (samples, *labels)).detach()
    assert_close(scores, expected.squeeze(1))
    assert scores.shape == (4,)


def test_conditions_matter():
    """Other labels make other samples, scores and updates."""
    algorithm = build(fgan.wgan_gp, conditional=True)
    state = algorithm.init(0)
    batch, noise = make_round(algorithm, (2,), True)
    other = batch._replace(condition=(batch.condition + 1) % CLASSES)
    one, two = (algorithm.step(state, b, noise)[1] for b in (batch, other))
    assert (one.real_score != two.real_score) & (one.fake_score != two.fake_score)
    one, two = (
        algorithm.generate(state, noise.generator_latent, b.condition[0]) for b in (batch, other)
    )
    assert not torch.isclose(one, two).any()


def test_a_round_takes_other_versions_of_its_updates(recipe, conditional):
    """`game.step` with the algorithm's own updates is `step`, also with all fakes drawn first."""
    algorithm = build(recipe, conditional=conditional)
    given = (algorithm.parts, algorithm.init(), *make_round(algorithm, (2,), conditional))
    own = dict(update_critic=algorithm.critic_update, update_generator=algorithm.generator_update)

    def draw(state, latents, conditions):
        conditions = [None] * len(latents) if conditions is None else conditions
        pairs = zip(latents, conditions, strict=True)
        return torch.stack([algorithm.fakes(state, *pair) for pair in pairs])

    expected = algorithm.step(*given[1:])
    assert_identical(fgan.game.step(*given, **own), expected)
    assert_identical(fgan.game.step(*given, **own, all_fakes=draw), expected)


def test_low_precision_penalty_is_single_precision():
    """Under bfloat16 the penalty is taken in float32, and the state stays bfloat16."""
    players = (make(Generator, dtype=torch.bfloat16), make(Critic, dtype=torch.bfloat16))
    algorithm = fgan.wgan_gp(*players, n_critic=1)
    state = algorithm.init()
    batch = make_batch(n_critic=1, dtype=torch.bfloat16)
    stepped, info = algorithm.step(state, batch, algorithm.noise(0, 0, 4))
    assert info.penalty.dtype == torch.float32
    assert described(stepped) == described(state)


@pytest.mark.parametrize("gradients", ["input_gradients", "batched_input_gradients"])
def test_samples_may_be_single_numbers(gradients):
    """With D(x) = x³ on samples [B], the penalties are those of the slope 3x²."""
    x = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    way = {"gradients": getattr(fgan.penalties, gradients)}
    slope = 3 * x**2
    for got, expected in [
        (fgan.penalties.gradient_penalty(lambda x: x**3, x, **way), (slope - 1) ** 2),
        (fgan.penalties.w_divergence_penalty(lambda x: x**3, x, **way), 2 * slope**6),
        (fgan.penalties.zero_centered_penalty(lambda x: x**3, x, **way), slope**2),
    ]:
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-12)
