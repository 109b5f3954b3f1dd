"""Recipes: the kit's battery on every one, and the invariants of rounds: groups 9, 11 and 12."""

import math
from functools import partial

import pytest
import torch
from helpers import CLASSES, LATENT, RECIPES, Labelled, assert_close, make_round, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import normal, seeds
from torch import nn
from torch.func import grad

import fgan
from fgan.penalties import SAMPLE_AT
from fgan.testing import check_recipe

PAIRING = {"interpolate_within", "interpolate_mixed"}
"""Places whose interpolates depend on the order of the batch."""

few = settings(max_examples=3)

JENSEN_SHANNON = (lambda loss: math.log(2) - loss / 2, math.log(2))
DISTANCES = {
    **dict.fromkeys(("gan", "gan_minimax", "dragan"), JENSEN_SHANNON),
    "hinge_gan": (lambda loss: 1 - loss / 2, 1),
    "lsgan": (lambda loss: 1 - 4 * loss, 1),
    "r3gan": (lambda loss: math.log(2) - loss, math.log(2)),
}
"""The estimate from the critic's loss before its penalty, and the largest value it can have."""
PENALISED = {"wgan_gp", "wgan_div", "dragan", "r3gan"}


@pytest.mark.parametrize("name", list(RECIPES))
def test_passes_the_battery(name):
    """Groups 9, 11 and 12 with the papers' defaults, any order of the samples included."""
    check_recipe(RECIPES[name], permutation_invariant=True, max_examples=2)


@pytest.mark.parametrize("place", list(SAMPLE_AT))
def test_passes_the_battery_wherever_the_penalty_is_taken(place):
    """Every choice of Pu plays by the rules, with a running mean and few updates."""
    recipe = partial(fgan.wgan_div, sample_at=place, n_critic=2, ema_decay=0.9)
    check_recipe(recipe, permutation_invariant=place not in PAIRING, max_examples=1)


@pytest.mark.parametrize("optimizer", [fgan.sgd(0.01), fgan.sgd(0.01, 0.9), fgan.rmsprop(0.001)])
def test_passes_the_battery_with_every_optimizer(optimizer):
    """Optimisers are no less pure inside a round, nor in simultaneous play."""
    options = dict(generator_optimizer=optimizer, critic_optimizer=optimizer)
    check_recipe(partial(fgan.gan, update="simultaneous", **options), max_examples=1)


@few
@given(seeds)
@pytest.mark.parametrize("name", list(RECIPES))
def test_info_is_what_the_losses_say(name, seed):
    """Loss, distance and penalty of one update are tied by the recipe's own formula, exactly."""
    algorithm = RECIPES[name](*pair(norm=True), n_critic=1)
    batch, noise = make_round(algorithm, seed=seed % 1000)
    _, info = algorithm.step(algorithm.init(seed), batch, noise)
    weight = 10.0 if name in ("wgan_gp", "dragan") else 1.0
    adversarial_loss = info.critic_loss - weight * info.penalty
    distance, most = DISTANCES.get(name, (lambda loss: -loss, math.inf))
    assert_close(info.distance, distance(adversarial_loss), atol=1e-12)
    assert info.distance <= most
    assert (info.penalty > 0).item() == (name in PENALISED)
    if name.startswith("wgan"):
        assert_close(info.distance, info.real_score - info.fake_score, atol=1e-12)


@few
@given(seeds)
def test_joint_permutation_of_conditions(seed):
    """Reordering (x, y, z, ε) together changes nothing; reordering labels alone does."""
    algorithm = fgan.wgan_gp(*pair(conditional=True), n_critic=2)
    state = algorithm.init(seed)
    batch, noise = make_round(algorithm, (2,), True, size=6, seed=seed % 1000)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    moved = fgan.Batch(batch.real[:, order], batch.condition[:, order])
    stirred = fgan.Noise(
        noise.critic_latent[:, order], noise.generator_latent[order], noise.mix[:, order]
    )
    expected = algorithm.step(state, batch, noise)
    assert_close(algorithm.step(state, moved, stirred), expected, atol=1e-8)
    other = (batch.condition + torch.arange(6)) % CLASSES
    wrong = algorithm.step(state, batch._replace(condition=other), noise)
    assert not torch.isclose(wrong[1].critic_loss, expected[1].critic_loss, rtol=1e-9)


class Deaf(nn.Module):
    """Takes a condition and ignores it."""

    latent_dim = LATENT

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.sample_shape = getattr(net, "sample_shape", None)

    def forward(self, x, condition):
        return self.net(x)


@few
@given(seeds)
@pytest.mark.parametrize("name", list(RECIPES))
def test_ignored_conditions_reduce_to_the_plain_game(name, seed):
    """A critic and generator that ignore any labels play the unconditional game, to the bit."""
    plain = RECIPES[name](*pair(norm=True), n_critic=2)
    deaf = RECIPES[name](*map(Deaf, pair(norm=True)), n_critic=2)
    batch, noise = make_round(deaf, (2,), True, seed=seed % 1000)
    got, info = deaf.step(deaf.init(), batch, noise)
    expected, expected_info = plain.step(plain.init(), fgan.Batch(batch.real), noise)
    assert_close(info, expected_info, atol=0.0)
    for name_of, p in expected.critic.params.items():
        assert torch.equal(got.critic.params[f"net.{name_of}"], p)


class Telling(nn.Module):
    """A critic with one slope per label: wherever a penalty is taken, its label shows."""

    def __init__(self):
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))

    def forward(self, x, condition):
        slope = (condition[:, None] == torch.arange(CLASSES)).to(x.dtype) @ self.slopes
        return slope * x.sum(dim=1)


@pytest.mark.parametrize("place", list(SAMPLE_AT))
def test_a_penalty_holds_the_condition(place):
    """The slope at any point is its own label's, so no interpolate has two, nor the wrong one."""
    generator = Labelled(pair(conditional=True)[0])
    algorithm = fgan.wgan_div(generator, Telling(), sample_at=place, k=1.0, p=2.0, n_critic=1)
    batch, noise = make_round(algorithm, (2,), True, size=6)
    _, info = algorithm.step(algorithm.init(), batch, noise)
    labels = batch.condition[0]
    expected = (2 * torch.tensor([1.0, 4.0, 16.0]).double()[labels]).mean()
    assert_close(info.penalty, expected, atol=1e-12)


@few
@given(seeds, st.sampled_from(list(RECIPES)))
def test_a_round_can_be_differentiated(seed, name):
    """The derivative of a round's outcome by a learning rate is its central difference."""
    players = pair()

    def played(lr):
        options = dict(generator_optimizer=fgan.sgd(lr), critic_optimizer=fgan.sgd(lr))
        wide = dict(clip=5.0) if name == "wgan" else {}
        return RECIPES[name](*players, n_critic=2, **options, **wide)

    given_round = played(0.0).init(seed), *make_round(played(0.0), seed=seed % 1000)

    def outcome(lr):
        stepped, _ = played(lr).step(*given_round)
        return stepped.generator.params["last.weight"].square().sum()

    lr, h = torch.tensor(0.01, dtype=torch.float64), 1e-6
    difference = (outcome(lr + h) - outcome(lr - h)) / (2 * h)
    torch.testing.assert_close(grad(outcome)(lr), difference, rtol=1e-5, atol=1e-8)


OPTIMIZERS = {
    "sgd": fgan.sgd,
    "momentum": partial(fgan.sgd, momentum=0.5),
    "rmsprop": fgan.rmsprop,
    "adam": fgan.adam,
}


@few
@given(seeds, st.floats(0.001, 0.1))
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_first_update_in_closed_form(name, seed, lr):
    """SGD: -lr g; RMSprop: -lr g / (√(1-α)|g| + ε); Adam: -lr g / (|g| + ε)."""
    g = normal(seed, 3, 2)
    params = {"w": normal(seed + 1, 3, 2)}
    optimizer = OPTIMIZERS[name](lr)
    moved, _ = optimizer.update({"w": g}, optimizer.init(params), params)
    expected = {
        "sgd": g,
        "momentum": g,
        "rmsprop": g / (0.1 * g.abs() + 1e-8),
        "adam": g / (g.abs() + 1e-8),
    }[name]
    assert_close(moved["w"], params["w"] - lr * expected, atol=1e-12)


@few
@given(seeds)
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_parameters_move_alone(name, seed):
    """The path of a parameter depends on its own gradients, not on what else is optimised."""
    optimizer = OPTIMIZERS[name](0.1)
    both = {"a": normal(seed, 2), "b": normal(seed + 1, 3)}
    paths = []
    for params in (both, {"a": both["a"]}):
        state = optimizer.init(params)
        for i in range(3):
            gradients = {k: normal(seed + 10 * i + len(v), *v.shape) for k, v in params.items()}
            params, state = optimizer.update(gradients, state, params)  # noqa: PLW2901
        paths.append(params["a"])
    assert torch.equal(*paths)


@few
@given(seeds, st.floats(0.01, 100))
def test_adam_does_not_see_the_scale_of_gradients(seed, scale):
    """With eps 0, gradients times c > 0 move Adam and RMSprop alike; SGD is linear in them."""
    params, gradients = {"w": normal(seed, 4)}, [{"w": normal(seed + i, 4)} for i in (1, 2, 3)]

    def end(optimizer, factor):
        state, now = optimizer.init(params), params
        for g in gradients:
            now, state = optimizer.update({"w": factor * g["w"]}, state, now)
        return now["w"] - params["w"]

    for optimizer in (fgan.adam(0.1, eps=0.0), fgan.rmsprop(0.1, eps=0.0)):
        assert_close(end(optimizer, scale), end(optimizer, 1.0), atol=1e-11)
    momentum = fgan.sgd(0.1, 0.9)
    assert_close(end(momentum, scale) / scale, end(momentum, 1.0), atol=1e-11)


@pytest.mark.parametrize("name", ["n_critic", "warm", "every"])
def test_a_warmup_counts_from_one(name):
    """A schedule without updates, or of every 0th round, is refused by name."""
    with pytest.raises(ValueError, match=f"{name} is a whole number from 1, and 0 was given"):
        fgan.recipes.critic_warmup(**{name: 0})
