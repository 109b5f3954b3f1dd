"""`fgan train` on folders of pictures: mirrored ones, broken ones, and those without classes."""

import json
from functools import partial

import pytest
import torch
from helpers import assert_identical
from PIL import Image

import fgan
from fgan import cli
from fgan.run import checkpoints
from fgan.run.configuration import Run
from fgan.run.replay import replay_run

TINY = [
    *("--model", "mlp", "--width", "8", "--latent-dim", "3", "--batch-size", "4"),
    *("--n-critic", "2", "--log-every", "1", "--no-compile", "--device", "cpu"),
]


def run(*arguments):
    """Call the command line in this process."""
    return cli.main([str(argument) for argument in arguments])


def paint(folder, count=6):
    """Pictures of 8 x 8 pixels that are bright on the left."""
    folder.mkdir(parents=True)
    for i in range(count):
        picture = Image.new("L", (8, 8), 10 * i)
        picture.paste(200 + i, (0, 0, 3, 8))
        picture.save(folder / f"{i}.png")
    return folder


def state_of(out):
    """The last state of a run."""
    like = Run.load(out / "config.json").build().init()
    return checkpoints.load(out / "checkpoint.pt", like)


def test_mirrored_images_are_those_of_a_script_also_resumed_and_replayed(tmp_path, capsys):
    """`--flip` is `fgan.train(flip=True)`, bit for bit, and it stays with the run."""
    data = f"folder:{paint(tmp_path / 'images')}"
    train = partial(run, "train", "gan", *TINY, "--data", data)
    assert train("--rounds", 3, "--flip", "--out", tmp_path / "whole") == 0
    assert train("--rounds", 2, "--flip", "--out", tmp_path / "parts") == 0
    assert run("train", "--resume", "--rounds", 3, "--out", tmp_path / "parts") == 0
    assert run("train", "--resume", "--no-flip", "--out", tmp_path / "parts") == 2
    assert "has flip = True, and False was given" in capsys.readouterr().err
    whole = state_of(tmp_path / "whole")
    assert_identical(state_of(tmp_path / "parts"), whole)
    replayed = replay_run(tmp_path / "parts")
    assert (replayed.start, replayed.round) == (2, 3)
    assert_identical(replayed.state, whole)

    algorithm = Run.load(tmp_path / "whole" / "config.json").build()
    settings = {"rounds": 3, "batch_size": 4}
    mine, plain = (
        fgan.train(algorithm, data, out=tmp_path / str(flip), flip=flip, **settings)
        for flip in (True, False)
    )
    assert_identical(mine, whole)
    first = "layers.0.weight"
    assert not torch.equal(plain.critic.params[first], whole.critic.params[first])


def test_a_dry_run_mirrors_too(tmp_path, monkeypatch, capsys):
    """The setting is shown, and the round that is tried has it."""
    seen = []
    rounds = fgan.data.batches
    monkeypatch.setattr(
        "fgan.run.dry_run.batches", lambda *a, **k: seen.append(k["flip"]) or rounds(*a, **k)
    )
    assert run("train", "gan", *TINY, "--flip", "--dry-run", "--out", tmp_path / "x") == 0
    assert "\nflip = true\n" in capsys.readouterr().out
    assert seen == [True]


def test_broken_files_are_left_out_on_request_and_counted(tmp_path, capsys):
    """The run, its continuation and its replay read the same pictures, and say what is left out."""
    images = paint(tmp_path / "images")
    whole = (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "run"
    train = ("train", "gan", *TINY, "--data", f"folder:{images}", "--rounds", 1, "--out", out)
    assert run(*train) == 2
    said = capsys.readouterr().err
    assert "3.png" in said
    assert "--skip-broken" in said
    assert not out.exists()
    assert run(*train, "--skip-broken") == 0
    said = capsys.readouterr().out
    assert "5 samples [1, 8, 8]" in said
    assert "left out   1 broken (first: " in said
    assert run("train", "--resume", "--rounds", 2, "--out", out) == 0
    assert replay_run(out, 2).round == 2
    (images / "3.png").write_bytes(whole)
    assert run("train", "--resume", "--rounds", 3, "--out", out) == 2
    assert "the run in" in (said := capsys.readouterr().err)
    assert "has other data" in said


def test_a_folder_that_takes_long_shows_how_far_it_is(tmp_path, monkeypatch, capsys):
    """A line at most every two seconds; none where it is quick."""
    images = paint(tmp_path / "images", count=6)
    train = ("train", "gan", *TINY, "--data", f"folder:{images}", "--dry-run")
    assert run(*train) == 0
    assert "reading" not in capsys.readouterr().out
    clock = iter(range(10_000))
    monkeypatch.setattr("fgan.run.reading.time.monotonic", lambda: next(clock))
    assert run(*train) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("reading")]
    assert lines == [f"reading    {done} of 6 pictures" for done in (2, 4, 6)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--flip"], "flip is for images [C, H, W], and a sample of rings is [2]"),
        (["--flip", "--dry-run"], "flip is for images [C, H, W], and a sample of rings is [2]"),
        (["--skip-broken"], "skip_broken is for folder:PATH alone, and the data set is 'rings'"),
    ],
)
def test_settings_of_images_do_not_fit_points(tmp_path, options, reason, capsys):
    """Status 2 and one line, before anything is written."""
    out = tmp_path / "run"
    assert run("train", "gan", *TINY, "--data", "rings", "--out", out, *options) == 2
    assert capsys.readouterr().err == f"fgan: {reason}\n"
    assert not out.exists()


def test_runs_of_earlier_versions_mirror_nothing(tmp_path):
    """A configuration without the keys is a run without flips, in which no file may be broken."""
    Run(fgan.run.configuration.Config(), (1, 8, 8), ()).save(tmp_path / "config.json")
    content = json.loads((tmp_path / "config.json").read_text())
    assert (content.pop("flip"), content.pop("skip_broken")) == (False, False)
    (tmp_path / "config.json").write_text(json.dumps(content | {"class_names": ["a"]}))
    config = Run.load(tmp_path / "config.json").config
    assert (config.flip, config.skip_broken) == (False, False)


@pytest.mark.parametrize("folders", [("",), ("only",)])
def test_pictures_without_classes_are_evaluated(folders, tmp_path, capsys):
    """No sub-folder, or one: by their patches, with a note; no classifier can be trained."""
    for name in folders:
        paint(tmp_path / "images" / name, count=24)
    out = tmp_path / "run"
    images = ("--data", f"folder:{tmp_path / 'images'}", "--flip")
    assert run("train", "gan", *TINY, *images, "--rounds", 1, "--out", out) == 0
    capsys.readouterr()
    assert run("evaluate", out, "--samples", 10, "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "features   patches\n" in said
    assert "sliced Wasserstein of patches" in said
    assert "there are no classes to train a classifier on" in said
    assert "it is compared with the images as they are" in said
    content = json.loads((out / "evaluation.json").read_text())
    assert set(content["real"]) == {"patch_sliced_wasserstein", "patch_sliced_wasserstein_8x8"}
    generated, real = (
        content[side]["patch_sliced_wasserstein"]["value"] for side in ("generated", "real")
    )
    assert generated > 1.3 * real
    assert run("evaluate", out, "--features", "classifier", "--device", "cpu") == 2
    said = capsys.readouterr().err
    assert said.startswith("fgan: --features classifier needs two classes, and folder:")
    assert said.endswith("--features patches and inception need none\n")
