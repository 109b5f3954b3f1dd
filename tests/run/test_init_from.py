"""`fgan train --init-from RUN`: a run that starts from the weights of another one."""

import json

import pytest
import torch
from helpers import assert_identical

import fgan
from fgan import cli
from fgan.run import checkpoints
from fgan.run.configuration import Run
from fgan.run.init_from import state_from
from fgan.run.replay import replay_run
from fgan.types import EMA, GANState, PlayerState

TINY = ["--data", "rings", "--batch-size", "4", "--log-every", "1", "--no-compile"]


def run(*arguments):
    """`fgan train` on the CPU in this process."""
    return cli.main(["train", *TINY, "--device", "cpu", *map(str, arguments)])


def settings(out):
    """The settings that a run has written down."""
    return json.loads((out / "config.json").read_text())


def state_of(out, file="checkpoint.pt"):
    """A state of a run."""
    return checkpoints.load(out / file, Run.load(out / "config.json").build().init())


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A run of three rounds, with a checkpoint after each."""
    out = tmp_path_factory.mktemp("runs") / "old"
    options = ("--width", 4, "--latent-dim", 3, "--rounds", 3, "--sample-every", 1)
    assert run("gan", *options, "--out", out) == 0
    return out


def test_weights_are_those_of_the_other_run_and_the_rest_begins_anew(old, tmp_path, capsys):
    """The run of a script from the same weights, with fresh moments: the same bits. The networks'
    settings need not be given again."""
    out = tmp_path / "new"
    more = ("--rounds", 2, "--sample-every", 1, "--lr", 0.01)
    assert run("wgan-gp", "--init-from", old, *more, "--out", out) == 0
    assert (
        f"weights    of {old} after round 3; the optimisers began anew" in capsys.readouterr().out
    )
    kept = settings(out)
    assert (kept["init_from"], kept["init_round"]) == (str(old), 3)
    assert (kept["width"], kept["latent_dim"]) == (4, 3)
    algorithm = Run.load(out / "config.json").build()
    before, like = state_of(old), algorithm.init()
    start = GANState(
        PlayerState(before.generator.params, before.generator.buffers, like.generator.opt_state),
        PlayerState(before.critic.params, before.critic.buffers, like.critic.opt_state),
        before.ema,
        like.round,
    )
    by_hand = fgan.train(
        algorithm, "rings", rounds=2, batch_size=4, state=start, out=tmp_path / "by-hand"
    )
    assert_identical(state_of(out), by_hand)


def test_it_is_resumed_and_replayed_from_its_first_round(old, tmp_path, monkeypatch):
    """A later run, and another working folder, change nothing."""
    monkeypatch.chdir(old.parent)
    more = ("gan", "--init-from", "old", "--sample-every", 1, "--out")
    assert run(*more, tmp_path / "whole", "--rounds", 2) == 0
    assert run(*more, tmp_path / "parts", "--rounds", 1) == 0
    assert run(*more, tmp_path / "parts", "--resume", "--rounds", 2) == 0
    monkeypatch.chdir(tmp_path)
    assert_identical(state_of(tmp_path / "parts"), state_of(tmp_path / "whole"))
    replayed = replay_run(tmp_path / "parts", 1)
    assert (replayed.start, replayed.round) == (0, 1)
    after = state_of(tmp_path / "parts", "checkpoints/round-000001.pt")
    assert_identical(replayed.state, after)


def test_an_earlier_checkpoint_and_a_new_average(old):
    """A round by its number; without an average there, that of here begins as the weights."""
    other = Run.load(old / "config.json").build().init()
    second, done = state_from(old, 2, other)
    assert done == 2
    wanted = state_of(old, "checkpoints/round-000002.pt")
    assert_identical(second.critic.params, wanted.critic.params)
    assert_identical(second.ema, wanted.ema)
    assert_identical(second.critic.opt_state, other.critic.opt_state)
    assert int(second.round) == 0


def test_a_run_without_an_average_gives_its_weights_as_one(tmp_path):
    """And an average that nobody keeps here is left."""
    parts = fgan.models.mlp_generator((2,), 3, hidden=(4,)), fgan.models.mlp_critic((2,))
    plain, averaged = fgan.gan(*parts), fgan.gan(*parts, ema_decay=0.9)
    data = fgan.data.DataSet("own", torch.randn(16, 2))
    for name, algorithm in (("plain", plain), ("averaged", averaged)):
        fgan.train(algorithm, data, rounds=1, batch_size=4, out=tmp_path / name)
    state, _ = state_from(tmp_path / "plain", None, averaged.init(1))
    assert isinstance(state.ema, EMA)
    assert_identical(state.ema.params, state.generator.params)
    assert_identical(state.ema.buffers, state.generator.buffers)
    there = checkpoints.load(tmp_path / "averaged" / "checkpoint.pt", averaged.init())
    assert_identical(
        state_from(tmp_path / "averaged", None, plain.init())[0].critic.params, there.critic.params
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--width", 5], "has other networks: .generator.params['layers.0.weight'] is a tensor"),
        (["--unconditional"], "the same number of classes (or --unconditional)"),
        (["--init-round", 9], "no checkpoint of round 9; those that it has are of 1, 2, 3"),
        (["--init-round", 0], "init_round is a whole number from 1"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_does_not_fit_is_told_before_the_run(old, tmp_path, capsys, options, reason, more):
    """Status 2 and one line; nothing is written."""
    out = tmp_path / "run"
    assert run("gan", "--init-from", old, *options, *more, "--rounds", 1, "--out", out) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_a_folder_without_a_run(tmp_path, capsys):
    """And a round of nothing."""
    assert run("gan", "--init-from", tmp_path, "--rounds", 1, "--out", tmp_path / "x") == 2
    assert f"there is no run in {tmp_path}" in capsys.readouterr().err
    assert run("gan", "--init-round", 1, "--rounds", 1, "--out", tmp_path / "x") == 2
    assert "init_from, which is not given" in capsys.readouterr().err
