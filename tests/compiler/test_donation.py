"""`fgan.compile`: three programs for a round of any length, and a donated state."""

import collections

import pytest
import torch
from graphs import needs_cpp_compiler
from helpers import RECIPES, Counting, assert_close, make_round, pair, unchanged
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import fgan
from fgan import tree


def rounds(algorithm, step, conditional=False, count=2):
    """States and infos of `count` rounds; each state is copied before it is donated."""
    state, path = algorithm.init(), []
    for index in range(count):
        inputs = make_round(algorithm, (2,), conditional, index=index)
        state, info = step(state, *inputs)
        path.append((tree.clone(state), info))
    return path


@pytest.mark.parametrize("name", ["gan", "wgan", "wgan_gp", "wgan_div"])
def test_every_recipe_equals_its_eager_step(name):
    """Two rounds in float64, with BatchNorm and an EMA, differ from eager ones by rounding."""
    algorithm = RECIPES[name](*pair(conditional=True, norm=True), n_critic=2, ema_decay=0.9)
    backend = Counting()
    compiled = fgan.compile(algorithm, backend=backend)
    got = rounds(algorithm, compiled.step, conditional=True)
    assert_close(got, rounds(algorithm, algorithm.step, conditional=True))
    assert backend.graphs == 3  # fakes, critic, generator: once each, whatever n_critic


def test_a_simultaneous_round_reads_the_old_state():
    """No player's gradient sees what the other player's update has written in place."""
    algorithm = fgan.wgan_gp(*pair(norm=True), update="simultaneous", ema_decay=0.5)
    compiled = fgan.compile(algorithm, backend="interpreter")
    assert_close(rounds(algorithm, compiled.step), rounds(algorithm, algorithm.step))


def test_the_number_of_critic_updates_costs_no_compilation():
    """Two updates and five share the critic's program; only that of the fakes changes."""
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


def test_any_use_of_a_donated_state_raises():
    """The error says what happened, and the new state has the old memory."""
    algorithm = fgan.gan(*pair(), n_critic=1)
    compiled = fgan.compile(algorithm, backend="interpreter")
    state = algorithm.init()
    addresses = [leaf.data_ptr() for leaf in tree.leaves(state)]
    inputs = make_round(algorithm)
    new, _ = compiled.step(state, *inputs)
    assert [leaf.data_ptr() for leaf in tree.leaves(new)] == addresses
    for use in (
        lambda leaf: leaf + 1,
        lambda leaf: leaf.shape,
        torch.clone,
        repr,
        lambda leaf: torch.stack([leaf, leaf]),
    ):
        with pytest.raises(RuntimeError, match="donated"):
            use(state.round)
    with pytest.raises(RuntimeError, match="donated"):
        compiled.step(state, *inputs)
    with pytest.raises(RuntimeError, match="donated"):
        algorithm.step(state, *inputs)


REFUSED = {
    "noise": (lambda b, n: (b, n._replace(mix=n.mix[:, :2])), {}, r"noise\.mix"),
    "updates": (lambda b, n: (b, n), {"update": "simultaneous"}, "one critic update"),
    "samples": (lambda b, n: (b._replace(real=b.real[..., :1]), n), {}, "samples of shape"),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_a_refused_round_leaves_the_state_alone(what):
    """Inputs that do not fit are refused before the state is overwritten, and it stays usable."""
    change, options, message = REFUSED[what]
    algorithm = fgan.wgan_gp(*pair(), **(options or {"n_critic": 2}))
    compiled = fgan.compile(algorithm, backend="interpreter")
    state, (batch, noise) = algorithm.init(), make_round(fgan.wgan_gp(*pair(), n_critic=2))
    with pytest.raises(ValueError, match=message):
        compiled.step(state, *change(batch, noise))
    assert_close(state, algorithm.init())
    if not options:
        expected = algorithm.step(algorithm.init(), batch, noise)
        assert_close(compiled.step(state, batch, noise), expected)


def test_a_round_that_fails_after_a_write_leaves_the_state_donated():
    """A state after half a round is not usable."""
    calls = []

    def failing(graph, inputs):
        def run(*tensors):
            calls.append(graph(*tensors))
            if len(calls) == 2:  # the first program only reads, the second writes
                raise RuntimeError("the power is out")
            return calls[-1]

        return run

    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    state, inputs = algorithm.init(), make_round(algorithm)
    with pytest.raises(RuntimeError, match="the power is out"):
        fgan.compile(algorithm, backend=failing).step(state, *inputs)
    with pytest.raises(RuntimeError, match="was donated"):
        state.round.item()


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


NUMBERS = torch.arange(20, dtype=torch.float64) / 20
SHARED = {
    "two leaves": lambda weight: {
        "first.weight": NUMBERS[:14].view(7, 2), "first.bias": NUMBERS[:7],
    },
    "a part of a leaf": lambda weight: {
        "first.weight": NUMBERS[:14].view(7, 2), "first.bias": NUMBERS[7:14],
    },
    "an element of a transposed leaf": lambda weight: {
        "first.weight": NUMBERS[:14].view(2, 7).t(), "first.bias": NUMBERS[13:],
    },
    "the same row for all": lambda weight: {"first.weight": weight[:1].expand(7, 2)},
    "the same column for all": lambda weight: {"first.weight": weight[:, :1].expand(7, 2)},
    "overlapping windows": lambda weight: {"first.weight": NUMBERS.as_strided((7, 2), (1, 1))},
}  # fmt: skip


def with_critic(state, **params):
    """The state with other parameters of the critic."""
    return state._replace(critic=state.critic._replace(params=state.critic.params | params))


@pytest.mark.parametrize("name", list(SHARED))
def test_a_state_that_shares_memory_is_not_donated(name):
    """Shared memory would be written to twice; the state is refused, and stays usable."""
    algorithm = fgan.gan(*pair(), n_critic=1)
    state, inputs = algorithm.init(), make_round(algorithm)
    shared = with_critic(state, **SHARED[name](state.critic.params["first.weight"]))
    before, step = tree.clone(shared), fgan.compile(algorithm, backend="interpreter").step
    with pytest.raises(ValueError, match="share their memory"):
        step(shared, *inputs)
    assert_close(shared, before)
    assert_close(step(tree.clone(shared), *inputs), algorithm.step(shared, *inputs))


def test_a_state_of_separate_views_of_one_storage_is_donated():
    """Views beside each other in memory, in any order: nothing is written to twice."""
    algorithm = fgan.gan(*pair(), n_critic=1)
    numbers, inputs = NUMBERS.repeat(2), make_round(algorithm)
    weight, bias = numbers[3:17].view(2, 7).t(), numbers[17:31:2]
    state = with_critic(algorithm.init(), **{"first.weight": weight, "first.bias": bias})
    expected = algorithm.step(state, *inputs)
    assert_close(fgan.compile(algorithm, backend="interpreter").step(state, *inputs), expected)


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


def test_without_donation_the_inputs_stay():
    """The pure form leaves every tensor of state, batch and noise bit-identical."""
    algorithm = fgan.wgan_gp(*pair(conditional=True, norm=True), n_critic=2)
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    inputs = algorithm.init(), *make_round(algorithm, conditional=True)
    with unchanged(*tree.leaves(inputs)):
        got, _ = compiled.step(*inputs)
    assert_close(got, algorithm.step(*inputs)[0])


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


def remembering(g, s, p):
    """Momentum from the difference to the old parameters, which the state keeps."""
    moved = tree.map(lambda p, g, b: p - 0.1 * g + 0.5 * (p - b), p, g, s["before"])
    return moved, {"before": p}


def looking_ahead(g, s, p):
    """The new parameters are extrapolated from values that the state keeps."""
    ahead = tree.map(lambda p, g: p - 0.1 * g, p, g)
    return tree.map(lambda a, b: 1.5 * a - 0.5 * b + 0.1, ahead, s["before"]), {"before": ahead}


def changing_places(g, s, p):
    """Parameters and state change places."""
    return s["before"], {"before": p}


class Historian(nn.Module):
    """A generator that keeps the means of its last two batches."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.latent_dim = inner, inner.latent_dim
        self.register_buffer("last", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("last_but_one", torch.zeros(2, dtype=torch.float64))

    def forward(self, z):
        samples = self.inner(z)
        self.last_but_one.copy_(self.last)
        self.last.copy_(samples.detach().mean(0))
        return samples + 0.1 * self.last_but_one


class Spare(nn.Module):
    """A critic with parameters that no score depends on."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.spare = inner, nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    "backend", ["interpreter", pytest.param("inductor", marks=needs_cpp_compiler)]
)
@pytest.mark.parametrize("update", [remembering, looking_ahead, changing_places])
def test_a_leaf_that_becomes_another_is_read_before_it_is_written(update, backend):
    """Donated memory is overwritten leaf by leaf, and a value that moves between leaves is kept."""
    generator, critic = pair()
    optimizer = fgan.optim.Optimizer(lambda p: {"before": tree.clone(p)}, update)
    algorithm = fgan.wgan_gp(
        Historian(generator), Spare(critic), critic_optimizer=optimizer, n_critic=1
    )
    compiled = fgan.compile(algorithm, backend=backend)
    got = rounds(algorithm, compiled.step, count=3)
    assert_close(got, rounds(algorithm, algorithm.step, count=3))


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
