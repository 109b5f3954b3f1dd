"""Seeded re-initialisation: a function of the seed and the architecture alone."""

import pytest
import torch
from helpers import Critic, Generator, assert_close, assert_identical, make, unchanged
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import fgan
from fgan import tree
from fgan.networks import parameters_and_buffers, reinitialized

MODULES = {
    "generator": Generator,
    "generator with BatchNorm": lambda: Generator(norm=True),
    "critic": Critic,
    "spectral norm": lambda: Critic(norm="spectral"),
    "spectral norm of a transposed convolution": lambda: spectral_norm(
        nn.ConvTranspose2d(3, 4, 3), n_power_iterations=2
    ),
    "weight norm": lambda: Critic(norm="weight"),
    "PReLU": lambda: nn.Sequential(nn.Linear(2, 2), nn.PReLU()),
    "embedding": lambda: nn.Embedding(4, 3),
    "attention": lambda: nn.MultiheadAttention(4, 2),
    "transformer": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0),
    "recurrent": lambda: nn.GRU(2, 3, num_layers=2),
}


@pytest.fixture(params=list(MODULES))
def build(request):
    """`build(seed)` makes one architecture, its first weights drawn from `seed`."""
    return lambda seed=0: make(MODULES[request.param], seed=seed)


def fresh(module, seed):
    """(parameters, buffers) after re-initialisation."""
    return parameters_and_buffers(reinitialized(module, seed))


def test_same_seed_same_tensors(build):
    """The same module and seed give the same bits; module and global generators do not change."""
    module = build()
    with unchanged(*parameters_and_buffers(module), *module.parameters(), *module.buffers()):
        first, second = fresh(module, 5), fresh(module, 5)
    assert_identical(first, second)


def test_construction_does_not_matter(build):
    """Two modules of one architecture with different parameters and buffers become equal."""
    one, other = build(1), build(2)
    for tensor in other.buffers():
        tensor.add_(1)
    torch.rand(3)
    assert_identical(fresh(one, 5), fresh(other, 5))


def test_seeds_differ(build):
    """Another seed gives other weights."""
    module = build()
    first, second = fresh(module, 5)[0], fresh(module, 6)[0]
    matrices = [name for name, p in first.items() if p.ndim > 1 and p.unique().numel() > 1]
    assert matrices or isinstance(module, nn.GRU)
    for name in matrices:
        assert not torch.equal(first[name], second[name]), name


def test_structure_is_kept(build):
    """Names, shapes, dtypes, requires_grad and the mode are those of the module."""
    module = build().eval()
    first = next(module.parameters())
    first.requires_grad_(False)
    again = reinitialized(module, 0)
    assert not again.training
    for old, new in zip(module.parameters(), again.parameters(), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
        assert new.requires_grad == old.requires_grad
        assert new.data_ptr() != old.data_ptr()
    assert module.state_dict().keys() == again.state_dict().keys()


@pytest.mark.parametrize("wrap", [spectral_norm, weight_norm])
def test_a_parametrised_layer_has_the_weight_of_the_plain_layer(wrap):
    """The original weight is drawn as for a layer without the parametrisation."""
    plain = reinitialized(make(nn.Linear, 6, 4), 3)
    wrapped = reinitialized(make(lambda: wrap(nn.Linear(6, 4))), 3)
    if wrap is weight_norm:
        assert_close(wrapped.weight.detach(), plain.weight.detach(), atol=1e-14)
    else:
        assert_identical(wrapped.parametrizations.weight.original.detach(), plain.weight.detach())
    assert_identical(wrapped.bias.detach(), plain.bias.detach())


def test_spectral_norm_starts_with_the_new_weights_singular_vectors():
    """uᵀWv approaches the largest singular value of the new weight, not of the old one."""
    module = make(lambda: spectral_norm(nn.Linear(6, 4)))
    with torch.no_grad():
        module.parametrizations.weight.original.mul_(100).add_(50)
    largest = torch.linalg.matrix_norm(reinitialized(module, 3).eval().weight, ord=2)
    assert 1 - 1e-12 < largest.item() < 1.1  # torch's constructor makes 15 iterations


class ZeroLast(nn.Sequential):
    """A model that resets the weight of its last layer to zero."""

    def reset_parameters(self):
        nn.init.zeros_(self[-1].weight)


class Scaled(nn.Module):
    """A parameter without a reset."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.scale


class ResetsChild(nn.Module):
    """Resets the parameter of its child, which has no reset."""

    def __init__(self):
        super().__init__()
        self.inner = Scaled()

    def reset_parameters(self):
        nn.init.normal_(self.inner.scale)


def test_a_parent_overrides_its_children():
    """Parents reset after their children; other layers reset themselves."""
    again = reinitialized(ZeroLast(nn.Linear(3, 4), nn.Linear(4, 2)), 0)
    assert not again[-1].weight.any()
    assert again[-1].bias.any()
    assert again[0].weight.any()


def test_a_parent_may_reset_for_its_children():
    """A layer without a reset is accepted inside a module that has one."""
    first, second = (fresh(nn.Sequential(ResetsChild()), seed)[0] for seed in (0, 1))
    assert not torch.equal(first["0.inner.scale"], second["0.inner.scale"])


def test_a_layer_without_reset_is_named():
    """The error has the layer and two remedies."""
    module = nn.Sequential(nn.Linear(3, 3), nn.Sequential(Scaled(), nn.Tanh()))
    with unchanged(*module.parameters()), pytest.raises(ValueError, match=r"'1\.0' .Scaled") as e:
        reinitialized(module, 0)
    assert "reset_parameters" in str(e.value)
    assert "without a seed" in str(e.value)


def test_shared_weights_stay_shared():
    """Two layers that share a weight share the new weight."""
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    again = reinitialized(module, 0)
    assert again[0].weight is again[1].weight


class WithExtraState(nn.Linear):
    """Has more than tensors in its state dict."""

    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass


def test_extra_state_does_not_matter():
    """Such a module is reset like any other."""
    assert fresh(WithExtraState(2, 2), 0)[0].keys() == {"weight", "bias"}


@pytest.mark.gpu
def test_every_device_has_the_same_weights():
    """The bits are those of the CPU; all tensors stay on their device, also non-persistent ones."""
    module = make(Critic, norm="spectral")
    module.register_buffer("scale", torch.ones(1), persistent=False)
    expected = fresh(module, 5)
    got = fresh(module.to("cuda"), 5)
    assert all(tensor.is_cuda for tensor in tree.leaves(got))
    assert_identical(tree.map(torch.Tensor.cpu, got), expected)


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 + 3])
def test_init_takes_any_integer(seed):
    """`init` works for any seed, and no two tensors share memory."""
    generator, critic = make(Generator), make(Critic)
    algorithm = fgan.wgan_gp(generator, critic)
    with unchanged(*generator.parameters(), *critic.parameters()):
        first, second = algorithm.init(seed), algorithm.init(seed)
    assert_identical(first, second)
    places = [leaf.data_ptr() for leaf in tree.leaves((first, second))]
    assert len(set(places)) == len(places)


def test_generator_and_critic_have_different_weights():
    """Also where they have one architecture."""
    module = make(nn.Linear, 2, 2)
    module.latent_dim = 2
    state = fgan.gan(module, module).init(0)
    assert not torch.equal(state.generator.params["weight"], state.critic.params["weight"])


def test_init_without_a_seed_copies_the_modules():
    """Parameters and buffers are copies of the modules', and the round is 0."""
    generator, critic = make(Generator, norm=True), make(Critic)
    state = fgan.wgan(generator, critic, ema_decay=0.9).init()
    assert_identical(tuple(state.generator[:2]), parameters_and_buffers(generator))
    assert_identical(tuple(state.critic[:2]), parameters_and_buffers(critic))
    assert_identical(tuple(state.ema), tuple(state.generator[:2]))
    assert (state.round.shape, state.round.item()) == ((), 0)
    of_modules = {
        tensor.data_ptr() for m in (generator, critic) for tensor in m.state_dict().values()
    }
    places = [leaf.data_ptr() for leaf in tree.leaves(state)]
    assert len(set(places)) == len(places)
    assert not of_modules & set(places)


def test_frozen_parameters_are_not_drawn_again():
    """Frozen parameters keep their values; all others are drawn anew."""
    module = make(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    module[0].requires_grad_(False)
    params, buffers = fresh(module, 3)
    assert_identical(buffers, {"0.weight": module[0].weight, "0.bias": module[0].bias})
    assert (params["1.weight"] != module[1].weight).any()


class WithConstant(nn.Linear):
    """A constant tensor beside its parameters, which its reset leaves alone."""

    def __init__(self):
        super().__init__(2, 2)
        self.scale = torch.tensor([1.0, 2.0])


def test_a_constant_attribute_stays_as_it_is():
    """Only a reset that draws it is refused."""
    module = WithConstant()
    made = reinitialized(module, 0)
    assert_identical(dict(made.state_dict()), dict(reinitialized(nn.Linear(2, 2), 0).state_dict()))
    assert made.scale.equal(module.scale)
