"""Settings: one table of them, their files, their presets, and what is built of them."""

import dataclasses
import json
import re
from types import NoneType

import pytest
import torch

import fgan
from fgan import augment, models
from fgan.cli import main
from fgan.recipes import RECIPES
from fgan.run import build, compiling
from fgan.run.configuration import Config, Run
from fgan.run.flags import as_toml, merged, read_toml
from fgan.run.presets import PRESETS, average, complete
from fgan.run.settings import KIND_OF, kinds_of
from fgan.scalars import scalar_at
from fgan.types import Batch

SHAPE, NAMES, SIZE = (1, 8, 8), ("a", "b", "c"), 4
IMAGES, POINTS = (1, 28, 28), (2,)

EXAMPLES = {int: ("7", 7), float: ("0.25", 0.25), str: ("x", "x"), tuple: ("0.1 0.9", (0.1, 0.9))}
"""A word of the command line, and its value, by type."""

OF_VERSION_0_1 = {
    "recipe": "wgan-gp",
    "data": "glyphs",
    "image_size": None,
    "conditional": True,
    "rounds": 500,
    "batch_size": 64,
    "seed": 0,
    "model": "auto",
    "latent_dim": 5,
    "width": 4,
    "critic_norm": None,
    "n_critic": None,
    "lr": None,
    "ema_decay": 0.99,
    "update": "alternating",
    "loss": None,
    "clip": None,
    "critic_warmup": None,
    "penalty_weight": None,
    "k": None,
    "p": None,
    "sample_at": None,
    "log_every": 10,
    "sample_every": 50,
}
"""The settings of a run of version 0.1, as they stand in its config.json."""


def inputs(n_critic=1, rounds=3, shape=SHAPE):
    """A batch of small images and labels for each round."""
    source = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        real = torch.rand(n_critic, SIZE, *shape, generator=source) * 2 - 1
        yield Batch(real, torch.randint(3, (n_critic, SIZE), generator=source))


def played(algorithm, n_critic=1, rounds=3, shape=SHAPE):
    """The state after some rounds."""
    state = algorithm.init(0)
    for index, batch in enumerate(inputs(n_critic, rounds, shape)):
        state, _ = algorithm.step(state, batch, algorithm.noise(0, index, SIZE))
    return state


def built(**settings):
    """The algorithm of a small configuration."""
    settings = {"latent_dim": 5, "width": 4, "model": "conv"} | settings
    return Run(Config(**settings), SHAPE, NAMES).build()


def networks(**more):
    """The networks of `built`, made by hand."""
    of_critic = {k: v for k, v in more.items() if k == "norm"}
    return (
        models.conv_generator(SHAPE, 5, 3, 4, **{k: v for k, v in more.items() if k != "norm"}),
        models.conv_critic(SHAPE, 3, 4, **of_critic),
    )


def same(state, other):
    """Whether two states have the same bits."""
    leaves = zip(fgan.tree.leaves(state), fgan.tree.leaves(other), strict=True)
    return all(torch.equal(a, b) for a, b in leaves)


# --- one table -----------------------------------------------------------------------------------


def test_every_field_has_a_flag_a_help_and_a_type(monkeypatch, capsys):
    """What `fgan train` hands on under the field's name is of the field's type."""
    got = {}
    monkeypatch.setattr("fgan.cli.train_command", lambda console, **given: got.update(given))
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    page = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(Config):
        assert field.metadata["help"], field.name
        assert " ".join(field.metadata["help"].split()) in page, field.name
        flag = f"--{field.name.replace('_', '-')}"
        kinds = [kind for kind in kinds_of(field.name) if kind is not NoneType]
        assert len(kinds) == 1
        if kinds == [bool]:
            for way, value in ((flag, True), (flag.replace("--", "--no-"), False)):
                assert main(["train", way]) == 0
                assert got[field.name] is value
            continue
        word, value = EXAMPLES[tuple if field.name == "betas" else kinds[0]]
        words = [word] if field.name == "recipe" else [flag, *word.split()]
        assert main(["train", *words]) == 0
        assert merged(got, None)[field.name] == value
        assert [name for name in KIND_OF if got[name] is not None] == [field.name]


def test_defaults_are_of_the_fields_types():
    """A configuration that is written with defaults alone can be read."""
    for field in dataclasses.fields(Config):
        assert field.default is None or type(field.default) in kinds_of(field.name)


def test_what_is_saved_is_read(tmp_path):
    """A pair of numbers too, which JSON has as a list."""
    run = Run(Config(betas=(0.5, 0.99), decay="linear", augment="flip"), SHAPE, NAMES)
    run.save(tmp_path / "config.json")
    read = Run.load(tmp_path / "config.json")
    assert read.config == dataclasses.replace(run.config, model="conv")


# --- earlier versions ----------------------------------------------------------------------------


def networks_of_0_1(shape):
    """What version 0.1 made of "auto", width 4: convolutions for 28x28, a perceptron for 8x8."""
    if shape == (1, 28, 28):
        return models.conv_generator(shape, 5, 3, 4), models.conv_critic(shape, 3, 4)
    hidden = (4, 4, 4)
    return (
        models.mlp_generator(shape, 5, 3, hidden),
        models.mlp_critic(shape, 3, hidden, norm="none"),
    )


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8)], ids=["conv", "mlp"])
@pytest.mark.parametrize(("recipe", "rule"), [("wgan-gp", (0.0, 0.9)), ("wgan-div", (0.5, 0.999))])
def test_an_earlier_configuration_means_what_it_meant(recipe, rule, shape, tmp_path):
    """Five critic updates, the paper's penalty, Adam at 1e-3 without decay, one-hot labels."""
    path = tmp_path / "config.json"
    content = OF_VERSION_0_1 | {"recipe": recipe, "sample_shape": shape, "class_names": NAMES}
    path.write_text(json.dumps(content))
    run = Run.load(path)
    adam = fgan.adam(1e-3, betas=rule)
    by_hand = RECIPES[recipe].function(
        *networks_of_0_1(shape),
        n_critic=5,
        generator_optimizer=adam,
        critic_optimizer=adam,
        ema_decay=0.99,
    )
    assert run.build().n_critic == 5
    assert same(played(run.build(), 5, shape=shape), played(by_hand, 5, shape=shape))


def test_an_earlier_run_goes_on(tmp_path, capsys):
    """Without the keys of this version a run ends in the bits that it has with them."""
    # A recipe whose points have no preset: version 0.1 had no decay.
    small = ["gan", "--data", "rings", "--batch-size", "8", "--width", "8", "--log-every", "1"]
    states = []
    for name in ("now", "before"):
        out = tmp_path / name
        assert main(["train", *small, "--rounds", "2", "--out", str(out)]) == 0
        if name == "before":
            content = json.loads((out / "config.json").read_text())
            known = {*OF_VERSION_0_1, "sample_shape", "class_names", "data_fingerprint"}
            old = {key: value for key, value in content.items() if key in known}
            assert len(old) < len(content)
            (out / "config.json").write_text(json.dumps(old))
        assert main(["train", "--resume", "--rounds", "4", "--out", str(out)]) == 0
        states.append(torch.load(out / "checkpoint.pt", weights_only=True)["leaves"])
    now, before = states
    assert now.keys() == before.keys()
    assert all(torch.equal(now[name], before[name]) for name in now)
    assert "rates " not in capsys.readouterr().out


def test_an_earlier_run_is_not_compiled_by_itself(tmp_path, capsys):
    """Compiled sums have other bits, and that run was never compiled on the CPU."""
    out = tmp_path / "run"
    small = ["--data", "rings", "--batch-size", "8", "--width", "8"]
    assert main(["train", *small, "--rounds", "1", "--out", str(out)]) == 0
    path = out / "config.json"
    content = json.loads(path.read_text())
    assert content["compile"] is False
    path.write_text(json.dumps({k: v for k, v in content.items() if k != "compile"}))
    told = ["train", "--resume", "--rounds", "100000", "--out", str(out), "--dry-run"]
    capsys.readouterr()
    assert main(told) == 0
    assert "compile = false" in capsys.readouterr().out.splitlines()
    assert compiling.repays(Config(rounds=100_000))


# --- what is built -------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_the_preset_paper_is_the_recipe_with_its_own_defaults(recipe):
    """The bits of the Python function without a keyword; hinge-gan with spectral norm."""
    given = {"recipe": recipe, "latent_dim": 5, "width": 4, "model": "conv"}
    config = complete(given, "paper", SHAPE, 3)
    norm = {"norm": "spectral"} if recipe == "hinge-gan" else {}
    by_hand = RECIPES[recipe].function(*networks(**norm))
    count = RECIPES[recipe].n_critic
    assert config.batch_size == 64
    assert same(played(Run(config, SHAPE, NAMES).build(), count), played(by_hand, count))


def test_two_learning_rates():
    """Each player's own rate, or that of both."""
    rule = {"recipe": "gan", "lr": 0.5}

    def by_hand(rate_g, rate_d):
        adam_g, adam_d = (fgan.adam(rate, betas=(0.5, 0.999)) for rate in (rate_g, rate_d))
        more = {"generator_optimizer": adam_g, "critic_optimizer": adam_d, "ema_decay": 0.99}
        return played(fgan.gan(*networks(), **more))

    assert same(played(built(**rule)), by_hand(0.5, 0.5))
    assert same(played(built(**rule, lr_generator=0.1)), by_hand(0.1, 0.5))
    assert same(played(built(**rule, lr_critic=0.2)), by_hand(0.5, 0.2))
    assert same(played(built(recipe="gan", lr_generator=0.1, lr_critic=0.0)), by_hand(0.1, 0.0))
    assert same(played(built(recipe="gan")), by_hand(1e-3, 1e-3))


def fall(kind, share):
    """The factor of a rate where a share of the falling part has gone."""
    return {"linear": 1 - share, "cosine": (1 + torch.cos(torch.pi * torch.tensor(share))) / 2}[
        kind
    ]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("updates", [1, 2])
def test_decay_is_the_schedule(kind, updates):
    """Each update has the bits of an optimiser whose constant rate is that of the closed form."""
    rounds, begin = 6, 3
    settings = {"recipe": "gan", "n_critic": updates, "lr_critic": 0.02, "lr_generator": 0.01}
    falling = built(**settings, decay=kind, decay_from=0.5, rounds=rounds)
    state = other = falling.init(0)
    for index, batch in enumerate(inputs(updates, rounds)):
        noise = falling.noise(0, index, SIZE)
        state, _ = falling.step(state, batch, noise)
        for i in range(updates):
            gone = max(0, index * updates + i - begin * updates) / ((rounds - begin) * updates)
            rate = 0.02 * float(fall(kind, gone))
            constant = built(**settings | {"lr_critic": rate})
            other, _ = constant.critic_update(
                other, batch.real[i], batch.condition[i], noise.critic_latent[i], noise.mix[i]
            )
        rate = 0.01 * float(fall(kind, max(0, index - begin) / (rounds - begin)))
        constant = built(**settings | {"lr_generator": rate})
        other, _ = constant.generator_update(other, noise.generator_latent, batch.condition[-1])
        for a, b in zip(fgan.tree.leaves(state), fgan.tree.leaves(other), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_the_warm_up_of_wgan_is_counted_by_the_decay():
    """A run of two rounds has 200 critic updates, of which the second hundred has falling rates."""
    from fgan.run.build import _decayed

    config = Config(recipe="wgan", critic_warmup=True, decay="linear", rounds=2)
    rate = _decayed(config, 1.0, fgan.recipes.critic_warmup(5))
    rates = [float(rate(torch.tensor(count))) for count in (0, 99, 100, 150, 199, 200)]
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.01, 0])
    endless = dataclasses.replace(config, rounds=10**400)
    assert _decayed(endless, 1.0, 1) == 1.0  # and not an error of numbers too large


def test_a_rate_that_falls_to_zero_still_moves_at_the_last_update():
    """The zero belongs to the update after the last."""
    settings = {"recipe": "gan", "decay": "linear", "rounds": 3}
    before, after = played(built(**settings), rounds=2), played(built(**settings), rounds=3)
    assert not same(before.generator.params, after.generator.params)


def test_betas_and_the_networks_options():
    """They reach the optimisers and the networks."""
    options = {"full_resolution": True, "attention": True}
    run = built(
        recipe="wgan-gp",
        betas=(0.1, 0.8),
        generator_conditioning="batch_norm",
        critic_conditioning="projection",
        **options,
    )
    pair = (
        models.conv_generator(SHAPE, 5, 3, 4, conditioning="batch_norm", **options),
        models.conv_critic(SHAPE, 3, 4, conditioning="projection", attention=True),
    )
    adam = fgan.adam(1e-3, betas=(0.1, 0.8))
    more = {"generator_optimizer": adam, "critic_optimizer": adam, "ema_decay": 0.99}
    assert same(played(run, 5), played(fgan.wgan_gp(*pair, **more), 5))


def test_accumulation_is_the_whole_batch_in_parts():
    """The critic, which has no BatchNorm, moves as with the whole batch."""
    settings = {"recipe": "wgan-gp", "n_critic": 1, "lr": 1e-4, "batch_size": SIZE}
    whole, parts = built(**settings), built(**settings, accumulate=2)
    states = []
    for algorithm in (whole, parts):
        state, batch = algorithm.init(0), next(inputs())
        noise = algorithm.noise(0, 0, SIZE)
        fake = torch.zeros_like(batch.real[0])
        states.append(
            algorithm.critic_update(
                state, batch.real[0], batch.condition[0], None, noise.mix[0], fake
            )[0]
        )
    for name, param in states[0].critic.params.items():
        torch.testing.assert_close(states[1].critic.params[name], param, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="2 equal parts"):
        parts.step(parts.init(0), Batch(*(x[:, :3] for x in batch)), parts.noise(0, 0, 3))


def test_autocast_is_that_of_the_recipe():
    """The bits of the recipe in bfloat16, which are not those of float32."""
    adam = fgan.adam(1e-3, betas=(0.5, 0.999))
    more = {"generator_optimizer": adam, "critic_optimizer": adam, "ema_decay": 0.99}
    by_hand = played(fgan.gan(*networks(), autocast=torch.bfloat16, **more))
    assert same(played(built(recipe="gan", autocast="bfloat16")), by_hand)
    assert not same(played(built(recipe="gan")), by_hand)


def test_augmentations_are_chained_in_their_order():
    """The bits of the recipe under the same augmentations."""
    adam = fgan.adam(1e-3, betas=(0.5, 0.999))
    more = {"generator_optimizer": adam, "critic_optimizer": adam, "ema_decay": 0.99}
    made = augment.chain(augment.cutout(), augment.translation(), augment.colour(), augment.flip())
    by_hand = played(fgan.gan(*networks(), augmentation=made, **more))
    assert same(played(built(recipe="gan", augment="cutout,translation,colour,flip")), by_hand)


@pytest.mark.parametrize(
    ("shape", "more"),
    [
        ((3, 16), {}),
        ((1, 8, 8), {}),
        ((1, 8, 6, 8), {}),
        ((1, 8, 8), {"model": "resnet"}),
        ((1, 8, 8), {"model": "mlp"}),
        ((5,), {"augment": None}),
    ],
)
def test_augmentations_and_presets_suit_every_shape(shape, more):
    """A round of what the default preset makes of signals, images, volumes and tables."""
    given = {"width": 4, "latent_dim": 4, "augment": "translation,cutout", "recipe": "wgan-gp"}
    given = {name: value for name, value in (given | more).items() if value is not None}
    config = complete(given, "minutes", shape, 3)
    algorithm = Run(config, shape, NAMES).build()
    batch = Batch(torch.zeros(config.critic_updates(), 2, *shape), None)
    batch = batch._replace(condition=torch.zeros(batch.real.shape[:2], dtype=torch.int64))
    _, info = algorithm.step(algorithm.init(0), batch, algorithm.noise(0, 0, 2))
    assert info.critic_loss.isfinite()


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_every_recipe_plays_a_round_of_its_default_preset(recipe):
    """Conditional, on images."""
    config = complete({"recipe": recipe, "width": 4}, "minutes", SHAPE, 3)
    algorithm, updates = Run(config, SHAPE, NAMES).build(), config.critic_updates()
    for index, batch in enumerate(inputs(updates, rounds=2)):
        noise = algorithm.noise(0, index, SIZE)
        _, info = algorithm.step(algorithm.init(0), batch, noise)
    assert all(bool(figure.isfinite()) for figure in info[:2])


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({"model": "mlp", "full_resolution": True}, SHAPE, "full_resolution is no setting of the"),
        ({"model": "mlp", "attention": True}, SHAPE, "attention is no setting of the mlp"),
        ({"model": "mlp", "critic_conditioning": "projection"}, SHAPE, "critic_conditioning is no"),
        ({"model": "resnet", "full_resolution": True}, SHAPE, "setting of the resnet networks"),
        ({"generator_conditioning": "batch_norm", "conditional": False}, SHAPE, "classes"),
        ({"augment": "flip"}, POINTS, r"a sample is \[2\]"),
    ],
)
def test_what_networks_do_not_have_is_refused(settings, shape, message):
    """By the setting's name, before anything is trained."""
    with pytest.raises(ValueError, match=message):
        Run(Config(**settings), shape, NAMES).build()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": "slow"}, "unknown decay 'slow'; known are none, linear, cosine"),
        ({"decay_from": 1.0}, "decay_from"),
        ({"autocast": "float16"}, "unknown autocast 'float16'; known are bfloat16"),
        ({"augment": "flip,rain"}, "unknown augmentation 'rain'"),
        ({"augment": ""}, "unknown augmentation ''"),
        ({"accumulate": 0}, "accumulate is a whole number from 1"),
        ({"accumulate": 7}, "batch_size 64 has no 7 equal parts"),
        ({"critic_conditioning": "batch_norm"}, "unknown critic_conditioning"),
        ({"recipe": "wgan", "betas": (0.0, 0.9)}, "betas is a setting of gan and wgan-gp"),
        ({"lr_critic": -1.0}, "lr_critic: a learning rate is at least 0"),
        ({"lr": float("nan")}, "lr: a learning rate"),
    ],
)
def test_values_out_of_range_are_named(settings, message):
    """As soon as they are given."""
    with pytest.raises(ValueError, match=message):
        Config(**settings)


# --- presets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("recipe", list(RECIPES))
@pytest.mark.parametrize("shape", [IMAGES, (3, 32, 32), (1, 128, 128), POINTS, (2, 64)])
@pytest.mark.parametrize("conditional", [True, False])
def test_presets_keep_what_was_given(preset, recipe, shape, conditional):
    """Every combination is a configuration, and given values are the ones that count."""
    given = {"recipe": recipe, "conditional": conditional}
    config = complete(given, preset, shape, 3)
    assert (config.recipe, config.conditional) == (recipe, conditional)
    for name, value in {"rounds": 7, "batch_size": 6, "n_critic": 3, "lr": 0.5, "ema_decay": 0.25,
                        "decay": "cosine", "latent_dim": 3}.items():  # fmt: skip
        changed = complete(given | {name: value}, preset, shape, 3)
        assert getattr(changed, name) == value


def test_the_default_preset_on_images():
    """The settings that were found by trying, for wgan-gp."""
    config = complete({}, "minutes", IMAGES, 3)
    chosen = (config.penalty_weight, config.n_critic, config.batch_size, config.lr, config.betas)
    assert chosen == (1.0, 1, 32, 3e-3, (0.0, 0.99))
    assert (config.generator_conditioning, config.critic_conditioning) == (
        "batch_norm",
        "projection",
    )
    assert (config.full_resolution, config.decay, config.decay_from) == (True, "linear", 0.1)
    assert config.rounds == 2_000
    garments = complete({"data": "fashion-mnist"}, "minutes", IMAGES, 3)
    assert garments.rounds == 13_000
    slower = complete({"data": "mnist", "batch_size": 64, "n_critic": 3}, "minutes", IMAGES, 3)
    assert slower.rounds == 13_000 // 4 - 50  # to hundreds
    unlabelled = complete({}, "minutes", IMAGES, 0)
    assert (unlabelled.generator_conditioning, unlabelled.critic_conditioning) == ("one_hot",) * 2
    clipped = complete({"recipe": "wgan"}, "minutes", IMAGES, 3)
    assert (clipped.clip, clipped.betas, clipped.n_critic) == (0.05, None, 1)  # RMSprop
    assert complete({"recipe": "dragan"}, "minutes", IMAGES, 3).penalty_weight == 1.0
    assert complete({"recipe": "lsgan"}, "minutes", IMAGES, 3).critic_norm == "spectral"
    assert complete({"recipe": "gan"}, "minutes", IMAGES, 3).gamma == 1.0
    assert complete({"recipe": "gan"}, "paper", IMAGES, 3).gamma is None
    assert complete({"recipe": "hinge-gan"}, "minutes", IMAGES, 3).critic_norm == "spectral"
    assert complete({"recipe": "hinge-gan"}, "minutes", POINTS, 3).critic_norm is None


def test_the_default_preset_on_points():
    """The settings that were found by trying; the defaults of the fields for other recipes, and for
    tables."""
    config = complete({"data": "grid"}, "minutes", POINTS, 3)
    chosen = (config.penalty_weight, config.n_critic, config.batch_size, config.lr, config.betas)
    assert chosen == (0.1, 1, 256, 2e-3, (0.0, 0.99))
    assert (config.latent_dim, config.decay_from, config.rounds) == (2, 0.1, 24_000)
    assert config.decay == "linear"
    assert config.ema_decay == average(24_000)
    assert complete({"recipe": "wgan-div"}, "minutes", (3,), 0).latent_dim == 3
    assert complete({"recipe": "wgan-div"}, "minutes", (3,), 0).k is None
    for given, shape in ({"recipe": "gan"}, POINTS), ({"recipe": "wgan-gp"}, (4,)):
        assert complete(given, "minutes", shape, 3) == Config(**given, lr=1e-3)


def test_the_average_follows_the_length_of_the_run():
    """Near 0.99 at 2,000 rounds and 0.999 at 13,000, and within bounds."""
    assert average(2_000) == pytest.approx(0.99, abs=0.003)
    assert average(13_000) == pytest.approx(0.999, abs=0.0002)
    assert average(1) == 0.9
    assert average(10**9) == 0.9995
    assert complete({"rounds": 2_000}, "minutes", IMAGES, 3).ema_decay == average(2_000)


def test_the_average_is_short_at_first(monkeypatch):
    """Its decay, round by round: that of the run so far, up to the setting's; else the setting."""
    given = {}
    monkeypatch.setitem(
        RECIPES,
        "gan",
        RECIPES["gan"]._replace(function=lambda *_, **settings: given.update(settings)),
    )
    for warm in (True, False):
        config = Config(recipe="gan", ema_decay=0.97, ema_warmup=warm)
        build.algorithm_of(config, POINTS, None, None)
        decays = [float(scalar_at(given["ema_decay"], torch.tensor(t))) for t in (0, 14, 29, 999)]
        assert decays == pytest.approx([0.0, 0.0, 0.5, 0.97] if warm else [0.97] * 4)
    build.algorithm_of(Config(recipe="gan", ema_decay=None, ema_warmup=True), POINTS, None, None)
    assert given["ema_decay"] is None
    assert complete({}, "minutes", IMAGES, 3).ema_warmup
    assert not complete({}, "paper", IMAGES, 3).ema_warmup
    assert not complete({}, "minutes", POINTS, 3).ema_warmup


def test_compiling_is_for_runs_that_repay_it():
    """The default run of images is compiled, and a short one of points is not."""
    assert compiling.repays(complete({}, "minutes", IMAGES, 3))
    assert not compiling.repays(complete({"recipe": "gan", "data": "rings"}, "minutes", POINTS, 3))
    assert compiling.updates(Config(recipe="wgan", rounds=10)) == 60


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def toml(tmp_path):
    """Writes a file of settings."""

    def write(text):
        path = tmp_path / "settings.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_flags_win_over_the_file(toml):
    """And a flag for both rates over the rates of the players."""
    path = toml('recipe = "gan"\nrounds = 3\nlr = 1\nlr_critic = 0.5\nbetas = [0, 0.5]\n')
    given = merged({"rounds": 4, "seed": None, "betas": None}, path)
    assert given == {"recipe": "gan", "rounds": 4, "lr": 1, "lr_critic": 0.5, "betas": (0, 0.5)}
    assert merged({"lr": 2.0}, path)["lr"] == 2.0
    assert "lr_critic" not in merged({"lr": 2.0}, path)
    assert merged({"lr": 2.0, "lr_critic": 3.0}, path)["lr_critic"] == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("round = 3", "'round' is no setting of this version of fgan; known are recipe, data"),
        ("batch-size = 3", "'batch-size' is no setting"),
        ("[networks]\nwidth = 3", "'networks' is no setting"),
        ("rounds = 3.0", "rounds is a whole number, and 3.0 stands there"),
        ("rounds = true", "rounds is a whole number, and True stands there"),
        ('lr = "1e-3"', "lr is a number, and '1e-3' stands there"),
        ("betas = 0.5", "betas is a list of two numbers, and 0.5 stands there"),
        ("betas = [0.5]", "betas is a list of two numbers"),
        ("betas = [0.5, true]", "betas is a list of two numbers"),
        ("conditional = 1", "conditional is true or false, and 1 stands there"),
        ("rounds = 1979-05-27", "rounds is a whole number, and datetime.date"),
        ("seed = 1\nrounds = x", "no TOML: Invalid value .*line 2"),
        ("rounds = 1\nrounds = 2", "no TOML: Cannot overwrite"),
        (b"data = '\xff'", "is not UTF-8 text: byte 8"),
        ("lr = " + "[" * 10_000, "settings.toml: no TOML"),
    ],
)
def test_a_wrong_file_of_settings_is_named(text, message, toml, tmp_path, capsys):
    """File and key stand in one line, and nothing is written."""
    path = toml(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_toml(path)
    assert str(raised.value).startswith(str(path))
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert not (tmp_path / "run").exists()


def test_what_is_no_file_of_settings(tmp_path):
    """A folder, and nothing at all."""
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(ValueError, match="it is no file"):
            read_toml(path)


def test_the_settings_as_toml_are_read_again(toml):
    """Strings with quotes, backslashes and line breaks too."""
    config = Config(data='folder:a "b" \\c\n\x7fé', betas=(0.0, 0.5), lr=1e-30, conditional=False)
    path = toml("\n".join(as_toml(config)))
    assert Config(**merged({}, path)) == config
    assert re.search("^conditional = false$", path.read_text(), re.MULTILINE)
