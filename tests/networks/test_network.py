"""`make_functional`: the pure function equals the module, and mutates nothing."""

import copy

import pytest
import torch
from helpers import (
    Critic,
    Generator,
    Labelled,
    Plain,
    assert_identical,
    make,
    unchanged,
)
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import fgan
from fgan.networks import parameters_and_buffers


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Counting(nn.Module):
    """Assigns a new tensor to a buffer; has a non-persistent buffer too."""

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
    """The first layer is frozen."""

    def __init__(self):
        super().__init__(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
        self[0].requires_grad_(False)


def stack_of(*layers):
    """A function that builds a module [B, 4] -> [B, 4] of these layers."""
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
    """Every kind of module, in float64, after one forward pass."""
    built = make(MODULES[request.param])
    built(samples(9))
    return built


def samples(seed=0):
    """[5, 4] of random numbers."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(5, 4, generator=source, dtype=torch.float64)


def tensors_of(module):
    """All tensors in the module by name."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_apply_equals_the_module(module, training):
    """Output and new buffers equal the module's over three calls; no tensor is changed."""
    network, expected = fgan.make_functional(module), copy.deepcopy(module).train(training)
    buffers = network.buffers
    for seed in range(3):
        x = samples(seed)
        with unchanged(network.params, buffers, x):
            output, new_buffers = network.apply(network.params, buffers, x, training=training)
        assert_identical(output, expected(x).detach())
        now = tensors_of(expected)
        assert_identical(new_buffers, {key: now[key].detach() for key in buffers})
        buffers = new_buffers


def test_training_is_the_default(module):
    """Without `training=`, apply runs in training mode, whatever the mode of the module."""
    for mode in (True, False):
        network = fgan.make_functional(module.train(mode))
        arguments = network.params, network.buffers, samples()
        assert_identical(network.apply(*arguments), network.apply(*arguments, training=True))


def test_every_tensor_is_either_a_parameter_or_a_buffer(module):
    """params are the trainable parameters, buffers all other tensors, as detached copies."""
    network = fgan.make_functional(module)
    trained = {key for key, p in module.named_parameters() if p.requires_grad}
    assert set(network.params) == trained
    assert set(network.buffers) == set(tensors_of(module)) - trained
    both = network.params | network.buffers
    assert_identical(both, {key: tensors_of(module)[key].detach() for key in both})
    assert not any(tensor.requires_grad for tensor in both.values())
    places = {tensor.data_ptr() for tensor in tensors_of(module).values()}
    assert not places & {tensor.data_ptr() for tensor in both.values()}


def test_the_module_is_not_changed(module):
    """Modes, tensors and their values, gradients and global generators stay as they are."""
    list(module.modules())[-1].eval()
    flags = [layer.training for layer in module.modules()]
    objects = {key: id(tensor) for key, tensor in tensors_of(module).items()}
    with unchanged(tensors_of(module)):
        network = fgan.make_functional(module)
        network.apply(network.params, network.buffers, samples())
        network.apply(network.params, network.buffers, samples(), training=False)
    assert [layer.training for layer in module.modules()] == flags
    assert {key: id(tensor) for key, tensor in tensors_of(module).items()} == objects
    assert all(parameter.grad is None for parameter in module.parameters())


def test_later_changes_of_the_module_do_not_change_the_network(module):
    """Neither new values, nor another mode, nor another forward method."""
    network = fgan.make_functional(module)
    arguments = network.params, network.buffers, samples()
    before = network.apply(*arguments)
    for tensor in tensors_of(module).values():
        tensor.data.fill_(7)
    module.eval()
    module.forward = lambda x: x
    for layer in module.children():
        layer.forward = lambda x: x * 0
    assert_identical(network.apply(*arguments), before)


def test_every_parameter_is_an_argument(module):
    """Another value of a parameter gives another output."""
    network = fgan.make_functional(module)
    baseline, _ = network.apply(network.params, network.buffers, samples())
    for name, value in network.params.items():
        other = network.params | {name: value + 0.5 * torch.rand_like(value)}
        output, _ = network.apply(other, network.buffers, samples())
        assert not torch.equal(output, baseline), name


def test_output_carries_no_graph(module):
    """Outputs do not require gradients when no input does."""
    network = fgan.make_functional(module)
    output, buffers = network.apply(network.params, network.buffers, samples())
    assert not any(tensor.requires_grad for tensor in (output, *buffers.values()))


def test_inputs_are_not_changed_by_an_in_place_first_layer():
    """`ReLU(inplace=True)` does not write into the user's batch."""
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
    """A layer with random numbers, without shapes, or with hidden state is named with a remedy."""
    with pytest.raises(ValueError, match=message):
        fgan.make_functional(nn.Sequential(nn.Linear(4, 4), build()))


def test_dropout_that_never_drops_is_accepted():
    """`Dropout(0)` draws nothing, so it is accepted."""
    fgan.make_functional(stack_of(lambda: nn.Dropout(0.0))())


@pytest.mark.parametrize("build", [nn.Tanh, lambda: nn.Linear(2, 2).requires_grad_(False)])
def test_nothing_to_train_is_refused(build):
    """The error names the module without trainable parameters."""
    with pytest.raises(ValueError, match="no trainable parameters"):
        fgan.make_functional(build())


@pytest.mark.parametrize(
    ("wrap", "count"), [(Plain, 0), (Plain, 2), (Labelled, 1), (Labelled, 3)], ids=str
)
def test_wrong_number_of_inputs_is_refused(wrap, count):
    """The error for one condition too many or too few explains conditions."""
    network = fgan.make_functional(make(lambda: wrap(Critic(conditional=wrap is Labelled))))
    takes = "1 input," if wrap is Plain else "2 inputs"
    with pytest.raises(ValueError, match=f"{takes}.*{count} were given.*condition"):
        network.apply(network.params, network.buffers, *[torch.zeros(2, 2)] * count)


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
    """A module that takes one input or more."""

    def forward(self, x, *more):
        return super().forward(x + sum(more))


@pytest.mark.parametrize(
    ("module", "count", "message"),
    [(Optional, 3, "takes 1 to 2 inputs, and 3"), (Variadic, 0, "takes 1 or more inputs, and 0")],
)
def test_the_error_has_the_range_of_the_number_of_inputs(module, count, message):
    """Optional inputs may be left out; the error has the numbers allowed and passed."""
    network = fgan.make_functional(make(module, 4, 1))
    x = samples()
    network.apply(network.params, network.buffers, x)
    network.apply(network.params, network.buffers, x, x)
    with pytest.raises(ValueError, match=message):
        network.apply(network.params, network.buffers, *[x] * count)


def test_hooks_without_state_work():
    """A hook that scales the input, for example."""
    module = make(nn.Linear, 4, 1)
    module.register_forward_pre_hook(lambda layer, inputs: (2 * inputs[0],))
    network = fgan.make_functional(module)
    x = samples()
    got, _ = network.apply(network.params, network.buffers, x)
    assert torch.equal(got, module(x))
