"""The caller compiles: a whole round is one graph, compiled once, and equal to the eager one."""

import pytest
import torch
from helpers import RECIPES, assert_close, make_round, pair
from torch._dynamo.backends.registry import lookup_backend
from torch.nn.utils.parametrizations import spectral_norm

import fgan


@pytest.fixture(autouse=True)
def fresh_compiler():
    """No graph is left over from another test, nor for the next one."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that passes graphs on to another and counts them."""

    def __init__(self, name="aot_eager"):
        self.backend, self.graphs = lookup_backend(name), 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return self.backend(graph, inputs)


def game(recipe, conditional=False, **options):
    """A float64 algorithm of two critic updates, with BatchNorm in the generator."""
    return recipe(*pair(conditional=conditional, norm=True), **{"n_critic": 2} | options)


def play(step, algorithm, conditional=False, sizes=(4, 4, 4)):
    """Rounds of the given batch sizes; every state and info."""
    state, path = algorithm.init(), []
    for index, size in enumerate(sizes):
        inputs = make_round(algorithm, (2,), conditional, index=index, size=size)
        state, info = step(state, *inputs)
        path.append((state, info))
    return path


@pytest.mark.parametrize(
    ("name", "conditional"),
    [("gan", True), ("wgan", True), ("wgan_gp", True), ("wgan_gp", False), ("wgan_div", True)],
)
def test_a_round_compiles_once_into_one_graph(name, conditional):
    """`torch.compile(step, fullgraph=True)` equals eager over three rounds, from one graph."""
    algorithm, backend = game(RECIPES[name], conditional), Counting()
    compiled = torch.compile(algorithm.step, fullgraph=True, backend=backend)
    got = play(compiled, algorithm, conditional)
    assert backend.graphs == 1
    assert_close(got, play(algorithm.step, algorithm, conditional))


def test_a_running_mean_does_not_compile_again():
    """Nor does the state of an algorithm with an EMA change in kind after the first round."""
    algorithm, backend = game(fgan.gan, ema_decay=0.9, n_critic=1), Counting()
    compiled = torch.compile(algorithm.step, fullgraph=True, backend=backend)
    got = play(compiled, algorithm)
    assert_close(got, play(algorithm.step, algorithm))
    assert backend.graphs == 1


def test_another_batch_size_compiles_at_most_once_more():
    """A second size makes the graph general, and a third one fits it."""
    algorithm, backend = game(fgan.wgan_gp, n_critic=1), Counting()
    compiled = torch.compile(algorithm.step, fullgraph=True, backend=backend)
    sizes = (4, 4, 6, 5, 4)
    assert_close(
        play(compiled, algorithm, sizes=sizes), play(algorithm.step, algorithm, sizes=sizes)
    )
    assert backend.graphs <= 2


def test_new_values_of_tensors_do_not_compile_again():
    """Neither the round's count, nor a rate that follows a schedule, is baked into the graph."""
    schedule = fgan.optim.linear(0.1, 0.0, 4)
    algorithm = game(RECIPES["gan_minimax"], n_critic=1, critic_optimizer=fgan.sgd(schedule))
    backend = Counting()
    compiled = torch.compile(algorithm.step, fullgraph=True, backend=backend)
    got = play(compiled, algorithm, sizes=[4] * 6)
    assert_close(got, play(algorithm.step, algorithm, sizes=[4] * 6))
    assert [state.round.item() for state, _ in got] == [1, 2, 3, 4, 5, 6]
    assert backend.graphs == 1


def test_checks_speak_while_compiling():
    """A round that does not fit is refused in the same words as without the compiler."""
    algorithm = game(fgan.wgan_gp)
    compiled = torch.compile(algorithm.step, fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match=r"makes samples of shape \[2\] and the data are \[3\]"):
        compiled(algorithm.init(), *make_round(algorithm, (3,)))


def donating(algorithm, **options):
    """fgan's own compiled round, in parts."""
    return fgan.compile(algorithm, backend="interpreter", **options)


def test_checks_speak_in_compiled_parts():
    """`fgan.compile` refuses samples of another shape with the eager step's ValueError."""
    algorithm = game(fgan.wgan)
    with pytest.raises(ValueError, match="makes samples of shape"):
        donating(algorithm).step(algorithm.init(), *make_round(algorithm, (3,)))


def test_a_generator_with_spectral_norm_compiles():
    """Drawing all fakes in one pass needs no operation that spectral norm does not have."""
    generator, critic = pair()
    spectral_norm(generator.first)
    algorithm = fgan.gan(generator, critic, n_critic=2)
    inputs = algorithm.init(), *make_round(algorithm)
    assert_close(donating(algorithm, donate=False).step(*inputs), algorithm.step(*inputs))
