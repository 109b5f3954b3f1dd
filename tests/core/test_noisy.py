"""Critics with random numbers of `Noise`, and dropout that takes its mask from them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fgan
from fgan import augment, tree
from fgan.algorithm import make_algorithm
from fgan.networks import NoiseDropout, is_per_sample, make_functional
from fgan.noisy import noisy
from fgan.objectives import Draw, Penalty, adversarial, adversarial_generator
from fgan.penalties import gradient_penalty

BATCH, SIZE, WIDTH, LATENT, P = 4, 5, 6, 3, 0.3
NOISE = Draw("uniform", (WIDTH,))
RATE = dict(generator_optimizer=fgan.sgd(0.1), critic_optimizer=fgan.sgd(0.1))


class Critic(nn.Module):
    """One hidden layer with dropout, and a condition on request; float64."""

    def __init__(self, conditional=False):
        super().__init__()
        torch.manual_seed(1)
        self.conditional = conditional
        self.first, self.last = nn.Linear(SIZE, WIDTH).double(), nn.Linear(WIDTH, 1).double()
        self.dropout = NoiseDropout(P)

    def forward(self, x, *rest):
        h = self.first(x) + (rest[0][:, None] if self.conditional else 0.0)
        uniform = rest[self.conditional] if len(rest) > self.conditional else None
        return self.last(self.dropout(h.tanh(), uniform))


class OptionalNoise(Critic):
    """The form of the documentation."""

    def forward(self, x, uniform=None):
        return super().forward(x, *([] if uniform is None else [uniform]))


class Labelled(nn.Module):
    """A generator with a condition; float64."""

    latent_dim = LATENT

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(LATENT, SIZE).double()

    def forward(self, z, y):
        return self.net(z) + y[:, None]


def generator():
    """A linear map in float64."""
    torch.manual_seed(0)
    return nn.Linear(LATENT, SIZE).double()


def drawn(*shape):
    """Normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def by_hand(critic, x, uniform, condition=0.0):
    """The critic's scores, with the mask written out sample by sample."""
    rows = []
    for row, numbers, y in zip(x, uniform, condition + torch.zeros(len(x)), strict=True):
        h = torch.tanh(critic.first.weight @ row + critic.first.bias + y)
        kept = torch.tensor([0.0 if u < P else 1 / (1 - P) for u in numbers], dtype=h.dtype)
        rows.append((critic.last.weight @ (kept * h) + critic.last.bias)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("way", ["eager", "compiled", "torch.compile"])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_round_with_dropout_equals_the_masks_written_out(way, conditional):
    """WGAN-GP: both players' gradients, beside modules and autograd."""
    made = Labelled() if conditional else generator()
    settings = dict(latent_dim=LATENT, n_critic=1, critic_noise=NOISE, **RATE)
    algorithm = fgan.wgan_gp(made, Critic(conditional), **settings)
    step = {
        "eager": lambda: algorithm.step,
        "compiled": lambda: fgan.compile(algorithm, donate=False, backend="interpreter").step,
        "torch.compile": lambda: torch.compile(algorithm.step, fullgraph=True, backend="eager"),
    }[way]()
    y = torch.tensor([[0.5, -1.0, 0.0, 2.0]], dtype=torch.float64) if conditional else None
    noise, real = algorithm.noise(3, 0, BATCH), drawn(1, BATCH, SIZE)
    state, info = step(algorithm.init(), fgan.Batch(real, y), noise)

    critic, condition = Critic(conditional), y[0] if conditional else 0.0
    inputs = [y[0]] if conditional else []
    fake = made(noise.critic_latent[0], *inputs).detach()
    uniform = noise.extra["critic"]["critic_noise"][0]
    assert uniform.shape == (BATCH, WIDTH)
    mix = noise.mix[0][:, None]
    between = (mix * real[0] + (1 - mix) * fake).requires_grad_()
    scores = by_hand(critic, between, uniform, condition)
    (slope,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    penalty = (slope.square().sum(1).sqrt() - 1).square().mean()
    on_fake, on_real = (by_hand(critic, each, uniform, condition) for each in (fake, real[0]))
    loss = (on_fake - on_real).mean() + 10 * penalty
    torch.testing.assert_close(info.critic_loss, loss.detach())
    for name, p in critic.named_parameters():
        (gradient,) = torch.autograd.grad(loss, p, retain_graph=True)
        torch.testing.assert_close(state.critic.params[name], (p - 0.1 * gradient).detach())
        p.data = state.critic.params[name]
    of_generator = noise.extra["generator"]["critic_noise"]
    fake = made(noise.generator_latent, *inputs)
    loss = -by_hand(critic, fake, of_generator, condition).mean()
    for name, p in made.named_parameters():
        (gradient,) = torch.autograd.grad(loss, p, retain_graph=True)
        torch.testing.assert_close(state.generator.params[name], (p - 0.1 * gradient).detach())


def test_the_layer_is_torch_s_dropout():
    """As many zeros, the same scale, whole channels on request; nothing in evaluation mode."""
    layer, x = NoiseDropout(P), torch.ones(50, 8, 6, 5)
    uniform = torch.rand(50, 8, 6, 5, generator=torch.Generator().manual_seed(0))
    dropped = layer(x, uniform)
    assert set(dropped.unique().tolist()) == set(F.dropout(x, P).unique().tolist())
    assert (dropped == 0).float().mean().item() == pytest.approx(P, abs=0.02)
    assert torch.equal(layer(x, uniform.flatten(1)), dropped)
    channels = layer(x, uniform[:, :, 0, 0])
    assert torch.equal(channels, channels[:, :, :1, :1].expand_as(channels))
    assert torch.equal(channels[:, :, 0, 0], layer(x[:, :, 0, 0], uniform[:, :, 0, 0]))
    assert layer.eval()(x) is x
    assert is_per_sample(layer)
    assert repr(layer) == "NoiseDropout(p=0.3)"


def test_evaluation_takes_no_noise():
    """`score` gives the critic without dropout."""
    algorithm = fgan.gan(generator(), OptionalNoise(), latent_dim=LATENT, critic_noise=NOISE)
    x, critic = drawn(BATCH, SIZE), Critic()
    expected = critic.last(critic.first(x).tanh())[:, 0]
    torch.testing.assert_close(algorithm.score(algorithm.init(), x), expected)


def test_members_parts_and_augmentations_have_the_noise():
    """A population of one member and two parts equal the algorithm; an augmentation goes along."""
    settings = dict(latent_dim=LATENT, critic_noise=NOISE, **RATE)
    algorithm = fgan.wgan_div(generator(), Critic(), n_critic=2, **settings)
    batch, noise = fgan.Batch(drawn(2, BATCH, SIZE)), algorithm.noise(1, 0, BATCH)
    whole = tree.named_leaves(algorithm.step(algorithm.init(), batch, noise))
    parts = fgan.accumulate(algorithm, 2)
    in_parts = tree.named_leaves(parts.step(parts.init(), batch, noise))
    for name, leaf in whole.items():
        torch.testing.assert_close(in_parts[name], leaf, msg=lambda m, n=name: f"{n}: {m}")
    members = fgan.population(algorithm)
    _, infos = members.step(members.init([5, 1]), batch, members.noise([5, 1], 0, BATCH))
    _, alone = algorithm.step(algorithm.init(1), batch, noise)
    torch.testing.assert_close(infos.critic_loss[1], alone.critic_loss)

    class Images(nn.Module):
        def forward(self, z):
            return z.reshape(-1, 1, 1, 3)

    images = nn.Sequential(nn.Linear(LATENT, 3), Images())
    critic = nn.Sequential(nn.Flatten(), nn.Linear(3, SIZE))
    both = fgan.gan(
        images,
        WithTrunk(critic),
        latent_dim=LATENT,
        critic_noise=NOISE,
        augmentation=augment.flip(),
    )
    noise = both.noise(0, 0, BATCH)
    assert noise.extra["critic"].keys() == {"critic_noise", "augmentation"}
    _, info = both.step(both.init(), fgan.Batch(torch.rand(1, BATCH, 1, 1, 3)), noise)
    assert info.critic_loss.isfinite()


class WithTrunk(nn.Module):
    """A trunk before the critic with dropout."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk, self.head = trunk, Critic().float()

    def forward(self, x, *uniform):
        return self.head(self.trunk(x), *uniform)


def test_a_generator_takes_its_masks_from_the_latent():
    """Numbers of the latent, made uniform; the samples are those of the mask by hand."""

    class Dropped(nn.Module):
        latent_dim = LATENT + SIZE

        def __init__(self):
            super().__init__()
            self.net, self.dropout = generator(), NoiseDropout(P)

        def forward(self, z):
            return self.dropout(self.net(z[:, :LATENT]), torch.special.ndtr(z[:, LATENT:]))

    algorithm = fgan.gan(Dropped(), nn.Linear(SIZE, 1).double())
    latent = algorithm.noise(0, 0, BATCH).critic_latent[0]
    kept = torch.distributions.Normal(0, 1).cdf(latent[:, LATENT:]) >= P
    expected = torch.where(kept, generator()(latent[:, :LATENT]) / (1 - P), 0.0)
    torch.testing.assert_close(algorithm.fakes(algorithm.init(), latent), expected)


def test_wrong_noise_is_refused():
    """What is no draw, a penalty sample by sample, numbers of another shape or none at all."""
    for wrong in (0.5, Draw("uniform", None), (WIDTH,)):
        with pytest.raises(ValueError, match=r"critic_noise is a fgan\.objectives\.Draw"):
            fgan.gan(generator(), Critic(), latent_dim=LATENT, critic_noise=wrong)
    objective = adversarial_generator(fgan.losses.wasserstein_generator_loss)
    with pytest.raises(ValueError, match="has a random tensor 'critic_noise' already"):
        noisy(noisy(objective, NOISE), NOISE)
    batch = fgan.Batch(drawn(1, BATCH, SIZE))

    def round_of(algorithm):
        return algorithm.step(algorithm.init(), batch, algorithm.noise(0, 0, BATCH))

    one_by_one = make_algorithm(
        generator(),
        Critic(),
        adversarial(fgan.losses.wasserstein_critic_loss, Penalty(gradient_penalty)),
        objective,
        latent_dim=LATENT,
        critic_noise=NOISE,
        **RATE,
    )
    with pytest.raises(
        ValueError, match=r"noise has random numbers for 4 samples.*batched_input_gradients"
    ):
        round_of(one_by_one)
    for draw in (None, Draw("uniform", (WIDTH - 1,)), Draw("uniform", ())):
        algorithm = fgan.gan(generator(), Critic(), latent_dim=LATENT, critic_noise=draw)
        with pytest.raises(ValueError, match=r"NoiseDropout takes uniform numbers \[[48], 6\]"):
            round_of(algorithm)
    for p in (1.0, -0.1, "half"):
        with pytest.raises(ValueError, match="p "):
            NoiseDropout(p)
    network = make_functional(Critic())
    with pytest.raises(ValueError, match="NoiseDropout takes uniform numbers"):
        network.apply(network.params, network.buffers, drawn(BATCH, SIZE), drawn(BATCH))
