"""What holds on the CPU holds on CUDA: contracts, compiled rounds, memory, bits.

Every test here needs a CUDA device; tests of single parts that do are beside those parts.
"""

from contextlib import contextmanager

import pytest
import torch
from helpers import assert_close, assert_identical, make, make_batch, make_round, pair
from torch import nn
from torch.func import vmap

import fgan
from fgan import tree
from fgan.data import DataSet

pytestmark = pytest.mark.gpu


def on_cuda(batch):
    """The same batch on the device."""
    return tree.map(lambda leaf: None if leaf is None else leaf.cuda(), batch)


def rounds_of(algorithm, shape=(2,), *, rounds=4, size=4, conditional=False, dtype=torch.float64):
    """(final state, the info of every round), from seed 0; the state as copies."""
    state, infos = algorithm.init(0), []
    for index in range(rounds):
        noise = algorithm.noise(0, index, size)
        updates = noise.mix.shape[0]
        batch = make_batch(shape, conditional, updates, size, seed=index, dtype=dtype)
        state, info = algorithm.step(state, on_cuda(batch), noise)
        infos.append(info)
    return tree.clone(state), infos


@contextmanager
def deterministic():
    """Within, torch uses deterministic algorithms, or raises."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


# --- contracts -----------------------------------------------------------------------------------


def test_noise_is_a_pure_function_on_the_device():
    """Same arguments, same bits; other rounds differ; CUDA's global generator is not drawn from."""
    algorithm = fgan.wgan_gp(*(module.cuda().float() for module in pair()), n_critic=3)
    before = torch.cuda.get_rng_state()
    noise = algorithm.noise(7, 5, 2000)
    assert_identical(noise, algorithm.noise(7, 5, 2000))
    assert torch.equal(torch.cuda.get_rng_state(), before)
    parts = tree.leaves(noise)
    assert {(leaf.device.type, leaf.dtype) for leaf in parts} == {("cuda", torch.float32)}
    assert [tuple(leaf.shape) for leaf in parts] == [(3, 2000, 3), (2000, 3), (3, 2000)]
    for other in (algorithm.noise(7, 6, 2000), algorithm.noise(8, 5, 2000)):
        pairs = zip(parts, tree.leaves(other), strict=True)
        assert not any(torch.equal(a, b) for a, b in pairs)
    for latent in noise[:2]:
        assert abs(float(latent.mean())) < 0.1
        assert abs(float(latent.std()) - 1) < 0.1
    assert 0 <= float(noise.mix.min()) <= 0.01
    assert 0.99 <= float(noise.mix.max()) < 1


@pytest.mark.parametrize("norm", [None, "spectral"])
def test_init_puts_every_leaf_on_the_device(norm):
    """The state is on CUDA, has the bits of the CPU's, and shares no memory with the modules."""
    modules = pair(norm=True, critic_norm=norm)
    expected = fgan.wgan_gp(*modules, ema_decay=0.9).init(3)
    algorithm = fgan.wgan_gp(*(module.cuda() for module in modules), ema_decay=0.9)
    state = algorithm.init(3)
    assert all(leaf.is_cuda for leaf in tree.leaves(state))
    assert_identical(tree.map(torch.Tensor.cpu, state), expected)
    held = {tensor.data_ptr() for module in modules for tensor in module.state_dict().values()}
    places = [leaf.data_ptr() for leaf in tree.leaves(state) if leaf.numel()]
    assert len(set(places)) == len(places)
    assert not held & set(places)


def test_a_round_on_the_device_is_the_round_on_the_cpu():
    """The same state, batch and noise give the same round, up to rounding."""
    modules = pair(conditional=True, norm=True)
    algorithm = fgan.wgan_div(*modules, n_critic=2)
    batch, noise = make_round(algorithm, conditional=True, size=6)
    state = algorithm.init(0)
    expected = algorithm.step(state, batch, noise)
    device = fgan.wgan_div(*(module.cuda() for module in modules), n_critic=2)
    got = device.step(*(on_cuda(given) for given in (state, batch, noise)))
    assert_close(tree.map(torch.Tensor.cpu, got), expected, atol=1e-9)


# --- compiled rounds -----------------------------------------------------------------------------

MODELS = {
    "mlp": (
        (1, 6, 6),
        lambda: fgan.models.mlp_generator((1, 6, 6), 3, hidden=(8, 8)),
        lambda: fgan.models.mlp_critic((1, 6, 6), hidden=(8, 8), norm="layer"),
    ),
    "conv": (
        (1, 28, 28),
        lambda: fgan.models.conv_generator((1, 28, 28), 3, width=4),
        lambda: fgan.models.conv_critic((1, 28, 28), width=4),
    ),
    "resnet": (
        (3, 32, 32),
        lambda: fgan.models.resnet_generator((3, 32, 32), 3, width=4),
        lambda: fgan.models.resnet_critic((3, 32, 32), width=4, norm="spectral"),
    ),
}


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("mlp", torch.contiguous_format),
        ("conv", torch.contiguous_format),
        ("conv", torch.channels_last),
        ("resnet", torch.contiguous_format),
        ("resnet", torch.channels_last),
    ],
)
def test_the_compiled_models_are_the_eager_ones(name, layout):
    """Four rounds in float64, the last two of them launched, whatever the layout of weights."""
    shape, generator, critic = MODELS[name]
    modules = [make(build).cuda().to(memory_format=layout) for build in (generator, critic)]
    # Plain descent: Adam makes full steps of gradients that are zero but for rounding.
    rate = fgan.sgd(1e-3)
    options = dict(generator_optimizer=rate, critic_optimizer=rate)
    algorithm = fgan.wgan_gp(*modules, n_critic=2, ema_decay=0.9, **options)
    expected = rounds_of(algorithm, shape)
    assert_close(rounds_of(fgan.compile(algorithm), shape), expected, atol=1e-8, rtol=1e-8)


def test_a_conditional_round_with_simultaneous_updates_is_recorded():
    """Labels and the other order of updates are in the recording too."""
    modules = (module.cuda() for module in pair(conditional=True, norm=True))
    algorithm = fgan.wgan_gp(*modules, n_critic=1, update="simultaneous")
    expected = rounds_of(algorithm, conditional=True)
    assert_close(rounds_of(fgan.compile(algorithm), conditional=True), expected, atol=1e-9)


def test_torch_compile_takes_the_step_in_one_graph():
    """`torch.compile(algorithm.step, fullgraph=True)` is the eager step on CUDA."""
    algorithm = fgan.wgan_gp(*(module.cuda() for module in pair(norm=True)), n_critic=2)
    step = torch.compile(algorithm.step, fullgraph=True)
    expected = rounds_of(algorithm)
    assert_close(rounds_of(algorithm._replace(step=step)), expected, atol=1e-9)


def test_a_step_without_donation_is_pure():
    """The state that was passed in is usable, and unchanged to the bit."""
    algorithm = fgan.wgan(*(module.cuda() for module in pair()), n_critic=2)
    compiled = fgan.compile(algorithm, donate=False)
    state, batch = algorithm.init(0), on_cuda(make_batch())
    kept, noise = tree.clone(state), algorithm.noise(0, 0, 4)
    first = compiled.step(state, batch, noise)
    assert_identical(state, kept)
    assert_identical(compiled.step(state, batch, noise), first)


def test_a_donated_state_is_spent_and_its_memory_is_the_next_ones():
    """On CUDA too a donated state says so, and parameters and moments stay where they were."""
    algorithm = fgan.compile(fgan.wgan_gp(*(module.cuda() for module in pair()), n_critic=2))
    state = algorithm.init(0)
    places = [leaf.data_ptr() for leaf in tree.leaves(state)]
    for index in range(3):
        old, noise = state, algorithm.noise(0, index, 4)
        state, _ = algorithm.step(state, on_cuda(make_batch()), noise)
        with pytest.raises(RuntimeError, match="donated"):
            old.round.item()
        with pytest.raises(RuntimeError, match="donated"):
            algorithm.step(old, on_cuda(make_batch()), noise)
        assert [leaf.data_ptr() for leaf in tree.leaves(state)] == places
    assert state.round.item() == 3
    assert algorithm.generate(state, torch.zeros(2, 3).double().cuda()).isfinite().all()


def test_a_donated_round_holds_one_copy_of_the_state():
    """The peak of a round with wide layers stays under two copies of parameters and moments."""

    def wide(outputs):
        middle = nn.Tanh(), nn.Linear(2048, 2048)
        return nn.Sequential(nn.Linear(2, 2048), *middle, nn.Linear(2048, outputs)).cuda()

    algorithm = fgan.gan(wide(2), wide(1), latent_dim=2)
    # Not recorded: cuBLAS takes a workspace of 32 MiB for the stream that a recording is made on.
    compiled, state = fgan.compile(algorithm, cuda_graph=False), algorithm.init(0)
    size = sum(leaf.nbytes for leaf in tree.leaves(state))
    batch, noise = on_cuda(make_batch(n_critic=1, dtype=torch.float32)), algorithm.noise(0, 0, 4)
    state, _ = compiled.step(state, batch, noise)
    torch.cuda.synchronize()  # and cuBLAS has its workspace for this stream
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        state, _ = compiled.step(state, batch, noise)
    # The gradients of one player are a sixth of both players' parameters and moments.
    assert torch.cuda.max_memory_allocated() - before < size / 3


def test_batches_of_several_sizes_are_recorded_side_by_side():
    """The last batch of an epoch is smaller; both sizes are launched, as in the eager run."""
    algorithm = fgan.wgan_gp(*(module.cuda() for module in pair(norm=True)), n_critic=2)

    def run(step):
        state, infos = algorithm.init(0), []
        for index, size in enumerate([6, 4, 6, 4, 6, 4, 6]):
            batch, noise = make_batch(size=size, seed=index), algorithm.noise(0, index, size)
            state, info = step(state, on_cuda(batch), noise)
            infos.append(info)
        return tree.clone(state), infos

    assert_close(run(fgan.compile(algorithm).step), run(algorithm.step), atol=1e-9)


def test_a_recorded_round_runs_on_the_callers_stream():
    """A round on a stream of the caller's sees what that stream wrote before."""
    algorithm = fgan.wgan_gp(*(module.cuda() for module in pair()), n_critic=2)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = rounds_of(fgan.compile(algorithm), rounds=5)
    torch.cuda.current_stream().wait_stream(stream)
    assert_close(got, rounds_of(algorithm, rounds=5), atol=1e-9)


def test_bfloat16_rounds_stay_near_float32_ones():
    """Under autocast the state stays in float32, and losses follow those of full precision."""
    shape, generator, critic = MODELS["conv"]
    modules = [make(build, dtype=torch.float32).cuda() for build in (generator, critic)]
    algorithm = fgan.wgan_gp(*modules, n_critic=2)
    narrow = fgan.compile(fgan.wgan_gp(*modules, n_critic=2, autocast=torch.bfloat16))
    options = dict(shape=shape, size=16, dtype=torch.float32)
    state, infos = rounds_of(narrow, **options)
    _, expected = rounds_of(algorithm, **options)
    assert {leaf.dtype for leaf in tree.leaves(state)} <= {torch.float32, torch.int64}
    for info, exact in zip(infos, expected, strict=True):
        torch.testing.assert_close(info.critic_loss, exact.critic_loss, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_deterministic_algorithms_give_the_same_bits_twice(name):
    """Two compiled runs from one seed end in the same bits, launched rounds and all."""
    shape, generator, critic = MODELS[name]
    modules = [make(build, dtype=torch.float32).cuda() for build in (generator, critic)]
    algorithm = fgan.wgan_gp(*modules, n_critic=2, ema_decay=0.9)
    with deterministic():
        first, second = (
            rounds_of(fgan.compile(algorithm), shape, dtype=torch.float32) for _ in range(2)
        )
    assert_identical(first, second)


# --- populations ---------------------------------------------------------------------------------


def test_vmap_over_seeds_is_each_seed_alone():
    """A vmapped step on CUDA gives what separate runs give."""
    algorithm = fgan.wgan_gp(*(module.cuda() for module in pair()), n_critic=2)
    batch, seeds = on_cuda(make_batch()), range(3)
    states = [algorithm.init(seed) for seed in seeds]
    noises = [algorithm.noise(seed, 0, 4) for seed in seeds]
    got = vmap(algorithm.step, (0, None, 0))(tree.stack(states), batch, tree.stack(noises))
    alone = [algorithm.step(s, batch, n) for s, n in zip(states, noises, strict=True)]
    assert_close(got, tree.stack(alone), atol=1e-9)


# --- the edge ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_resumed_run_ends_in_the_same_bits(compiled, tmp_path):
    """Four rounds, and two with two more after them, under deterministic algorithms."""
    samples = torch.linspace(-1, 1, 64).repeat(2, 1).T.contiguous()
    data = DataSet("line", samples, torch.zeros(64, dtype=torch.int64), ("all",))
    algorithm = fgan.wgan_gp(*(module.float().cuda() for module in pair(norm=True)), n_critic=2)
    algorithm = fgan.compile(algorithm) if compiled else algorithm
    settings = dict(batch_size=8, conditional=False)
    with deterministic():
        whole = fgan.train(algorithm, data, rounds=4, out=tmp_path / "a", **settings)
        whole = tree.clone(whole)
        fgan.train(algorithm, data, rounds=2, out=tmp_path / "b", **settings)
        resumed = fgan.train(algorithm, data, rounds=4, out=tmp_path / "b", resume=True, **settings)
    assert all(leaf.is_cuda for leaf in tree.leaves(resumed))
    assert_identical(tree.clone(resumed), whole)
