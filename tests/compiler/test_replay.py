"""A recorded round: what is kept, what is copied, and when it is recorded again."""

import pytest
import torch
from helpers import assert_close, assert_identical, make_batch, make_round, pair

import fgan
from fgan import tree
from fgan.compiler.cuda_graphs import Replayed


class Tape:
    """Records like a CUDA graph, on any device: nothing is done until it is played."""

    def __init__(self):
        self.recorded = self.played = 0

    def __call__(self, function):
        self.recorded += 1
        # The figures' memory; a recording does not know their values yet.
        info = fgan.GANInfo(
            *(torch.full((), torch.nan, dtype=torch.float64) for _ in fgan.GANInfo._fields)
        )

        def play():
            self.played += 1
            tree.map(torch.Tensor.copy_, info, function())

        return play, info


def in_place(algorithm):
    """A round that leaves the new state in the old one's memory, as compiled ones do."""

    def play(state, batch, noise):
        new, info = algorithm.step(state, batch, noise)
        tree.map(torch.Tensor.copy_, state, new)
        return state, info

    return play


def run(step, algorithm, sizes, state=None):
    """The state and the figures after rounds of these batch sizes."""
    state, infos = algorithm.init() if state is None else state, []
    for index, size in enumerate(sizes):
        state, info = step(state, *make_round(algorithm, index=index, size=size))
        infos.append(info)
    return tree.clone(state), infos


@pytest.fixture
def algorithm():
    """Two critic updates, and buffers that move."""
    return fgan.wgan_gp(*pair(norm=True), n_critic=2)


def test_a_replayed_run_is_the_run(algorithm):
    """The first round is played, the second recorded, and all are what eager ones are."""
    tape = Tape()
    got = run(Replayed(in_place(algorithm), record=tape), algorithm, [4] * 5)
    assert_identical(got, run(algorithm.step, algorithm, [4] * 5))
    assert (tape.recorded, tape.played) == (1, 4)


def test_figures_of_one_round_outlive_the_next(algorithm):
    """Infos are copies: a later replay does not change one that somebody kept."""
    _, infos = run(Replayed(in_place(algorithm), record=Tape()), algorithm, [4] * 4)
    assert len({info.critic_loss.item() for info in infos}) == 4


def test_each_batch_size_has_its_recording(algorithm):
    """And it is found again when the size comes back."""
    tape, sizes = Tape(), [4, 4, 6, 4, 6, 6, 4]
    got = run(Replayed(in_place(algorithm), record=tape), algorithm, sizes)
    assert_identical(got, run(algorithm.step, algorithm, sizes))
    assert (tape.recorded, tape.played) == (2, 5)


def test_another_state_is_recorded_anew(algorithm):
    """A recording writes to addresses, and a second run's state has others."""
    tape = Tape()
    step = Replayed(in_place(algorithm), record=tape)
    first = run(step, algorithm, [4] * 3)
    held = algorithm.init()
    second = run(step, algorithm, [4] * 3, held)
    assert_identical(first, second)
    assert tape.recorded == 2


def test_autocast_is_recorded_apart():
    """A recording made without it is not played within it, nor the other way round."""
    algorithm = fgan.wgan_gp(*(module.float() for module in pair()), n_critic=2)
    tape = Tape()
    step = Replayed(in_place(algorithm), record=tape)
    state = algorithm.init()
    given = tree.map(lambda leaf: None if leaf is None else leaf.float(), make_round(algorithm))
    for narrow, recorded in [(False, 0), (True, 0), (False, 1), (True, 2), (True, 2), (False, 2)]:
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            state, _ = step(state, *given)
        assert tape.recorded == recorded


def test_a_state_that_is_handed_on_is_replayed_at_once(algorithm):
    """`again` plays what is recorded for the remembered leaves, and nothing else."""
    step, state = Replayed(in_place(algorithm), record=(tape := Tape())), algorithm.init()
    expected, infos = run(algorithm.step, algorithm, [4] * 4)
    given = [make_round(algorithm, index=index, size=4) for index in range(4)]
    assert step.again(state, *given[0]) is None
    for index in range(2):
        state, _ = step(state, *given[index])
    assert_identical(step.again(state, *given[2]), infos[2])
    assert step.again(tree.map(torch.Tensor.detach, state), *given[3]) is None
    assert step.again(state, *make_round(algorithm, size=6)) is None
    renamed = tree.map(torch.Tensor.detach, state)
    step.remember(renamed)
    assert_identical(step.again(renamed, *given[3]), infos[3])
    assert_identical(state, expected)
    assert (tape.recorded, tape.played) == (1, 3)
    renamed.round.data = renamed.round.clone()  # the same object, at another address
    assert step.again(renamed, *given[3]) is None


def test_a_first_round_that_fails_has_compiled_nothing(algorithm):
    """So the next one is played, not recorded, though it be at the same place."""
    tape, failures = Tape(), [RuntimeError("no more")]

    def play(*given):
        if failures:
            raise failures.pop()
        return in_place(algorithm)(*given)

    step, state, given = Replayed(play, record=tape), algorithm.init(), make_round(algorithm)
    with pytest.raises(RuntimeError, match="no more"):
        step(state, *given)
    for recorded in (0, 1):
        step(state, *given)
        assert tape.recorded == recorded


def test_a_recording_holds_no_graph_of_its_inputs(algorithm):
    """Batches that gradients could flow through are read as numbers."""
    step, state = Replayed(in_place(algorithm), record=(tape := Tape())), algorithm.init()
    batch, noise = make_round(algorithm)
    moving = batch._replace(real=batch.real * torch.ones((), requires_grad=True))
    for _ in range(3):
        step(state, moving, noise)
    assert tape.played == 2
    (recording,) = step._recordings.values()
    assert not any(tensor.requires_grad for tensor in recording.inputs)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["gan", "wgan", "wgan_gp", "wgan_div"])
def test_a_cuda_graph_plays_the_round(name):
    """Five rounds in float64, recorded at the second, equal eager ones on the same device."""
    generator, critic = (module.cuda() for module in pair(norm=True))
    algorithm = getattr(fgan, name)(generator, critic, n_critic=2, ema_decay=0.9)

    def run_on_cuda(step):
        state, infos = algorithm.init(), []
        for index in range(5):
            given = tree.map(
                lambda leaf: None if leaf is None else leaf.cuda(),
                make_round(algorithm, index=index, size=4),
            )
            state, info = step(state, *given)
            infos.append(info)
        return tree.clone(state), infos

    assert_close(run_on_cuda(fgan.compile(algorithm).step), run_on_cuda(algorithm.step))


@pytest.mark.gpu
def test_a_cuda_graph_plays_a_population():
    """The round of three members is recorded as that of one is."""
    generator, critic = (module.cuda() for module in pair(norm=True))
    population = fgan.population(fgan.wgan_gp(generator, critic, n_critic=2))
    seeds = range(3)

    def run_on_cuda(step):
        states, infos = population.init(seeds), []
        for index in range(4):
            batch = fgan.Batch(make_batch(seed=index).real.cuda())
            states, info = step(states, batch, population.noise(seeds, index, 4))
            infos.append(info)
        return tree.clone(states), infos

    assert_close(run_on_cuda(fgan.compile(population).step), run_on_cuda(population.step))


@pytest.mark.gpu
def test_a_replayed_round_does_not_wait_for_the_device():
    """Between rounds that nobody looks at, the host and the GPU do not synchronise."""
    generator, critic = (module.cuda() for module in pair(norm=True))
    algorithm = fgan.wgan_gp(generator, critic, n_critic=2)
    step, state = fgan.compile(algorithm).step, algorithm.init()
    given = tree.map(
        lambda leaf: None if leaf is None else leaf.cuda(), make_round(algorithm, size=4)
    )
    for _ in range(2):
        state, _ = step(state, *given)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            state, _ = step(state, *given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert state.round.item() == 5
