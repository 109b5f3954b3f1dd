"""A power cut: the disk as it is at some moment, mounted again elsewhere, and the run resumed."""

import json
import os
import random
import signal
import tempfile
from pathlib import Path

import torch
from hooks import on_file_events
from images import NotAllowedError, copy_as_it_is, make_ext4, mounted
from kills import count_events
from runs import Fork, Row, begin, difference, files, resume, row, unbroken

from fgan.run import checkpoints

NAME, COUNT = "power cuts", 20

# Without the help that ext4 gives to programs that do not synchronise what they replace.
STRICT = ("-o", "loop,noauto_da_alloc,commit=300")


def _begin_until(out: Path, at: int, said: int) -> int:
    """Train and die at a file event; the rounds of whole checkpoints are written to `said`."""
    seen, save = 0, checkpoints.save

    def saying(path, state):
        save(path, state)
        os.write(said, f"{int(state.round)}\n".encode())

    def event(name: str) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save = saying
    on_file_events(event)
    return begin(out)


def _problem(out: Path, promised: int, expected) -> str:
    """What a power cut has lost of what the run said was saved, or an empty string."""
    if promised:
        done = int(torch.load(out / "checkpoint.pt", weights_only=True)["leaves"][".round"])
        if done < promised:
            return f"round {promised} was saved, and {done} is there"
        lines = (out / "metrics.jsonl").read_text(errors="replace").splitlines()
        rounds = [json.loads(line)["round"] for line in lines[:done]]
        if rounds != list(range(1, done + 1)):
            return f"the checkpoint has {done} rounds, and the figures are of {rounds}"
    ended = Fork(lambda: resume(out)).wait()
    if ended.status != 0 or ended.traceback:
        return f"resumed: {ended}"
    return difference(files(out), expected)


def _cut(at: int, expected) -> str:
    """One power cut at the file event of that number."""
    with tempfile.TemporaryDirectory() as temporary:
        image, copy = Path(temporary) / "disk", Path(temporary) / "copy"
        make_ext4(image)
        told = Path(temporary) / "told"
        said = os.open(told, os.O_WRONLY | os.O_CREAT)
        with mounted(*STRICT, image) as place:
            ended = Fork(lambda: _begin_until(place / "run", at, said)).wait()
            copy_as_it_is(image, copy)
        os.close(said)
        if ended.status != -signal.SIGKILL:
            return f"at {at}: the run itself: {ended}"
        promised = max(map(int, told.read_text().split()), default=0)
        with mounted(*STRICT, copy) as place:
            try:
                problem = _problem(place / "run", promised, expected)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
        return problem and f"at {at}: {problem}"


def run(count: int) -> list[Row]:
    """Cuts at file events, spread over the whole run."""
    label = "power cut, resumed bit for bit with complete figures"
    expected = unbroken()
    events, _ = count_events()
    chance = random.Random(1)
    moments = sorted(chance.sample(range(1, events + 1), count))
    try:
        return [row(label, [_cut(at, expected) for at in moments])]
    except NotAllowedError as error:
        return [(label, 0, 0, f"skipped: {error}")]
