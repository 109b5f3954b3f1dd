"""Modules as pure functions: equal to the module, deaf to it, and honest about their buffers."""

import copy

import pytest
import torch
from einops.layers.torch import Rearrange, Reduce
from helpers import (
    Critic,
    Generator,
    Labelled,
    Plain,
    assert_close,
    assert_identical,
    make,
    pair,
    unchanged,
)
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import fgan
from fgan import tree
from fgan.networks import (
    batch_dependence,
    check_batch_independent,
    is_per_sample,
    mixing_layers,
    parameters_and_buffers,
)


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Counting(nn.Module):
    """Assigns a new buffer where others write into the old one, and has a non-persistent one."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls = self.calls + 1
        return self.layer(x) * self.scale + self.calls


class PartlyFrozen(nn.Sequential):
    """The first layer does not train."""

    def __init__(self):
        super().__init__(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
        self[0].requires_grad_(False)


def stack_of(*layers):
    """Layers that map [B, 4] to [B, 4] as one module."""
    return lambda: nn.Sequential(nn.Linear(4, 4), *(build() for build in layers))


MODULES = {
    "plain": stack_of(nn.Tanh),
    "BatchNorm": stack_of(lambda: nn.BatchNorm1d(4), nn.Tanh),
    "BatchNorm without statistics": stack_of(lambda: nn.BatchNorm1d(4, track_running_stats=False)),
    "LayerNorm": stack_of(lambda: nn.LayerNorm(4)),
    "GroupNorm": stack_of(lambda: nn.GroupNorm(2, 4)),
    "InstanceNorm with statistics": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2, affine=True, track_running_stats=True)
    ),
    "spectral norm": stack_of(lambda: spectral_norm(nn.Linear(4, 4))),
    "weight norm": stack_of(lambda: weight_norm(nn.Linear(4, 4))),
    "tied": Tied,
    "buffer assigned": Counting,
    "frozen": PartlyFrozen,
    "in place": stack_of(lambda: nn.ReLU(inplace=True)),
}


@pytest.fixture(params=list(MODULES))
def module(request):
    """Every kind of module, float64, its statistics moved off their start."""
    built = make(MODULES[request.param])
    built(samples(9))
    return built


def samples(seed=0):
    """[5, 4] of random numbers."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(5, 4, generator=source, dtype=torch.float64)


def held(module):
    """All tensors in the module by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_apply_equals_the_module(module, training):
    """Output and new buffers are the module's own over three calls, and nothing is written to."""
    network, twin = fgan.make_functional(module), copy.deepcopy(module).train(training)
    buffers = network.buffers
    for seed in range(3):
        x = samples(seed)
        with unchanged(network.params, buffers, x):
            output, new_buffers = network.apply(network.params, buffers, x, training=training)
        assert_identical(output, twin(x).detach())
        now = held(twin)
        assert_identical(new_buffers, {key: now[key].detach() for key in buffers})
        buffers = new_buffers


def test_training_is_the_default(module):
    """Without `training=`, apply runs in training mode, whatever mode the module was in."""
    for mode in (True, False):
        network = fgan.make_functional(module.train(mode))
        arguments = network.params, network.buffers, samples()
        assert_identical(network.apply(*arguments), network.apply(*arguments, training=True))


def test_every_tensor_is_either_a_parameter_or_a_buffer(module):
    """Trainable parameters are params, frozen ones and buffers are buffers, copied and detached."""
    network = fgan.make_functional(module)
    trained = {key for key, p in module.named_parameters() if p.requires_grad}
    assert set(network.params) == trained
    assert set(network.buffers) == set(held(module)) - trained
    both = network.params | network.buffers
    assert_identical(both, {key: held(module)[key].detach() for key in both})
    assert not any(tensor.requires_grad for tensor in both.values())
    places = {tensor.data_ptr() for tensor in held(module).values()}
    assert not places & {tensor.data_ptr() for tensor in both.values()}


def test_the_module_is_left_as_it_was(module):
    """Flags, objects, bits, gradients and the global generators survive building and applying."""
    list(module.modules())[-1].eval()
    flags = [layer.training for layer in module.modules()]
    objects = {key: id(tensor) for key, tensor in held(module).items()}
    with unchanged(held(module)):
        network = fgan.make_functional(module)
        network.apply(network.params, network.buffers, samples())
        network.apply(network.params, network.buffers, samples(), training=False)
    assert [layer.training for layer in module.modules()] == flags
    assert {key: id(tensor) for key, tensor in held(module).items()} == objects
    assert all(parameter.grad is None for parameter in module.parameters())


def test_later_changes_do_not_reach_the_network(module):
    """Neither new values, nor another mode, nor another forward changes what was made."""
    network = fgan.make_functional(module)
    arguments = network.params, network.buffers, samples()
    before = network.apply(*arguments)
    for tensor in held(module).values():
        tensor.data.fill_(7)
    module.eval()
    module.forward = lambda x: x
    for layer in module.children():
        layer.forward = lambda x: x * 0
    assert_identical(network.apply(*arguments), before)


def test_applying_depends_on_the_tensors_given(module):
    """Other parameters give another output: none is read from the module behind."""
    network = fgan.make_functional(module)
    baseline, _ = network.apply(network.params, network.buffers, samples())
    for name, value in network.params.items():
        other = network.params | {name: value + 0.5 * torch.rand_like(value)}
        output, _ = network.apply(other, network.buffers, samples())
        assert not torch.equal(output, baseline), name


def test_output_carries_no_graph(module):
    """Nothing that comes out asks for gradients when nothing that went in does."""
    network = fgan.make_functional(module)
    output, buffers = network.apply(network.params, network.buffers, samples())
    assert not any(tensor.requires_grad for tensor in (output, *buffers.values()))


def test_inputs_survive_a_first_layer_that_works_in_place():
    """A user's batch is not overwritten by the user's `ReLU(inplace=True)`."""
    network = fgan.make_functional(make(lambda: nn.Sequential(nn.ReLU(True), nn.Linear(4, 1))))
    x = samples()
    with unchanged(x):
        network.apply(network.params, network.buffers, x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Dropout(0.1), "'1' .Dropout.*random"),
        (lambda: nn.AlphaDropout(0.1), "'1' .AlphaDropout.*random"),
        (nn.RReLU, "'1' .RReLU.*random"),
        (lambda: nn.LazyLinear(3), "'1' .LazyLinear.*run the module once"),
        (lambda: nn.utils.spectral_norm(nn.Linear(4, 4)), "'1' .Linear.*parametrizations.spectral"),
        (lambda: nn.utils.weight_norm(nn.Linear(4, 4)), "'1' .Linear.*parametrizations.weight"),
        (lambda: nn.MultiheadAttention(4, 2, dropout=0.1), "'1' .MultiheadAttention.*random"),
        (lambda: nn.LSTM(4, 4, num_layers=2, dropout=0.1), "'1' .LSTM.*random"),
    ],
    ids=[
        "Dropout",
        "AlphaDropout",
        "RReLU",
        "lazy",
        "old spectral norm",
        "old weight norm",
        "attention",
        "LSTM",
    ],
)
@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_impure_layers_are_refused_by_name(build, message):
    """A layer that draws random numbers, has no shapes, or hides state is named, with a way out."""
    with pytest.raises(ValueError, match=message):
        fgan.make_functional(nn.Sequential(nn.Linear(4, 4), build()))


def test_dropout_that_never_drops_is_accepted():
    """`Dropout(0)` draws nothing, so a configurable model may keep it."""
    fgan.make_functional(stack_of(lambda: nn.Dropout(0.0))())


@pytest.mark.parametrize("build", [nn.Tanh, lambda: nn.Linear(2, 2).requires_grad_(False)])
def test_nothing_to_train_is_refused(build):
    """A module without trainable parameters is named."""
    with pytest.raises(ValueError, match="no trainable parameters"):
        fgan.make_functional(build())


@pytest.mark.parametrize(
    ("wrap", "count"), [(Plain, 0), (Plain, 2), (Labelled, 1), (Labelled, 3)], ids=str
)
def test_wrong_number_of_inputs_is_refused(wrap, count):
    """A condition too many or too few is an error that speaks of conditions."""
    network = fgan.make_functional(make(lambda: wrap(Critic(conditional=wrap is Labelled))))
    takes = "1 input," if wrap is Plain else "2 inputs"
    with pytest.raises(ValueError, match=f"{takes}.*{count} were given.*condition"):
        network.apply(network.params, network.buffers, *[torch.zeros(2, 2)] * count)


def critic_of(**options):
    """An MLP critic as a function of samples [5, 4] alone, in training mode."""
    network = fgan.make_functional(make(Critic, (4,), **options))
    return lambda x: network.apply(network.params, network.buffers, x)[0].squeeze(1)


@pytest.mark.parametrize("norm", [None, "layer", "spectral", "weight"])
def test_batch_dependence_is_diagonal_without_batch_norm(norm):
    """Each score depends on its own sample, by its gradient's norm, and on no other at all."""
    critic, x = critic_of(norm=norm), samples()
    matrix = batch_dependence(critic, x)
    own = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(critic(own).sum(), own)
    assert_close(matrix, torch.diag(slope.pow(2).sum(1).sqrt()), atol=1e-14)
    assert (matrix.diagonal() > 0).all()
    check_batch_independent(critic, x)
    assert_identical(batch_dependence(lambda x: critic(x)[:, None], x), matrix)


def test_batch_dependence_is_full_under_batch_norm():
    """BatchNorm makes every score depend on every sample."""
    assert (batch_dependence(critic_of(norm="batch"), samples()) > 0).all()
    with pytest.raises(ValueError, match=r"mixes samples.*LayerNorm"):
        check_batch_independent(critic_of(norm="batch"), samples())


def test_the_mixed_pair_is_named():
    """The error says which score depends on which sample, in that order."""

    def critic(x):
        scores = x.sum(dim=1)
        return scores + torch.stack([x[0, 0] * 0] * 3 + [x[1, 2] * 3.0] + [x[0, 0] * 0])

    with pytest.raises(ValueError, match=r"sample 3 depends on sample 1 .*= 3"):
        check_batch_independent(critic, samples())


@pytest.mark.parametrize("shape", [(5,), (1, 4)])
def test_the_numeric_check_needs_two_samples(shape):
    """One sample cannot be mixed with another, so it proves nothing."""
    with pytest.raises(ValueError, match="B ≥ 2"):
        check_batch_independent(critic_of(), torch.zeros(shape, dtype=torch.float64))


def test_mixing_layers_names_the_batch_norm_family():
    """All of BatchNorm's family, with or without statistics, and nothing else."""
    mixing = {"a": nn.BatchNorm1d(2), "b": nn.BatchNorm2d(2, track_running_stats=False)}
    mixing["c"] = nn.Sequential(nn.SyncBatchNorm(2), nn.BatchNorm3d(2))
    harmless = {"d": nn.LayerNorm(2), "e": nn.GroupNorm(1, 2), "f": nn.InstanceNorm2d(2)}
    module = nn.ModuleDict(mixing | harmless | {"g": spectral_norm(nn.Linear(2, 2))})
    assert mixing_layers(module) == ["a", "b", "c.0", "c.1"]


class Halves(nn.Module):
    """Half of one sample and half of the next."""

    def forward(self, x):
        return (x + x.roll(1, 0)) / 2


class Described(nn.Sequential):
    """Says that it treats samples alone."""

    per_sample = True


class Heir(Described):
    """Does not say so itself."""


def hooked():
    """A layer whose output somebody changes."""
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, given, output: output.flip(0))
    return layer


def patched():
    """A layer whose forward method somebody replaced."""
    layer = nn.Linear(2, 2)
    layer.forward = lambda x: x.flip(0)
    return layer


PER_SAMPLE = {
    "perceptron": fgan.models.mlp_critic((2,), norm="spectral"),
    "convolutions": fgan.models.conv_critic((1, 28, 28), 10, norm="weight"),
    "residual": fgan.models.resnet_critic((3, 32, 32)),
    "layer norm": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), Rearrange("b c -> b 1 c")),
    "instance norm": fgan.models.conv_critic((1, 28, 28), norm="instance"),
    "flattened": nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 1)),
    "described": Described(nn.Linear(2, 2)),
}
NOT_KNOWN = {
    "batch norm": fgan.models.mlp_critic((2,), norm="batch"),
    "own layer": nn.Sequential(nn.Linear(2, 2), Halves()),
    "described, of an own layer": Described(Halves()),
    "heir": Heir(nn.Linear(2, 2)),
    "hook": nn.Sequential(hooked()),
    "other axis first": nn.Sequential(Rearrange("b c -> c b")),
    "pairs": nn.Sequential(Rearrange("(b two) c -> b (two c)", two=2)),
    "pairs mixed": nn.Sequential(Rearrange("(b p) c -> (b c) p", p=2)),
    "any axes": nn.Sequential(Rearrange("... a b -> ... b a")),
    "summed up": nn.Sequential(Reduce("b c -> ", "mean")),
    "flattened batch": nn.Sequential(nn.Flatten(0)),
    "instance norm with statistics": nn.Sequential(nn.InstanceNorm1d(2, track_running_stats=True)),
    "any stem": fgan.models.layers.Critic(lambda x, y: x - x.mean(0), nn.Linear(2, 1), (2,)),
    "patched": patched(),
    "attention": nn.Sequential(nn.MultiheadAttention(2, 1)),
}


@pytest.mark.parametrize("name", list(PER_SAMPLE))
def test_layers_that_treat_samples_alone_are_known(name):
    """fgan's critics, torch's common layers, and what says so of itself."""
    assert is_per_sample(PER_SAMPLE[name])


@pytest.mark.parametrize("name", list(NOT_KNOWN))
def test_other_layers_are_not_taken_for_them(name):
    """What mixes samples, or may, is not known to leave them alone."""
    assert not is_per_sample(NOT_KNOWN[name])


def test_parameters_and_buffers_of_a_generator():
    """Keys are the module's own names."""
    params, buffers = parameters_and_buffers(make(Generator, norm=True))
    assert {"first.weight", "norm.weight", "last.bias"} < set(params)
    assert set(buffers) == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


class Optional(nn.Linear):
    """A module that takes a second input or none."""

    def forward(self, x, y=None):
        return super().forward(x if y is None else x + y)


class Variadic(nn.Linear):
    """A module that takes any number of inputs from one on."""

    def forward(self, x, *more):
        return super().forward(x + sum(more))


@pytest.mark.parametrize(
    ("module", "given", "message"),
    [(Optional, 3, "takes 1 to 2 inputs, and 3"), (Variadic, 0, "takes 1 or more inputs, and 0")],
)
def test_the_number_of_inputs_is_told_with_its_range(module, given, message):
    """Optional inputs may be left out, and what is one too many or too few is counted."""
    network = fgan.make_functional(make(module, 4, 1))
    x = samples()
    network.apply(network.params, network.buffers, x)
    network.apply(network.params, network.buffers, x, x)
    with pytest.raises(ValueError, match=message):
        network.apply(network.params, network.buffers, *[x] * given)


def test_other_hooks_are_left_alone():
    """A hook that keeps no state of its own, such as one that scales the input, still works."""
    module = make(nn.Linear, 4, 1)
    module.register_forward_pre_hook(lambda layer, inputs: (2 * inputs[0],))
    network = fgan.make_functional(module)
    x = samples()
    got, _ = network.apply(network.params, network.buffers, x)
    assert torch.equal(got, module(x))


def products(function, *inputs):
    """The dtypes that a traced function multiplies matrices in."""
    graph = make_fx(function)(*inputs).graph
    names = {"aten.mm.default", "aten.addmm.default", "aten.bmm.default"}
    return {node.meta["val"].dtype for node in graph.nodes if str(node.target) in names}


@pytest.mark.parametrize("name", ["wgan", "wgan_gp", "wgan_div"])
def test_autocast_multiplies_in_bfloat16_and_keeps_the_rest(name):
    """Every matrix product of a round, backward ones too, is narrow; state and figures are not."""
    torch.manual_seed(0)
    networks = [
        fgan.models.mlp_generator((2,), 4, hidden=(32, 32), norm="batch"),
        fgan.models.mlp_critic((2,), hidden=(32, 32)),
    ]
    wide, narrow = (
        getattr(fgan, name)(*networks, n_critic=1, autocast=autocast)
        for autocast in (None, torch.bfloat16)
    )
    state, noise = wide.init(), wide.noise(0, 0, 64)
    batch = fgan.Batch(torch.randn(1, 64, 2))
    assert products(narrow.step, state, batch, noise) == {torch.bfloat16}
    assert products(wide.step, state, batch, noise) == {torch.float32}
    (got, got_info), (expected, info) = (a.step(state, batch, noise) for a in (narrow, wide))
    assert all(
        leaf.dtype == other.dtype
        for leaf, other in zip(
            tree.leaves((got, got_info)), tree.leaves((expected, info)), strict=True
        )
    )
    # bfloat16 keeps 8 bits of a number.
    torch.testing.assert_close(
        got_info.critic_grad_norm, info.critic_grad_norm, rtol=0.05, atol=1e-3
    )
    torch.testing.assert_close(got_info.critic_loss, info.critic_loss, rtol=0.05, atol=0.02)


def narrow_convolutions(norm="batch"):
    """A bfloat16 game of small convolutional networks, and what a round of it is given."""
    torch.manual_seed(0)
    networks = [
        fgan.models.conv_generator((1, 28, 28), 4, width=4, norm=norm),
        fgan.models.conv_critic((1, 28, 28), width=4),
    ]
    algorithm = fgan.wgan_gp(*networks, n_critic=2, autocast=torch.bfloat16)
    return algorithm, fgan.Batch(torch.randn(2, 16, 1, 28, 28)), algorithm.noise(0, 0, 16)


def test_autocast_convolves_in_bfloat16_under_vmap():
    """Torch's own autocast passes convolutions under vmap by, or fails; here they stay narrow."""
    algorithm, _, noise = narrow_convolutions(norm="none")
    state = algorithm.init()

    def fakes(latents):
        return torch.func.vmap(lambda latent: algorithm.fakes(state, latent))(latents)

    graph = make_fx(fakes)(noise.critic_latent).graph
    kinds = {torch.ops.aten.convolution.default}
    dtypes = [node.meta["val"].dtype for node in graph.nodes if node.target in kinds]
    assert len(dtypes) == 2
    assert set(dtypes) == {torch.bfloat16}
    one_by_one = torch.stack([algorithm.fakes(state, latent) for latent in noise.critic_latent])
    torch.testing.assert_close(fakes(noise.critic_latent), one_by_one, rtol=2**-6, atol=2**-6)


class Wide(nn.Module):
    """A convolution that its author keeps out of autocast."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.layer(x.float())


def test_autocast_stays_off_where_a_module_switches_it_off():
    """As under torch's own autocast."""
    network, x = fgan.make_functional(Wide(), autocast=torch.bfloat16), torch.randn(2, 1, 6, 6)
    wide = torch.nn.functional.conv2d(x, *network.params.values())
    assert_identical(network.apply(network.params, {}, x)[0], wide)


@pytest.mark.parametrize("backend", ["interpreter", "inductor"])
def test_autocast_compiles_with_convolutions(backend):
    """Compiled, with the fakes of all updates drawn at once, the round is the eager one."""
    algorithm, *given = narrow_convolutions()
    compiled = fgan.compile(algorithm, donate=False, backend=backend)
    got, expected = (a.step(a.init(), *given)[1] for a in (compiled, algorithm))
    torch.testing.assert_close(got, expected, rtol=2**-5, atol=2**-5)


def test_a_population_trains_under_autocast():
    """vmap(step) with convolutions in bfloat16 is the step of each member."""
    algorithm, *given = narrow_convolutions()
    states = [algorithm.init(seed) for seed in (0, 1)]
    step = torch.func.vmap(algorithm.step, in_dims=(0, None, None))
    _, infos = step(tree.stack(states), *given)
    for state, info in zip(states, tree.unstack(infos), strict=True):
        torch.testing.assert_close(info, algorithm.step(state, *given)[1], rtol=2**-5, atol=2**-5)


def test_autocast_leaves_float64_alone():
    """As torch's own does: nobody asks for float64 to have it cut to eight bits."""
    module = nn.Conv1d(1, 1, 3, dtype=torch.float64)
    network = fgan.make_functional(module, torch.bfloat16)
    x = torch.randn(2, 1, 5, dtype=torch.float64)
    got, _ = network.apply(network.params, network.buffers, x)
    assert torch.equal(got, module(x))


def test_autocast_compiles():
    """Compiled, the narrow round is the eager narrow one, to bfloat16's rounding."""
    torch.manual_seed(0)
    networks = [
        fgan.models.mlp_generator((2,), 4, hidden=(8,), norm="none"),
        fgan.models.mlp_critic((2,), hidden=(8,)),
    ]
    algorithm = fgan.wgan_gp(*networks, n_critic=2, autocast=torch.bfloat16)
    given = algorithm.init(), fgan.Batch(torch.randn(2, 16, 2)), algorithm.noise(0, 0, 16)
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    got, expected = compiled.step(*given)[1], algorithm.step(*given)[1]
    torch.testing.assert_close(got, expected, rtol=2**-8, atol=2**-8)


def test_autocast_to_half_precision_is_refused():
    """float16 overflows without a scale on the losses, which nothing here provides."""
    with pytest.raises(ValueError, match=r"autocast is torch\.bfloat16"):
        fgan.wgan(*pair(), autocast=torch.float16)


class NamedInput(nn.Module):
    """BatchNorm by the functional form, its input by name."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        narrow = torch.nn.functional.linear(x, torch.eye(3))
        assert narrow.dtype is torch.bfloat16
        made = torch.nn.functional.batch_norm(
            input=narrow, running_mean=None, running_var=None, weight=self.weight, training=True
        )
        assert made.dtype is torch.bfloat16
        return made


def test_autocast_finds_the_input_of_batch_norm_by_its_name():
    """The functional form may be called with keywords alone."""
    network = fgan.make_functional(NamedInput(), torch.bfloat16)
    x = samples()[:, :3].float()
    got, _ = network.apply(network.params, network.buffers, x)
    narrow = x.bfloat16().float()
    expected = (narrow - narrow.mean(0)) / (narrow.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(got, expected, rtol=2**-6, atol=2**-6)
