"""A disk that is full: the message says which file and which round, and the run can be resumed."""

import random
import re
import subprocess

from images import NotAllowedError, mounted
from runs import Fork, Row, begin, difference, files, has_checkpoint, resume, row, unbroken

NAME, COUNT = "full disks", 30


def _fill(kilobytes: int, expected) -> str | None:
    """What goes wrong with a run on a disk of this size, which then grows; None if not full."""
    with mounted("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs") as place:
        out = place / "run"
        ended = Fork(lambda: begin(out)).wait()
        if ended.status == 0:
            return difference(files(out), expected) or None
        message = ended.output.strip().splitlines()[-1]
        if ended.status != 2 or ended.traceback:
            return f"{ended}"
        named = "No space left" in message and str(out) in message
        told = re.search(r"kept up to round (\d+)", message)
        if not named or bool(told) != has_checkpoint(out):
            return f"the message is {message!r}"
        subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
        resumed = Fork(lambda: resume(out)).wait()
        if resumed.status != 0:
            return f"resumed: {resumed}"
        return difference(files(out), expected)


def run(count: int) -> list[Row]:
    """Disks of sizes from nothing to enough."""
    label = "full disk, named with the round, resumed bit for bit"
    expected = unbroken()
    enough = sum(len(content) // 1024 + 8 for content in expected.values())
    chance = random.Random(3)
    sizes = sorted(4 * chance.randrange(3, enough // 4) for _ in range(count))
    try:
        problems = [_fill(size, expected) for size in sizes]
    except NotAllowedError as error:
        return [(label, 0, 0, f"skipped: {error}")]
    return [row(label, [problem for problem in problems if problem is not None])]
