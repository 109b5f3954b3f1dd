"""Activations that a linear layer takes flat are stored as they will be read, and stay the same."""

import shutil

import pytest
import torch
from helpers import assert_close
from torch import nn
from torch.func import functional_call
from tracing import aten, numbers, traced

from fgan.compiler.passes import Rewrite
from fgan.compiler.passes.flattened import store_in_order
from fgan.compiler.tracing import Program, inductor

IMAGES = numbers(3, 2, 4, 5)

STORED = {
    "flat": lambda x: x.tanh().view(3, -1) @ x[0].reshape(-1, 1),
    "flat, and used as it is": lambda x: x.tanh().view(3, -1) * 2,
}
LEFT = {
    "a part": lambda x: x.split(1, 1)[0].view(3, -1) * 2,
    "given": lambda x: x.view(3, -1) * 2,
    "batches of batches": lambda x: x.tanh().view(6, -1) * 2,
    "still an image": lambda x: x.tanh().view(3, 8, 5) * 2,
}


def stored(function):
    """What the pass has the compiler store."""
    module = traced(function, IMAGES)
    Rewrite(store_in_order)(module.graph)
    return [node for node in module.graph.nodes if "inductor_realize_to_strides" in node.meta]


@pytest.mark.parametrize("name", list(STORED))
def test_what_becomes_flat_is_stored(name):
    """The last activation alone, however the rows are used."""
    assert [node.target for node in stored(STORED[name])] == [aten.tanh.default]


@pytest.mark.parametrize("name", list(LEFT))
def test_the_rest_is_left(name):
    """Inputs, and what keeps its axes or merges batches, as vmap does."""
    assert stored(LEFT[name]) == []


@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="no C++ compiler")
def test_a_compiled_critic_has_the_same_scores_and_slopes():
    """Two convolutions and a linear layer, forward and back, against torch's own."""
    layers = [nn.Conv2d(2, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 6, 2), nn.Tanh()]
    critic = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 1)).double()
    params = {name: value.detach() for name, value in critic.named_parameters()}

    def score(params, x):
        return functional_call(critic, params, (x,)).sum()

    program = Program(torch.func.grad_and_value(score, argnums=(0, 1)), inductor)
    (slopes, by_image), total = program(params, IMAGES)
    image = IMAGES.clone().requires_grad_()
    expected = critic(image).sum()
    expected.backward()
    assert_close(total, expected.detach())
    assert_close(by_image, image.grad)
    assert_close(slopes, {name: value.grad for name, value in critic.named_parameters()})
