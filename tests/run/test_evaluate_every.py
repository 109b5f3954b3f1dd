"""A run that evaluates itself: figures, the best checkpoint, what resuming keeps, the curves."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from helpers import Critic, Generator, assert_identical
from PIL import Image
from test_durable import game, train, tree_of

import fgan
from fgan.cli import main
from fgan.data import DataSet
from fgan.evaluation.inputs import NotFiniteError
from fgan.run import checkpoints, evaluating
from fgan.run.best import Best
from fgan.run.curves import save_curves
from fgan.run.features import cached_classifier
from fgan.run.history import History
from fgan.run.loop import DivergenceError


class Planned:
    """An evaluator with the scores that a test chose, by round."""

    best_by = "score"

    def __init__(self, scores):
        self.scores, self.asked = scores, []

    def __call__(self, algorithm, state, conditional=True):
        self.asked.append((int(state.round), conditional))
        return {"score": self.scores[int(state.round)]}


SCORES = {2: 3.0, 4: 1.0, 6: 2.0, 8: 1.5, 10: 0.5}


def evaluated(out, rounds=8, every=2, scores=SCORES, **options):
    """A run of points with planned scores."""
    return train(out, rounds=rounds, evaluate_every=every, evaluator=Planned(scores), **options)


def rows(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def best_of(out, like):
    return checkpoints.load(out / "best.pt", like=like)


def test_the_training_keeps_its_bits_and_figures_come_beside_it(tmp_path, capsys):
    """Every N rounds and after the last; each evaluation is said, with what it cost."""
    planned, algorithm = Planned(SCORES | {7: 1.2}), game()
    before = torch.get_rng_state()
    settings = dict(log_every=3, sample_every=7)
    state = train(tmp_path / "a", 7, algorithm, evaluate_every=4, evaluator=planned, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    assert_identical(state, train(tmp_path / "b", 7, **settings))
    assert int(best_of(tmp_path / "a", state).round) == 4  # each evaluation is a checkpoint
    assert planned.asked == [(4, False), (7, False)]
    found = {row["round"]: row.get("evaluation_score") for row in rows(tmp_path / "a")}
    assert found == {3: None, 4: 1.0, 6: None, 7: 1.2}
    assert {row["round"]: row for row in rows(tmp_path / "a")}[3] == rows(tmp_path / "b")[0]
    assert "evaluated  round 4: " in (said := capsys.readouterr().out)
    assert " s, so far " in said
    assert not (tmp_path / "b" / "best.pt").exists()


def test_the_best_checkpoint_stays(tmp_path):
    """The one with the smallest score, of rounds that the history has dropped too."""
    states = {}
    for rounds in (2, 4, 6, 8):
        states[rounds] = train(tmp_path / "plain", rounds, resume=rounds > 2)
    evaluated(tmp_path / "run", keep=0)
    assert_identical(best_of(tmp_path / "run", states[8]), states[4])
    given = dict(generator=Generator().float(), critic=Critic().float())
    assert int(fgan.load(tmp_path / "run", best=True, **given).state.round) == 4
    assert int(fgan.load(tmp_path / "run", **given).state.round) == 8
    with pytest.raises(checkpoints.CheckpointError, match=r"no best.pt in .*--evaluate-every"):
        fgan.load(tmp_path / "plain", best=True, **given)


def test_a_resumed_run_ends_as_if_nothing_had_happened(tmp_path):
    """Figures, pictures, the best checkpoint and the curves."""
    evaluated(tmp_path / "whole", 10)
    evaluated(tmp_path / "run", 6)
    evaluated(tmp_path / "run", 10, resume=True)
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def files(folder):
    """By name; the checkpoints by their content, since the best is linked or copied."""
    return {str(path.relative_to(folder)): content for path, content in tree_of(folder).items()}


@pytest.mark.parametrize("moment", ["before the checkpoint", "before its second name"])
def test_a_crash_between_the_files(tmp_path, monkeypatch, moment):
    """At the round that is the best: resumed, the run has it."""
    evaluated(tmp_path / "whole", 8)
    place, name = (History, "save") if moment == "before the checkpoint" else (Best, "offer")
    kept = getattr(place, name)

    def die(self, *arguments):
        if arguments[-1] in (4, 1.0):  # the round, or its score
            raise KeyboardInterrupt
        return kept(self, *arguments)

    monkeypatch.setattr(place, name, die)
    with pytest.raises(KeyboardInterrupt):
        evaluated(tmp_path / "run", 8)
    monkeypatch.undo()
    state = evaluated(tmp_path / "run", 8, resume=True)
    assert int(best_of(tmp_path / "run", state).round) == 4
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_the_best_of_a_lost_continuation_is_removed(tmp_path):
    """A later round's that the run, gone back to an earlier checkpoint, has not come to."""
    evaluated(tmp_path, 6, scores={2: 3.0, 4: 2.0, 6: 1.0})
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.warns(UserWarning, match="is used in its place"):
        state = train(tmp_path, 5, resume=True)
    assert not (tmp_path / "best.pt").exists()
    evaluated(tmp_path, 8, resume=True, scores={6: 9.0, 8: 10.0})
    assert int(best_of(tmp_path, state).round) == 6


def test_a_best_that_cannot_be_read_is_replaced(tmp_path):
    """By the latest one, whose score is known; its round's is the smallest so far."""
    evaluated(tmp_path, 4)
    (tmp_path / "best.pt").unlink()  # else it is checkpoint.pt too
    (tmp_path / "best.pt").write_bytes(b"damaged")
    state = evaluated(tmp_path, 6, resume=True)
    assert int(best_of(tmp_path, state).round) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(evaluate_every=0), "evaluate_every is a whole number from 1"),
        (dict(evaluator=Planned({})), "give evaluate_every too"),
        (dict(evaluate_every=1, evaluator=print), "with the attribute best_by"),
    ],
)
def test_bad_settings_are_refused_before_the_first_round(tmp_path, options, message):
    """And nothing is written."""
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_data_without_samples_to_compare_with(tmp_path):
    """An iterable of batches has no default evaluator, and may have one of the user's."""
    batches = [torch.randn(8, 2) for _ in range(6)]
    run = partial(fgan.train, game(), batches, rounds=4, out=tmp_path, log_every=3)
    with pytest.raises(ValueError, match=r"read batch by batch: give evaluator="):
        run(evaluate_every=2)
    run(evaluate_every=2, evaluator=Planned(SCORES))
    assert [row["round"] for row in rows(tmp_path)] == [2, 3, 4]


def test_an_iterator_that_ends_after_an_evaluation(tmp_path):
    """The last line is written once."""
    batches = iter([torch.randn(8, 2) for _ in range(4)])
    with pytest.warns(UserWarning, match="no more batches after round 4"):
        fgan.train(
            game(), batches, rounds=9, out=tmp_path, evaluate_every=2, evaluator=Planned(SCORES)
        )
    assert [row["round"] for row in rows(tmp_path)] == [2, 4]


@pytest.mark.parametrize("score", [float("nan"), NotFiniteError("3 generated samples hold NaN")])
def test_an_evaluation_that_is_not_finite_ends_the_run(tmp_path, score):
    """By name, with the last good checkpoint kept."""

    class Broken(Planned):
        def __call__(self, algorithm, state, conditional=True):
            if int(state.round) == 4 and isinstance(score, NotFiniteError):
                raise score
            return {"score": score if int(state.round) == 4 else 1.0}

    with pytest.raises(DivergenceError, match=r"round 4: .*(score is nan|hold NaN).*Round 2 is ke"):
        train(tmp_path, 6, evaluate_every=2, evaluator=Broken({}))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ValueError("[B, F] is expected"), r"\[B, F\] is expected"),
        ({"other": 1.0}, "'score', which is"),
    ],
)
def test_a_fault_of_the_evaluator_is_no_divergence(tmp_path, answer, message):
    """Its own error goes through, and a figure to compare by has to be there."""

    class Faulty:
        best_by = "score"

        def __call__(self, algorithm, state, conditional=True):
            if isinstance(answer, ValueError):
                raise answer
            return answer

    with pytest.raises(ValueError, match=message) as caught:
        train(tmp_path, rounds=2, evaluate_every=2, evaluator=Faulty())
    assert not isinstance(caught.value, DivergenceError)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_state_that_is_not_finite_is_not_evaluated(tmp_path, monkeypatch):
    """The state is named, not what came of it."""
    monkeypatch.setattr(checkpoints, "not_finite", lambda *_, **__: [".critic.params['x']"])
    planned = Planned(SCORES)
    with pytest.raises(DivergenceError, match=r"critic\.params"):
        train(tmp_path, 2, evaluate_every=2, evaluator=planned)
    assert planned.asked == []


def test_the_default_evaluators(tmp_path, monkeypatch):
    """Points by themselves, from a half held out; images in the features of a classifier."""
    train(tmp_path / "points", 2, evaluate_every=2)
    (row,) = (row for row in rows(tmp_path / "points") if "evaluation_coverage" in row)
    assert row["evaluation_sliced_wasserstein"] > 0
    monkeypatch.setenv("FGAN_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluating, "cached_classifier", partial(cached_classifier, updates=3))
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 1, 8, 8), generator=source).to(torch.uint8)
    data = DataSet("noise", images, torch.arange(300) % 2, ("a", "b"))
    players = (
        fgan.models.mlp_generator((1, 8, 8), 4, 2, hidden=(8,)),
        fgan.models.mlp_critic((1, 8, 8), 2, hidden=(8,)),
    )
    out = tmp_path / "images"
    fgan.train(fgan.gan(*players), data, rounds=2, out=out, batch_size=8, evaluate_every=2)
    (row,) = rows(out)
    assert {"evaluation_frechet_distance", "evaluation_label_accuracy"} < row.keys()


def test_from_the_command_line(tmp_path, capsys):
    """--evaluate-every, then sample and evaluate of the best; a resumed run may change it."""
    out = tmp_path / "run"
    small = ["--data", "rings", "--width", "8", "--latent-dim", "2", "--batch-size", "8"]
    settings = [*small, "--n-critic", "1", "--rounds", "4", "--evaluate-every", "2"]
    assert main(["train", "wgan-gp", *settings, "--out", str(out)]) == 0
    found = {r["round"]: r["evaluation_sliced_wasserstein"] for r in rows(out) if len(r) > 10}
    best = min(found, key=found.get)
    assert sorted(found) == [2, 4]
    assert fgan.load(out, best=True).state.round == best
    assert main(["sample", str(out), "--best", "--out", str(tmp_path / "best.npz")]) == 0
    expected = fgan.load(out, best=True).sample(64)
    assert np.array_equal(np.load(tmp_path / "best.npz")["samples"], expected.numpy())
    assert main(["evaluate", str(out), "--best", "--samples", "20"]) == 0
    assert json.loads((out / "evaluation-best.json").read_text())["round"] == best
    assert not (out / "evaluation.json").exists()
    again = ["train", "--resume", "--out", str(out), "--rounds", "6", "--evaluate-every", "3"]
    assert main(again) == 0
    assert rows(out)[-1]["round"] == 6
    assert "evaluated  round 6" in capsys.readouterr().out


def test_the_distances_share_a_panel(tmp_path):
    """The critic's is drawn over the measured one, with an axis of its own."""
    figures = {
        "distance": [(1, 0.5), (2, 0.4)],
        "evaluation_frechet_distance": [(1, 9.0), (2, 3.0)],
        "evaluation_critic_distance": [(1, 100.0), (2, 400.0)],
    }
    save_curves(tmp_path / "both.png", figures)
    with Image.open(tmp_path / "both.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape[1] == 2 * 360  # two panels
    panel = pixels[:, 360:]
    for colour, rises in (((31, 95, 191), False), ((196, 98, 16), True)):
        down, across = np.nonzero((panel == colour).all(axis=2)[26:176, 60:300])
        slope, _ = np.polyfit(across, down, 1)
        assert (slope < 0) == rises
        assert across.max() - across.min() > 200
    assert not (pixels[:, :360] == (196, 98, 16)).all(axis=2).any()
