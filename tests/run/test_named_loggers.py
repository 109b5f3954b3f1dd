"""`fgan train --logger`: TensorBoard and wandb by name, with stand-ins for both packages."""

import json
import sys
from types import ModuleType

import pytest
import torch

from fgan import cli
from fgan.run.settings import Config

TINY = [
    *("--data", "rings", "--width", "4", "--latent-dim", "3", "--batch-size", "4"),
    *("--log-every", "1", "--no-compile", "--device", "cpu"),
]


def train(*arguments):
    """`fgan train` in this process."""
    return cli.main(["train", "gan", *TINY, *map(str, arguments)])


def figures(out):
    """The JSON lines of a run, by round."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {row.pop("round"): row for row in rows}


@pytest.fixture
def wandb(monkeypatch):
    """In wandb's place: notes what it is told."""

    class Run:
        def __init__(self, **given):
            self.given, self.id = given, given.get("id", f"run-{len(module.runs)}")
            self.logged, self.status = [], None
            module.runs.append(self)

        def log(self, values, step):
            self.logged.append((step, values))

        def finish(self, exit_code):
            self.status = exit_code

    module = ModuleType("wandb")
    module.runs, module.init, module.Image = [], Run, lambda path: ("image", path)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def events(monkeypatch):
    """In TensorBoard's place: the scalars, by folder, name and round."""
    found = {}

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.folder = folder

        def add_scalar(self, name, value, step):
            found[self.folder, name, step] = value

        def add_image(self, name, pixels, step, dataformats):
            found[self.folder, name, step] = pixels.shape

        def flush(self):
            pass

        def close(self):
            found["closed"] = found.get("closed", 0) + 1

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(torch.utils, "tensorboard", module, raising=False)
    return found


def test_both_are_told_what_the_files_have(tmp_path, wandb, events):
    """Figures and pictures of every round that has them; the run of wandb ends well."""
    out = tmp_path / "run"
    assert train("--rounds", 2, "--logger", "tensorboard,wandb", "--out", out) == 0
    rows = figures(out)
    (run,) = wandb.runs
    assert run.status == 0
    assert [values for _, values in run.logged if "samples" not in values] == list(rows.values())
    pictures = [values["samples"] for _, values in run.logged if "samples" in values]
    assert pictures == [("image", str(out / f"samples/round-00000{i}.png")) for i in (1, 2)]
    assert run.given["project"] == "fgan"
    assert (run.given["name"], run.given["dir"]) == ("run", str(out))
    assert run.given["config"]["recipe"] == "gan"
    folder = str(out / "tensorboard")
    for done, row in rows.items():
        assert {name: events[folder, name, done] for name in row} == row
        assert events[folder, "samples", done] == (512, 512, 3)
    assert events["closed"] == 1


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(tmp_path, wandb):
    """The setting stays with the run, and can be taken back."""
    out = tmp_path / "run"
    assert train("--rounds", 1, "--logger", "wandb", "--out", out) == 0
    assert cli.main(["train", "--resume", "--rounds", "2", "--out", str(out)]) == 0
    first, second = wandb.runs
    assert "id" not in first.given
    assert (second.given["id"], second.given["resume"]) == (first.id, "allow")
    assert [step for step, _ in second.logged] == [2, 2]
    more = ("--resume", "--rounds", "3", "--logger", "none", "--out", str(out))
    assert cli.main(["train", *more]) == 0
    assert len(wandb.runs) == 2


def test_a_run_that_fails_is_marked_as_failed_and_one_that_is_refused_has_none(
    tmp_path, wandb, capsys
):
    """A setting that does not fit the data, and a folder that holds another run."""
    out = tmp_path / "run"
    assert train("--rounds", 1, "--flip", "--logger", "wandb", "--out", out) == 2
    assert [run.status for run in wandb.runs] == [1]
    assert train("--rounds", 1, "--out", out) == 0
    capsys.readouterr()
    assert train("--rounds", 1, "--logger", "wandb", "--out", out) == 2
    assert "holds another run" in capsys.readouterr().err
    assert len(wandb.runs) == 1


def test_wandb_that_cannot_begin_says_what_to_do(tmp_path, wandb, capsys):
    """Status 2 and one line with wandb's own reason."""

    def init(**given):
        raise RuntimeError("api_key not configured (no-tty)")

    wandb.init = init
    assert train("--rounds", 1, "--logger", "wandb", "--out", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert said.startswith("fgan: wandb could not begin a run: api_key not configured")
    assert "WANDB_MODE=offline" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "module", "reason"),
    [
        ("wandb", "wandb", "wandb is not installed: pip install 'fgan[wandb]'"),
        ("tensorboard", "torch.utils.tensorboard", "TensorBoard is not installed: pip install"),
        ("wandb,comet", "wandb", "unknown logger 'comet'; known are tensorboard, wandb"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_is_missing_is_told_before_anything_is_done(
    tmp_path, monkeypatch, capsys, name, module, reason, more
):
    """Status 2, one line, no output before it, and no folder; also in a dry run."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    assert train("--rounds", 1, "--logger", name, *more, "--out", tmp_path / "run") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fgan: {reason}")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_names_are_taken_once():
    """`none` is a name of no logger, for a run that is resumed without those it had."""
    assert Config(logger="wandb,tensorboard,wandb").loggers == ("wandb", "tensorboard")
    assert Config(logger="none").loggers == Config().loggers == ()
