"""A run keeps its data: other data are refused at resume, naming both sides."""

import json

import pytest
import torch
from helpers import Critic, Generator
from PIL import Image

import fgan
from fgan.cli import main
from fgan.data import DataSet, fingerprint, load
from fgan.run import same_data

TINY = [
    *("--model", "mlp", "--width", "4", "--latent-dim", "2", "--batch-size", "4"),
    *("--n-critic", "1", "--log-every", "1", "--device", "cpu"),
]


def write(folder, classes):
    """A folder with classes of one-coloured pictures: {name: shades}."""
    for name, shades in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, shade in enumerate(shades):
            Image.new("L", (4, 4), shade).save(folder / name / f"{number}.png")


def snapshot(out):
    """Every file of a run, but the lock."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(p): p.read_bytes() for p in files if not p.name.startswith(".")}


@pytest.fixture
def run(tmp_path):
    """A run of two rounds on apples and bananas; the data and the run are beside each other."""
    write(tmp_path / "fruit", {"apple": [10, 20], "banana": [200, 210]})
    given = ("train", "gan", *TINY, "--data", f"folder:{tmp_path / 'fruit'}", "--rounds", "2")
    assert main([*given, "--out", str(tmp_path / "run")]) == 0
    return tmp_path


def resume(place):
    """The exit status of two more rounds."""
    return main(["train", "--resume", "--rounds", "4", "--out", str(place / "run")])


def rename(fruit):
    """The class order, and with it every label, changes."""
    (fruit / "apple").rename(fruit / "crab-apple")


def swap(fruit):
    """Two classes change their names."""
    (fruit / "apple").rename(fruit / "x")
    (fruit / "banana").rename(fruit / "apple")
    (fruit / "x").rename(fruit / "banana")


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (rename, ["'apple', 'banana'", "'crab-apple'", "class 0 is 'apple' there"]),
        (swap, ["the samples of class 'apple', 'banana' differ", "there and", "here"]),
        (lambda fruit: write(fruit, {"cherry": [90]}), ["'apple', 'banana', 'cherry'", "missing"]),
        (lambda fruit: write(fruit, {"aaa": [90]}), ["class 0 is 'apple' there and 'aaa' here"]),
        (lambda fruit: write(fruit, {"banana": [200, 210, 220]}), ["2 samples of class 'banana'",
                                                                  "have 3"]),
        (lambda fruit: write(fruit, {"banana": [200, 211]}), ["the samples of class 'banana'"]),
        (lambda fruit: write(fruit, {"banana": [210, 200]}), ["the samples of class 'banana'"]),
        (lambda fruit: [Image.new("L", (5, 4)).save(p) for p in fruit.rglob("*.png")],
         ["shape [1, 4, 4]", "[1, 4, 5]"]),
        (lambda fruit: [Image.new("RGB", (4, 4)).save(p) for p in fruit.rglob("*.png")],
         ["shape [1, 4, 4]", "[3, 4, 4]"]),
    ],
)  # fmt: skip
def test_other_data_are_refused_at_resume(change, messages, run, capsys):
    """Renamed, swapped, added and changed classes: both sides are named, nothing is written."""
    before = snapshot(run / "run")
    change(run / "fruit")
    assert resume(run) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"fgan: the run in {run / 'run'} has other data: ")
    assert len(errors.splitlines()) == 1
    for message in messages:
        assert message in errors
    assert snapshot(run / "run") == before


def test_the_same_data_are_resumed(run):
    """Touched files and files that are left out are no change."""
    for path in (run / "fruit").rglob("*.png"):
        path.touch()
    (run / "fruit" / "apple" / ".DS_Store").write_bytes(b"")
    assert resume(run) == 0


def test_the_fingerprint_stands_in_the_configuration(run):
    """With the counts and a hash of each class, those that the data have."""
    content = json.loads((run / "run" / "config.json").read_text())
    known = fingerprint(load(f"folder:{run / 'fruit'}"))
    assert content["class_names"] == ["apple", "banana"]
    assert content["sample_shape"] == [1, 4, 4]
    assert content["data_fingerprint"] == {
        "class_counts": [2, 2],
        "class_hashes": list(known.class_hashes),
        "contents": known.contents,
    }


def test_a_changed_picture_can_be_accepted_by_hand(run):
    """The message says how; the names and the shape are compared all the same."""
    write(run / "fruit", {"banana": [200, 211]})
    path = run / "run" / "config.json"
    content = json.loads(path.read_text())
    del content["data_fingerprint"]  # as a run of version 0.1 has none
    path.write_text(json.dumps(content))
    assert resume(run) == 0
    assert "data_fingerprint" in json.loads(path.read_text())
    rename(run / "fruit")
    assert resume(run) == 2


def test_data_that_are_made_anew_may_differ_in_their_last_bits(tmp_path, capsys):
    """On another machine a cosine may round otherwise: the run goes on, with a warning."""
    out = tmp_path / "run"
    assert main(["train", *TINY, "--data", "rings", "--rounds", "1", "--out", str(out)]) == 0
    content = json.loads((out / "config.json").read_text())
    content["data_fingerprint"]["contents"] = "0" * 32
    (out / "config.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="rings was made anew and differs"):
        assert main(["train", "--resume", "--rounds", "2", "--out", str(out)]) == 0


def points(shift=0.0, names=("all",)):
    """Points on a line."""
    samples = torch.linspace(-1, 1, 64).repeat(2, 1).T.contiguous() + shift
    return DataSet("line", samples, torch.zeros(64, dtype=torch.int64), names)


def test_a_script_is_refused_other_data_too(tmp_path):
    """The fingerprint is kept without a configuration; a run resumed by a script keeps its own."""
    algorithm = fgan.gan(Generator().float(), Critic().float())
    settings = {"out": tmp_path, "batch_size": 8, "conditional": False}
    fgan.train(algorithm, points(), rounds=1, **settings)
    before = snapshot(tmp_path)
    for data in (points(1e-6), points(names=("one",)), points(names=("all", "none"))):
        with pytest.raises(same_data.OtherDataError, match="has other data"):
            fgan.train(algorithm, data, rounds=2, resume=True, **settings)
    assert snapshot(tmp_path) == before
    fgan.train(algorithm, points(), rounds=2, resume=True, **settings)


def test_the_command_line_says_that_a_script_made_the_networks(tmp_path, capsys):
    """A folder of a script has no settings, and no defaults stand in for them."""
    algorithm = fgan.gan(Generator().float(), Critic().float())
    fgan.train(algorithm, points(), rounds=1, out=tmp_path, batch_size=8, conditional=False)
    assert main(["sample", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 2
    assert "has no recipe: a script made the networks" in capsys.readouterr().err


def test_the_networks_that_were_chosen_are_kept(tmp_path, capsys):
    """What "auto" chose is said and stands in the configuration; it is still "auto" to resume."""
    write(tmp_path / "odd", {"a": [10, 20]})
    out = tmp_path / "run"
    few = ("--latent-dim", "2", "--batch-size", "4", "--n-critic", "1", "--width", "4")
    data = ("--data", f"folder:{tmp_path / 'odd'}")
    assert main(["train", *few, *data, "--rounds", "1", "--out", str(out)]) == 0
    assert "networks   conv, chosen by the samples' shape" in capsys.readouterr().out
    assert json.loads((out / "config.json").read_text())["model"] == "conv"
    again = ["train", "--resume", "--model", "auto", "--rounds", "2", "--out", str(out)]
    assert main(again) == 0
