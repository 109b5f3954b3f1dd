"""What is refused, when, and in which words: what was given, what was expected, what to do."""

import pytest
import torch
from helpers import (
    LATENT,
    RECIPES,
    Critic,
    Generator,
    Labelled,
    Plain,
    assert_identical,
    critic_extra,
    make,
    make_batch,
    make_round,
    pair,
)
from torch import nn

import fgan
from fgan import losses
from fgan.algorithm import make_algorithm
from fgan.objectives import adversarial, adversarial_generator


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gan", dict(update="both"), "alternating.*simultaneous.*'both'"),
        ("wgan_div", dict(sample_at="middle"), "real_and_fake.*interpolate_mixed.*'middle'"),
        ("gan", dict(loss="hinge"), "non_saturating, minimax.*'hinge'"),
        ("gan", dict(n_critic=0), "n_critic.*0"),
        ("wgan", dict(n_critic=-1), "n_critic.*-1"),
        ("wgan_gp", dict(n_critic=2.5), r"n_critic.*2\.5"),
        ("wgan_gp", dict(penalty_weight=-1.0), r"penalty_weight.*-1\.0"),
        ("wgan_gp", dict(penalty_weight=float("nan")), "penalty_weight.*nan"),
        ("wgan_gp", dict(target=-1.0), r"target.*-1\.0"),
        ("wgan_div", dict(k=-2.0), r"k is.*-2\.0"),
        ("wgan_div", dict(p=0.5), r"p is.*0\.5"),
        ("wgan", dict(clip=0.0), r"clip.*0\.0"),
        ("dragan", dict(penalty_weight=-1.0), r"penalty_weight.*-1\.0"),
        ("r3gan", dict(gamma=-1.0), r"gamma.*-1\.0"),
        ("gan", dict(gamma=-0.5), r"gamma.*-0\.5"),
        ("wgan", dict(ema_decay=1.0), r"ema_decay.*1\.0"),
        ("wgan", dict(latent_dim=0), "latent_dim.*0"),
        ("wgan_gp", dict(update="simultaneous", n_critic=5), "one critic update.*5"),
        ("gan", dict(update="simultaneous", n_critic=lambda i: 1), "one critic update"),
    ],
)
def test_options_out_of_range_are_refused_when_built(name, options, message):
    """The error names the option and what was given, before a state exists."""
    with pytest.raises(ValueError, match=message):
        RECIPES[name](*pair(), **options)


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("name", ["wgan_gp", "wgan_div", "dragan", "r3gan"])
def test_batch_norm_in_a_penalised_critic_is_refused_by_name(name, statistics):
    """The layer, the reason and every alternative are in the message, also without statistics."""
    critic = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=statistics))
    critic.append(nn.Linear(3, 1))
    with pytest.raises(ValueError, match=r"'1' mixes the samples.*per sample") as error:
        RECIPES[name](make(Generator), critic.double())
    for alternative in ("LayerNorm", "GroupNorm", "InstanceNorm", "weight norm", "spectral norm"):
        assert alternative in str(error.value)


@pytest.mark.parametrize("name", ["gan", "gan_minimax", "wgan", "hinge_gan", "lsgan"])
def test_batch_norm_in_a_critic_without_penalty_is_accepted(name):
    """DCGAN's and WGAN's own critics have BatchNorm, and may."""
    algorithm = RECIPES[name](*pair(critic_norm="batch"), n_critic=2)
    state, _ = algorithm.step(algorithm.init(0), *make_round(algorithm))
    assert state.critic.buffers["norm.num_batches_tracked"].item() == 2


@pytest.mark.parametrize("place", [0, 1])
def test_dropout_in_either_player_is_refused(recipe, place):
    """Dropout would make a round depend on hidden random numbers."""
    players = list(pair())
    players[place] = nn.Sequential(players[place], nn.Dropout(0.3))
    with pytest.raises(ValueError, match=r"'1' \(Dropout\)"):
        recipe(*players, latent_dim=LATENT)


def test_latent_dim_must_come_from_somewhere(recipe):
    """A generator without the attribute needs the argument, which then wins."""
    bare = make(nn.Linear, 4, 2)
    with pytest.raises(ValueError, match=r"Linear has no attribute latent_dim.*latent_dim="):
        recipe(bare, make(Critic))
    algorithm = recipe(bare, make(Critic), latent_dim=4, sample_shape=(2,))
    assert algorithm.latent_dim == 4
    assert algorithm.noise(0, 0, 5).generator_latent.shape == (5, 4)


def test_an_empty_batch_of_noise_is_refused(recipe):
    """Noise for no sample is an error."""
    with pytest.raises(ValueError, match=r"batch_size.*0"):
        recipe(*pair()).noise(0, 0, 0)


def game(wrap=Plain, shape=(2,), **options):
    """A wgan_gp between modules whose forward methods take exactly what they need."""
    conditional = wrap is Labelled
    generator = wrap(make(Generator, shape, conditional))
    critic = wrap(make(Critic, shape, conditional))
    return fgan.wgan_gp(generator, critic, **{"n_critic": 2} | options)


def test_samples_of_another_shape_are_refused():
    """The error gives both shapes."""
    algorithm = game()
    with pytest.raises(ValueError, match=r"\[2\].*\[3\]"):
        algorithm.step(algorithm.init(0), *make_round(algorithm, (3,)))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64])
def test_integer_samples_are_refused(kind):
    """Raw images must be normalised first."""
    algorithm = game()
    batch, noise = make_round(algorithm)
    with pytest.raises(ValueError, match=f"floating point.*{kind}.*normalise"):
        algorithm.step(algorithm.init(0), batch._replace(real=batch.real.to(kind)), noise)


@pytest.mark.parametrize("labelled", [False, True])
def test_conditions_and_networks_must_fit(labelled):
    """A condition for modules that take none, and none for modules that need one, are refused."""
    algorithm = game(Labelled if labelled else Plain)
    batch, noise = make_round(algorithm, (2,), not labelled)
    state = algorithm.init(0)
    label = None if labelled else batch.condition[0]
    for call in (
        lambda: algorithm.step(state, batch, noise),
        lambda: algorithm.generate(state, noise.generator_latent, label),
        lambda: algorithm.score(state, batch.real[0], label),
    ):
        with pytest.raises(ValueError, match=r"forward takes.*were given.*condition"):
            call()


def bad_rounds():
    """Rounds of two updates with four samples in which one part has another leading axis."""
    algorithm = game(Labelled)
    batch, noise = make_round(algorithm, (2,), True)
    return {
        "critic_latent": (batch, noise._replace(critic_latent=noise.critic_latent[:1])),
        "mix": (batch, noise._replace(mix=noise.mix[:, :3])),
        "condition": (batch._replace(condition=batch.condition[:, :3]), noise),
        "generator_latent": (
            batch,  # nine latents, and eight real samples to take conditions from
            noise._replace(generator_latent=noise.generator_latent.repeat(3, 1)[:9]),
        ),
        "real": (batch._replace(real=batch.real[0]), noise),
    }


@pytest.mark.parametrize("part", list(bad_rounds()))
def test_leading_axes_must_agree(part):
    """The error names the part that does not fit, and both shapes."""
    algorithm = game(Labelled)
    with pytest.raises(ValueError, match=rf"{part}.*(\[|9 latents)"):
        algorithm.step(algorithm.init(0), *bad_rounds()[part])


def test_latents_of_another_size_are_refused():
    """Latents of a size that the generator was not built for are an error that says so."""
    algorithm = game()
    batch, noise = make_round(algorithm)
    wide = noise._replace(critic_latent=torch.zeros(2, 4, LATENT + 1).double())
    with pytest.raises(ValueError, match="latent"):
        algorithm.step(algorithm.init(0), batch, wide)
    for latent in (wide.critic_latent[0], noise.critic_latent, noise.generator_latent[0]):
        with pytest.raises(ValueError, match=rf"\[B, {LATENT}\], and \["):
            algorithm.generate(algorithm.init(0), latent)


def test_a_round_without_critic_updates_is_refused():
    """An empty leading axis is an error, not a round of the generator alone."""
    algorithm = game()
    batch, noise = make_round(algorithm)
    noise = noise._replace(critic_latent=noise.critic_latent[:0], mix=noise.mix[:0])
    with pytest.raises(ValueError, match="at least one critic update"):
        algorithm.step(algorithm.init(0), fgan.Batch(batch.real[:0]), noise)


def test_a_simultaneous_round_has_one_update():
    """A batch of two updates does not fit simultaneous play."""
    algorithm = game(n_critic=1, update="simultaneous")
    noise = game().noise(0, 0, 4)
    with pytest.raises(ValueError, match=r"simultaneous.*2"):
        algorithm.step(algorithm.init(0), make_batch(n_critic=2), noise)


@pytest.mark.parametrize("width", [2, 4, 8])
def test_more_than_one_score_a_sample_is_refused(recipe, width):
    """A critic with [B, 2] outputs, or as many as samples, is told what it should give."""
    generator, _ = pair()
    algorithm = recipe(generator, make(nn.Linear, 2, width), n_critic=2)
    state = algorithm.init(0)
    batch, noise = make_round(algorithm)

    def message(size):
        return (
            rf"one score a sample.*\[{size}\] or \[{size}, 1\].*\[{size}, {width}\].*\[{size}, 2\]"
        )

    # Real and fake samples go through this critic together.
    with pytest.raises(ValueError, match=message(8)):
        algorithm.step(state, batch, noise)
    with pytest.raises(ValueError, match=message(4)):
        algorithm.score(state, batch.real[0])
    with pytest.raises(ValueError, match=message(4)):
        algorithm.generator_update(state, noise.generator_latent, real=batch.real[0])


def test_flat_and_column_scores_are_one(recipe):
    """Critics that give [B] and [B, 1] train alike."""
    generator, critic = pair()
    flat = nn.Sequential(critic, nn.Flatten(0))
    outcomes = []
    for player in (critic, flat):
        algorithm = recipe(generator, player, n_critic=2)
        outcomes.append(algorithm.step(algorithm.init(), *make_round(algorithm))[1])
    assert_identical(*outcomes)


@pytest.mark.parametrize("name", ["n_critic", "warm", "every"])
def test_a_warm_up_without_updates_is_refused(name):
    """Every count of the schedule is at least one, and the message says which is not."""
    with pytest.raises(ValueError, match=f"{name} is a whole number from 1"):
        fgan.recipes.critic_warmup(**{name: 0})


def test_a_loss_that_sees_real_samples_is_given_them():
    """Relativistic pairs without them would have a gradient of exactly zero, unnoticed."""
    options = dict(generator_optimizer=fgan.sgd(0.1), critic_optimizer=fgan.sgd(0.1))
    blind, seeing = (
        make_algorithm(
            *pair(),
            adversarial(losses.relativistic_critic_loss),
            adversarial_generator(losses.relativistic_generator_loss, uses_real=sees),
            **options,
        )
        for sees in (False, True)
    )
    batch, noise = make_round(seeing)
    _, info = blind.step(blind.init(), batch, noise)
    assert info.generator_loss.isnan()
    with pytest.raises(ValueError, match="uses real samples"):
        seeing.generator_update(seeing.init(), noise.generator_latent)
    assert seeing.step(seeing.init(), batch, noise)[1].generator_grad_norm > 0


@pytest.mark.parametrize(
    "given", [dict(penalty_weight=10.0), dict(sample_at="real")], ids=["weight", "place"]
)
@pytest.mark.parametrize("name", ["gan", "wgan"])
def test_settings_of_a_penalty_need_one(name, given):
    """What would do nothing is not accepted silently."""
    with pytest.raises(TypeError, match=f"no setting {next(iter(given))!r} here"):
        getattr(fgan, name)(*pair(), **given)


def test_an_optimiser_of_another_kind_is_refused_at_once():
    """torch.optim's hold the parameters they change."""
    generator, critic = pair()
    for wrong in (torch.optim.Adam(critic.parameters()), fgan.adam, 1e-3):
        with pytest.raises(ValueError, match=r"critic_optimizer .*fgan\.adam\(1e-4\)"):
            fgan.gan(generator, critic, critic_optimizer=wrong)


def test_an_empty_batch_is_refused(recipe):
    """Losses of nothing are not a number."""
    algorithm = recipe(*pair(), n_critic=2)
    batch, noise = make_round(algorithm)
    none = fgan.Batch(batch.real[:, :0])
    less = fgan.Noise(noise.critic_latent[:, :0], noise.generator_latent[:0], noise.mix[:, :0])
    with pytest.raises(ValueError, match="at least one sample"):
        algorithm.step(algorithm.init(), none, less)


def test_a_critic_update_needs_latents_or_fakes(recipe):
    """Fakes made already need no latents; without either there is nothing to judge."""
    algorithm = recipe(*pair(), n_critic=1)
    state, (batch, noise) = algorithm.init(), make_round(algorithm)
    given = state, batch.real[0], None
    fake = algorithm.fakes(state, noise.critic_latent[0])
    rest = noise.mix[0], fake, critic_extra(noise)
    made = algorithm.critic_update(*given, None, *rest)
    drawn = noise.critic_latent[0], noise.mix[0], None, critic_extra(noise)
    assert_identical(made, algorithm.critic_update(*given, *drawn))
    with pytest.raises(ValueError, match="latents, or else the fakes"):
        algorithm.critic_update(*given, None, noise.mix[0], None, critic_extra(noise))


@pytest.mark.parametrize(
    ("recipe", "options"),
    [(fgan.wgan_gp, {"target": abs}), (fgan.wgan_div, {"k": abs}), (fgan.wgan_div, {"p": abs})],
)
def test_a_penalty_s_own_numbers_are_no_schedules(recipe, options):
    """They would be called with nothing that they know."""
    with pytest.raises(ValueError, match="is a number or a 0-d tensor"):
        recipe(*pair(), **options)


def test_generator_latents_of_another_form_are_refused():
    """No latents, and latents of another size or rank."""
    algorithm = fgan.gan(*pair())
    batch, noise = make_round(algorithm)
    for latent in (noise.generator_latent[:0], noise.generator_latent[:, :1], noise.critic_latent):
        with pytest.raises(
            ValueError, match=rf"generator_latent is \[B, latent_dim\] = \[4, {LATENT}"
        ):
            algorithm.step(algorithm.init(0), batch, noise._replace(generator_latent=latent))
