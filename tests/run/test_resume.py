"""Checkpoints before the latest, and a run that goes on as if nothing had happened."""

import json
import os

import pytest
import torch
from helpers import assert_identical
from test_durable import game, train, tree_of

import fgan
from fgan.cli import main
from fgan.run import checkpoints
from fgan.run.history import History

SMALL = [
    *("wgan-gp", "--data", "rings", "--width", "8", "--latent-dim", "2", "--batch-size", "8"),
    *("--n-critic", "1"),
]


def files(folder):
    """Names and bytes."""
    return {str(path.relative_to(folder)): content for path, content in tree_of(folder).items()}


def test_the_last_few_checkpoints_stay(tmp_path):
    """Those before the latest, as many as asked for, each whole."""
    states = [train(tmp_path / "run", rounds=n, resume=n > 2, keep=2) for n in (2, 4, 6, 8)]
    kept = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["round-000004.pt", "round-000006.pt"]
    for path, state in zip(kept, states[1:3], strict=True):
        assert_identical(checkpoints.load(path, like=state), state)
    train(tmp_path / "none", keep=0)
    assert not (tmp_path / "none" / "checkpoints").exists()


def test_a_checkpoint_too_many_is_removed(tmp_path):
    """As a run that was killed at its end leaves one, with all of its rounds done."""
    train(tmp_path, rounds=6, keep=1)
    kept = files(tmp_path)
    path = tmp_path / "checkpoints" / "round-000002.pt"
    path.write_bytes((tmp_path / "checkpoint.pt").read_bytes())
    train(tmp_path, rounds=6, keep=1, resume=True)
    assert files(tmp_path) == kept


def test_a_file_system_without_links_keeps_copies(tmp_path, monkeypatch):
    """FAT knows no second name for a file."""

    def link(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    state = train(tmp_path / "a", rounds=2)
    train(tmp_path / "a", rounds=4, resume=True)
    kept = tmp_path / "a" / "checkpoints" / "round-000002.pt"
    assert_identical(checkpoints.load(kept, like=state), state)


@pytest.mark.parametrize("damage", ["cut", "bit", "missing"])
@pytest.mark.parametrize("older", [0, 1])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(damage, older, tmp_path):
    """With a warning that names both; the run ends as if nothing had happened, files and all."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    train(whole, rounds=10)
    train(out, rounds=6)
    broken = [out / "checkpoint.pt", out / "checkpoints" / "round-000004.pt"][: older + 1]
    for path in broken:
        content = bytearray(path.read_bytes())
        content[content.index(b"fgan state 2")] ^= 1
        path.unlink()
        if damage != "missing":
            path.write_bytes(content if damage == "bit" else content[: len(content) // 2])
    with pytest.warns(
        UserWarning, match=f"checkpoint.pt.*round-00000{2 if older else 4}.pt is used"
    ):
        train(out, rounds=10, resume=True)
    assert files(out) == files(whole)


def test_without_a_whole_checkpoint_the_latest_is_named(tmp_path):
    """Nothing is begun again on its own, and nothing is overwritten."""
    train(tmp_path, rounds=4)
    for path in (tmp_path / "checkpoint.pt", tmp_path / "checkpoints" / "round-000002.pt"):
        path.write_bytes(b"PK" + path.read_bytes()[2:1000])
    before = files(tmp_path)
    with pytest.raises(checkpoints.CheckpointError, match=r"checkpoint\.pt cannot be read"):
        train(tmp_path, rounds=6, resume=True)
    with pytest.raises(ValueError, match="holds another run"):
        train(tmp_path, rounds=6)
    assert files(tmp_path) == before


def test_a_checkpoint_of_another_model_is_not_replaced_by_an_older_one(tmp_path):
    """Only damage is passed over."""
    train(tmp_path, rounds=4)
    with pytest.raises(checkpoints.CheckpointError, match="another model"):
        train(tmp_path, rounds=6, resume=True, algorithm=game(ema_decay=0.5))


def test_the_picture_is_there_before_the_checkpoint(tmp_path, monkeypatch):
    """A run that dies between the two has it, and draws the same one again."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    train(whole, rounds=6)
    save = History.save

    def die(self, state, done):
        if done == 4:
            raise KeyboardInterrupt
        save(self, state, done)

    monkeypatch.setattr(History, "save", die)
    with pytest.raises(KeyboardInterrupt):
        train(out, rounds=6)
    pictures = [folder / "samples" / "round-000004.png" for folder in (whole, out)]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    monkeypatch.undo()
    train(out, rounds=6, resume=True)
    assert files(out) == files(whole)


def test_pictures_of_rounds_that_are_lost_are_removed(tmp_path):
    """As their figures are; those of the run, and other files, stay."""
    train(tmp_path, rounds=2)
    for name in ("round-000003.png", "round-000009.png", "round-x.png", "mine.png"):
        (tmp_path / "samples" / name).write_bytes(b"")
    train(tmp_path, rounds=3, resume=True)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == ["mine.png", "round-000002.png", "round-000003.png", "round-x.png"]
    assert (tmp_path / "samples" / "round-000003.png").stat().st_size


def test_a_complete_run_is_resumed_and_says_so(tmp_path, capsys):
    """Exit status 0, nothing changes; fewer rounds than there are is a mistake."""
    out = tmp_path / "run"
    state = train(tmp_path / "api", rounds=2)
    assert_identical(train(tmp_path / "api", rounds=2, resume=True), state)
    assert main(["train", *SMALL, "--rounds", "2", "--out", str(out)]) == 0
    before = files(out)
    capsys.readouterr()
    assert main(["train", "--resume", "--out", str(out)]) == 0
    assert "all 2 rounds are done; --rounds N asks for more" in capsys.readouterr().out
    assert files(out) == before
    assert main(["train", "--resume", "--rounds", "1", "--out", str(out)]) == 2
    assert files(out) == before


def test_intervals_are_kept(tmp_path):
    """A resumed run logs and draws as it did, also where it is made longer."""
    out = tmp_path / "run"
    assert main(["train", *SMALL, "--rounds", "20", "--log-every", "4", "--out", str(out)]) == 0
    assert main(["train", "--resume", "--rounds", "40", "--out", str(out)]) == 0

    def rounds():
        lines = (out / "metrics.jsonl").read_text().splitlines()
        pictures = sorted(path.name for path in (out / "samples").iterdir())
        return [json.loads(line)["round"] for line in lines], [int(n[6:12]) for n in pictures]

    assert rounds() == (list(range(4, 41, 4)), list(range(2, 41, 2)))
    options = ["--rounds", "60", "--sample-every", "10", "--log-every", "20"]
    assert main(["train", "--resume", *options, "--out", str(out)]) == 0
    assert rounds() == ([*range(4, 41, 4), 60], [*range(2, 41, 2), 50, 60])
    kept = json.loads((out / "config.json").read_text())
    assert (kept["log_every"], kept["sample_every"]) == (20, 10)


def test_a_run_of_before_knows_no_intervals(tmp_path):
    """A configuration without them has the defaults."""
    out = tmp_path / "run"
    assert main(["train", *SMALL, "--rounds", "2", "--out", str(out)]) == 0
    path = out / "config.json"
    content = json.loads(path.read_text())
    del content["log_every"], content["sample_every"]
    path.write_text(json.dumps(content))
    assert main(["train", "--resume", "--rounds", "4", "--out", str(out)]) == 0


def test_resume_without_a_checkpoint_says_what_to_do(tmp_path, capsys):
    """The run that ended before its first one is begun again, in the same folder."""
    out = tmp_path / "run"
    assert main(["train", *SMALL, "--rounds", "2", "--out", str(out)]) == 0
    (out / "checkpoint.pt").unlink()
    (out / "checkpoints" / "round-000001.pt").unlink()
    assert main(["train", "--resume", "--out", str(out)]) == 2
    assert "Begin again in the same folder, without" in capsys.readouterr().err
    assert main(["train", *SMALL, "--rounds", "2", "--out", str(out)]) == 0


def test_samples_of_a_damaged_run_are_those_of_the_checkpoint_before(tmp_path):
    """With a warning."""
    out = tmp_path / "run"
    assert main(["train", *SMALL, "--rounds", "2", "--out", str(out)]) == 0
    (out / "checkpoint.pt").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"round-000001\.pt is used"):
        assert main(["sample", str(out), "--out", str(tmp_path / "x.png")]) == 0
    assert (tmp_path / "x.png").exists()


def test_a_checkpoint_of_version_0_1_0_loads(tmp_path):
    """It has no checksum of its content, and no checkpoint before it."""
    state = train(tmp_path, rounds=2)
    leaves = fgan.tree.named_leaves(state)
    torch.save({"format": "fgan state 2", "leaves": leaves}, tmp_path / "checkpoint.pt")
    assert_identical(train(tmp_path, rounds=2, resume=True), state)
