"""Donation: a compiled step writes the new state into the memory of the old one."""

import pytest
import torch
from compiled import rounds
from graphs import needs_cpp_compiler
from helpers import assert_close, make_round, pair, unchanged
from torch import nn

import fgan
from fgan import tree
from fgan.compiler.donation import write_in_place
from fgan.compiler.trees import map_leaves


def test_a_simultaneous_round_reads_the_old_state():
    """Neither update sees what the other has written in place, the count of rounds included."""
    weight = fgan.optim.linear(10.0, 0.0, 3)
    algorithm = fgan.wgan_gp(
        *pair(norm=True), update="simultaneous", ema_decay=0.5, penalty_weight=weight
    )
    compiled = fgan.compile(algorithm, backend="interpreter")
    assert_close(rounds(algorithm, compiled.step), rounds(algorithm, algorithm.step))


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


def test_without_donation_the_inputs_stay():
    """The pure form leaves every tensor of state, batch and noise bit-identical."""
    algorithm = fgan.wgan_gp(*pair(conditional=True, norm=True), n_critic=2)
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    inputs = algorithm.init(), *make_round(algorithm, conditional=True)
    with unchanged(*tree.leaves(inputs)):
        got, _ = compiled.step(*inputs)
    assert_close(got, algorithm.step(*inputs)[0])


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
    ("update", "backend"),
    [
        (remembering, "interpreter"),
        (looking_ahead, "interpreter"),
        (changing_places, "interpreter"),
        pytest.param(changing_places, "inductor", marks=needs_cpp_compiler),
    ],
)
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


def test_a_leaf_that_stays_is_not_written():
    """A value that is the old tensor itself is left alone; another value goes into its memory."""
    old = {"stays": torch.ones(2), "moves": torch.ones(2)}
    version = old["stays"]._version
    write_in_place({"stays": old["stays"], "moves": torch.zeros(2)}, old)
    assert old["stays"]._version == version
    assert (old["moves"] == 0).all()


def test_leaves_are_mapped_in_any_container():
    """Dicts and named tuples directly, lists as torch's pytree has them, None as it is."""
    double = map_leaves(lambda x: 2 * x, [torch.ones(1), {"a": torch.ones(1)}, None])
    assert double[0] == 2
    assert double[1]["a"] == 2
    assert double[2] is None
