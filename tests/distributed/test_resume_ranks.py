"""A run that other numbers of processes go on with: two, one and four.

Seven starts of Python, where four ranks are asked for: `FGAN_RANKS="2 4" python -m pytest
tests/distributed`. `test_ranks.py` has the same with two ranks and one.
"""

import pytest
from conftest import HERE, RANKS, started
from helpers import assert_close
from run_cases import trained

from fgan.run import checkpoints


@pytest.mark.skipif(4 not in RANKS, reason="takes four processes: FGAN_RANKS")
def test_two_ranks_then_one_then_four_end_like_an_unbroken_run(tmp_path):
    """In float64, with EMA, BatchNorm-free networks and Adam."""
    state = trained(tmp_path / "whole", parallel=False, sample_every=2)
    for rounds, size in ((2, 2), (4, 1), (6, 4)):
        folder = tmp_path / "ranks"
        folder.mkdir(exist_ok=True)
        command = [HERE / "one_run.py", size, folder]
        processes = [started(folder, *command, rounds, rank) for rank in range(size)]
        try:
            codes = [process.wait(timeout=200) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert codes == [0] * size, (folder / "0.log").read_text()
        saved = checkpoints.load(folder / "run" / "checkpoint.pt", like=state)
        assert saved.round.item() == rounds
    assert_close(saved, state, atol=1e-9)
