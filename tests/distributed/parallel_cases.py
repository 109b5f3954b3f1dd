"""What the processes of these tests run, and one process beside them.

A `Case` is played by every rank on its part of the batches, and by one process on the whole of
them. `OTHERS` are functions of (rank, size) that only the ranks run.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from captures import FakeCapture, in_place
from helpers import LATENT, RECIPES, Counting, Generator, make, make_batch, pair
from torch import nn
from torch.func import grad, vmap
from torch.utils._python_dispatch import TorchDispatchMode

import fgan
from fgan import tree
from fgan.collectives import group_of, total
from fgan.compiler.cuda_graphs import CUDAGraphedStep
from fgan.networks import synchronized
from fgan.objectives import Head, Penalty, adversarial, adversarial_generator
from fgan.penalties import zero_centered_penalty

SIZE = 24
"""Samples in the whole batch: 1, 2, 3 and 4 ranks have equal parts, and their parts have halves."""


class Case(NamedTuple):
    """Rounds that end alike in one process and in several."""

    make: Callable[[Callable[[nn.Module], nn.Module]], fgan.Algorithm]
    """Makes the algorithm; its argument changes a generator with BatchNorm, or leaves it alone."""
    wrap: Callable[[fgan.Algorithm], fgan.Algorithm] = fgan.data_parallel
    conditional: bool = False
    seeds: int | Sequence[int] = 0
    """Several for a population."""
    rounds: int = 20
    generator_batch_size: int | None = None
    dtype: torch.dtype = torch.float64
    atol: float = 1e-9


def play(case, algorithm, share=(0, 1)):
    """(final state, last info) after the rounds of a case, on a share of its batches."""
    state, (rank, size) = algorithm.init(case.seeds), share
    part = slice(rank * SIZE // size, (rank + 1) * SIZE // size)
    for index in range(case.rounds):
        sizes = dict(generator_batch_size=case.generator_batch_size)
        noise = algorithm.noise(case.seeds, index, SIZE, **sizes)
        updates = noise.mix.shape[0]
        batch = make_batch((2,), case.conditional, updates, SIZE, seed=index, dtype=case.dtype)
        condition = None if batch.condition is None else batch.condition[:, part].contiguous()
        own = fgan.Batch(batch.real[:, part].contiguous(), condition)
        state, info = algorithm.step(state, own, noise)
    return tree.clone(state), tree.clone(info)


def in_parallel(case, rank, size):
    """A case by one rank of several."""
    return play(case, case.wrap(case.make(synchronized)), (rank, size))


def alone(case):
    """A case by one process."""
    algorithm = case.make(lambda module: module)
    if not isinstance(case.seeds, int) and not algorithm.members:
        algorithm = fgan.population(algorithm)
    return play(case, algorithm)


# --- algorithms -----------------------------------------------------------------------------------


def of_recipe(name, conditional=False, **options):
    """A recipe with EMA, spectral norm in its critic, and a generator without norm."""

    def build(_):
        modules = pair(conditional=conditional, critic_norm="spectral")
        return RECIPES[name](*modules, **(dict(n_critic=2, ema_decay=0.9) | options))

    return build


def gradient_descent(name):
    """A recipe in float32 by SGD: Adam would make full steps of the rounding of zero gradients."""
    modules = pair(conditional=True, dtype=torch.float32)
    rates = dict(generator_optimizer=fgan.sgd(0.01), critic_optimizer=fgan.sgd(0.01))
    return RECIPES[name](*modules, n_critic=2, ema_decay=0.9, **rates)


class Masked(Generator):
    """A generator with a frozen layer, and a buffer of infinities as attention masks have them."""

    def __init__(self):
        super().__init__()
        self.last.requires_grad_(False)
        self.register_buffer("mask", torch.tensor([-0.0, -torch.inf]))


def frozen(_):
    return fgan.wgan_gp(make(Masked), pair()[1], n_critic=2, ema_decay=0.9)


def normed(change):
    """BatchNorm in the generator; `change` makes its statistics those of the whole batch."""
    return fgan.wgan_gp(change(pair(norm=True)[0]), pair()[1], n_critic=2, ema_decay=0.9)


def normed_critic(change):
    """BatchNorm in both networks, cumulative averages in the critic's."""
    generator, critic = pair(norm=True, critic_norm="batch")
    critic.norm.momentum = None
    return fgan.gan(change(generator), change(critic), n_critic=2)


class TwoHeaded(nn.Module):
    """A critic with a classifier beside its scores."""

    def __init__(self):
        super().__init__()
        self.body, self.score, self.label = nn.Linear(2, 5), nn.Linear(5, 1), nn.Linear(5, 3)

    def forward(self, x, condition):
        h = torch.tanh(self.body(x))
        return self.score(h), self.label(h)


def cross_entropy(logits, labels):
    return -(logits.log_softmax(1) * (labels[:, None] == torch.arange(3))).sum(1)


def composed(_):
    """A head, a lazy penalty, schedules and clipping by norm at once; the loss sees real scores."""
    head = Head("label", cross_entropy, 0.5)
    lazy = Penalty(zero_centered_penalty, fgan.optim.linear(1.0, 0.1, 10), "real_and_fake", every=3)
    clipped = fgan.optim.clip_by_norm(fgan.sgd(fgan.optim.cosine(0.2, 0.01, 20), 0.9), 0.05)
    return fgan.make_algorithm(
        pair(conditional=True)[0],
        make(TwoHeaded, seed=1),
        adversarial(fgan.losses.relativistic_critic_loss, lazy, head),
        adversarial_generator(fgan.losses.relativistic_generator_loss, head, uses_real=True),
        generator_optimizer=clipped,
        critic_optimizer=clipped,
        n_critic=2,
        ema_decay=fgan.optim.linear(0.5, 0.9, 10),
    )


def compiled(algorithm):
    return fgan.compile(fgan.data_parallel(algorithm), backend="interpreter")


def torch_compiled_population(algorithm):
    members = fgan.population(fgan.data_parallel(algorithm))
    return members._replace(step=torch.compile(members.step, fullgraph=True, backend="aot_eager"))


def accumulated(algorithm):
    return fgan.data_parallel(fgan.accumulate(algorithm, 2))


def population(algorithm):
    return fgan.population(fgan.data_parallel(algorithm))


def sweep(change=lambda algorithm: algorithm):
    """A population of learning rates, each of whose members `change` makes another algorithm of."""
    players, rates = pair(), torch.tensor([0.1, 0.01], dtype=torch.float64)
    return fgan.population(lambda rate: change(of_rate(rate, players)), rates)


def everything(algorithm):
    both = fgan.data_parallel(fgan.accumulate(algorithm, 2))
    return fgan.compile(fgan.population(both), backend="interpreter")


DIVISIBLE = [name for name in RECIPES if name != "dragan"]
"""Recipes whose batch may be taken in parts."""
CASES = {
    f"{name} {'conditional' if conditional else 'plain'}": Case(
        of_recipe(name, conditional), conditional=conditional
    )
    for name in DIVISIBLE
    for conditional in (False, True)
}
CASES |= {
    f"{name} in float32": Case(
        lambda _, name=name: gradient_descent(name),
        conditional=True,
        dtype=torch.float32,
        atol=1e-6,
    )
    for name in DIVISIBLE
}
CASES |= {
    "simultaneous": Case(of_recipe("wgan_gp", update="simultaneous", n_critic=1)),
    "twice the generator's batch": Case(
        of_recipe("wgan_gp", True), conditional=True, generator_batch_size=2 * SIZE
    ),
    "frozen layer": Case(frozen),
    "synchronized": Case(normed),
    "synchronized critic": Case(normed_critic),
    "synchronized, compiled": Case(normed, compiled),
    "composed objectives": Case(composed, conditional=True),
    "accumulate": Case(of_recipe("wgan_gp", True), accumulated, True),
    "accumulated composed objectives": Case(composed, accumulated, True),
    "population": Case(normed, population, seeds=[0, 1, 2]),
    "sweep": Case(lambda _: sweep(), lambda _: sweep(fgan.data_parallel), seeds=[0, 1], rounds=5),
    "skip_nonfinite": Case(
        lambda _: fgan.skip_nonfinite(fgan.wgan_gp(*pair(), n_critic=2, ema_decay=0.9)),
        lambda _: fgan.skip_nonfinite(
            fgan.data_parallel(fgan.wgan_gp(*pair(), n_critic=2, ema_decay=0.9))
        ),
        rounds=3,
    ),
    "compile": Case(of_recipe("wgan_gp", True), compiled, True),
    "torch.compile of a population": Case(
        lambda _: fgan.wgan_gp(*pair(), n_critic=1),
        torch_compiled_population,
        seeds=[0, 1, 2],
        rounds=2,
    ),
    "everything": Case(
        lambda _: fgan.wgan_gp(*pair(), n_critic=2, ema_decay=0.9), everything, seeds=[0, 1, 2]
    ),
}


# --- what only the ranks run ----------------------------------------------------------------------


def first_states(rank, size):
    """States of modules that differ from rank to rank, from a seed and without one."""
    generator, critic = make(Masked, seed=rank), pair()[1]
    algorithm = fgan.data_parallel(fgan.wgan_gp(generator, critic))
    return algorithm.init(), algorithm.init(rank)


class CountCollectives(TorchDispatchMode):
    """Counts what is sent."""

    def __init__(self):
        super().__init__()
        self.sent, self.dtypes = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "_c10d_functional" and "wait" not in str(func):
            self.sent.append((str(func), args[0].numel()))
            self.dtypes.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


class CountInGraphs(Counting):
    """Counts the collectives of each graph that a compiler is given."""

    def __init__(self):
        self.sent = []

    def __call__(self, graph, inputs):
        names = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        self.sent.append(sum("_c10d_functional" in n and "wait" not in n for n in names))
        return graph


def collectives(rank, size):
    """What one round sends: eager, of a population, and in the graphs of a compiled one."""
    algorithm = fgan.data_parallel(of_recipe("wgan_gp")(None))
    members = fgan.population(fgan.data_parallel(fgan.wgan_gp(*pair(), n_critic=2)))
    found = {}
    for name, each, seeds in ("eager", algorithm, 0), ("population", members, [0, 1]):
        state, noise = each.init(seeds), each.noise(seeds, 0, SIZE)
        with CountCollectives() as count:
            each.step(state, make_batch(size=SIZE // size), noise)
        found[name] = count.sent
    backend = CountInGraphs()
    each = fgan.compile(algorithm, backend=backend)
    each.step(each.init(0), make_batch(size=SIZE // size), each.noise(0, 0, SIZE))
    return found | {"graphs": backend.sent}


def captures(rank, size):
    """The captures after each round, and the states of captured and of eager rounds.

    The last rank's state moves to other memory before the second round.
    """
    found, states = [], []
    algorithm = fgan.data_parallel(of_recipe("wgan_gp")(None))
    for is_captured in (True, False):
        capture, state = FakeCapture(), algorithm.init(0)
        graphed = CUDAGraphedStep(in_place(algorithm), capture, agree=algorithm.agree)
        step = graphed if is_captured else algorithm.step
        for index in range(5):
            if (index, rank) == (1, size - 1):
                state = tree.clone(state)
            batch, noise = make_batch(size=SIZE // size), algorithm.noise(0, index, SIZE)
            state, _ = step(state, batch, noise)
            found.append(capture.captures)
        states.append(tree.clone(state))
    return {"captures": found[:5], "states": states, "agreed": algorithm.agree(3 + rank)}


def sums(rank, size):
    """`total` alone, vmapped, and its first and second derivative."""
    group = group_of()
    x = torch.arange(6.0).reshape(2, 3).double() + rank

    def cubed(x):
        return ((rank + 1) * total(x, group) ** 3).sum()

    return {
        "plain": total(x, group),
        "vmap": vmap(partial(total, group=group), 1, 1)(x),
        "grad": grad(cubed)(x),
        "second": grad(lambda x: grad(cubed)(x).sum())(x),
        "vmapped grad": vmap(grad(cubed))(x),
        "strided": total(x.mT, group),
    }


def derivative_of_a_round(rank, size):
    """Of a figure of two updates by a learning rate."""
    part = slice(rank * SIZE // size, (rank + 1) * SIZE // size)
    batch, players = fgan.Batch(make_batch(size=SIZE).real[:, part]), pair()
    state = fgan.data_parallel(of_rate(0.1, players)).init(0)

    def figure(rate):
        algorithm = fgan.data_parallel(of_rate(rate, players))
        return algorithm.step(state, batch, algorithm.noise(0, 0, SIZE))[1].generator_loss

    # Each rank has the derivative of the sum of all ranks' figures by its own rate.
    rate = torch.tensor(0.1, dtype=torch.float64)
    return total(grad(figure)(rate), group_of()) / size


def of_rate(rate, players):
    return fgan.wgan_gp(*players, n_critic=2, critic_optimizer=fgan.sgd(rate))


def in_bfloat16(rank, size):
    """A round of SGD with rate 1 by gradients in bfloat16, by exact ones, and by the own ones."""
    modules = pair(norm=True, critic_norm="spectral")
    rates = dict(generator_optimizer=fgan.sgd(1.0), critic_optimizer=fgan.sgd(1.0))
    single = fgan.wgan_gp(*modules, n_critic=1, **rates)
    part = slice(rank * SIZE // size, (rank + 1) * SIZE // size)
    batch = fgan.Batch(make_batch(n_critic=1, size=SIZE).real[:, part])
    found = {}
    for name, algorithm in {
        "rounded": fgan.data_parallel(single, wire_dtype=torch.bfloat16),
        "exact": fgan.data_parallel(single),
        "own": single,
    }.items():
        noise = algorithm.noise(0, 0, SIZE, share=(rank, size))
        with CountCollectives() as count:
            found[name] = algorithm.step(algorithm.init(0), batch, noise)
        found[f"{name} sent"] = count.sent, count.dtypes
    return found | {"before": single.init(0)}


def not_a_number(rank, size):
    """The figures of a round in which one rank's data have a NaN."""
    algorithm = fgan.data_parallel(of_recipe("wgan_gp")(None))
    batch = make_batch(size=SIZE // size)
    if rank == size - 1:
        batch.real[0, 0] = torch.nan
    return algorithm.step(algorithm.init(0), batch, algorithm.noise(0, 0, SIZE))[1]


def sharded_weights(rank, size):
    """Gradients of a gradient penalty by weights that are split over the ranks, as DTensors.

    For each layer the largest difference from weights in one place, or what was raised.
    """
    from torch.distributed.device_mesh import init_device_mesh  # takes a second
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (size,))
    source = torch.Generator().manual_seed(0)
    layers = {
        "perceptron": (lambda w, x: x @ w.mT, (6, 5), (4, 5)),
        "convolution": (lambda w, x: F.conv2d(x, w, padding=1), (4, 1, 3, 3), (4, 1, 8, 8)),
    }
    found = {}
    for name, (layer, of_weight, of_samples) in layers.items():
        weight, samples = (
            torch.randn(shape, generator=source, dtype=torch.float64)
            for shape in (of_weight, of_samples)
        )

        def penalty(weight, samples, layer=layer):
            slopes = grad(lambda x: layer(weight, x).tanh().sum())(samples)
            return (slopes.flatten(1).square().sum(1).sqrt() - 1).square().mean()

        placed = distribute_tensor(weight, mesh, [Shard(0)])
        everywhere = distribute_tensor(samples, mesh, [Replicate()])
        try:
            got = grad(penalty)(placed, everywhere).full_tensor()
            found[name] = float((got - grad(penalty)(weight, samples)).abs().max())
        except (RuntimeError, NotImplementedError) as error:
            found[name] = str(error)
    return found


OTHERS: dict[str, Callable[[int, int], Any]] = {
    "first states": first_states,
    "collectives": collectives,
    "captures": captures,
    "sums": sums,
    "derivative of a round": derivative_of_a_round,
    "in bfloat16": in_bfloat16,
    "not a number": not_a_number,
    "sharded weights": sharded_weights,
}

assert LATENT == 3  # the size that the flat tensors of `collectives` are counted with
