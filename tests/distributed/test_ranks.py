"""Whole runs of several processes: `fgan.train` and the command line as torchrun starts them.

The runs are those of `run_cases.py`, made by the processes of `conftest.py`; `test_torchrun.py` has
torchrun itself.
"""

import json
import re

import pytest
import torch
from helpers import assert_close, assert_identical
from run_cases import BATCH, points_evaluator, trained

from fgan.run import checkpoints


@pytest.fixture(autouse=True)
def several(ranks):
    """One process agrees with itself."""
    if ranks[0] == 1:
        pytest.skip("there is nobody to agree with")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The folder and the state of one process's run."""
    folder = tmp_path_factory.mktemp("one") / "run"
    return folder, trained(folder, parallel=False)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def figures(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["whole", "resumed"])
def test_a_run_ends_like_that_of_one_process(name, ranks, found, one):
    """State, files and figures; also where another number of processes trained in between."""
    _, folder = ranks
    expected, state = one
    for other in found[1:]:
        assert_identical(other[name], found[0][name])
    assert_close(found[0][name], state, atol=1e-9)
    saved = checkpoints.load(folder / name / "run" / "checkpoint.pt", like=state)
    assert_identical(saved, found[0][name])
    if name == "whole":
        assert names(folder / name / "run") == names(expected)
    for got, line in zip(figures(folder / name / "run"), figures(expected), strict=True):
        assert got == pytest.approx(line, abs=1e-9)


def test_a_signal_to_one_rank_ends_all_after_the_same_round(found):
    """It comes in round 3, and the ranks hear of it in round 4, which is the last one."""
    for of_rank in found:
        for name, (done, pictures) in of_rank["signalled"].items():
            assert done == 4, name
            assert pictures == ["round-000003.png", "round-000004.png"]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("diverged", "DivergenceError", r"round 1: \w+ is -?(nan|inf)|round 1: the state"),
        ("occupied", "ValueError", "holds another run: resume it, or choose another folder"),
        ("unwritable", "SaveError", r"samples.* was not written .*nothing has been saved yet"),
        (
            "different",
            "RankError",
            r"round 6: rank LAST has another state than rank 0, in 1 of \d+ leaves, the first "
            r"\.critic\.params\['last\.bias'\]",
        ),
    ],
)
def test_what_ends_one_rank_ends_all(name, kind, message, found):
    """With the same error in each, also where rank 0 alone has seen it."""
    for of_rank in found:
        assert of_rank[name][0] == kind
        assert re.search(message.replace("LAST", str(len(found) - 1)), of_rank[name][1])
        assert of_rank[name] == found[0][name]


def test_other_settings_and_data_are_refused(found):
    """By all ranks, and before anything is written."""
    for of_rank in found:
        rounds, data, exists = of_rank["unequal"]
        assert rounds == (
            "ValueError",
            "rank 1 has rounds = 6, and rank 0 has 5: every process is started with the same "
            "settings and data",
        )
        assert data[0] == "ValueError"
        assert data[1].startswith("rank 1 has data = Fingerprint")
        assert not exists


def test_a_batch_without_equal_parts_is_refused(found):
    """Before anything is written."""
    size = len(found)
    for of_rank in found:
        (kind, message), exists = of_rank["indivisible"]
        assert kind == "ValueError"
        assert f"{size + 1} samples cannot be split into {size} equal parts" in message
        assert not exists


def test_batches_end_for_all_when_they_end_for_one(found):
    """Two updates a round: eight batches of the last rank, one of which the first check takes."""
    for of_rank in found:
        done, said = of_rank["ended"]
        assert done == found[0]["ended"][0]
        assert 3 <= done <= 4
        assert any(f"had no more batches after round {done} of 50" in each for each in said)


def test_an_algorithm_of_some_processes_is_refused(found):
    """Its state would be written by each of them."""
    for rank, of_rank in enumerate(found):
        kind, message = of_rank["other groups"]
        assert kind == "ValueError"
        assert f"its share is (0, 1), and this is process {rank} of {len(found)}" in message


def test_rank_0_tells_the_others(found):
    """Values, and errors of a class that the others do not have."""
    for rank, of_rank in enumerate(found):
        value, error = of_rank["told"]
        assert value == {"rank": 0}
        assert error == ("RuntimeError" if rank else "OwnError", error[1])
        assert error[1].endswith("by rank 0")


def test_a_rank_that_stops_is_named_by_the_others(found, ranks):
    """Within the time-out of the process group; the files up to the last checkpoint stay."""
    size = len(found)
    run = ranks[1] / "stopped" / "run"
    assert [path.name for path in run.glob("checkpoint*.pt")] == ["checkpoint.pt"]
    assert (run / "checkpoints" / "round-000001.pt").is_file()
    assert "stopped" not in found[-1]
    for of_rank in found[:-1]:
        kind, message = of_rank["stopped"]
        assert kind == "RankError"
        assert message.startswith(f"rank {size - 1} of the {size} processes ended, or hangs (")
        assert message.endswith("Resume the run from its last checkpoint, if it has one")


def test_ranks_evaluate_together(found, ranks, tmp_path):
    """Each measures its part of the samples, and the figures are those of one process."""
    _, folder = ranks
    whole = trained(
        tmp_path / "run", parallel=False, evaluate_every=3, evaluator=points_evaluator()
    )
    expected = figures(tmp_path / "run")
    assert [of_evaluation(line) for line in expected] == [0, 8, 0, 8]
    for got, line in zip(figures(folder / "evaluated" / "together"), expected, strict=True):
        assert got == pytest.approx(line, rel=1e-9, abs=1e-9)
    measured = [of_rank["evaluated"]["measured"] for of_rank in found]
    assert sum(measured) == 2 * 37
    assert max(measured) - min(measured) <= 2
    for of_rank in found:
        assert_close(of_rank["evaluated"]["state"], whole, atol=1e-9)


def of_evaluation(line):
    """The number of an evaluation's figures."""
    return sum(name.startswith("evaluation_") for name in line)


@pytest.mark.parametrize(("name", "count"), [("own", 1), ("default", 7)])
def test_every_evaluator_keeps_its_figures_and_the_best(name, count, ranks):
    """One that takes no share too, which rank 0 alone calls."""
    run = ranks[1] / "evaluated" / name
    assert [of_evaluation(line) for line in figures(run)] == [0, count, 0, count]
    assert (run / "best.pt").exists()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("not finite", "DivergenceError", "round 3: .* samples' features hold NaN or infinite"),
        ("two errors", "ValueError", "bad features in rank 0"),
        ("without a run", "ValueError", "bad features in rank 0"),
        ("broken", "ZeroDivisionError|RuntimeError", "features without samples"),
        ("of few", "ZeroDivisionError|RuntimeError", "features without samples"),
        ("of none", "ZeroDivisionError|RuntimeError", "features without samples"),
    ],
)
def test_features_that_fail_in_one_rank_end_all(found, name, kind, message):
    """With one error; its own class is kept where all ranks know it."""
    for of_rank in found:
        raised, text = of_rank["evaluated"][name]
        assert re.fullmatch(kind, raised)
        assert re.match(message, text)
        assert text == found[0]["evaluated"][name][1]


def test_fewer_samples_than_ranks_are_measured_by_each(found):
    """There are no parts of them."""
    for of_rank in found:
        assert_identical(of_rank["evaluated"]["rows of few"], [torch.arange(len(found) - 1)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one", "rank 1 has evaluator = 'NoneType', and rank 0 has 'Evaluator'"),
        ("another", "rank 1 has evaluator = '31 samples, seed 0, 31 of "),
    ],
)
def test_other_evaluators_of_other_ranks_are_refused(found, name, message):
    """The ranks would wait for parts of another evaluation, or mix the figures of two."""
    for of_rank in found:
        kind, text = of_rank["evaluated"][name]
        assert kind == "ValueError"
        assert text.startswith(message)


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("help", 0, ""),
        ("flag", 2, "fgan: unrecognized arguments: --no-such-flag (fgan --help says more)\n"),
        ("value", 2, "fgan: rounds is a whole number from 1, and 0 was given\n"),
        ("batch", 2, "fgan: batch_size is that of the whole batch, and "),
        ("parts", 2, f"fgan: accumulate is {BATCH}, and each of "),
        ("pairs", 2, "fgan: the penalty 'gradient_penalty' takes its points from the whole batch"),
        ("dry run", 0, ""),
        ("train", 0, ""),
        ("occupied", 2, "fgan: "),
        ("sample", 0, ""),
    ],
)
def test_a_command_ends_all_ranks_with_one_message(name, status, message, found):
    """Rank 0 prints, and all have its exit status."""
    first, *others = [of_rank["commands"][name] for of_rank in found]
    assert first[0] == status
    assert first[2].startswith(message)
    assert first[2].count("\n") == bool(message)
    for other in others:
        assert other == (status, "", "")
    assert ("processes" in first[1]) == (name in ("train", "occupied"))


def test_refused_commands_and_dry_runs_write_nothing(ranks, found):
    """All of them came before the run that the folder now holds."""
    size, folder = ranks
    assert not found[0]["commands"]["written"]
    assert f"each with {BATCH // size} samples" in found[0]["commands"]["train"][1]
    run = folder / "commands" / "run"
    assert [line["round"] for line in figures(run)] == [2, 4]
    assert (folder / "commands" / "more.png").exists()


def test_a_restart_by_torchrun_resumes(ranks, found):
    """From the latest checkpoint, where the settings are those of before."""
    size, folder = ranks
    first, again, other = found[0]["restarted"]
    assert first[0] == again[0] == 0, (first[2], again[2])
    assert "restarted  by torchrun" not in first[1]
    assert "restarted  by torchrun: the run goes on from its latest checkpoint" in again[1]
    assert other[0] == 2
    assert "holds another run" in other[2]
    assert [line["round"] for line in figures(folder / "restarted" / "run")] == [2, 4, 6, 8]
    assert [of_rank["restarted"][1][0] for of_rank in found] == [0] * size
