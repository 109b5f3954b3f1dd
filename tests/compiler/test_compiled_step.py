"""`fgan.compile`: three programs for a round of any length, each compiled once, equal to eager."""

import collections

import pytest
import torch
from compiled import rounds
from graphs import needs_cpp_compiler
from helpers import RECIPES, Counting, assert_close, make_round, pair
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import fgan
from fgan import tree
from fgan.objectives import CriticObjective, Draw, GeneratorObjective


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "gan_minimax"])
def test_every_recipe_equals_its_eager_step(name):
    """Two rounds in float64, with BatchNorm and an EMA, differ from eager ones by rounding."""
    algorithm = RECIPES[name](*pair(conditional=True, norm=True), n_critic=2, ema_decay=0.9)
    backend = Counting()
    compiled = fgan.compile(algorithm, backend=backend)
    got = rounds(algorithm, compiled.step, conditional=True)
    assert_close(got, rounds(algorithm, algorithm.step, conditional=True))
    assert backend.graphs == 3  # fakes, critic, generator: once each, whatever n_critic


def test_the_number_of_critic_updates_costs_no_compilation():
    """All numbers of updates share the critic's program; only that of the fakes changes."""
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
    assert backend.graphs == 3  # the fakes are drawn in two portions of five
    shorter = fgan.Batch(batch.real[:3])
    compiled.step(
        algorithm.init(),
        shorter,
        noise._replace(critic_latent=noise.critic_latent[:3], mix=noise.mix[:3]),
    )
    assert backend.graphs == 4


def test_another_batch_size_compiles_each_program_once_more():
    """A return to the first size compiles nothing."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    backend = Counting()
    compiled = fgan.compile(algorithm, backend=backend)
    state = algorithm.init()
    for size, graphs in [(4, 3), (4, 3), (6, 6), (4, 6), (6, 6)]:
        state, _ = compiled.step(state, *make_round(algorithm, size=size))
        assert backend.graphs == graphs


def test_autocast_around_a_step_compiles_again():
    """A program traced without autocast does not run within it, nor the other way round."""
    algorithm = fgan.gan(*(module.float() for module in pair()), n_critic=1)
    backend = Counting()
    compiled = fgan.compile(algorithm, donate=False, backend=backend)
    state = algorithm.init()
    inputs = tree.map(lambda leaf: leaf if leaf is None else leaf.float(), make_round(algorithm))
    _, full = compiled.step(state, *inputs)
    with torch.autocast("cpu", torch.bfloat16):
        _, lower = compiled.step(state, *inputs)
        _, expected = algorithm.step(state, *inputs)
    assert backend.graphs == 6
    assert torch.equal(lower.critic_loss, expected.critic_loss)
    assert not torch.equal(lower.critic_loss, full.critic_loss)


def test_registered_containers_are_trees():
    """A container registered with torch's pytree is a tree of tensors; a number is no tensor."""
    algorithm = fgan.gan(*pair(), n_critic=1)
    state, (batch, noise) = algorithm.init(), make_round(algorithm)
    kept = collections.deque([torch.zeros(())])  # registered with torch

    def update(gradients, opt_state, params):
        return {name: params[name] - 0.1 * gradients[name] for name in params}, opt_state

    own = fgan.optim.Optimizer(lambda params: tree.clone(kept), update)
    algorithm = fgan.gan(*pair(), n_critic=1, critic_optimizer=own)
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    state = algorithm.init()
    assert_close(compiled.step(state, batch, noise), algorithm.step(state, batch, noise))
    critic = state.critic._replace(opt_state=collections.deque([1.0]))
    with pytest.raises(TypeError, match=r"takes tensors.*1\.0"):
        compiled.step(state._replace(critic=critic), batch, noise)


class Recurrent(nn.Module):
    """A generator that writes into a tensor of its own: vmap has no rule for that."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.latent_dim = layer, 3

    def forward(self, z):
        samples = torch.zeros(len(z), 2, dtype=z.dtype)
        recurrent = isinstance(self.layer, nn.GRU)
        samples[:, :2] = self.layer(z[:, None])[0][:, 0] if recurrent else self.layer(z)
        return samples


@pytest.mark.parametrize("layer", [nn.GRU(3, 2, batch_first=True), nn.Linear(3, 2)])
def test_fakes_that_vmap_refuses_are_drawn_batch_by_batch(layer):
    """Eager rounds need no vmap for fakes, and compiled ones do without it too."""
    algorithm = fgan.wgan_gp(Recurrent(layer.double()), pair()[1], n_critic=2)
    compiled = fgan.compile(algorithm, backend="interpreter")
    assert_close(rounds(algorithm, compiled.step), rounds(algorithm, algorithm.step))


def test_an_unknown_backend_is_refused_at_once():
    """Before anything is traced, and with the list of backends."""
    with pytest.raises(ValueError, match="choose one of inductor, interpreter"):
        fgan.compile(fgan.gan(*pair()), backend="cudagraphs")


def test_parameters_are_matched_by_name_and_not_by_order():
    """Two biases of one shape that come in another order, as from a file, are not mixed up."""
    critic = fgan.models.mlp_critic((2,), hidden=(3, 3)).double()
    algorithm = fgan.wgan(pair()[0], critic, n_critic=1)
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    state, inputs = algorithm.init(seed=1), make_round(algorithm)
    expected, _ = compiled.step(state, *inputs)
    names = list(state.critic.params)
    first, second = [name for name in names if state.critic.params[name].shape == (3,)]
    i, j = names.index(first), names.index(second)
    names[i], names[j] = second, first
    reordered = {name: state.critic.params[name] for name in names}
    got, _ = compiled.step(state._replace(critic=state.critic._replace(params=reordered)), *inputs)
    for name, value in expected.critic.params.items():
        assert_close(got.critic.params[name], value)


def test_a_tensor_attribute_of_a_module_is_read():
    """It is neither parameter nor buffer, and an input of the program all the same."""
    generator, critic = pair()

    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.shift = critic, torch.full((2,), 0.5, dtype=torch.float64)

        def forward(self, x):
            return self.inner(x + self.shift)

    algorithm = fgan.wgan_gp(generator, Shifted(), n_critic=1)
    compiled = fgan.compile(algorithm, backend="interpreter")
    assert_close(rounds(algorithm, compiled.step), rounds(algorithm, algorithm.step))


@pytest.mark.parametrize("donate", [True, False], ids=["donated", "pure"])
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_the_interpreter_equals_the_eager_round(donate, norm):
    """The same programs, run by Python, also where fakes are drawn batch by batch."""
    generator, critic = pair(conditional=True, norm=norm == "batch")
    if norm == "spectral":
        spectral_norm(generator.first)
    algorithm = fgan.wgan_gp(generator, critic, n_critic=2, ema_decay=0.9)
    compiled = fgan.compile(algorithm, donate=donate, backend="interpreter")
    got = rounds(algorithm, compiled.step, conditional=True)
    assert_close(got, rounds(algorithm, algorithm.step, conditional=True))


@needs_cpp_compiler
def test_inductor_runs_the_whole_round():
    """Generated code of a graph with second derivatives equals eager in float64."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=1)
    compiled = fgan.compile(algorithm)
    assert_close(rounds(algorithm, compiled.step), rounds(algorithm, algorithm.step))


@needs_cpp_compiler
def test_inductor_takes_inputs_of_any_layout():
    """Batch and noise whose updates are not their outermost axis in memory."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    batch, noise = make_round(algorithm)
    transposed = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (batch.real, *noise[:3])]
    inputs = fgan.Batch(transposed[0]), fgan.Noise(*transposed[1:])
    got = fgan.compile(algorithm, donate=False).step(algorithm.init(), *inputs)
    assert_close(got, algorithm.step(algorithm.init(), batch, noise))


def test_random_tensors_of_objectives_reach_the_programs():
    """What both objectives declare comes in by name, also where a condition is absent."""

    def critic_loss(critic, data):
        shifted = data.real + 0.1 * data.extra["shift"]
        loss = (critic(data.fake)[0] - critic(shifted)[0]).mean() * data.extra["weight"].mean()
        figures = dict.fromkeys(("distance", "penalty", "real_score", "fake_score"), loss)
        return loss, critic(data.real)[1], figures

    def generator_loss(critic, fake, data):
        loss = -critic(fake + 0.1 * data.extra["shift"])[0].mean()
        return loss, {}

    algorithm = fgan.make_algorithm(
        *pair(),
        CriticObjective(critic_loss, {"shift": Draw("normal", None), "weight": Draw("uniform")}),
        GeneratorObjective(generator_loss, draws={"shift": Draw("normal", None)}),
        generator_optimizer=fgan.sgd(0.1),
        critic_optimizer=fgan.sgd(0.1),
        n_critic=2,
        sample_shape=(2,),
    )
    for donate in (True, False):
        compiled = fgan.compile(algorithm, backend="interpreter", donate=donate)
        assert_close(rounds(algorithm, compiled.step), rounds(algorithm, algorithm.step))


@pytest.mark.parametrize("donate", [True, False], ids=["donated", "pure"])
@pytest.mark.parametrize("members", [0, 2], ids=["one run", "population"])
def test_a_label_out_of_range_is_refused_before_the_round(donate, members):
    """As by the networks in eager rounds; the state can be used again."""
    classes, seeds = 3, [0, 1][:members] or 0
    algorithm = fgan.wgan_gp(
        fgan.models.mlp_generator((2,), 4, classes, hidden=(8,)),
        fgan.models.mlp_critic((2,), classes, hidden=(8,)),
        n_critic=1,
    )
    algorithm = fgan.population(algorithm) if members else algorithm
    compiled = fgan.compile(algorithm, backend="interpreter", donate=donate)
    state, noise = compiled.init(seeds), compiled.noise(seeds, 0, 4)
    real, labels = torch.zeros(1, 4, 2), torch.tensor([[0, 1, 2, 0]])
    for wrong in (3, -1):
        for step in (compiled.step, algorithm.step)[: 1 if members else 2]:
            with pytest.raises(ValueError, match=f"label {wrong} is outside the model's 3 classes"):
                step(state, fgan.Batch(real, labels.masked_fill(labels == 2, wrong)), noise)
    expected = algorithm.step(state, fgan.Batch(real, labels), noise)
    assert_close(compiled.step(state, fgan.Batch(real, labels), noise), expected)


class Halving(fgan.models.Generator):
    """A generator of pairs of classes."""

    def forward(self, z, condition=None):
        return super().forward(z, condition // 2)


def test_a_subclass_may_take_other_labels():
    """What its own forward pass makes of them is not known."""
    net = torch.nn.Linear(4 + 3, 2)
    generator = Halving(net, sample_shape=(2,), latent_dim=4, num_classes=3)
    critic = fgan.models.mlp_critic((2,), 6, hidden=(8,))
    algorithm = fgan.wgan_gp(generator, critic, n_critic=1)
    batch = fgan.Batch(torch.zeros(1, 6, 2), torch.arange(6)[None])
    inputs = algorithm.init(0), batch, algorithm.noise(0, 0, 6)
    step = fgan.compile(algorithm, backend="interpreter", donate=False).step
    assert_close(step(*inputs), algorithm.step(*inputs))
