"""Loggers by name, for `fgan train --logger tensorboard,wandb`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fgan.data.files import make_folder, replacing
from fgan.run.history import History
from fgan.run.loggers import Logger, TensorBoard, WandB
from fgan.run.settings import Config

EVENTS = "tensorboard"
"""The folder of TensorBoard's files in a run's folder."""
WANDB_ID = "wandb-id.txt"
"""What a run of wandb is called, so that a resumed run goes on in the same one."""

Opener = Callable[[Path, Config, bool], AbstractContextManager[Logger]]
"""From the run's folder, its settings, and whether it is resumed."""


def openers(names: Sequence[str]) -> list[Opener]:
    """What opens each of these loggers. Nothing is written yet.

    Raises ValueError for one whose package is not installed.
    """
    return [{"tensorboard": _tensorboard, "wandb": _wandb}[name]() for name in names]


@contextmanager
def opened(
    openers: Sequence[Opener], out: Path, config: Config, resume: bool
) -> Iterator[list[Logger]]:
    """The loggers of a run in `out`, open until the run has ended.

    Raises ValueError for a new run in the folder of another one, whose trackers it would write to.
    """
    if openers and not resume and History(out, 0):
        raise ValueError(f"{out} holds another run: resume it, or choose another folder")
    with ExitStack() as stack:
        yield [stack.enter_context(opener(out, config, resume)) for opener in openers]


def _tensorboard() -> Opener:
    TensorBoard(EVENTS)  # which only looks for the package

    @contextmanager
    def opener(out: Path, config: Config, resume: bool) -> Iterator[Logger]:
        yield TensorBoard(out / EVENTS)

    return opener


def _wandb() -> Opener:
    try:
        import wandb
    except ImportError as error:
        raise ValueError(
            "wandb is not installed: pip install 'fgan[wandb]', or pip install wandb"
        ) from error

    @contextmanager
    def opener(out: Path, config: Config, resume: bool) -> Iterator[Logger]:
        run = _begun(wandb, out, config, resume)
        status = 1
        try:
            yield WandB(run, image=wandb.Image)
            status = 0
        finally:
            run.finish(exit_code=status)

    return opener


def _begun(wandb: Any, out: Path, config: Config, resume: bool) -> Any:
    """A run of wandb in `out`: the one that a resumed run had, or a new one.

    Its project is $WANDB_PROJECT, or "fgan".
    """
    make_folder(out)
    known = out / WANDB_ID
    again = {}
    if resume and known.is_file():
        again = {"id": known.read_text(encoding="utf-8").strip(), "resume": "allow"}
    project = os.environ.get("WANDB_PROJECT", "fgan")
    name = out.resolve().name
    settings = {name: value for name, value in asdict(config).items() if value is not None}
    try:
        run = wandb.init(project=project, name=name, dir=str(out), config=settings, **again)
    except Exception as error:  # such as "api_key not configured"; each has a class of wandb's own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"wandb could not begin a run: {reason}. Log in with `wandb login`, or set "
            "WANDB_MODE=offline"
        ) from error
    with replacing(known) as temporary:
        temporary.write_text(f"{run.id}\n", encoding="utf-8")
    return run
