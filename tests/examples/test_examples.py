"""The examples run, and say what they are there to say."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import fgan

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_wrong_loss_and_a_wrong_penalty_are_caught(capsys):
    """Each mistake is named by the invariant that it breaks; the sound ones pass."""
    runpy.run_path(str(EXAMPLES / "check_your_loss.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert output.count("every invariant holds") == 2
    assert "patched loss: caught\nthe invariant 'monotone gradient' broke" in output
    assert "whole-batch penalty: caught\nthe invariant 'per sample' broke" in output


def test_data_of_ones_own(capsys, monkeypatch, tmp_path):
    """A table, signals and a folder: each run leaves its picture."""
    monkeypatch.setattr(sys, "argv", ["own_data", "--rounds", "4", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "own_data.py"), run_name="__main__")
    assert "correlation 0.8" in capsys.readouterr().out
    for name in ("table", "signals", "folder"):
        assert (tmp_path / name / "samples" / "round-000004.png").exists()


def test_fine_tuning_is_better_than_beginning_anew(capsys, monkeypatch, tmp_path):
    """The script insists on it; so do the numbers that it prints."""
    monkeypatch.setattr(sys, "argv", ["finetune", "--rounds", "400", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "finetune.py"), run_name="__main__")
    output = capsys.readouterr().out
    found = [float(x) for x in re.findall(r"(\d\.\d+) away from the ellipses", output)]
    assert len(found) == 3
    assert found[1] < min(found[0], found[2])


def test_two_processes_end_like_one():
    """The script starts torchrun, and the two processes find each other."""
    command = [sys.executable, str(EXAMPLES / "distributed.py")]
    environment = os.environ | {
        "PYTHONPATH": str(Path(fgan.__file__).parents[1]),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes and one, after 40 rounds" in done.stdout
    difference = re.search(r"of their states is (\S+)", done.stdout)
    assert 0 <= float(difference[1]) < 1e-9
