"""Two runs in one folder: the second is refused, and the first does not notice."""

import os
import random
import signal

from hooks import on_file_events
from runs import Fork, Row, begin, difference, files, folder, resume, row, unbroken

NAME, COUNT = "two runs", 40


def _begin_and_stop(out, at: int) -> int:
    """Train, and stop (SIGSTOP) at the file event of that number after the folder is locked."""
    seen = 0

    def event(name: str) -> None:
        nonlocal seen
        seen += (out / "config.json").exists()
        if seen == at:
            seen += 1
            os.kill(os.getpid(), signal.SIGSTOP)

    on_file_events(event)
    return begin(out)


def _beside(second, at: int, expected) -> str:
    """What goes wrong when a second process wants the folder of a run that is in progress."""
    with folder() as out:
        first = Fork(lambda: _begin_and_stop(out, at))
        os.waitpid(first.pid, os.WUNTRACED)
        before = files(out)
        other = Fork(lambda: second(out)).wait()
        changed = difference(files(out), before)
        first.kill(signal.SIGCONT)
        ended = first.wait()
        if ended.status != 0:
            return f"the first run: {ended}"
        if other.status != 2 or other.traceback or f"process {first.pid} on " not in other.output:
            return f"the second run: {other}"
        return changed or difference(files(out), expected)


def _at_once(expected) -> str:
    """What goes wrong when two runs begin in one new folder at the same moment."""
    with folder() as out:
        both = [Fork(lambda: begin(out)) for _ in range(2)]
        ended = [each.wait() for each in both]
        if sorted(each.status for each in ended) != [0, 2] or any(e.traceback for e in ended):
            return f"{ended}"
        return difference(files(out), expected)


def _after_a_kill(at: int, expected) -> str:
    """What goes wrong when a run is resumed at once after its process was killed."""
    with folder() as out:
        first = Fork(lambda: _begin_and_stop(out, at))
        os.waitpid(first.pid, os.WUNTRACED)
        first.kill()
        first.wait()
        ended = Fork(lambda: resume(out)).wait()
        return difference(files(out), expected) if ended.status == 0 else f"resumed: {ended}"


def run(count: int) -> list[Row]:
    """A quarter of the tries of each kind."""
    chance = random.Random(2)
    expected, quarter = unbroken(), max(1, count // 4)
    moments = [chance.randrange(1, 60) for _ in range(quarter)]
    return [
        row(
            "a new run beside a run is refused by name",
            [_beside(begin, at, expected) for at in moments],
        ),
        row(
            "a resume beside a run is refused by name",
            [_beside(resume_only, at, expected) for at in moments],
        ),
        row("two runs at once: one trains", [_at_once(expected) for _ in range(quarter)]),
        row("no lock is left by a kill", [_after_a_kill(at, expected) for at in moments]),
    ]


def resume_only(out) -> int:
    """Resume, whether or not there is a checkpoint yet."""
    from runs import command

    return command("train", "--resume", "--out", out, "--device", "cpu")
