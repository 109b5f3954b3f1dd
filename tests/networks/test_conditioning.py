"""How labels enter the example networks, and a stage at full resolution."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import fgan
from fgan import models, tree
from fgan.algorithm import make_algorithm
from fgan.objectives import Head, Penalty, adversarial, adversarial_generator
from fgan.penalties import gradient_penalty, input_gradients

CLASSES, LATENT, BATCH = 3, 5, 4
LABELS = torch.tensor([2, 0, 1, 2])
KINDS = {"conv": (2, 12, 9), "resnet": (1, 8, 9), "conv1d": (2, 13), "conv3d": (1, 4, 8, 3)}


def make_generator(kind="conv", seed=0, **options):
    """A small generator with classes in float64."""
    torch.manual_seed(seed)
    make = getattr(models, f"{kind}_generator")
    return make(KINDS[kind], LATENT, CLASSES, width=4, **options).double()


def make_critic(kind="conv", conditioning="projection", seed=1, **options):
    """A small critic with classes in float64."""
    torch.manual_seed(seed)
    make = getattr(models, f"{kind}_critic")
    return make(KINDS[kind], CLASSES, width=4, conditioning=conditioning, **options).double()


def drawn(*shape):
    """Normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def scrambled(module):
    """The module with every parameter moved, also those that start at zero."""
    for i, p in enumerate(module.parameters()):
        source = torch.Generator().manual_seed(i)
        p.data += 0.3 * torch.randn(p.shape, generator=source, dtype=p.dtype)
    return module


@pytest.mark.parametrize("axes", [0, 1, 2, 3])
def test_conditional_batch_norm_equals_a_loop_over_samples(axes):
    """BatchNorm, then the scale and shift of each sample's class; at first plain BatchNorm."""
    layer = models.ConditionalBatchNorm(CLASSES, 4, axes).double()
    x = drawn(BATCH, 4, *(3, 5, 2)[:axes])
    one_hot = F.one_hot(LABELS, CLASSES).double()
    over = [i for i in range(x.ndim) if i != 1]
    mean, var = x.mean(over, keepdim=True), x.var(over, keepdim=True, correction=0)
    plain = (x - mean) / (var + 1e-5).sqrt()
    torch.testing.assert_close(layer(x, one_hot), plain)
    scrambled(layer)
    expected = torch.stack([
        torch.stack([layer.scale[y, c] * row[c] + layer.shift[y, c] for c in range(4)])
        for row, y in zip(plain, LABELS, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(layer(x, one_hot), expected)
    layer.reset_parameters()
    assert layer.scale.unique().tolist() == [1]
    assert layer.shift.unique().tolist() == [0]


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_generators_with_conditional_batch_norm(kind, norm):
    """Labels choose scales and shifts of every norm, and enter nowhere else."""
    more = {} if kind == "resnet" else dict(full_resolution=True)
    model = make_generator(kind, norm=norm, conditioning="batch_norm", **more)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    tables = [m for m in model.modules() if isinstance(m, models.ConditionalBatchNorm)]
    assert len(norms) == len(tables) > 0
    assert model.layers[0].in_features == LATENT
    z = drawn(BATCH, LATENT)
    model.eval()
    assert torch.equal(model(z, LABELS), model(z, LABELS.roll(1)))  # all classes are one at first
    for table in tables:
        scrambled(table)
    other = model(z, torch.tensor([2, 0, 0, 2])) != model(z, LABELS)
    assert other.flatten(1).any(dim=1).tolist() == [False, False, True, False]


def test_a_stage_at_full_resolution():
    """Half the channels at the image's size, then the convolution that makes the image."""
    one, two = make_generator(), make_generator(full_resolution=True)
    convolutions = [m for m in two.layers if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [(4, 2), (2, 2)]
    assert [m.out_channels for m in one.layers if isinstance(m, nn.Conv2d)] == [2]
    assert two.eval()(drawn(BATCH, LATENT), LABELS).shape == (BATCH, *KINDS["conv"])
    sizes = []
    convolutions[-1].register_forward_hook(lambda m, inputs, out: sizes.append(inputs[0].shape))
    two(drawn(BATCH, LATENT), LABELS)
    assert sizes[0][2:] == KINDS["conv"][1:]


def features_of(critic, x, *labels):
    """(the input of the critic's last layer, the layer's output, the critic's output)."""
    seen = []
    hook = critic.layers[-1].register_forward_hook(lambda m, args, out: seen.extend([*args, out]))
    output = critic(x, *labels)
    hook.remove()
    return *seen, output


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("norm", ["none", "group", "spectral"])
def test_projection(kind, norm):
    """D(x, y) = ψ(φ(x)) + <embed(y), φ(x)>, sample by sample; spectral norm is on embed too."""
    critic, x = make_critic(kind, norm=norm).eval(), drawn(BATCH, *KINDS[kind])
    features, unconditional, scores = features_of(critic, x, LABELS)
    table = F.embedding(LABELS, critic.embed.weight.mT)
    expected = [u + row @ f for u, row, f in zip(unconditional[:, 0], table, features, strict=True)]
    torch.testing.assert_close(scores, torch.stack(expected))
    if norm == "spectral":
        sigma = torch.linalg.matrix_norm(critic.embed.weight, 2)
        torch.testing.assert_close(sigma, torch.ones_like(sigma), atol=0.02, rtol=0)
    assert fgan.networks.is_per_sample(critic)


@pytest.mark.parametrize("kind", list(KINDS))
def test_classifier(kind):
    """(scores, class logits), a linear map of the features; the label changes nothing."""
    critic, x = make_critic(kind, "classifier"), drawn(BATCH, *KINDS[kind])
    features, unconditional, (scores, logits) = features_of(critic, x)
    assert torch.equal(scores, unconditional[:, 0])
    torch.testing.assert_close(
        logits, features @ critic.classifier.weight.T + critic.classifier.bias
    )
    assert tree.map(torch.equal, critic(x, LABELS), (scores, logits)) == (True, True)


@pytest.mark.parametrize("kind", ["conv", "resnet"])
def test_input_gradients_hold_the_label(kind):
    """`vmap(grad)` equals autograd's gradient of one sample at a time under its own label."""
    critic, x = make_critic(kind), drawn(BATCH, *KINDS[kind])
    params = {name: p.detach() for name, p in critic.named_parameters()}
    actual = input_gradients(lambda *inputs: functional_call(critic, params, inputs), x, LABELS)
    for i in range(BATCH):
        one = x[i : i + 1].clone().requires_grad_()
        (expected,) = torch.autograd.grad(critic(one, LABELS[i : i + 1]).sum(), one)
        torch.testing.assert_close(actual[i], expected[0])


def pair(kind="conv"):
    """A generator with conditional BatchNorm and a projection critic, all parameters moved."""
    generator = make_generator(kind, conditioning="batch_norm")
    return scrambled(generator), make_critic(kind, norm="spectral")


def a_round(algorithm, shape, index=0):
    """(batch, noise) with labels."""
    noise = algorithm.noise(0, index, BATCH)
    updates = noise.mix.shape[0]
    return fgan.Batch(drawn(updates, BATCH, *shape), LABELS.expand(updates, BATCH)), noise


class Counting:
    """A backend that counts the graphs and runs them as they are."""

    graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph


def test_a_compiled_round_equals_an_eager_one():
    """Conditional BatchNorm and projection under a penalty, by either way to compile."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=1)
    state, inputs = algorithm.init(), a_round(algorithm, KINDS["conv"])
    expected = algorithm.step(state, *inputs)
    for compiled, graphs in [
        (lambda b: torch.compile(algorithm.step, fullgraph=True, backend=b), 1),
        (lambda b: fgan.compile(algorithm, backend=b, donate=False).step, 3),
    ]:
        backend = Counting()
        got = compiled(backend)(state, *inputs)
        assert backend.graphs == graphs
        for name, leaf in tree.named_leaves(got).items():
            torch.testing.assert_close(leaf, tree.named_leaves(expected)[name], msg=name)


def test_a_population_equals_its_members():
    """Two runs under one `vmap` are two runs."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=1)
    many = fgan.population(algorithm)
    batch, noise = a_round(algorithm, KINDS["conv"])
    seeds = [0, 1]
    got, _ = many.step(many.init(seeds), batch, many.noise(seeds, 0, BATCH))
    for member, seed in enumerate(seeds):
        noise = algorithm.noise(seed, 0, BATCH)
        alone, _ = algorithm.step(algorithm.init(seed), batch, noise)
        for name, leaf in tree.named_leaves(alone).items():
            torch.testing.assert_close(tree.named_leaves(got)[name][member], leaf, msg=name)


def test_an_auxiliary_classifier_learns():
    """A `Head` trains the class logits under a penalty, and `score` gives the scores alone."""
    generator, critic = make_generator(), make_critic("conv", "classifier")
    head = Head("class", partial(F.cross_entropy, reduction="none"))
    algorithm = make_algorithm(
        generator, critic,
        adversarial(fgan.losses.wasserstein_critic_loss, Penalty(gradient_penalty, 10.0), head),
        adversarial_generator(fgan.losses.wasserstein_generator_loss, head),
        generator_optimizer=fgan.adam(1e-3), critic_optimizer=fgan.adam(1e-2),
    )  # fmt: skip
    state, losses = algorithm.init(), []
    inputs = a_round(algorithm, KINDS["conv"])
    for _ in range(5):
        state, info = algorithm.step(state, *inputs)
        losses.append(info.terms["class"].item())
    assert losses[-1] < 0.7 * losses[0]
    assert algorithm.score(state, inputs[0].real[0]).shape == (BATCH,)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (models.conv_generator, dict(conditioning="projection"), "one_hot, batch_norm"),
        (models.conv_critic, dict(conditioning="batch_norm"), "one_hot, projection, classifier"),
        (models.resnet_generator, dict(conditioning="batch_norm"), r"needs classes.*num_classes="),
        (models.resnet_critic, dict(conditioning="projection"), r"needs classes.*num_classes="),
        (
            models.conv_generator,
            dict(conditioning="batch_norm", num_classes=3, norm="layer"),
            "norm='layer' was given: choose 'batch', or 'spectral' or 'weight'",
        ),
    ],
)
def test_conditionings_that_cannot_be(make, options, message):
    """The error names the choices, or what is missing."""
    with pytest.raises(ValueError, match=message):
        make((1, 8, 8), **options)


def test_labels_are_checked_however_they_enter():
    """A class that there is not never trains a row of zeros on the CPU."""
    generator = make_generator(conditioning="batch_norm")
    x, wrong = drawn(BATCH, *KINDS["conv"]), torch.tensor([0, 3, 1, 2])
    for model, value in [
        (generator, drawn(BATCH, LATENT)),
        *[(make_critic("conv", way), x) for way in ("projection", "classifier")],
    ]:
        with pytest.raises(ValueError, match="label 3 is outside the model's 3 classes"):
            model(value, wrong)
        with pytest.raises(ValueError, match=r"expected labels \[4\], got \[3\]"):
            model(value, torch.arange(3))
    for model, value in [(generator, drawn(BATCH, LATENT)), (make_critic(), x)]:
        with pytest.raises(ValueError, match="3 classes and needs labels"):
            copy.deepcopy(model)(value)
