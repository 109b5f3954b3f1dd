"""`fgan.compile`: three programs for a round of any length, and a state that is handed over."""

import shutil

import pytest
import torch
from networks import RECIPES, assert_close, make_round, pair, unchanged
from test_compile import Counting
from torch.nn.utils.parametrizations import spectral_norm

import fgan
from fgan import tree


@pytest.fixture(autouse=True)
def fresh_compiler():
    """No graph is left over from another test, nor for the next one."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def rounds(algorithm, step, conditional=False, count=2):
    """States and infos of `count` rounds; each state is copied before it is handed on."""
    state, path = algorithm.init(), []
    for index in range(count):
        given = make_round(algorithm, (2,), conditional, index=index)
        state, info = step(state, *given)
        path.append((tree.clone(state), info))
    return path


@pytest.mark.parametrize("name", ["gan", "wgan", "wgan_gp", "wgan_div"])
def test_every_recipe_equals_its_eager_self(name):
    """Two rounds in float64, with BatchNorm and an EMA, differ from eager ones by rounding."""
    algorithm = RECIPES[name](*pair(conditional=True, norm=True), n_critic=2, ema_decay=0.9)
    backend = Counting()
    compiled = fgan.compile(algorithm, backend=backend)
    got = rounds(algorithm, compiled.step, conditional=True)
    assert_close(got, rounds(algorithm, algorithm.step, conditional=True))
    assert backend.graphs == 3  # fakes, critic, generator: once each, whatever n_critic


def test_simultaneous_play_reads_the_old_critic():
    """In-place updates do not leak into the other player's gradient at the same state."""
    algorithm = fgan.wgan_gp(*pair(norm=True), update="simultaneous", ema_decay=0.5)
    compiled = fgan.compile(algorithm, backend="aot_eager")
    assert_close(rounds(algorithm, compiled.step), rounds(algorithm, algorithm.step))


def test_the_number_of_critic_updates_costs_no_compilation():
    """The critic's program is the same for two updates and for five; only drawing changes."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=5)
    backend = Counting()
    compiled = fgan.compile(algorithm, backend=backend)
    batch, noise = make_round(algorithm)
    updates = batch.real.shape[0]
    state, _ = compiled.step(algorithm.init(), batch, noise)
    assert backend.graphs == 3
    longer = fgan.Batch(batch.real.repeat(2, 1, 1))
    more = noise._replace(
        critic_latent=noise.critic_latent.repeat(2, 1, 1), mix=noise.mix.repeat(2, 1)
    )
    compiled.step(state, longer, more)
    assert longer.real.shape[0] == 2 * updates
    assert backend.graphs == 4


def test_another_batch_size_compiles_each_program_once_more():
    """And going back to the first one, or on with either, compiles nothing."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    backend = Counting()
    compiled = fgan.compile(algorithm, backend=backend)
    state = algorithm.init()
    for size, graphs in [(4, 3), (4, 3), (6, 6), (4, 6), (6, 6)]:
        state, _ = compiled.step(state, *make_round(algorithm, size=size))
        assert backend.graphs == graphs


def test_a_donated_state_says_so():
    """Any use of a leaf of the old state raises, and the new state has its memory."""
    algorithm = fgan.gan(*pair(), n_critic=1)
    compiled = fgan.compile(algorithm, backend="aot_eager")
    state = algorithm.init()
    places = [leaf.data_ptr() for leaf in tree.leaves(state)]
    given = make_round(algorithm)
    new, _ = compiled.step(state, *given)
    assert [leaf.data_ptr() for leaf in tree.leaves(new)] == places
    for use in (
        lambda leaf: leaf + 1,
        lambda leaf: leaf.shape,
        torch.clone,
        repr,
        lambda leaf: torch.stack([leaf, leaf]),
    ):
        with pytest.raises(RuntimeError, match="donated"):
            use(state.round)
    with pytest.raises(RuntimeError, match="donated"):
        compiled.step(state, *given)
    with pytest.raises(RuntimeError, match="donated"):
        algorithm.step(state, *given)


def test_a_refused_round_leaves_the_state_alone():
    """What does not fit is refused before the state is taken over."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    compiled = fgan.compile(algorithm, backend="aot_eager")
    state, (batch, noise) = algorithm.init(), make_round(algorithm)
    with pytest.raises(ValueError, match=r"noise\.mix"):
        compiled.step(state, batch, noise._replace(mix=noise.mix[:, :2]))
    assert state.round.item() == 0


def test_without_donation_the_inputs_stay():
    """The pure form leaves every tensor of state, batch and noise bit-identical."""
    algorithm = fgan.wgan_gp(*pair(conditional=True, norm=True), n_critic=2)
    compiled = fgan.compile(algorithm, donate=False, backend="aot_eager")
    given = algorithm.init(), *make_round(algorithm, conditional=True)
    with unchanged(*tree.leaves(given)):
        got, _ = compiled.step(*given)
    assert_close(got, algorithm.step(*given)[0])


@pytest.mark.parametrize("donate", [True, False], ids=["donated", "pure"])
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_the_programs_make_the_round_without_a_compiler_too(donate, norm):
    """The same three programs, run by Python, give the eager round, also drawn batch by batch."""
    generator, critic = pair(conditional=True, norm=norm == "batch")
    if norm == "spectral":
        spectral_norm(generator.first)
    algorithm = fgan.wgan_gp(generator, critic, n_critic=2, ema_decay=0.9)
    compiled = fgan.compile(algorithm, donate=donate, backend="eager")
    with torch.compiler.set_stance("force_eager"):
        got = rounds(algorithm, compiled.step, conditional=True)
    assert_close(got, rounds(algorithm, algorithm.step, conditional=True))


@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="no C++ compiler")
def test_inductor_runs_the_whole_round():
    """Generated code, from a rewritten graph with second derivatives, equals eager in float64."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=1)
    compiled = fgan.compile(algorithm)
    assert_close(rounds(algorithm, compiled.step), rounds(algorithm, algorithm.step))
