"""Errors for arguments of the wrong kind, one case for each that no other test provokes."""

import re

import pytest
import torch
from helpers import RECIPES, make_round, pair
from torch import nn

import fgan
from fgan import measures, penalties
from fgan.compiler.passes import check_names
from fgan.networks import no_second_derivative
from fgan.objectives import Draw, adversarial, adversarial_generator
from fgan.scalars import check_scalar
from fgan.scores import check_rows


class Conv(nn.Module):
    """A generator of images from latents of one place each, which `forward` does not say."""

    latent_dim = 4

    def __init__(self):
        super().__init__()
        self.layer = nn.ConvTranspose2d(4, 1, 4)

    def forward(self, z):
        return self.layer(z)


class Assigning(nn.Module):
    """Writes into the data of a parameter, as old spectral norms do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        self.layer.weight.data = self.layer.weight / self.layer.weight.norm()
        return self.layer(x)


class Remembering(nn.Module):
    """Sets an attribute that it did not have."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x):
        self.features = self.layer(x)
        return self.features


class Unresettable(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))

    def reset_parameters(self):
        raise RuntimeError("no more")

    def forward(self, z):
        return z @ self.weight


def score(x):
    return x.flatten(1).sum(dim=1)


def moved(optimizer, **changes):
    """An update of one parameter from a state with some fields changed."""
    params = {"w": torch.ones(2)}
    state = optimizer.init(params)._replace(**changes)
    return optimizer.update({"w": torch.ones(2)}, state, params)


def drawing(extra):
    """A critic's update of an objective that has declared one number a sample."""
    objective = adversarial(lambda real, fake: fake - real)
    declared = objective._replace(draws={"shift": Draw("normal", ())})
    optimizer = fgan.sgd(0.1)
    algorithm = fgan.algorithm.make_algorithm(
        *pair(),
        declared,
        adversarial_generator(lambda real, fake: -fake),
        critic_optimizer=optimizer,
        generator_optimizer=optimizer,
    )
    batch, noise = make_round(algorithm)
    inputs = batch.real[0], None, noise.critic_latent[0], noise.mix[0]
    return algorithm.critic_update(algorithm.init(0), *inputs, extra=extra)


def updated(**changes):
    """A critic's update of WGAN-GP with some arguments changed."""
    algorithm = RECIPES["wgan_gp"](*pair())
    batch, noise = make_round(algorithm)
    inputs = {
        "real": batch.real[0],
        "condition": None,
        "latent": noise.critic_latent[0],
        "mix": noise.mix[0],
    }
    return algorithm.critic_update(algorithm.init(0), **inputs | changes)


def scored(samples):
    algorithm = RECIPES["gan"](*pair())
    return algorithm.score(algorithm.init(0), samples)


def populated(change):
    algorithm = fgan.population(RECIPES["gan"](*pair()))
    batch, noise = make_round(RECIPES["gan"](*pair()))
    state = algorithm.init([0, 1])
    return algorithm.step(state, batch, noise._replace(**change))


def without_mix():
    """The objective of WGAN-GP on data without the places between real and fake."""
    penalty = fgan.objectives.Penalty(penalties.zero_centered_penalty, 1.0, at="interpolate")
    objective = adversarial(lambda real, fake: fake - real, penalty)
    x = torch.ones(2, 2)
    data = fgan.types.Data(x, x, None, None, {}, torch.zeros((), dtype=torch.int64))
    return objective.function(lambda x: (score(x), {}), data)


def on_meta(module):
    return module.to("meta")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scored(torch.tensor(1.0)), "samples are a tensor"),
        (lambda: updated(real=torch.tensor(1.0)), "real samples are a tensor"),
        (lambda: updated(real=torch.randn(4, 2), fake=torch.randn(4, 2).double()), "float32 and"),
        (lambda: drawing({"shift": torch.ones(4)}), "extra['shift'] is torch.float32"),
        (lambda: drawing({"shift": torch.ones(4, 3).double()}), "with [] for each sample"),
        (lambda: drawing({"shift": torch.ones(3).double()}), "[4, ...]"),
        (lambda: populated({"mix": 1.0}), "noise.mix is a tensor"),
        (lambda: fgan.population(RECIPES["gan"](*pair())).init([object()]), "seed of a population"),
        (lambda: measures.wasserstein_estimate(score, torch.tensor(1.0), torch.ones(2, 2)), "[B,"),
        (lambda: measures.wasserstein_estimate(score, torch.ones(0, 2), torch.ones(2, 2)), "[B,"),
        (lambda: penalties.zero_centered_penalty(score, torch.tensor(1.0)), "samples [B, ...]"),
        (lambda: penalties.zero_centered_penalty(lambda x: x.long().sum(1), torch.ones(2, 2)),
         "floating point"),
        (lambda: check_rows("a label", [1, 2], 2), "a label is a tensor [2, ...]"),
        (lambda: check_scalar("rate", torch.tensor(True)), "a real number"),
        (lambda: check_scalar("rate", float("inf")), "is finite"),
        (lambda: moved(fgan.adam(0.1), updates=3), "updates are a 0-d integer tensor"),
        (lambda: moved(fgan.adam(0.1), mean=[torch.ones(2)]), "state's mean"),
        (lambda: moved(fgan.adam(0.1), square=[torch.ones(2)]), "state's square"),
        (without_mix, "needs mix [B], and None"),
        (lambda: fgan.models.one_hot(torch.arange(2), 3, "float"), "dtype is one"),
        (lambda: fgan.models.one_hot([0, 1], 3, torch.float32), "labels are a tensor of integers"),
        (lambda: fgan.models.mlp_critic((2,))([[0.0, 1.0]]), "samples is a tensor"),
        (lambda: RECIPES["gan"](*map(on_meta, pair())), "on the device meta"),
        (lambda: RECIPES["gan"](Unresettable(), pair()[1], latent_dim=2).init(0), "no more"),
        (lambda: fgan.make_functional(Conv()).apply(
            *fgan.make_functional(Conv())[1:], torch.ones(2, 4)), "latent_shape=(4, 1, 1)"),
        (lambda: fgan.make_functional(Conv()).apply(
            *fgan.make_functional(Conv())[1:], torch.ones(2, 3, 4, 4, 1)), "does not take the"),
        (lambda: torch.func.grad(lambda x: fgan.make_functional(Assigning()).apply(
            *fgan.make_functional(Assigning())[1:], x)[0].sum())(torch.ones(2, 2)),
         "assigns to the data of a tensor"),
    ],
)  # fmt: skip
def test_the_error_says_what_is_wrong(call, message):
    """A ValueError that names the argument, what it has to be and what was given."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_names_of_passes_are_a_sequence():
    """A number is none."""
    with pytest.raises(TypeError, match="sequence of names of passes, not 3"):
        check_names(3)


def test_a_critic_that_is_only_reshaping_layers_may_end_as_it_likes():
    """There is no last layer to be looked at."""
    generator = nn.Linear(3, 1)
    critic = nn.Sequential(nn.Flatten(0))
    with pytest.raises(ValueError, match="parameters"):
        fgan.gan(generator, critic, latent_dim=3)


def test_attributes_that_forward_sets_are_deleted():
    """Else a tensor of a transform would stay in the module."""
    module = Remembering()
    network = fgan.make_functional(module)
    torch.func.grad(lambda p: network.apply(p, {}, torch.ones(3, 2))[0].sum())(network.params)
    x = torch.ones(3, 2)
    assert torch.equal(network.apply(network.params, {}, x)[0], module(x))


@pytest.mark.parametrize(
    ("operation", "advice"),
    [
        ("aten::_thnn_fused_lstm_cell", "take an objective without a penalty"),
        ("aten::_cudnn_rnn_backward", "cudnn.flags(enabled=False)"),
        ("aten::_scaled_dot_product_flash_attention", "SDPBackend.MATH"),
    ],
)
def test_the_advice_follows_the_operation(operation, advice):
    """torch names the operation that has no second derivative."""
    error = RuntimeError(f"derivative for {operation} is not implemented")
    assert advice in no_second_derivative("critic", error)
    assert no_second_derivative("critic", RuntimeError("another")) == ""


def test_an_objective_that_says_nothing_of_its_calls_keeps_none():
    """What noise for the critic calls does not make known what an unknown objective calls."""
    known = adversarial(lambda real, fake: fake - real)
    unknown = known._replace(calls=())
    assert fgan.noisy.noisy(unknown, Draw("normal", (3,))).calls == ()
    assert len(fgan.noisy.noisy(known, Draw("normal", (3,))).calls) > len(known.calls)


def test_a_critics_gradient_without_real_samples():
    """An objective of the fakes alone: a mean of linear scores has the mean sample as gradient."""

    def of_fakes(critic, data):
        scores, buffers = critic(data.fake)
        return scores.mean(), buffers, {}

    objective = fgan.objectives.CriticObjective(of_fakes)
    critic = nn.Linear(2, 1, bias=False)
    algorithm = fgan.algorithm.make_algorithm(
        nn.Linear(3, 2),
        critic,
        objective,
        adversarial_generator(lambda real, fake: -fake),
        latent_dim=3,
        critic_optimizer=fgan.sgd(0.1),
        generator_optimizer=fgan.sgd(0.1),
    )
    fake = torch.randn(5, 2)
    state = algorithm.init()
    data = fgan.types.Data(None, fake, None, None, {}, state.round)
    gradient = algorithm.parts.critic_gradient(state, data)
    torch.testing.assert_close(gradient.params["weight"], fake.mean(dim=0, keepdim=True))
