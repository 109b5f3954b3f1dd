"""SIGKILL at every kind of moment; the run that is resumed ends as one that nothing interrupted."""

import os
import random
import signal
import time
from functools import partial

from hooks import on_file_events
from runs import Ended, Fork, Row, begin, difference, files, folder, resume, row, unbroken

NAME = "kills"


def begin_until(out, at: int, in_write: bool):
    """Train, and die at the file event (or in the write) of that number; returns the exit status.

    At 0, nobody dies, and the number of events is printed.
    """
    seen = {"event": 0, "write": 0}

    def event(name: str) -> None:
        seen["event"] += 1
        if name == "in a write" or (not in_write and seen["event"] == at):
            os.kill(os.getpid(), signal.SIGKILL)

    def part() -> bool:
        seen["write"] += 1
        return in_write and seen["write"] == at

    on_file_events(event, part)
    status = begin(out)
    if at == 0:
        print(f"events {seen['event']} writes {seen['write']}")
    return status


def count_events() -> tuple[int, int]:
    """How many file events, and how many writes, a whole run has."""
    with folder() as out:
        ended = Fork(lambda: begin_until(out, 0, False)).wait()
    words = ended.output.split()
    return int(words[words.index("events") + 1]), int(words[words.index("writes") + 1])


def _resumed(out, killed: Ended, expected, may_be_complete: bool = False) -> str:
    """What is wrong after a resume, or an empty string."""
    if killed.status != -signal.SIGKILL and not (may_be_complete and killed.status == 0):
        return f"the run itself: {killed}"
    ended = Fork(lambda: resume(out)).wait()
    if ended.status != 0 or ended.traceback:
        return f"resumed: {ended}"
    return difference(files(out), expected)


def run(count: int) -> list[Row]:
    """Three fifths of the kills at file events, one within writes, one at random moments."""
    chance = random.Random(0)
    expected = unbroken()
    began = time.monotonic()
    events, writes = count_events()
    seconds = time.monotonic() - began
    rows = []
    fifth = max(1, count // 5)
    for label, tries, number, in_write in (
        ("SIGKILL at a file event", max(1, count - 2 * fifth), events, False),
        ("SIGKILL in a write", fifth, writes, True),
    ):
        problems = []
        for at in chance.sample(range(1, number + 1), min(tries, number)):
            with folder() as out:
                killed = Fork(partial(begin_until, out, at, in_write)).wait()
                problems.append(_resumed(out, killed, expected))
                problems[-1] = problems[-1] and f"at {at}: {problems[-1]}"
        rows.append(row(f"{label}, resumed bit for bit", problems))
    problems = []
    for _ in range(fifth):
        with folder() as out:
            child = Fork(partial(begin, out))
            time.sleep(chance.uniform(0, seconds))
            child.kill()
            problems.append(_resumed(out, child.wait(), expected, may_be_complete=True))
    rows.append(row("SIGKILL at a random moment, resumed bit for bit", problems))
    return rows
