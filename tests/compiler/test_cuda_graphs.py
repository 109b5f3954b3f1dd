"""Captured rounds: what is kept, what is copied, and when a round is captured again."""

import pytest
import torch
from captures import FakeCapture, in_place
from helpers import assert_close, assert_identical, make_batch, make_round, pair

import fgan
from fgan import tree
from fgan.compiler.cuda_graphs import CUDAGraphedStep


def run(step, algorithm, sizes, state=None):
    """The state and the figures after rounds of these batch sizes."""
    state, infos = algorithm.init() if state is None else state, []
    for index, size in enumerate(sizes):
        state, info = step(state, *make_round(algorithm, index=index, size=size))
        infos.append(info)
    return tree.clone(state), infos


@pytest.fixture
def algorithm():
    """Two critic updates, and buffers that change."""
    return fgan.wgan_gp(*pair(norm=True), n_critic=2)


def test_a_run_of_launches_equals_an_eager_run(algorithm):
    """The first round runs as it is, the second is captured, and all equal eager ones."""
    capture = FakeCapture()
    got = run(CUDAGraphedStep(in_place(algorithm), capture), algorithm, [4] * 5)
    assert_identical(got, run(algorithm.step, algorithm, [4] * 5))
    assert (capture.captures, capture.launches) == (1, 4)


def test_the_info_of_a_round_outlives_the_next(algorithm):
    """Infos are copies: a later launch does not change an info that the caller kept."""
    _, infos = run(CUDAGraphedStep(in_place(algorithm), FakeCapture()), algorithm, [4] * 4)
    assert len({info.critic_loss.item() for info in infos}) == 4


def test_each_batch_size_has_its_capture(algorithm):
    """The capture is found again when the size returns."""
    capture, sizes = FakeCapture(), [4, 4, 6, 4, 6, 6, 4]
    got = run(CUDAGraphedStep(in_place(algorithm), capture), algorithm, sizes)
    assert_identical(got, run(algorithm.step, algorithm, sizes))
    assert (capture.captures, capture.launches) == (2, 5)


def test_another_state_is_captured_anew(algorithm):
    """A captured round writes to addresses, and a second run's state has others."""
    capture = FakeCapture()
    step = CUDAGraphedStep(in_place(algorithm), capture)
    first = run(step, algorithm, [4] * 3)
    other = algorithm.init()
    second = run(step, algorithm, [4] * 3, other)
    assert_identical(first, second)
    assert capture.captures == 2


def test_autocast_has_its_own_capture():
    """A round captured without autocast is not launched within it, nor the other way round."""
    algorithm = fgan.wgan_gp(*(module.float() for module in pair()), n_critic=2)
    capture = FakeCapture()
    step = CUDAGraphedStep(in_place(algorithm), capture)
    state = algorithm.init()
    inputs = tree.map(lambda leaf: None if leaf is None else leaf.float(), make_round(algorithm))
    rounds = [(False, 0), (True, 0), (False, 1), (True, 2), (True, 2), (False, 2)]
    for autocast, captures in rounds:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            state, _ = step(state, *inputs)
        assert capture.captures == captures


def test_the_state_of_the_last_round_is_launched_at_once(algorithm):
    """`launch_if_same_state` takes the expected tensors at their addresses, and nothing else."""
    capture = FakeCapture()
    step, state = CUDAGraphedStep(in_place(algorithm), capture), algorithm.init()
    expected, infos = run(algorithm.step, algorithm, [4] * 4)
    inputs = [make_round(algorithm, index=index, size=4) for index in range(4)]
    assert step.launch_if_same_state(state, *inputs[0]) is None
    for index in range(2):
        state, _ = step(state, *inputs[index])
    assert_identical(step.launch_if_same_state(state, *inputs[2]), infos[2])
    other_tensors = tree.map(torch.Tensor.detach, state)
    assert step.launch_if_same_state(other_tensors, *inputs[3]) is None
    assert step.launch_if_same_state(state, *make_round(algorithm, size=6)) is None
    step.expect_state(other_tensors)
    assert_identical(step.launch_if_same_state(other_tensors, *inputs[3]), infos[3])
    assert_identical(state, expected)
    assert (capture.captures, capture.launches) == (1, 3)
    other_tensors.round.data = other_tensors.round.clone()  # the same object, another address
    assert step.launch_if_same_state(other_tensors, *inputs[3]) is None


def test_a_first_round_that_fails_has_compiled_nothing(algorithm):
    """The next round runs as it is, and is not captured, though its state has the same memory."""
    capture, failures = FakeCapture(), [RuntimeError("no more")]

    def failing(*inputs):
        if failures:
            raise failures.pop()
        return in_place(algorithm)(*inputs)

    step, state = CUDAGraphedStep(failing, capture), algorithm.init()
    inputs = make_round(algorithm)
    with pytest.raises(RuntimeError, match="no more"):
        step(state, *inputs)
    for captures in (0, 1):
        step(state, *inputs)
        assert capture.captures == captures


def test_a_capture_holds_no_autograd_graph_of_its_inputs(algorithm):
    """A batch that requires grad is copied without its graph."""
    capture = FakeCapture()
    step, state = CUDAGraphedStep(in_place(algorithm), capture), algorithm.init()
    batch, noise = make_round(algorithm)
    differentiable = batch._replace(real=batch.real * torch.ones((), requires_grad=True))
    for _ in range(3):
        step(state, differentiable, noise)
    assert capture.launches == 2
    (captured,) = step._captured.values()
    assert not any(tensor.requires_grad for tensor in captured.inputs)


def test_a_host_tensor_that_changes_in_place_is_captured_again(algorithm):
    """A CUDA graph holds the value that a CPU tensor had at the capture."""
    capture, weight = FakeCapture(), torch.tensor(1.0)
    step = CUDAGraphedStep(in_place(algorithm), capture, host_tensors=lambda: [weight])
    state, inputs = algorithm.init(), make_round(algorithm)
    for captures in (0, 1, 1):
        state, _ = step(state, *inputs)
        assert capture.captures == captures
    weight.fill_(2.0)
    assert step.launch_if_same_state(state, *inputs) is None
    for _ in range(2):
        state, _ = step(state, *inputs)
        assert capture.captures == 2
    assert step.launch_if_same_state(state, *inputs) is not None


def test_processes_capture_together_or_not_at_all(algorithm):
    """Each round that is not launched asks what the others can do; a launch asks nobody."""
    others, told = [1, 0, 1], []

    def agree(number):
        told.append(number)
        return min(number, others.pop(0))

    capture = FakeCapture()
    got = run(CUDAGraphedStep(in_place(algorithm), capture, agree=agree), algorithm, [4] * 5)
    assert_identical(got, run(algorithm.step, algorithm, [4] * 5))
    assert (told, capture.captures, capture.launches) == ([0, 1, 1], 1, 3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["gan", "wgan", "wgan_gp", "wgan_div"])
def test_a_cuda_graph_runs_the_round(name):
    """Five rounds in float64, captured at the second, equal eager ones on the same device."""
    generator, critic = (module.cuda() for module in pair(norm=True))
    algorithm = getattr(fgan, name)(generator, critic, n_critic=2, ema_decay=0.9)

    def run_on_cuda(step):
        state, infos = algorithm.init(), []
        for index in range(5):
            inputs = tree.map(
                lambda leaf: None if leaf is None else leaf.cuda(),
                make_round(algorithm, index=index, size=4),
            )
            state, info = step(state, *inputs)
            infos.append(info)
        return tree.clone(state), infos

    assert_close(run_on_cuda(fgan.compile(algorithm).step), run_on_cuda(algorithm.step))


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_cuda_graph_reads_a_penalty_weight_that_changes_in_place(device):
    """The weight on the GPU is an input of the graph; one on the CPU is captured again."""
    generator, critic = (module.cuda() for module in pair(norm=True))
    weight = torch.tensor(10.0, dtype=torch.float64, device=device)
    algorithm = fgan.wgan_gp(generator, critic, n_critic=2, penalty_weight=weight)

    def run_on_cuda(step):
        weight.fill_(10.0)
        state, infos = algorithm.init(), []
        for index in range(8):
            if index == 5:
                weight.fill_(5.0)
            inputs = tree.map(
                lambda leaf: None if leaf is None else leaf.cuda(),
                make_round(algorithm, index=index, size=4),
            )
            state, info = step(state, *inputs)
            infos.append(info)
        return tree.clone(state), infos

    assert_close(run_on_cuda(fgan.compile(algorithm).step), run_on_cuda(algorithm.step))


@pytest.mark.gpu
def test_a_cuda_graph_runs_a_population():
    """The round of three members is captured as that of one is."""
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
def test_a_captured_round_does_not_wait_for_the_device():
    """Between rounds whose info nobody reads, the host and the GPU do not synchronise."""
    generator, critic = (module.cuda() for module in pair(norm=True))
    algorithm = fgan.wgan_gp(generator, critic, n_critic=2)
    step, state = fgan.compile(algorithm).step, algorithm.init()
    inputs = tree.map(
        lambda leaf: None if leaf is None else leaf.cuda(), make_round(algorithm, size=4)
    )
    for _ in range(2):
        state, _ = step(state, *inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            state, _ = step(state, *inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert state.round.item() == 5


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_a_compiled_step_launches_what_it_captured(update):
    """Donation and launch together: four rounds are the eager ones, and old states are spent."""
    n_critic = 2 if update == "alternating" else 1
    algorithm = fgan.wgan_gp(*pair(norm=True), n_critic=n_critic, update=update, ema_decay=0.9)
    compiled = fgan.compile(algorithm, backend="interpreter").step
    capture = FakeCapture()

    def step(state, batch, noise):
        # A stand-in runs Python at a launch, when the tensors of the capture have been donated.
        with torch._C.DisableTorchFunctionSubclass():
            state = tree.map(torch.Tensor.detach, state)
        return compiled._in_place_round(state, batch, noise)

    compiled._graphed = CUDAGraphedStep(step, capture, compiled._host_tensors)
    state, expected = algorithm.init(0), algorithm.init(0)
    for index in range(4):
        inputs = make_round(algorithm, index=index)
        expected, figures = algorithm.step(expected, *inputs)
        old = state
        state, info = compiled._graphed_round(state, *inputs)
        assert_close((state, info), (expected, figures), atol=1e-10)
        with pytest.raises(RuntimeError, match="donated"):
            old.round.item()
    assert (capture.captures, capture.launches) == (1, 3)
