"""One rank of a run that is begun, or gone on with: `test_resume_ranks.py` starts it.

python tests/distributed/one_run.py SIZE FOLDER ROUNDS RANK
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from rank import group
from run_cases import trained


def main(size, folder, rounds, rank):
    """Train in FOLDER/run up to ROUNDS, and resume what is there."""
    torch.set_num_threads(1)
    group(folder, rank, size, f"store-{rounds}", timeout=60)
    trained(folder / "run", rounds=rounds, resume=(folder / "run").exists(), sample_every=2)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
