"""torchrun itself: a process that is killed ends the others, and a restart goes on."""

import json
import re

import pytest
from conftest import HERE, started
from run_cases import SMALL

from fgan.run import checkpoints

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_a_killed_process_ends_the_others_and_a_restart_goes_on(ranks, found, tmp_path):
    """In the bits of a run of as many processes that nobody killed."""
    size, folder = ranks
    if size != 2:
        pytest.skip("one start of torchrun is enough")
    out = tmp_path / "run"
    command = (HERE / "killed.py", "5", *SMALL, "--rounds", "8", "--no-compile", "--out", out)
    process = started(tmp_path, *TORCHRUN, "--max-restarts", "1", *command)
    try:
        code = process.wait(timeout=240)
    finally:
        process.kill()
        process.wait()
    log = (tmp_path / "run.log").read_text()
    assert code == 0, log
    (message,) = re.findall(r"^fgan: .*$", log, re.MULTILINE)
    assert message.startswith("fgan: rank 1 of the 2 processes ended, or hangs (")
    assert log.count("restarted  by torchrun: the run goes on from its latest checkpoint") == 1
    assert "Traceback" not in log
    whole = folder / "restarted" / "run"
    assert (out / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert checkpoints.read(out / "checkpoint.pt").keys()
    for name, leaf in checkpoints.read(out / "checkpoint.pt").items():
        assert leaf.equal(checkpoints.read(whole / "checkpoint.pt")[name]), name
    assert json.loads((out / "config.json").read_text())["rounds"] == 8
