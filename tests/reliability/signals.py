"""Signals and readers that go away: the run ends after its round, or does not notice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from runs import (
    ROUNDS,
    Fork,
    Row,
    begin,
    difference,
    files,
    folder,
    resume,
    row,
    unbroken,
)

NAME = "signals"
ROOT = Path(__file__).resolve().parents[2]


def _stopped(numbers: tuple[int, ...], pause: float, expected) -> str | None:
    """What goes wrong when signals are sent during a run, which is resumed afterwards.

    None where the run was complete before.
    """
    with folder() as out:
        child = Fork(lambda: begin(out))
        until = time.monotonic() + 30
        log = out / "metrics.jsonl"
        while not (log.exists() and log.stat().st_size) and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(pause)
        for number in numbers:
            child.kill(number)
        ended = child.wait()
        if ended.status != 0 or ended.traceback:
            return f"{ended}"
        if len(log.read_text().splitlines()) == ROUNDS:
            return None
        resumed = Fork(lambda: resume(out)).wait()
        if resumed.status != 0 or resumed.traceback:
            return f"resumed: {resumed}"
        found = files(out)
        # The round it stopped at has a picture and a checkpoint more.
        extra = [name for name in found.keys() - expected.keys() if "/" not in name]
        same = {n: c for n, c in expected.items() if not n.startswith("checkpoints/")}
        return difference({n: found[n] for n in same if n in found}, same) or "".join(extra)


def _stops(numbers: tuple[int, ...], chance: random.Random, tries: int, expected) -> list[str]:
    """What goes wrong in so many runs that a signal stops before their last round."""
    problems: list[str] = []
    for _ in range(20 * tries):
        if len(problems) == tries:
            break
        problem = _stopped(numbers, chance.uniform(0, 0.05), expected)
        problems += [] if problem is None else [problem]
    return problems + ["no run was stopped before its last round"] * (tries - len(problems))


def _reader_leaves(lines: int, expected) -> str:
    """What goes wrong when the reader of the output leaves after some lines."""
    with folder() as out:
        reading, writing = os.pipe()

        def piped() -> int:
            os.close(reading)
            os.dup2(writing, 1)
            return begin(out)

        child = Fork(piped)
        os.close(writing)
        with os.fdopen(reading) as reader:
            for _ in range(lines):
                reader.readline()
        ended = child.wait()
        if ended.status != 0 or ended.output:
            return f"{ended}"
        return difference(files(out), expected)


def _in_imports(pause: float) -> str:
    """What goes wrong when Ctrl-C is pressed while the command line is being imported."""
    with folder() as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "fgan", "train", "--rounds", "1000000", "--out", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        _wait_for_torch(process)
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        # After the imports the run has begun, and ends with 0 after its round.
        status = 0 if (out / "config.json").exists() else 130
        good = process.returncode == status and "Traceback" not in output
        return "" if good else f"after {pause:.2f} s, status {process.returncode}: {output[-300:]}"


def _wait_for_torch(process: subprocess.Popen) -> None:
    """Until the process has begun to import torch: before that, it is Python's own start."""
    maps = Path(f"/proc/{process.pid}/maps")
    until = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < until:
        if not maps.exists() or "libc10" in maps.read_text():
            return
        time.sleep(0.01)


def run(count: int) -> list[Row]:
    """Most tries for the signals, some for the readers, a few for the imports, which take long."""
    chance = random.Random(4)
    expected = unbroken()
    kinds = {
        "Ctrl-C": (signal.SIGINT,),
        "SIGTERM": (signal.SIGTERM,),
        "SIGHUP": (signal.SIGHUP,),
        "SIGTERM twice": (signal.SIGTERM, signal.SIGTERM),
        "SIGHUP and SIGTERM": (signal.SIGHUP, signal.SIGTERM),
    }
    tries = max(1, count // 8)
    rows = [
        row(
            f"{label}: saved, exit 0, resumed bit for bit",
            _stops(numbers, chance, tries, expected),
        )
        for label, numbers in kinds.items()
    ]
    rows.append(
        row(
            "a reader that leaves ends nothing",
            [_reader_leaves(chance.randrange(4), expected) for _ in range(tries)],
        )
    )
    imports = [_in_imports(chance.uniform(0, 1.5)) for _ in range(max(1, count // 16))]
    return [*rows, row("Ctrl-C in imports: exit 130, no traceback", imports)]
