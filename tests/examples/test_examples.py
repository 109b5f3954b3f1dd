"""The examples run, and say what they are there to say."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_wrong_loss_and_a_wrong_penalty_are_caught(capsys):
    """Each mistake is named by the invariant that it breaks; the sound ones pass."""
    runpy.run_path(str(EXAMPLES / "check_your_loss.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert output.count("every invariant holds") == 2
    assert "patched loss: caught\nthe invariant 'monotone gradient' broke" in output
    assert "whole-batch penalty: caught\nthe invariant 'per sample' broke" in output
