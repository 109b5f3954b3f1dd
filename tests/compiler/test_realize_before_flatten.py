"""Activations that a linear layer reads flattened are stored in that order, values unchanged."""

import pytest
import torch
from graphs import aten, needs_cpp_compiler, numbers, traced
from helpers import assert_close
from torch import nn
from torch.func import functional_call

from fgan.compiler.backends import inductor
from fgan.compiler.passes.realize_before_flatten import realize_before_flatten
from fgan.compiler.tracing import Program

IMAGES = numbers(3, 2, 4, 5)

STORED = {
    "flat": lambda x: x.tanh().view(3, -1) @ x[0].reshape(-1, 1),
    "flat, and used as it is": lambda x: x.tanh().view(3, -1) * 2,
}
KEPT = {
    "a part": lambda x: x.split(1, 1)[0].view(3, -1) * 2,
    "an input": lambda x: x.view(3, -1) * 2,
    "batches of batches": lambda x: x.tanh().view(6, -1) * 2,
    "still an image": lambda x: x.tanh().view(3, 8, 5) * 2,
}


def stored(function):
    """What the pass has the compiler store."""
    module = traced(function, IMAGES)
    realize_before_flatten(module.graph)
    return [node for node in module.graph.nodes if "inductor_realize_to_strides" in node.meta]


@pytest.mark.parametrize("name", list(STORED))
def test_what_is_flattened_is_stored(name):
    """The last activation alone, however the rows are used."""
    assert [node.target for node in stored(STORED[name])] == [aten.tanh.default]


@pytest.mark.parametrize("name", list(KEPT))
def test_other_values_are_not_stored(name):
    """Inputs, and values that keep their axes or whose batches are merged, as vmap merges them."""
    assert stored(KEPT[name]) == []


@needs_cpp_compiler
def test_a_compiled_critic_has_the_same_scores_and_gradients():
    """Two convolutions and a linear layer, forward and back, against torch's own."""
    layers = [nn.Conv2d(2, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 6, 2), nn.Tanh()]
    critic = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 1)).double()
    params = {name: value.detach() for name, value in critic.named_parameters()}

    def score(params, x):
        return functional_call(critic, params, (x,)).sum()

    program = Program(torch.func.grad_and_value(score, argnums=(0, 1)), inductor)
    (gradients, by_image), total = program(params, IMAGES)
    image = IMAGES.clone().requires_grad_()
    expected = critic(image).sum()
    expected.backward()
    assert_close(total, expected.detach())
    assert_close(by_image, image.grad)
    assert_close(gradients, {name: value.grad for name, value in critic.named_parameters()})
