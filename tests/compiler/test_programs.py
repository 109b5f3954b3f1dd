"""Programs: what a traced function closes over is read at every call, and randomness is refused."""

import pytest
import torch
from graphs import needs_cpp_compiler
from helpers import Counting, assert_close, make_round, pair
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import fgan
from fgan import tree
from fgan.compiler.cuda_graphs import CUDAGraphedStep
from fgan.compiler.tracing import Program


def rounds(step, state, inputs, weight, values):
    """States and infos of a round for each value that the weight is set to in place."""
    path = []
    for value in values:
        weight.fill_(value)
        state, info = step(state, *inputs)
        path.append((tree.clone(state), info))
    return path


def weighted():
    """(WGAN-GP with a penalty weight in a tensor, the tensor, one round's batch and noise)."""
    weight = torch.tensor(10.0, dtype=torch.float64)
    algorithm = fgan.wgan_gp(*pair(), n_critic=2, penalty_weight=weight)
    return algorithm, weight, make_round(algorithm)


@pytest.mark.parametrize(
    ("backend", "donate"),
    [
        ("interpreter", True),
        ("interpreter", False),
        pytest.param("inductor", True, marks=needs_cpp_compiler),
    ],
)
def test_a_penalty_weight_may_change_in_place(backend, donate):
    """A compiled round equals the eager one before and after the change."""
    algorithm, weight, inputs = weighted()
    compiled = fgan.compile(algorithm, backend=backend, donate=donate)
    values = [10.0, 10.0, 5.0, 0.0]
    got = rounds(compiled.step, algorithm.init(), inputs, weight, values)
    expected = rounds(algorithm.step, algorithm.init(), inputs, weight, values)
    assert_close(got, expected)
    losses = [info.critic_loss.item() for _, info in expected]
    assert len(set(losses)) == len(values)


def test_a_change_in_place_compiles_nothing():
    """The weight is an input of the program, so its value is no part of the compiled code."""
    algorithm, weight, inputs = weighted()
    backend = Counting()
    compiled = fgan.compile(algorithm, backend=backend)
    rounds(compiled.step, algorithm.init(), inputs, weight, [10.0, 5.0, 1.0])
    assert backend.graphs == 3


def test_a_captured_round_sees_a_change_in_place():
    """Also where the round is captured, as for a CUDA graph."""
    algorithm, weight, inputs = weighted()
    compiled = fgan.compile(algorithm, backend="interpreter").step
    captures = []

    def capture(function):
        captures.append(function)
        info = tree.map(torch.zeros_like, expected[0][1])
        return lambda: tree.map(torch.Tensor.copy_, info, function()), info

    values = [10.0, 10.0, 10.0, 5.0, 5.0]
    expected = rounds(algorithm.step, algorithm.init(), inputs, weight, values)
    step = CUDAGraphedStep(compiled._in_place_round, capture, compiled._host_tensors)
    assert_close(rounds(step, algorithm.init(), inputs, weight, values), expected)
    assert len(captures) > 1  # the weight is on the CPU, and a CUDA graph holds its value


def test_closed_over_tensors_are_inputs_in_any_number():
    """Each tensor is one input, however often the function reads it; literals stay constants."""
    one, other = torch.tensor(2.0), torch.ones(3)
    examples = []

    def function(x):
        return (x * one + other) * one + torch.tensor(0.5) * other

    def backend(graph, inputs):
        examples.append(inputs)
        return graph

    program = Program(function, backend)
    x = torch.arange(3.0)
    for change in (lambda: None, lambda: one.fill_(3.0), lambda: other.mul_(2)):
        change()
        assert torch.equal(program(x), function(x))
    (inputs,) = examples
    assert len(inputs) == 3


def test_a_function_without_inputs_reads_what_it_closes_over():
    """The first operation of its graph is a read."""
    value = torch.tensor(2.0)
    program = Program(lambda: value * 2, lambda graph, inputs: graph)
    assert program().item() == 4
    value.fill_(3.0)
    assert program().item() == 6


class Noisy(nn.Module):
    """A critic that adds noise from torch's global generator."""

    def __init__(self, inner, draw):
        super().__init__()
        self.inner, self.draw = inner, draw

    def forward(self, x):
        return self.inner(self.draw(x))


DRAWS = {
    "randn_like": lambda x: x + torch.randn_like(x),
    "bernoulli": lambda x: nn.functional.dropout(x, 0.5),
}


@pytest.mark.parametrize("draw", list(DRAWS))
@pytest.mark.parametrize("backend", ["interpreter", "inductor"])
def test_a_random_critic_is_refused(draw, backend):
    """The error names the operation, and says what to do; the state stays usable."""
    algorithm = fgan.gan(*pair(), n_critic=1)
    noisy = Noisy(pair()[1], DRAWS[draw])

    def critic_update(state, *inputs):
        state, info = algorithm.critic_update(state, *inputs)
        return state, info._replace(critic_loss=noisy(inputs[0]).sum())

    compiled = fgan.compile(algorithm._replace(critic_update=critic_update), backend=backend)
    state = algorithm.init()
    with pytest.raises(ValueError, match=rf"critic_update calls aten\.{draw}.*global random"):
        compiled.step(state, *make_round(algorithm))
    assert_close(state, algorithm.init())


def test_attention_without_dropout_is_not_random():
    """torch's fused attention is random only where its dropout is not 0."""
    x = torch.randn(2, 2, 4, 8)

    def attention(x, dropout=0.0):
        return scaled_dot_product_attention(x, x, x, dropout_p=dropout)

    def backend(graph, inputs):
        return graph

    torch.testing.assert_close(Program(attention, backend)(x), attention(x))
    with pytest.raises(ValueError, match="global random"):
        Program(lambda x: attention(x, 0.5), backend, "attention")(x)
