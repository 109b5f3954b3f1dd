"""A group of one process: what is refused, what the layers compute, and on CUDA what NCCL does."""

import copy

import pytest
import torch
import torch.distributed as dist
from helpers import assert_close, assert_identical, make, make_round, pair
from run_cases import points_evaluator, trained
from torch import nn

import fgan
from fgan import tree
from fgan.collectives import group_of, total
from fgan.networks import mixing_layers, synchronized
from fgan.run.ranks import Several, checksum
from fgan.run.records import Records


@pytest.fixture
def group(tmp_path, request):
    """A process group of this process alone, of gloo or of another backend."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    backend = getattr(request, "param", "gloo")
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_there_has_to_be_a_group():
    """The error says how to make one."""
    algorithm = fgan.gan(*pair())
    for call in (lambda: fgan.data_parallel(algorithm), lambda: synchronized(nn.BatchNorm1d(2))):
        with pytest.raises(ValueError, match=r"call torch\.distributed\.init_process_group"):
            call()


@pytest.mark.parametrize("other", [0, "gloo", -100])
def test_a_group_is_a_process_group(group, other):
    """`new_group` gives a number to a process that does not belong to the group."""
    with pytest.raises(ValueError, match=f"group is a process group.*{other!r} was given"):
        fgan.data_parallel(fgan.gan(*pair()), other)


def test_wrong_orders_are_refused_with_the_right_one(group):
    """Each message has the line to write."""
    single = fgan.wgan_gp(*pair())
    parallel = fgan.data_parallel(single)
    compiled = fgan.compile(single, backend="interpreter")
    calls = [
        (lambda: fgan.data_parallel(parallel), "data-parallel already"),
        (
            lambda: fgan.data_parallel(fgan.population(single)),
            r"fgan.population\(fgan.data_parallel\(algorithm\)\)",
        ),
        (
            lambda: fgan.data_parallel(fgan.population(parallel)),
            "data-parallel already",
        ),
        (
            lambda: fgan.data_parallel(compiled),
            r"fgan.compile\(fgan.data_parallel\(algorithm\)\)",
        ),
        (
            lambda: fgan.accumulate(parallel, 2),
            r"fgan.data_parallel\(fgan.accumulate\(algorithm, parts\)\)",
        ),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("place", ["interpolate_within", "interpolate_mixed"])
def test_penalties_that_pair_samples_are_refused(group, place):
    """Parts of a batch have other pairs than the batch."""
    algorithm = fgan.wgan_div(*pair(), sample_at=place)
    for name, call in [
        ("data_parallel", lambda: fgan.data_parallel(algorithm)),
        ("accumulate", lambda: fgan.accumulate(algorithm, 2)),
    ]:
        with pytest.raises(ValueError, match=f"takes its points from the whole.*{name} takes"):
            call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, "bfloat16", True])
def test_other_dtypes_on_the_wire_are_refused(group, dtype):
    """float16 would overflow, and float32 is no less than what is sent."""
    with pytest.raises(ValueError, match=r"wire_dtype is torch.bfloat16, or None.*was given"):
        fgan.data_parallel(fgan.gan(*pair()), wire_dtype=dtype)


def test_bfloat16_on_the_wire_rounds_the_gradients_alone(group):
    """Of one process the sum is the gradient, rounded; figures and buffers are exact."""
    single = fgan.gan(*pair(critic_norm="spectral"), critic_optimizer=fgan.sgd(1.0))
    algorithm = fgan.data_parallel(single, wire_dtype=torch.bfloat16)
    state, (batch, noise) = single.init(0), make_round(single)
    inputs = batch.real[0], None, noise.critic_latent[0], noise.mix[0]
    (after, info), (exact, expected) = (
        each.critic_update(state, *inputs) for each in (algorithm, single)
    )
    assert_identical(info.critic_loss, expected.critic_loss)
    assert_identical(after.critic.buffers, exact.critic.buffers)
    assert after.critic.buffers
    for name, before in state.critic.params.items():
        gradient = before - exact.critic.params[name]
        rounded = before - gradient.bfloat16().double()
        assert_close(after.critic.params[name], rounded, atol=1e-9 * float(gradient.abs().max()))
        assert not torch.equal(after.critic.params[name], exact.critic.params[name])


def test_a_batch_without_its_share_is_refused(group):
    """The noise is a part of the batch's: data of another size do not fit."""
    algorithm = fgan.data_parallel(fgan.gan(*pair()))
    assert algorithm.share == (0, 1)
    noise = algorithm.noise(0, 0, 4, share=(0, 2))
    batch, _ = make_round(algorithm)
    with pytest.raises(ValueError, match=r"\[n_critic, B\] = \[1, 4\], and noise.critic_latent"):
        algorithm.step(algorithm.init(0), batch, noise)


def test_only_the_noise_and_the_gradients_are_others(group):
    """Noise by any argument is that of one process; figures are copies, not parts of the sum."""
    single = fgan.wgan_gp(*pair(norm=True), n_critic=2)
    algorithm = fgan.data_parallel(single, group)
    for options in (dict(generator_batch_size=8), dict(dtype=torch.float32), dict(device="cpu")):
        expected = single.noise(1, 2, 4, **options)
        assert_identical(algorithm.noise(1, 2, 4, **options), expected)
    assert algorithm.noise.__doc__ == single.noise.__doc__
    _, info = algorithm.step(algorithm.init(0), *make_round(algorithm))
    for name, leaf in tree.named_leaves(info).items():
        assert leaf.untyped_storage().nbytes() <= 8, name


def of_torch(x, group):
    """The operations of torch themselves, which Dynamo leaves in a program."""
    operations = torch.ops._c10d_functional
    return operations.wait_tensor(operations.all_reduce(x, "sum", group.name))


@pytest.mark.parametrize("sum_of", [total, of_torch])
def test_the_sum_is_taken_for_all_members_at_once(group, sum_of):
    """Of one process it is the identity, with the gradient 1 for each member."""
    x = torch.randn(3, 2, dtype=torch.float64)
    known = group_of()
    assert torch.equal(torch.vmap(lambda x: sum_of(x, known), in_dims=1, out_dims=1)(x), x)
    if sum_of is total:
        gradient = torch.func.grad(lambda x: total(x, known).square().sum())
        assert_close(torch.vmap(gradient)(x), 2 * x, atol=1e-15)


class TwoPrecisions(nn.Module):
    """A generator in float32 with a buffer in float64, and one that counts."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("passes", torch.tensor(0))
        self.register_buffer("mean", torch.tensor(1 / 3, dtype=torch.float64))

    def forward(self, z):
        x = self.layer(z)
        self.passes.add_(1)
        self.mean.copy_(self.mean + x.detach().double().mean() / 7)
        return x


def test_leaves_of_several_dtypes_keep_theirs(group):
    """They go in one tensor of the widest dtype, so that float64 keeps its digits."""
    modules = make(TwoPrecisions, dtype=torch.float32), pair(dtype=torch.float32)[1]
    modules[0].mean = modules[0].mean.double() + 1e-12
    single = fgan.gan(*modules)
    batch, noise = make_round(single, dtype=torch.float32)
    expected = single.step(single.init(0), batch, noise)
    got = fgan.data_parallel(single).step(single.init(0), batch, noise)
    assert_close(got, expected, atol=1e-15)
    assert got[0].generator.buffers["passes"] == 1


# --- BatchNorm ------------------------------------------------------------------------------------


def norms(**options):
    """Beside each other: torch's layer, and the one that sums over the processes."""
    layer = make(nn.BatchNorm2d, 3, **options)
    if layer.affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return layer, synchronized(layer)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, dict(momentum=None), dict(affine=False), dict(track_running_stats=False), dict(eps=0.1)],
    ids=str,
)
def test_one_process_has_the_values_of_torch(group, options, training):
    """Outputs, running statistics and gradients of three batches."""
    for layer in (pair_of := norms(**options)):
        layer.train(training)
    for seed in range(3):
        source = torch.Generator().manual_seed(seed)
        x = 5 + torch.randn(4, 3, 2, 2, generator=source, dtype=torch.float64)
        weights = torch.randn(4, 3, 2, 2, generator=source, dtype=torch.float64)
        results = []
        for layer in pair_of:
            own = x.clone().requires_grad_()
            y = layer(own)
            leaves = [own, *layer.parameters()]
            results.append((y, torch.autograd.grad((weights * y**2).sum(), leaves)))
        assert_close(results[1], results[0], atol=1e-10)
        assert_close(dict(pair_of[1].state_dict()), dict(pair_of[0].state_dict()), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(group, dtype):
    """As torch's layer does it."""
    layer, other = (each.float() for each in norms())
    x = 100 + torch.randn(64, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = layer(x.to(dtype).float())
    assert_close(other(x.to(dtype)), expected.to(dtype), atol=0.05)


def test_a_synchronized_module_is_a_copy_with_the_same_names(group):
    """Checkpoints fit both, and a penalty refuses both."""
    generator = pair(norm=True)[0]
    made = synchronized(generator)
    assert type(generator.norm) is nn.BatchNorm1d
    assert_identical(dict(made.state_dict()), dict(generator.state_dict()))
    assert mixing_layers(made) == ["norm"]
    assert mixing_layers(synchronized(made)) == ["norm"]
    assert_identical(dict(copy.deepcopy(made).state_dict()), dict(generator.state_dict()))
    critic = synchronized(pair(critic_norm="batch")[1])
    with pytest.raises(ValueError, match="'norm' mixes the samples of a batch"):
        fgan.wgan_gp(generator, critic)
    with pytest.raises(ValueError, match=r"BatchNorm takes \[B, C, ...\], and \[6\]"):
        made.norm(torch.zeros(6).double())


class Own(nn.BatchNorm1d):
    """A layer whose forward pass nobody knows."""


def test_unknown_batch_norms_are_refused(group):
    """They may do anything."""
    with pytest.raises(ValueError, match="layer '0' is a Own, and only BatchNorm layers of torch"):
        synchronized(nn.Sequential(Own(2)))


def test_a_group_can_be_asked(group):
    """Name, rank and size, with and without naming the group."""
    assert group_of() == group_of(group)
    assert group_of()[1:] == (0, 1)


# --- states that are compared --------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64],
)
def test_a_checksum_sees_every_bit(dtype):
    """A changed element, elements that change places, and the sign of a zero."""
    values = (torch.arange(24).reshape(4, 6) % 7 - 3).to(dtype)
    known = int(checksum(values))
    assert int(checksum(values.mT.contiguous().mT)) == known  # the strides do not count
    assert int(checksum(values.flip(1))) != known
    for place in range(24):
        changed = values.clone()
        row, column = divmod(place, 6)
        changed[row, column] = ~changed[row, column] if dtype == torch.bool else 9
        assert int(checksum(changed)) != known
    if dtype.is_floating_point:
        zeros = torch.zeros(3, dtype=dtype)
        assert checksum(zeros) != checksum(-zeros)


# --- what NCCL's watchdog sees -------------------------------------------------------------------


def test_the_device_is_waited_for_behind_an_all_reduce(group, monkeypatch):
    """On a device other than the CPU, before figures or a state are read; `meta` stands for it."""
    sent = []
    monkeypatch.setattr(dist, "all_reduce", lambda x: sent.append((x.device.type, x.shape)))
    for device, expected in ("cpu", []), ("meta", [("meta", (1,))]):
        Several().watch(torch.device(device))
        assert sent == expected


def test_every_reading_of_figures_is_watched(group, tmp_path, monkeypatch):
    """An evaluation, a line of metrics, a checkpoint: the all-reduce comes first."""
    seen = []
    for owner, name in (
        (Several, "watch"),
        (Several, "check_same"),
        (Records, "check_finite"),
        (Records, "log"),
    ):
        was = getattr(owner, name)

        def noted(*args, name=name, was=was, **kwargs):
            seen.append(name)
            return was(*args, **kwargs)

        monkeypatch.setattr(owner, name, noted)
    every = dict(log_every=1, sample_every=2, evaluate_every=2)
    trained(tmp_path / "run", rounds=2, **every, evaluator=points_evaluator())
    round_1, round_2 = ["watch", "log"], ["watch", "check_finite", "watch", "log", "watch"]
    assert seen == [*round_1, *round_2, "check_same", "check_finite"]


def test_a_compiled_step_asks_before_it_captures(group):
    """`fgan.compile` hands the question of the data-parallel algorithm on."""
    algorithm = fgan.data_parallel(fgan.wgan_gp(*pair()))
    assert fgan.compile(algorithm, backend="interpreter").step._graphed._agree is algorithm.agree
    members = fgan.compile(fgan.population(algorithm), backend="interpreter")
    assert members.step._graphed._agree is algorithm.agree


# --- CUDA -----------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("group", ["nccl"], indirect=True)
@pytest.mark.parametrize("way", ["eager", "compiled", "CUDA graph", "synchronized"])
def test_nccl_sums_in_every_kind_of_round(group, way):
    """Rounds with the collective in them, recorded in a CUDA graph too, end as without it."""
    modules = [module.cuda() for module in pair(norm=way == "synchronized")]
    options = dict(n_critic=2, ema_decay=0.9)
    single = fgan.wgan_gp(*modules, **options)
    if way == "synchronized":
        modules[0] = synchronized(modules[0])
    algorithm = fgan.data_parallel(fgan.wgan_gp(*modules, **options))
    if way != "eager":
        algorithm = fgan.compile(algorithm, cuda_graph=way == "CUDA graph")
    state, expected = algorithm.init(0), single.init(0)
    for index in range(5):
        batch, noise = make_round(single, index=index)
        batch = fgan.Batch(batch.real.cuda())
        state, _ = algorithm.step(state, batch, noise)
        expected, _ = single.step(expected, batch, noise)
    assert_close(tree.clone(state), expected, atol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("group", ["nccl"], indirect=True)
def test_numbers_are_agreed_on_by_nccl(group):
    """On the CUDA device: the group has no backend for the CPU. So is the watched all-reduce."""
    algorithm = fgan.data_parallel(fgan.wgan_gp(*(module.cuda() for module in pair())))
    assert algorithm.agree(5) == 5
    Several().watch(torch.device("cuda"))
    torch.cuda.synchronize()
