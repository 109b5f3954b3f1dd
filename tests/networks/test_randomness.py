"""Random numbers in a forward pass are found, whatever draws them, and nothing else is refused."""

import pickle
import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import pair
from torch import nn

import fgan
from fgan.networks import check_deterministic, find_randomness

LATENT, CLASSES = 4, 3


class Network(nn.Module):
    """A linear layer with another function before it; a condition where `conditional`."""

    def __init__(self, change=lambda x: x, outputs=5, inputs=LATENT):
        super().__init__()
        self.change, self.layer = change, nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.layer(self.change(x))


class WithLabels(Network):
    """Needs integer labels, and makes them one-hot with torch's own function."""

    def __init__(self, change=lambda x: x, outputs=5, inputs=LATENT):
        super().__init__(change, outputs, inputs + CLASSES)

    def forward(self, x, y):
        return self.layer(torch.cat([self.change(x), F.one_hot(y, CLASSES).to(x)], 1))


class WithOneHot(WithLabels):
    """Needs one-hot labels."""

    num_classes = CLASSES

    def forward(self, x, y):
        return self.layer(torch.cat([self.change(x), y], 1))


class WithNumber(Network):
    """Needs one number a sample."""

    def __init__(self, change=lambda x: x, outputs=5, inputs=LATENT):
        super().__init__(change, outputs, inputs + 1)

    def forward(self, x, y):
        return self.layer(torch.cat([self.change(x), y], 1))


class OnlyWithCondition(Network):
    """Draws where it has a condition (conditioning augmentation, Zhang 2017, StackGAN)."""

    def forward(self, x, y=None):
        return self.layer(x) if y is None else super().forward(x)


class UnknownCondition(Network):
    """Needs a condition of a shape that nobody can guess."""

    def forward(self, x, y):
        return super().forward(x) + y.reshape(7, -1)


class OwnGenerator:
    """Draws from a generator that it keeps."""

    def __init__(self):
        self.source = random.Random(0)

    def __call__(self, x):
        return x + self.source.gauss(0, 1)


def flip(x):
    """A decision in Python, which leaves the tensor alone every second time."""
    return x.flip(1) if random.random() < 0.5 else x


KINDS = {
    "dropout": (lambda x: F.dropout(x, 0.5), "bernoulli|dropout"),
    "feature dropout": (lambda x: F.dropout1d(x[:, None], 0.5)[:, 0], "bernoulli|dropout"),
    "normal noise": (lambda x: x + 0.1 * torch.randn_like(x), "randn|normal"),
    "uniform noise": (lambda x: x + torch.rand(1), "rand"),
    "in place": (lambda x: x + torch.empty_like(x).uniform_(), "uniform_"),
    "Bernoulli": (lambda x: x * torch.bernoulli(torch.full_like(x, 0.5)), "bernoulli"),
    "Gumbel softmax": (F.gumbel_softmax, "exponential_"),
    "random ReLU": (partial(F.rrelu, training=True), "rrelu"),
    "permutation": (lambda x: x[torch.randperm(len(x))], "randperm"),
    "attention dropout": (
        lambda x: F.scaled_dot_product_attention(*[x[None, None]] * 3, dropout_p=0.5)[0, 0],
        "bernoulli|attention",
    ),
    "distribution": (
        lambda x: x + torch.distributions.Laplace(0.0, 1.0).rsample(x.shape),
        "rand|uniform_",
    ),
    "Python": (flip, "Python's random module"),
    "NumPy": (lambda x: x + float(np.random.rand()), r"numpy\.random"),
    "new NumPy generator": (lambda x: x + np.random.default_rng().normal(), "a generator of its"),
    "own generator": (OwnGenerator(), "a generator of its own"),
}


def states():
    """The states of all global generators."""
    return torch.get_rng_state().tolist(), random.getstate(), pickle.dumps(np.random.get_state())


@pytest.mark.parametrize("network", [Network, WithLabels, WithOneHot, WithNumber])
@pytest.mark.parametrize("kind", list(KINDS))
def test_draws_of_a_generator_are_found(kind, network):
    """Every kind of draw is named, with and without conditions, and what to do instead."""
    change, name = KINDS[kind]
    generator, critic = network(change), network(inputs=5, outputs=1)
    before = states()
    with pytest.raises(ValueError, match=rf"the generator \({network.__name__}\).*({name})") as e:
        check_deterministic(generator, critic, (LATENT,))
    assert states() == before
    assert "Noise.extra" in str(e.value)
    assert ("with a condition" in str(e.value)) == (network is not Network)


@pytest.mark.parametrize("network", [Network, WithLabels, WithOneHot, WithNumber])
@pytest.mark.parametrize("kind", list(KINDS))
def test_draws_of_a_critic_are_found(kind, network):
    """The critic is run on the samples of the generator, under its own kind of condition."""
    change, name = KINDS[kind]
    generator, critic = network(), network(change, inputs=5, outputs=1)
    before = states()
    with pytest.raises(ValueError, match=rf"the critic \({network.__name__}\).*({name})"):
        check_deterministic(generator, critic, (LATENT,))
    assert states() == before


def test_draws_under_a_condition_alone_are_found():
    """A network with an optional condition runs both ways."""
    with pytest.raises(ValueError, match="pass, when it is called with a condition"):
        check_deterministic(OnlyWithCondition(torch.randn_like), Network(inputs=5), (LATENT,))
    with pytest.raises(ValueError, match="its forward pass: it uses"):
        check_deterministic(Network(torch.randn_like), Network(inputs=5), (LATENT,))


def test_a_draw_before_an_error_is_found():
    """A condition that does not fit hides no draw that comes before it is used."""
    with pytest.raises(ValueError, match="randn"):
        check_deterministic(UnknownCondition(torch.randn_like), Network(inputs=5), (LATENT,))


DETERMINISTIC = {
    "plain": (Network(), Network(inputs=5)),
    "one_hot of torch": (WithLabels(), WithLabels(inputs=5)),
    "one-hot labels": (WithOneHot(), WithOneHot(inputs=5)),
    "number": (WithNumber(), WithNumber(inputs=5)),
    "unknown condition": (UnknownCondition(), Network(inputs=5)),
    "critic of another shape": (Network(), Network(inputs=7)),
    "batch norm": (nn.Sequential(nn.Linear(LATENT, 5), nn.BatchNorm1d(5)), Network(inputs=5)),
    "attention without dropout": (
        Network(lambda x: F.scaled_dot_product_attention(*[x[None, None]] * 3)[0, 0]),
        Network(inputs=5),
    ),
    "dropout at rate 0": (Network(partial(F.dropout, p=0.0)), Network(inputs=5)),
    "dropout in evaluation": (Network(lambda x: F.dropout(x, 0.5, False)), Network(inputs=5)),
    "NaN": (Network(lambda x: x / 0 * 0), Network(inputs=5)),
    "models": (
        fgan.models.conv_generator((1, 28, 28), LATENT, num_classes=10, width=4),
        fgan.models.conv_critic((1, 28, 28), num_classes=10, width=4, norm="spectral"),
    ),
    "half precision": (Network().bfloat16(), Network(inputs=5).bfloat16()),
    "pair": pair(conditional=True, norm=True),
}


@pytest.mark.parametrize("name", list(DETERMINISTIC))
def test_deterministic_networks_pass(name):
    """Networks without draws are accepted, and neither they nor any global generator changes."""
    generator, critic = DETERMINISTIC[name]
    before = states()
    tensors = [t.detach().clone() for m in (generator, critic) for t in m.state_dict().values()]
    check_deterministic(generator, critic, (LATENT,))
    assert states() == before
    after = [t for m in (generator, critic) for t in m.state_dict().values()]
    assert all(map(torch.equal, tensors, after))


@pytest.mark.parametrize("place", ["vmap", "grad", "trace", "meta"])
def test_the_check_is_left_out_where_it_cannot_run(place):
    """Within a function transform or a trace, and on the meta device, nothing is refused."""
    generator, critic = Network(torch.randn_like), Network(inputs=5)

    def build(x):
        check_deterministic(generator, critic, (LATENT,))
        return x.sum()

    if place == "vmap":
        torch.func.vmap(build)(torch.ones(2, 3))
    elif place == "grad":
        torch.func.grad(build)(torch.ones(3))
    elif place == "trace":
        torch.fx.experimental.proxy_tensor.make_fx(build)(torch.ones(3))
    else:
        check_deterministic(generator.to("meta"), critic.to("meta"), (LATENT,))


def test_any_function_can_be_searched():
    """An objective is a function as well; its error is raised where it has drawn nothing."""
    assert find_randomness(lambda: torch.ones(3)) == ""
    assert "rand" in find_randomness(lambda: torch.rand(3))
    assert find_randomness(random.random) == "Python's random module"
    assert find_randomness(lambda: {"loss": torch.ones(2)}) == ""

    def failing(draw):
        if draw:
            torch.rand(3)
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        find_randomness(lambda: failing(False))
    assert "rand" in find_randomness(lambda: failing(True))


def test_outputs_of_another_structure_are_found():
    """A function that returns another number of tensors in its second call has hidden state."""
    outputs = []

    def growing():
        outputs.append(torch.ones(1))
        return list(outputs)

    assert find_randomness(growing).startswith("a generator of its own, or an attribute")
