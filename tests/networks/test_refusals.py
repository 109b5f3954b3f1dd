"""Modules that torch.func refuses: an error in words at build, or at the first round."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import fgan
from fgan import tree
from fgan.algorithm import make_algorithm
from fgan.objectives import Penalty, adversarial, adversarial_generator
from fgan.penalties import gradient_penalty

SIZE, LATENT, BATCH = 6, 4, 8


class Layer(nn.Module):
    """A layer of the user's own, with what it calls."""

    def __init__(self, call):
        super().__init__()
        self.inner, self.call = nn.Linear(SIZE, SIZE), call

    def forward(self, x):
        return self.call(self, x)


class OldForm(torch.autograd.Function):
    """A straight-through step, as older code writes it."""

    @staticmethod
    def forward(ctx, x):
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class WithoutVmap(torch.autograd.Function):
    """The same in the new form, without a rule for vmap."""

    @staticmethod
    def forward(x):
        return (x > 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def checkpointed(layer, x):
    return checkpoint(layer.inner, x, use_reentrant=False)


def checkpointed_reentrant(layer, x):
    return checkpoint(layer.inner, x, use_reentrant=True)


def saved_on_cpu(layer, x):
    with torch.autograd.graph.save_on_cpu():
        return layer.inner(x)


def old_form(layer, x):
    return layer.inner(OldForm.apply(x))


def without_vmap(layer, x):
    return layer.inner(WithoutVmap.apply(x))


def own_gradient(layer, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(layer.inner(x).sum(), x)[0]


def clamps_its_weight(layer, x):
    with torch.no_grad():
        layer.inner.weight.clamp_(-1, 1)
    return layer.inner(x)


def through_numpy(layer, x):
    return layer.inner(torch.from_numpy(x.detach().numpy()))


def branches(layer, x):
    return layer.inner(x) if x.mean() > 0 else -layer.inner(x)


def critic_with(call):
    """A critic with such a layer within."""
    return nn.Sequential(nn.Linear(SIZE, SIZE), Layer(call), nn.Linear(SIZE, 1))


def algorithm_of(critic, recipe=fgan.gan):
    """With the default of five critic updates reduced to one."""
    return recipe(nn.Linear(LATENT, SIZE), critic, latent_dim=LATENT, n_critic=1)


def per_sample(generator, critic, **settings):
    """A penalty by vmap, sample by sample."""
    return make_algorithm(
        generator,
        critic,
        adversarial(fgan.losses.wasserstein_critic_loss, Penalty(gradient_penalty)),
        adversarial_generator(fgan.losses.wasserstein_generator_loss),
        generator_optimizer=fgan.sgd(0.1),
        critic_optimizer=fgan.sgd(0.1),
        **settings,
    )


def round_of(algorithm, step=None):
    """A round from the modules' own parameters."""
    source = torch.Generator().manual_seed(0)
    batch = fgan.Batch(torch.randn(1, BATCH, SIZE, generator=source))
    return (step or algorithm.step)(algorithm.init(), batch, algorithm.noise(0, 0, BATCH))


LAYER = r"Sequential, in its layer '1' \(Layer\), in line \d+ of .*test_refusals\.py, `.*`, "


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (checkpointed, "uses torch.utils.checkpoint.*fgan.accumulate"),
        (checkpointed_reentrant, "uses torch.utils.checkpoint.*fgan.accumulate"),
        (saved_on_cpu, "uses torch.utils.checkpoint or another hook.*fgan.accumulate"),
        (old_form, "uses an autograd.Function of the old form.*setup_context"),
        (own_gradient, "calls requires_grad_.*torch.func.grad"),
        (through_numpy, "reads the memory of a tensor.*operations of torch"),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_the_layer_and_the_way_out_are_named(call, message, compiled):
    """At the first round, eager and compiled, with the line."""
    algorithm = algorithm_of(critic_with(call))
    if compiled:
        algorithm = fgan.compile(algorithm, donate=False, backend="interpreter")
    with pytest.raises(ValueError, match=LAYER + message):
        round_of(algorithm)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            without_vmap,
            "uses an autograd.Function without a rule for vmap.*batched_input_gradients",
        ),
        (branches, "reads the value of a tensor.*torch.where.*batched_input_gradients"),
    ],
)
def test_what_vmap_refuses_is_named(call, message):
    """Under a penalty sample by sample; without one the round is made."""
    with pytest.raises(ValueError, match=LAYER + message):
        round_of(algorithm_of(critic_with(call), per_sample))
    assert round_of(algorithm_of(critic_with(call)))[1].critic_loss.isfinite()


def test_a_write_into_a_parameter_is_named():
    """At build, also where the values stay as they were."""
    critic = critic_with(clamps_its_weight)
    assert critic[1].inner.weight.abs().max() < 1
    with pytest.raises(ValueError, match=r"writes into its parameter '1\.inner\.weight'"):
        algorithm_of(critic)
    network = fgan.make_functional(critic)
    gradient = torch.func.grad(lambda x: network.apply(network.params, {}, x)[0].sum())
    with pytest.raises(ValueError, match=LAYER + "writes into one of its parameters.*buffer"):
        gradient(torch.zeros(2, SIZE))


def hooked(method):
    """A critic whose first layer has a backward hook."""
    critic = nn.Sequential(nn.Linear(SIZE, 1))
    getattr(critic[0], method)(lambda *given: None)
    return critic


HOOKS = ["register_backward_hook", "register_full_backward_hook", "register_full_backward_pre_hook"]


@pytest.mark.parametrize("method", HOOKS)
def test_backward_hooks_are_refused_at_build(method):
    """By the layer's name."""
    with pytest.raises(ValueError, match=r"layer '0' \(Linear\) has a backward hook.*optimiser"):
        algorithm_of(hooked(method))


def test_modules_of_several_devices_are_refused_at_build():
    """With fgan's own way."""
    with pytest.raises(ValueError, match=r"DataParallel.*the module within.*fgan\.data_parallel"):
        algorithm_of(nn.DataParallel(nn.Linear(SIZE, 1)))


def scripted(module):
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.script(module)


def traced(module):
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.trace(module, torch.zeros(2, SIZE))


@pytest.mark.parametrize("made", [scripted, traced])
def test_a_module_of_torch_jit_is_told_to_be_a_layer(made):
    """As the error says, and the round equals that of the plain module."""
    critic = nn.Sequential(nn.Linear(SIZE, SIZE), nn.Tanh(), nn.Linear(SIZE, 1))
    with pytest.raises(ValueError, match=r"torch\.jit.*nn\.Sequential\(module\)"):
        algorithm_of(made(critic))
    generator = nn.Linear(LATENT, SIZE)
    rounds = []
    for module in (nn.Sequential(critic), nn.Sequential(made(critic))):
        algorithm = fgan.wgan_gp(generator, module, latent_dim=LATENT, n_critic=1)
        rounds.append(tree.named_leaves(round_of(algorithm)))
    for name, leaf in rounds[0].items():
        torch.testing.assert_close(rounds[1][name], leaf, msg=lambda m, n=name: f"{n}: {m}")


def test_a_module_that_is_compiled_already():
    """`fgan.compile` says what to give."""
    layer = torch.compile(nn.Linear(SIZE, SIZE), backend="eager")
    algorithm = algorithm_of(nn.Sequential(layer, nn.Linear(SIZE, 1)))
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    message = (
        r"Sequential, in its layer '0' \(OptimizedModule\), is compiled.*before torch\.compile"
    )
    with pytest.raises(ValueError, match=message):
        round_of(compiled)
