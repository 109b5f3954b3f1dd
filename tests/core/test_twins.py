"""Every recipe beside the usual training loop (`twin.py`), in float64, over several rounds."""

import pytest
import torch
from helpers import CLASSES, LATENT, RECIPES, assert_close, make_batch, make_round, pair
from twin import FIGURES, POINTS, Twin, div, gp, r1_and_r2

import fgan
from fgan.penalties import SAMPLE_AT

ROUNDS = 3
ADAM = {"lr": 0.02, "betas": (0.5, 0.9)}

# name -> (recipe, its keywords, the twin's specification)
CASES = {
    "gan": ("gan", {}, dict(loss="non_saturating")),
    "gan minimax": ("gan_minimax", {}, dict(loss="minimax")),
    "gan R1": (
        "gan",
        dict(gamma=0.6),
        dict(loss="non_saturating", penalty=lambda square: square, at="real", weight=0.3),
    ),
    "wgan": ("wgan", dict(clip=0.05), dict(loss="wasserstein", clip=0.05)),
    "wgan_gp": ("wgan_gp", {}, gp()),
    "wgan_gp one-sided": (
        "wgan_gp",
        dict(one_sided=True, target=0.2, penalty_weight=3.0),
        gp(0.2, one_sided=True, weight=3.0),
    ),
    "wgan_gp target 0": ("wgan_gp", dict(target=0.0), gp(0.0)),
    "wgan_gp at reals": ("wgan_gp", dict(sample_at="real"), gp(at="real")),
    "wgan_div": ("wgan_div", {}, div()),
    "wgan_div authors": (
        "wgan_div",
        dict(k=10.0, p=6.0, sample_at="interpolate"),
        div(10, 6, "interpolate"),
    ),
    "hinge_gan": ("hinge_gan", {}, dict(loss="hinge")),
    "lsgan": ("lsgan", {}, dict(loss="least_squares")),
    "dragan": ("dragan", {}, gp(at="around_real", loss="non_saturating")),
    "dragan weight": (
        "dragan",
        dict(penalty_weight=2.0),
        gp(at="around_real", loss="non_saturating", weight=2.0),
    ),
    "r3gan": ("r3gan", {}, r1_and_r2()),
    "r3gan gamma": ("r3gan", dict(gamma=0.3), r1_and_r2(0.3)),
} | {f"wgan_div {at}": ("wgan_div", dict(sample_at=at, p=2.0), div(p=2.0, at=at)) for at in POINTS}

EVERY = ["gan", "wgan", "wgan_gp", "wgan_div", "hinge_gan", "lsgan", "dragan", "r3gan"]
"""Each recipe once, with the paper's defaults."""

OPTIMIZERS = {
    "sgd": (fgan.sgd(0.05), lambda p: torch.optim.SGD(p, lr=0.05)),
    "momentum": (fgan.sgd(0.05, 0.9), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
    "rmsprop": (fgan.rmsprop(0.01), lambda p: torch.optim.RMSprop(p, lr=0.01)),
}


def figures(info):
    """The figures of a round by name; a single penalty stands in `terms` too."""
    assert all(torch.equal(value, info.penalty) for value in info.terms.values())
    return {name: getattr(info, name) for name in FIGURES}


def compare(
    name, players, conditional, n_critic, optimizer=None, ema_decay=None, update="alternating"
):
    """Run fgan and the twin side by side and compare after every round."""
    recipe, options, spec = CASES[name]
    if recipe == "r3gan" and optimizer is None:
        # A shift of all scores cancels in D(x) - D(G(z)), so the critic's last bias has gradient 0.
        optimizer = OPTIMIZERS["momentum"]
    ours, theirs = optimizer or (fgan.adam(**ADAM), lambda p: torch.optim.Adam(p, **ADAM))
    algorithm = RECIPES[recipe](
        *players, n_critic=n_critic, update=update, ema_decay=ema_decay,
        generator_optimizer=ours, critic_optimizer=ours, **options,
    )  # fmt: skip
    twin = Twin(*players, spec, theirs, ema_decay)
    state = algorithm.init()
    for index in range(ROUNDS):
        batch, noise = make_round(algorithm, players[0].shape, conditional, size=6, index=index)
        state, info = algorithm.step(state, batch, noise)
        twin.round(batch, noise, simultaneous=update == "simultaneous")
        got = (tuple(state.generator[:2]), tuple(state.critic[:2]), figures(info))
        assert_close(got, twin.tensors())
        if ema_decay is not None:
            assert_close(state.ema.params | state.ema.buffers, twin.ema)
    assert state.round.item() == ROUNDS
    return algorithm, state, twin


@pytest.mark.parametrize("name", list(CASES))
def test_recipe_equals_its_twin(name, conditional):
    """Parameters, statistics and all figures agree over three rounds of three critic updates."""
    compare(name, pair(conditional=conditional, norm=True), conditional, n_critic=3)


@pytest.mark.parametrize(
    "name", ["wgan_gp", "wgan_div", "wgan_div interpolate_mixed", "dragan", "r3gan"]
)
def test_recipe_equals_its_twin_on_images(name, conditional):
    """Convolutions, GroupNorm and images that are not square change nothing."""
    compare(name, pair((2, 5, 9), conditional, norm=True), conditional, n_critic=2)


@pytest.mark.parametrize("critic_norm", ["spectral", "weight", "layer"])
@pytest.mark.parametrize("name", EVERY)
def test_recipe_equals_its_twin_under_normalised_critics(name, critic_norm):
    """With spectral norm, whose buffers move at every pass, each update still has one critic."""
    compare(name, pair(norm=True, critic_norm=critic_norm), False, n_critic=2)


@pytest.mark.parametrize("name", ["gan", "gan minimax", "wgan", "hinge_gan", "lsgan"])
def test_recipe_equals_its_twin_with_batch_norm_in_the_critic(name, conditional):
    """Without a penalty a critic may have BatchNorm; the real pass's statistics are kept."""
    # Such a critic does not see a shift of all fakes, so the generator's last bias has gradient 0,
    # of which Adam would make noise: hence momentum.
    players = pair(conditional=conditional, norm=True, critic_norm="batch")
    compare(name, players, conditional, 2, OPTIMIZERS["momentum"])


@pytest.mark.parametrize("name", ["gan", "wgan", "hinge_gan", "lsgan"])
def test_recipe_equals_its_twin_where_the_batches_share_a_pass(name, conditional):
    """Real and fake go together through a critic that is known to treat every sample alone."""
    generator, _ = pair(conditional=conditional, norm=True)
    classes = CLASSES if conditional else None
    critic = fgan.models.mlp_critic((2,), classes, hidden=(5, 4), norm="spectral").double()
    assert fgan.networks.is_per_sample(critic)
    # A Wasserstein critic's last bias has gradient 0, of which Adam would make noise.
    compare(name, (generator, critic), conditional, 2, OPTIMIZERS["momentum"])


@pytest.mark.parametrize("name", ["gan", "wgan"])
def test_recipe_equals_its_twin_where_the_critic_compares_samples(name):
    """A layer of one's own, which fgan cannot know, sees the real batch and then the fake one."""

    class Spread(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x, x.var(dim=0, keepdim=True).expand_as(x)], dim=1)

    generator, _ = pair(norm=True)
    critic = torch.nn.Sequential(Spread(), torch.nn.Linear(4, 3), torch.nn.Tanh())
    critic = critic.append(torch.nn.Linear(3, 1)).double()
    compare(name, (generator, critic), False, 2, OPTIMIZERS["momentum"])


@pytest.mark.parametrize("name", EVERY)
def test_simultaneous_update_equals_its_twin(name, conditional):
    """Both players move from the gradients at one state."""
    players = pair(conditional=conditional, norm=True)
    compare(name, players, conditional, n_critic=1, update="simultaneous", ema_decay=0.5)


@pytest.mark.parametrize("norm", [False, True])
def test_running_mean_equals_its_twin(norm):
    """The average follows θ̄ <- d θ̄ + (1 - d) θ once a round, BatchNorm's statistics too."""
    algorithm, state, twin = compare("wgan_gp", pair(norm=norm), False, 2, ema_decay=0.7)
    latent = torch.randn(5, LATENT, generator=torch.Generator().manual_seed(0)).double()
    twin.generator.load_state_dict(twin.ema)
    expected = twin.generator.eval()(latent).detach()
    assert_close(algorithm.generate(state, latent), expected)


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_every_optimizer_in_a_round(optimizer):
    """The recipes hand any optimiser what torch.optim would get."""
    compare("wgan_gp", pair(norm=True), False, 2, OPTIMIZERS[optimizer])


# The papers' defaults: what a recipe does when nothing but the networks is given.
DEFAULTS = {
    "gan": (1, lambda p: torch.optim.Adam(p, 2e-4, (0.5, 0.999)), dict(loss="non_saturating")),
    "wgan": (5, lambda p: torch.optim.RMSprop(p, 5e-5), dict(loss="wasserstein", clip=0.01)),
    "wgan_gp": (5, lambda p: torch.optim.Adam(p, 1e-4, (0.0, 0.9)), gp()),
    "wgan_div": (5, lambda p: torch.optim.Adam(p, 2e-4, (0.5, 0.999)), div()),
    "hinge_gan": (5, lambda p: torch.optim.Adam(p, 2e-4, (0.0, 0.9)), dict(loss="hinge")),
    "lsgan": (1, lambda p: torch.optim.Adam(p, 2e-4, (0.5, 0.999)), dict(loss="least_squares")),
    "dragan": (
        1,
        lambda p: torch.optim.Adam(p, 2e-4, (0.5, 0.999)),
        gp(at="around_real", loss="non_saturating"),
    ),
    "r3gan": (1, lambda p: torch.optim.Adam(p, 2e-4, (0.0, 0.99)), r1_and_r2()),
}


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_defaults_are_the_papers(name):
    """Without keywords the number of updates, optimiser, weight and clip are those of the paper."""
    n_critic, theirs, spec = DEFAULTS[name]
    players = pair()
    algorithm = RECIPES[name](*players)
    assert algorithm.n_critic == n_critic
    twin, state = Twin(*players, spec, theirs), algorithm.init()
    for index in range(2):
        batch, noise = make_round(algorithm, index=index)
        state, info = algorithm.step(state, batch, noise)
        twin.round(batch, noise)
        got = (tuple(state.generator[:2]), tuple(state.critic[:2]), figures(info))
        assert_close(got, twin.tensors(), atol=1e-11)


def test_the_twins_cover_every_place_of_a_penalty():
    """No choice of `sample_at` is without a twin."""
    assert set(POINTS) == set(SAMPLE_AT)


def test_without_weight_the_penalty_changes_nothing(conditional):
    """With penalty weight 0, or k 0, both penalised recipes are plain unclipped Wasserstein."""
    players = pair(conditional=conditional, norm=True)
    options = dict(
        n_critic=2, generator_optimizer=fgan.adam(0.01), critic_optimizer=fgan.adam(0.01)
    )
    algorithms = [
        fgan.wgan(*players, clip=1e9, **options),
        fgan.wgan_gp(*players, penalty_weight=0.0, **options),
        fgan.wgan_div(*players, k=0.0, **options),
    ]
    states = [algorithm.init() for algorithm in algorithms]
    for index in range(ROUNDS):
        batch, noise = make_round(algorithms[0], (2,), conditional, index=index)
        states = [a.step(s, batch, noise)[0] for a, s in zip(algorithms, states, strict=True)]
    assert_close(states[1], states[0], atol=1e-12)
    assert_close(states[2], states[0], atol=1e-12)


@pytest.mark.parametrize("n_critic", [1, 2, 4])
def test_step_takes_the_updates_from_the_batch(n_critic):
    """A round has as many critic updates as the batch's leading axis, whatever n_critic says."""
    players = pair(norm=True)
    algorithm, other = fgan.wgan_gp(*players, n_critic=n_critic), fgan.wgan_gp(*players)
    noise = algorithm.noise(0, 0, 4)
    state = other.init(0)
    batch = make_batch(n_critic=n_critic)
    stepped, _ = other.step(state, batch, noise)
    for i in range(n_critic):
        state, _ = other.critic_update(
            state, batch.real[i], None, noise.critic_latent[i], noise.mix[i]
        )
    assert_close(stepped, other.generator_update(state, noise.generator_latent)[0], atol=0.0)
    assert stepped.critic.opt_state.updates.item() == n_critic
    assert stepped.generator.opt_state.updates.item() == 1


def test_warmup_is_a_schedule_of_updates():
    """100 updates in rounds 0 to 24 and in every 500th, 5 in the others (the authors' code)."""
    schedule = fgan.recipes.critic_warmup()
    assert [schedule(i) for i in (0, 24, 25, 499, 500, 501, 1000)] == [100, 100, 5, 5, 100, 5, 100]
    algorithm = fgan.wgan(*pair(), n_critic=fgan.recipes.critic_warmup(2, warm=4, first=1, every=3))
    sizes = [algorithm.noise(0, i, 2).critic_latent.shape[0] for i in range(5)]
    assert sizes == [4, 2, 2, 4, 2]
    state = algorithm.init(0)
    for i in range(5):
        state, _ = algorithm.step(state, *make_round(algorithm, size=2, index=i))
    assert state.critic.opt_state.updates.item() == sum(sizes)
