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
