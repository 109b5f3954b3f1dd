"""Critics with a map of scores (PatchGAN), averaged by `MeanScore`."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fgan
from fgan import tree
from fgan.algorithm import make_algorithm
from fgan.networks import MeanScore, is_per_sample
from fgan.objectives import Head, adversarial, adversarial_generator

BATCH, LATENT, SHAPE = 4, 3, (2, 8, 6)


def generator():
    """Images in float64."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(LATENT, 96), nn.Unflatten(1, SHAPE)).double()


class Patches(nn.Module):
    """A map of scores, of images and on request an image as condition; float64."""

    def __init__(self, conditional=False, reduce=False):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Conv2d(2 + conditional, 1, 4, 2, 1).double()
        self.reduce = reduce

    def forward(self, x, *condition):
        scores = self.net(torch.cat([x, *condition], 1)).tanh() * 3
        return scores.sum((1, 2, 3)) / (scores[0].numel()) if self.reduce else scores


class OfImages(nn.Module):
    """A generator of an image and a latent."""

    latent_dim = LATENT

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(1 + LATENT, 2, 3, padding=1).double()

    def forward(self, z, y):
        return self.net(torch.cat([y, z[:, :, None, None].expand(-1, -1, *SHAPE[1:])], 1))


def drawn(*shape):
    """Normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def leaves(algorithm, batch, step=None):
    """Those of a round, by their names in the critic itself."""
    noise = algorithm.noise(0, 0, BATCH)
    result = (step or algorithm.step)(algorithm.init(), batch, noise)
    return {k.replace("critic.net", "net"): v for k, v in tree.named_leaves(result).items()}


def assert_same(got, expected):
    """Equal up to float64's rounding."""
    assert got.keys() == expected.keys()
    for name, leaf in expected.items():
        torch.testing.assert_close(got[name], leaf, msg=lambda m, n=name: f"{n}: {m}")


RECIPES = {
    "gan": fgan.gan,
    "wgan_gp": fgan.wgan_gp,
    "wgan_div": fgan.wgan_div,
    "r3gan": fgan.r3gan,
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_mean_of_a_map_equals_a_mean_in_the_module(recipe, conditional):
    """A whole round, penalties too."""
    condition = drawn(1, BATCH, 1, *SHAPE[1:]) if conditional else None
    batch = fgan.Batch(drawn(1, BATCH, *SHAPE), condition)

    def algorithm(critic):
        made = OfImages() if conditional else generator()
        optimizers = dict(generator_optimizer=fgan.sgd(0.1), critic_optimizer=fgan.sgd(0.1))
        return RECIPES[recipe](made, critic, latent_dim=LATENT, n_critic=1, **optimizers)

    by_hand = leaves(algorithm(Patches(conditional, reduce=True)), batch)
    wrapped = algorithm(MeanScore(Patches(conditional)))
    assert_same(leaves(wrapped, batch), by_hand)
    compiled = fgan.compile(wrapped, donate=False, backend="interpreter")
    assert_same(leaves(compiled, batch), by_hand)


def test_a_mean_of_a_map_is_the_map_s_mean_for_each_sample():
    """Alone, for maps of any rank, and for [B, 1, 1, 1] and [B]."""
    for shape in [(BATCH, 1, 3, 2), (BATCH, 5, 2), (BATCH, 7), (BATCH, 1, 1, 1), (BATCH,)]:
        scores = drawn(*shape)
        expected = torch.stack([row.sum() / row.numel() for row in scores])
        torch.testing.assert_close(MeanScore(nn.Identity())(scores), expected)


def test_what_is_known_of_a_critic_is_known_of_its_mean():
    """Layers that mix samples are found through the wrapper, and so is a sigmoid at the end."""
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.LeakyReLU(0.2), nn.Conv2d(3, 1, 3))
    assert is_per_sample(MeanScore(layers))
    mixing = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 3))
    assert not is_per_sample(MeanScore(mixing))
    with pytest.raises(ValueError, match=r"'critic\.1' mixes the samples"):
        fgan.wgan_gp(generator(), MeanScore(mixing), latent_dim=LATENT)
    for ending in (nn.Sequential(layers, nn.Sigmoid()), SigmoidOfMap()):
        with pytest.raises(ValueError, match=r"ends in [Ss]igmoid"):
            fgan.gan(generator(), MeanScore(ending), latent_dim=LATENT)


class SigmoidOfMap(Patches):
    """A map of probabilities."""

    def forward(self, x):
        return super().forward(x).sigmoid()


class WithClasses(Patches):
    """A map, and logits of classes."""

    def forward(self, x):
        scores = super().forward(x)
        return scores, scores.flatten(1)[:, :3]


def test_further_outputs_pass_through():
    """A head reads the second output."""
    head = Head("class", lambda logits, y: F.cross_entropy(logits, y, reduction="none"))
    algorithm = make_algorithm(
        WithLabel(),
        MeanScore(ScoresOfLabelled()),
        adversarial(fgan.losses.minimax_critic_loss, head),
        adversarial_generator(fgan.losses.non_saturating_generator_loss, head),
        generator_optimizer=fgan.sgd(0.1),
        critic_optimizer=fgan.sgd(0.1),
    )
    labels = torch.tensor([[0, 2, 1, 1]])
    real = drawn(1, BATCH, *SHAPE)
    _, info = algorithm.step(
        algorithm.init(), fgan.Batch(real, labels), algorithm.noise(0, 0, BATCH)
    )
    assert info.real_score.item() == pytest.approx(Patches()(real[0]).mean().item())
    assert info.terms["class"].isfinite()


class WithLabel(nn.Module):
    """A generator with a label that it does not read."""

    latent_dim = LATENT

    def __init__(self):
        super().__init__()
        self.net = generator()

    def forward(self, z, y):
        return self.net(z)


class ScoresOfLabelled(WithClasses):
    """A critic with a label that it does not read."""

    def forward(self, x, y):
        return super().forward(x)


@pytest.mark.parametrize("recipe", [fgan.gan, fgan.wgan_gp])
def test_a_map_of_scores_is_told_of_the_wrapper(recipe):
    """The error of the first round names it; of [B, 1, 1, 1] it says to flatten."""
    batch = fgan.Batch(drawn(1, BATCH, *SHAPE))
    algorithm = recipe(generator(), Patches(), latent_dim=LATENT, n_critic=1)
    with pytest.raises(ValueError, match=r"one score a sample.*fgan\.networks\.MeanScore\(critic"):
        leaves(algorithm, batch)
    one = nn.Sequential(Patches(), nn.AdaptiveAvgPool2d(1))
    algorithm = recipe(generator(), one, latent_dim=LATENT, n_critic=1)
    with pytest.raises(ValueError, match=r"one score a sample.*, 1, 1, 1\].*nn\.Flatten\(0\)"):
        leaves(algorithm, batch)
    flat = recipe(generator(), nn.Sequential(copy.deepcopy(one), nn.Flatten(0)), latent_dim=LATENT)
    by_mean = recipe(generator(), MeanScore(Patches()), latent_dim=LATENT)
    x = drawn(BATCH, *SHAPE)
    torch.testing.assert_close(flat.score(flat.init(), x), by_mean.score(by_mean.init(), x))


def test_what_is_no_map_of_scores_is_refused():
    """Another number of rows, and what is no module."""
    with pytest.raises(ValueError, match=r"MeanScore takes scores \[4, \.\.\.\].*\[8\]"):
        MeanScore(nn.Flatten(0))(drawn(BATCH, 2))
    with pytest.raises(ValueError, match="MeanScore takes a critic"):
        MeanScore(lambda x: x)
