"""Updates without effect where a gradient or a loss is not finite, beside the unguarded twin."""

from itertools import product

import pytest
import torch
from helpers import assert_close, assert_identical, make_round, pair
from torch import nn

import fgan
from fgan import tree
from fgan.nonfinite import SkipState, guarded_state
from fgan.objectives import adversarial, adversarial_generator

NAN, INF = float("nan"), float("inf")


def plain(state):
    """A guarded state without its counts."""

    def player(given):
        return given._replace(opt_state=given.opt_state.inner)

    return state._replace(generator=player(state.generator), critic=player(state.critic))


def skipped(state):
    """The counts in a state."""
    return [int(player.opt_state.skipped) for player in (state.critic, state.generator)]


def counts(info):
    """The counts among the figures."""
    return [int(info.terms[f"{name}_skipped"]) for name in ("critic", "generator")]


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_a_finite_round_keeps_its_bits(recipe, conditional, update):
    """State and figures after three rounds, EMA and BatchNorm's statistics too."""
    options = dict(n_critic=2 if update == "alternating" else 1, update=update, ema_decay=0.9)
    twin = recipe(*pair(conditional=conditional), **options)
    guarded = fgan.skip_nonfinite(twin)
    state, expected = guarded.init(0), twin.init(0)
    for index in range(3):
        given = make_round(twin, (2,), conditional, index=index)
        state, info = guarded.step(state, *given)
        expected, figures = twin.step(expected, *given)
        assert counts(info) == [0, 0]
        terms = {n: x for n, x in info.terms.items() if not n.endswith("_skipped")}
        assert_identical(plain(state), expected)
        assert_identical(info._replace(terms=terms), figures)
    assert skipped(state) == [0, 0]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("optimizer", [fgan.adam(0.01), fgan.rmsprop(0.01), fgan.sgd(0.01, 0.9)])
def test_a_bad_sample_costs_its_critic_update_alone(value, optimizer):
    """Of three updates the second has one bad number: the round is that of the other two."""
    rates = dict(critic_optimizer=optimizer, generator_optimizer=optimizer)
    twin = fgan.wgan_gp(*pair(norm=True), n_critic=3, ema_decay=0.9, **rates)
    guarded = fgan.skip_nonfinite(twin)
    batch, noise = make_round(twin)
    start, _ = twin.step(twin.init(0), batch, noise)
    batch.real[1, 2, 0] = value
    expected = start
    for i in (0, 2):
        inputs = batch.real[i], None, noise.critic_latent[i], noise.mix[i]
        expected, _ = twin.critic_update(expected, *inputs)
    expected, _ = twin.generator_update(expected, noise.generator_latent)
    state, info = guarded.step(guarded_state(start), batch, noise)
    assert_identical(plain(state), expected)
    assert skipped(state) == counts(info) == [1, 0]
    broken, _ = twin.step(start, batch, noise)
    assert not all(torch.isfinite(leaf).all() for leaf in broken.critic.params.values())
    state, info = guarded.step(state, batch, noise)
    assert skipped(state) == counts(info) == [2, 0]


def test_a_bad_latent_costs_the_generator_s_update_alone():
    """Parameters, BatchNorm's statistics, moments and EMA stay; the critic and the round move."""
    twin = fgan.wgan_gp(*pair(norm=True), n_critic=2, ema_decay=0.9)
    guarded = fgan.skip_nonfinite(twin)
    batch, noise = make_round(twin)
    noise.generator_latent[3, 1] = NAN
    start = twin.init(0)
    state, info = guarded.step(guarded_state(start), batch, noise)
    broken, _ = twin.step(start, batch, noise)
    assert_identical(plain(state).generator, start.generator)
    assert_identical(state.ema, start.ema)
    assert_identical(plain(state).critic, broken.critic)
    assert state.round == 1
    assert skipped(state) == counts(info) == [0, 1]
    assert info.generator_loss.isnan()
    assert broken.ema.params["last.weight"].isnan().any()


def test_a_bad_sample_in_a_simultaneous_round():
    """Both players move from one state: the critic stays, the generator has its update."""
    twin = fgan.gan(*pair(), update="simultaneous", ema_decay=0.9)
    guarded = fgan.skip_nonfinite(twin)
    batch, noise = make_round(twin)
    batch.real[0, 0] = NAN
    start = twin.init(0)
    state, _ = guarded.step(guarded_state(start), batch, noise)
    broken, _ = twin.step(start, batch, noise)
    assert_identical(plain(state).critic, start.critic)
    assert_identical(plain(state).generator, broken.generator)
    assert_identical(state.ema, broken.ema)
    assert skipped(state) == [1, 0]


@pytest.mark.parametrize(
    ("way", "bad"),
    [*product(["interpreter", "donated", "population"], [False, True]), ("torch.compile", True)],
)
def test_the_guard_compiles_and_vmaps(way, bad):
    """A round with a bad sample in each player's data, and one without, as in eager execution."""
    n_critic = 1 if way == "torch.compile" else 2
    guarded = fgan.skip_nonfinite(fgan.wgan_gp(*pair(norm=True), n_critic=n_critic, ema_decay=0.9))
    batch, noise = make_round(guarded)
    if bad:
        batch.real[0, 1] = NAN
        noise.generator_latent[0] = INF
    expected = guarded.step(guarded.init(0), batch, noise)
    if way == "population":
        population = fgan.population(guarded)
        noises = population.noise([0, 1], 0, 4)
        noises.generator_latent[0] = noise.generator_latent  # of the first member alone
        state, info = population.step(population.init([0, 1]), batch, noises)
        first, second = tree.unstack(state)
        assert_close(first, expected[0])
        assert skipped(first) == [bad, bad]
        assert skipped(second) == [bad, False]
        assert info.terms["generator_skipped"].tolist() == [bad, 0]
        return
    if way == "torch.compile":  # a wait for the device's figures would break the graph
        step = torch.compile(guarded.step, fullgraph=True, backend="aot_eager")
    else:
        donate = way == "donated"
        step = fgan.compile(guarded, donate=donate, backend="interpreter").step
    state, info = step(guarded.init(0), batch, noise)
    assert_close(state, expected[0])
    assert skipped(state) == counts(info) == [bad, bad]
    assert all(torch.isfinite(leaf).all() for leaf in tree.leaves(state))


@pytest.mark.parametrize("order", ["of the accumulated one", "accumulated"])
def test_a_bad_part_of_an_accumulated_batch_costs_the_update(order):
    """Either way round, the whole update is left out."""
    twin = fgan.wgan_gp(*pair(), n_critic=1)
    if order == "accumulated":
        guarded = fgan.accumulate(fgan.skip_nonfinite(twin), 2)
    else:
        guarded = fgan.skip_nonfinite(fgan.accumulate(twin, 2))
    batch, noise = make_round(twin)
    batch.real[0, 3] = NAN
    start = guarded.init(0)
    state, _ = guarded.step(start, batch, noise)
    assert_identical(plain(state).critic, plain(start).critic)
    assert skipped(state) == [1, 0]
    state, _ = guarded.step(state, *make_round(twin))
    assert skipped(state) == [1, 0]


class Masked(nn.Module):
    """A critic with a buffer that holds -inf, and one that a pass adds its mean to."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.last = nn.Linear(3, 1)
        self.register_buffer("mask", torch.tensor([0.0, -INF, 0.0]))
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x):
        h = self.first(x)
        if self.training:
            self.seen += h.detach().mean(0).exp() - 1
        return self.last(torch.softmax(h + self.mask, dim=-1))


def test_a_buffer_with_infinities_of_its_own_is_no_reason():
    """An attention mask holds -inf in every round; a statistic that becomes infinite is one."""
    generator = pair(dtype=torch.float32)[0]
    guarded = fgan.skip_nonfinite(fgan.gan(generator, Masked()))
    state, info = guarded.step(guarded.init(0), *make_round(guarded, dtype=torch.float32))
    assert counts(info) == [0, 0]
    assert state.critic.buffers["seen"].any()
    batch, noise = make_round(guarded, dtype=torch.float32)
    large = batch._replace(real=batch.real * 1e6)  # exp overflows, and the loss is finite
    state, info = guarded.step(state, large, noise)
    assert counts(info) == [1, 0]
    assert state.critic.buffers["seen"].isfinite().all()
    assert info.critic_loss.isfinite()


def game(critic_loss=fgan.losses.hinge_critic_loss, generator_loss=None):
    """A game of two losses by SGD."""
    rates = dict(critic_optimizer=fgan.sgd(0.1), generator_optimizer=fgan.sgd(0.1))
    generator_loss = generator_loss or fgan.losses.wasserstein_generator_loss
    objectives = adversarial(critic_loss), adversarial_generator(generator_loss)
    return fgan.make_algorithm(*pair(), *objectives, **rates)


@pytest.mark.parametrize("player", ["critic", "generator"])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_the_loss_or_the_gradient_is_enough(player, what):
    """An infinite loss with a finite gradient, and a finite loss with a gradient that is NaN."""

    def loss(real, fake):
        return fake + INF if what == "loss" else fake + torch.sqrt(fake - fake)

    guarded = fgan.skip_nonfinite(game(**{f"{player}_loss": loss}))
    start = guarded.init(0)
    state, info = guarded.step(start, *make_round(guarded))
    assert torch.isfinite(getattr(info, f"{player}_loss")) == (what == "gradient")
    assert torch.isfinite(getattr(info, f"{player}_grad_norm")) == (what == "loss")
    assert counts(info) == [player == "critic", player == "generator"]
    assert_identical(getattr(state, player).params, getattr(start, player).params)


def test_what_cannot_be_guarded_is_refused():
    """A population, a compiled step, and a state without counts."""
    twin = fgan.gan(*pair())
    with pytest.raises(ValueError, match="population of the guarded algorithm"):
        fgan.skip_nonfinite(fgan.population(twin))
    with pytest.raises(ValueError, match="compile the guarded algorithm"):
        fgan.skip_nonfinite(fgan.compile(twin, backend="interpreter"))
    guarded = fgan.skip_nonfinite(twin)
    with pytest.raises(ValueError, match=r"opt_state is a AdamState.*guarded_state\(state\)"):
        guarded.step(twin.init(0), *make_round(twin))
    assert isinstance(guarded.init(0).critic.opt_state, SkipState)
