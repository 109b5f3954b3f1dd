"""Terms of a generator's objective that see the fakes, as pix2pix needs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fgan
from fgan import losses, tree
from fgan.algorithm import make_algorithm
from fgan.networks import MeanScore
from fgan.objectives import Head, Penalty, Term, adversarial, adversarial_generator
from fgan.penalties import gradient_penalty

BATCH, WEIGHT, RATE = 4, 100.0, 2e-3


class Generator(nn.Module):
    """An image of an image and a latent, with BatchNorm; float64."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        self.net = nn.Sequential(*layers, nn.Conv2d(4, 1, 1)).double()

    def forward(self, z, y):
        planes = z[:, :, None, None].expand(-1, -1, *y.shape[2:])
        return torch.tanh(self.net(torch.cat([y, planes], 1)))


class Patches(nn.Module):
    """PatchGAN's map of scores; float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Conv2d(2, 1, 4, 2, 1).double()

    def forward(self, x, y):
        return self.net(torch.cat([x, y], 1))


def l1(fake, data):
    """The mean distance of a sample's numbers from the target's."""
    return (fake - data.real).abs().flatten(1).mean(1)


def algorithm_of(*terms, **settings):
    """pix2pix: the non-saturating loss and terms."""
    return make_algorithm(
        Generator(),
        MeanScore(Patches()),
        adversarial(losses.minimax_critic_loss),
        adversarial_generator(losses.non_saturating_generator_loss, *terms),
        generator_optimizer=fgan.adam(RATE),
        critic_optimizer=fgan.adam(RATE),
        **settings,
    )


def batch_of(index, updates=1):
    """Targets and inputs of a round."""
    source = torch.Generator().manual_seed(index)
    shape = (updates, BATCH, 1, 8, 8)
    return fgan.Batch(*(torch.rand(shape, generator=source, dtype=torch.float64) for _ in range(2)))


def by_hand(count, updates):
    """The usual loop with modules, torch.optim and its Adam: (generator, losses, distances)."""
    g, d = Generator(), Patches()
    of_g, of_d = (torch.optim.Adam(m.parameters(), RATE) for m in (g, d))
    drawn, seen = algorithm_of(n_critic=updates), []
    for index in range(count):
        batch, noise = batch_of(index, updates), drawn.noise(0, index, BATCH)
        for x, y, z in zip(batch.real, batch.condition, noise.critic_latent, strict=True):
            statistics = {k: v.clone() for k, v in g.named_buffers()}
            fake = g(z, y).detach()
            nn.Module.load_state_dict(g, statistics, strict=False)
            real_score, fake_score = (d(each, y).mean((1, 2, 3)) for each in (x, fake))
            of_d.zero_grad()
            (F.softplus(-real_score) + F.softplus(fake_score)).mean().backward()
            of_d.step()
        x, y = batch.real[-1], batch.condition[-1]
        fake = g(noise.generator_latent, y)
        distance = F.l1_loss(fake, x)
        loss = F.softplus(-d(fake, y).mean((1, 2, 3))).mean() + WEIGHT * distance
        of_g.zero_grad()
        loss.backward()
        of_g.step()
        seen.append((loss.item(), distance.item()))
    return dict(g.named_parameters()) | dict(g.named_buffers()), seen


WAYS = {
    "eager": lambda a: a,
    "compiled": lambda a: fgan.compile(a, donate=False, backend="interpreter"),
    "torch.compile": lambda a: a._replace(
        step=torch.compile(a.step, fullgraph=True, backend="eager")
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_pix2pix_equals_the_loop_with_modules(way):
    """Three rounds of two critic updates, with L1 to the target of the last update."""
    updates = 2
    expected, seen = by_hand(3, updates)
    algorithm = WAYS[way](algorithm_of(Term(l1, WEIGHT), n_critic=updates))
    state = algorithm.init()
    for index, (loss, distance) in enumerate(seen):
        noise = algorithm.noise(0, index, BATCH)
        state, info = algorithm.step(state, batch_of(index, updates), noise)
        assert info.generator_loss.item() == pytest.approx(loss, rel=1e-9)
        assert info.terms["generator_l1"].item() == pytest.approx(distance, rel=1e-9)
    got = state.generator.params | state.generator.buffers
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value.detach(), msg=lambda m, n=name: f"{n}: {m}")


def test_a_term_reads_the_sample_of_each_latent_in_parts_and_members():
    """In a population, and accumulated in two parts where BatchNorm is frozen."""
    algorithm = algorithm_of(Term(l1, WEIGHT))
    state, batch, noise = algorithm.init(), batch_of(0), algorithm.noise(3, 0, BATCH)
    _, info = algorithm.step(state, batch, noise)
    members = fgan.population(algorithm)
    several = members.init([3, 4])
    _, infos = members.step(several, batch, members.noise([3, 4], 0, BATCH))
    alone = algorithm.step(algorithm.init(3), batch, noise)[1]
    torch.testing.assert_close(infos.terms["generator_l1"][0], alone.terms["generator_l1"])
    for module in (frozen := Generator()).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    own = adversarial_generator(losses.wasserstein_generator_loss, Term(l1, 2.0, "to target"))
    parts = [
        make_algorithm(
            frozen,
            MeanScore(Patches()),
            adversarial(losses.wasserstein_critic_loss),
            own,
            generator_optimizer=fgan.sgd(0.1),
            critic_optimizer=fgan.sgd(0.1),
        )
    ]
    parts.append(fgan.accumulate(parts[0], 2))
    results = [tree.named_leaves(each.step(each.init(), batch, noise)) for each in parts]
    for name, leaf in results[0].items():
        torch.testing.assert_close(results[1][name], leaf, msg=lambda m, n=name: f"{n}: {m}")
    assert any("to target" in name for name in results[0])
    assert info.terms.keys() == {"generator_l1"}


def test_a_term_alone_does_not_score_real_samples():
    """The loss finds NaN in their place, so only an objective that says so pays for the pass."""
    seen = []

    def loss(real_scores, fake_scores):
        seen.append(bool(real_scores.isnan().all()))
        return -fake_scores

    made = adversarial_generator(loss, Term(l1)), adversarial_generator(loss, uses_real=True)
    for objective in made:
        algorithm = make_algorithm(
            Generator(),
            MeanScore(Patches()),
            adversarial(losses.wasserstein_critic_loss),
            objective,
            generator_optimizer=fgan.sgd(0.1),
            critic_optimizer=fgan.sgd(0.1),
        )
        seen.clear()
        algorithm.step(algorithm.init(), batch_of(0), algorithm.noise(0, 0, BATCH))
        assert seen == [objective is made[0]]
        assert objective.uses_real


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ((Penalty(gradient_penalty),), "terms are Head and Term, and Penalty"),
        ((Term(l1), Term(l1)), "two figures of this objective are called 'l1'"),
        ((Term(l1, name="loss"),), "two figures of this objective are called 'loss'"),
        ((Term(l1), Head("l1", F.cross_entropy)), "called 'l1'"),
        ((Term(l1, -1.0),), "weight of term 'l1'"),
        ((Term(lambda fake: fake),), r"function \(fake \[B, \.\.\.\], data\) -> \[B\]"),
        ((l1,), "terms are Head and Term"),
    ],
)
def test_terms_that_cannot_be_are_refused(terms, message):
    """When the objective is built."""
    with pytest.raises(ValueError, match=message):
        adversarial_generator(losses.wasserstein_generator_loss, *terms)


def test_a_term_gives_one_value_a_sample():
    """Neither a mean of the batch nor a value for each number of a sample."""
    for wrong in (F.l1_loss, lambda fake, real: (fake - real).abs()):
        algorithm = algorithm_of(Term(lambda fake, data, f=wrong: f(fake, data.real), name="wrong"))
        with pytest.raises(ValueError, match=r"one value a sample, \[4\]"):
            algorithm.step(algorithm.init(), batch_of(0), algorithm.noise(0, 0, BATCH))


def test_an_update_without_its_real_samples_is_refused():
    """`generator_update` says what is missing."""
    algorithm = algorithm_of(Term(l1))
    latent = algorithm.noise(0, 0, BATCH).generator_latent
    with pytest.raises(ValueError, match="uses real samples"):
        algorithm.generator_update(algorithm.init(), latent, batch_of(0).condition[0])


class Plain(nn.Module):
    """A generator without conditions, of a kind that needs a look for random numbers."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 5)

    def forward(self, z):
        return self.net(z)


def test_a_term_that_draws_is_refused():
    """Before the first round, also where it reads the real samples."""

    def noisy(fake, data):
        return (fake - data.real + torch.randn_like(fake)).square().sum(1)

    with pytest.raises(ValueError, match="an objective draws random numbers"):
        make_algorithm(
            Plain(),
            nn.Linear(5, 1),
            adversarial(losses.wasserstein_critic_loss),
            adversarial_generator(losses.wasserstein_generator_loss, Term(noisy)),
            generator_optimizer=fgan.sgd(0.1),
            critic_optimizer=fgan.sgd(0.1),
        )
