"""A few tries of every drill, in a process of its own: it forks, and has one thread."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
DRILLS = ["checkpoints", "full_disks", "kills", "power", "signals", "two_runs"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The rows of all drills, in their short form."""
    out = tmp_path_factory.mktemp("reliability") / "rows.json"
    ended = subprocess.run(
        [sys.executable, HERE, *DRILLS, "--count", "2", "--out", out],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stderr
    return json.loads(out.read_text())["rows"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the drills fork")
@pytest.mark.parametrize(
    "drill", ["checkpoints", "full disks", "kills", "power cuts", "signals", "two runs"]
)
def test_what_has_to_hold_holds(rows, drill):
    """Every try of every row; a drill that cannot mount a disk says why it was skipped."""
    mine = [row for row in rows if row["drill"] == drill]
    assert mine
    for row in mine:
        assert row["held"] == row["tried"], row
        if not row["tried"]:
            assert row["remark"].startswith("skipped: "), row
            pytest.skip(row["remark"])
