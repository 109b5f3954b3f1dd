"""`fgan` with a process that kills itself once: torchrun starts this in `test_torchrun.py`.

torchrun ... tests/distributed/killed.py ROUND train ...
"""

import os
import signal
import sys

from fgan.cli import main
from fgan.run.ranks import Several


def kill_in(round_index):
    """Rank 1 is killed in this round, in torchrun's first attempt."""
    if os.environ["RANK"] != "1" or os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
        return
    stopped, calls = Several.stopped, []

    def counted(self, asked):
        calls.append(asked)
        if len(calls) > round_index:
            os.kill(os.getpid(), signal.SIGKILL)
        return stopped(self, asked)

    Several.stopped = counted


if __name__ == "__main__":
    kill_in(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
