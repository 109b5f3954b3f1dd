"""`torch.compile(step, fullgraph=True)`: a round is one graph, compiled once, equal to eager."""

import pytest
import torch
from helpers import RECIPES, assert_close, make_round, pair
from torch._dynamo.backends.registry import lookup_backend
from torch.nn.utils.parametrizations import spectral_norm

import fgan


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Dynamo forgets its graphs before and after each test."""
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


def algorithm_of(recipe, conditional=False, **options):
    """A float64 algorithm of two critic updates, with BatchNorm in the generator."""
    return recipe(*pair(conditional=conditional, norm=True), **{"n_critic": 2} | options)


def run_rounds(step, algorithm, conditional=False, sizes=(4, 4, 4)):
    """The states and infos of rounds of these batch sizes."""
    state, path = algorithm.init(), []
    for index, size in enumerate(sizes):
        inputs = make_round(algorithm, (2,), conditional, index=index, size=size)
        state, info = step(state, *inputs)
        path.append((state, info))
    return path


@pytest.mark.parametrize(
    ("name", "conditional", "updates"),
    [
        *[("wgan_gp", True, 2), ("wgan_gp", False, 1), ("gan", True, 1), ("wgan", True, 1)],
        *[("wgan_div", True, 1), ("hinge_gan", True, 1), ("lsgan", False, 1), ("dragan", True, 1)],
        ("r3gan", True, 1),
    ],
)
def test_a_round_compiles_once_into_one_graph(name, conditional, updates):
    """`torch.compile(step, fullgraph=True)` equals eager over three rounds, from one graph."""
    algorithm = algorithm_of(RECIPES[name], conditional, n_critic=updates)
    backend = Counting()
    compiled = torch.compile(algorithm.step, fullgraph=True, backend=backend)
    got = run_rounds(compiled, algorithm, conditional)
    assert backend.graphs == 1
    assert_close(got, run_rounds(algorithm.step, algorithm, conditional))


def test_a_running_mean_does_not_compile_again():
    """The state of an algorithm with an EMA has one structure in all rounds."""
    algorithm, backend = algorithm_of(fgan.gan, ema_decay=0.9, n_critic=1), Counting()
    compiled = torch.compile(algorithm.step, fullgraph=True, backend=backend)
    got = run_rounds(compiled, algorithm)
    assert_close(got, run_rounds(algorithm.step, algorithm))
    assert backend.graphs == 1


def test_another_batch_size_compiles_at_most_once_more():
    """The second size compiles a graph for any size."""
    algorithm, backend = algorithm_of(fgan.wgan_gp, n_critic=1), Counting()
    compiled = torch.compile(algorithm.step, fullgraph=True, backend=backend)
    sizes = (4, 4, 6, 5, 4)
    assert_close(
        run_rounds(compiled, algorithm, sizes=sizes),
        run_rounds(algorithm.step, algorithm, sizes=sizes),
    )
    assert backend.graphs <= 2


def test_new_values_of_tensors_do_not_compile_again():
    """The count of rounds and a learning rate on a schedule are no constants of the graph."""
    schedule = fgan.optim.linear(0.1, 0.0, 4)
    algorithm = algorithm_of(
        RECIPES["gan_minimax"], n_critic=1, critic_optimizer=fgan.sgd(schedule)
    )
    backend = Counting()
    compiled = torch.compile(algorithm.step, fullgraph=True, backend=backend)
    got = run_rounds(compiled, algorithm, sizes=[4] * 6)
    assert_close(got, run_rounds(algorithm.step, algorithm, sizes=[4] * 6))
    assert [state.round.item() for state, _ in got] == [1, 2, 3, 4, 5, 6]
    assert backend.graphs == 1


def test_checks_raise_under_torch_compile():
    """Inputs that do not fit raise the same message as without the compiler."""
    algorithm = algorithm_of(fgan.wgan_gp)
    compiled = torch.compile(algorithm.step, fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match=r"makes samples of shape \[2\] and the data are \[3\]"):
        compiled(algorithm.init(), *make_round(algorithm, (3,)))


def interpreted(algorithm, **options):
    """`fgan.compile` with the backend that needs no compiler."""
    return fgan.compile(algorithm, backend="interpreter", **options)


def test_checks_raise_in_fgan_compile():
    """`fgan.compile` refuses samples of another shape with the eager step's ValueError."""
    algorithm = algorithm_of(fgan.wgan)
    with pytest.raises(ValueError, match="makes samples of shape"):
        interpreted(algorithm).step(algorithm.init(), *make_round(algorithm, (3,)))


def test_a_generator_with_spectral_norm_compiles():
    """vmap has no rule for spectral norm, so the fakes are drawn batch by batch."""
    generator, critic = pair()
    spectral_norm(generator.first)
    algorithm = fgan.gan(generator, critic, n_critic=2)
    inputs = algorithm.init(), *make_round(algorithm)
    assert_close(interpreted(algorithm, donate=False).step(*inputs), algorithm.step(*inputs))
