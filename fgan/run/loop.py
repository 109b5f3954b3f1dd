"""The loop around the pure step: everything that touches clocks, files, signals and the screen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from fgan.data import DataSet, Fingerprint, batches, fingerprint, load
from fgan.data.files import make_folder, remove_temporary
from fgan.run import same_data
from fgan.run.checkpoints import not_finite
from fgan.run.configuration import Run
from fgan.run.history import CHECKPOINT, EARLIER, History, no_checkpoint
from fgan.run.lock import exclusive
from fgan.run.loggers import Logger, check_loggers
from fgan.run.metrics import MetricsFile
from fgan.run.records import DivergenceError, Records, SaveError, writing
from fgan.run.samples import draw_samples, fixed_samples, remove_later
from fgan.run.signals import interruptible
from fgan.scalars import check_count, check_flag
from fgan.scores import describe
from fgan.types import Algorithm, Batch, GANState

if TYPE_CHECKING:
    from fgan.run.progress import Display

__all__ = ["CHECKPOINT", "CONFIG", "METRICS", "SAMPLES", "DivergenceError", "SaveError", "train"]

CONFIG, METRICS, SAMPLES = "config.json", "metrics.jsonl", "samples"


def train(
    algorithm: Algorithm,
    data: str | DataSet,
    *,
    rounds: int,
    out: str | Path,
    batch_size: int = 64,
    seed: int = 0,
    conditional: bool = True,
    resume: bool = False,
    log_every: int = 10,
    sample_every: int | None = None,
    keep: int = 3,
    display: Display | None = None,
    run: Run | None = None,
    loggers: Sequence[Logger] = (),
) -> GANState:
    """Train for `rounds` rounds and return the final state.

    Every random number follows from `seed`. The folder `out` gets `metrics.jsonl` (a line every
    `log_every` rounds), and every `sample_every` rounds (default: ten times) and at the end
    `samples/round-NNNNNN.png` (fixed latents, a column per class when `conditional`), `curves.png`
    (the figures over the rounds) and `checkpoint.pt`; the `keep` checkpoints before it stay in
    `checkpoints/`. A `run` is written as `config.json`, and without one the data's fingerprint
    alone. Files are whole or not there, also after a crash, a power cut or on a full disk.

    With `resume`, the run goes on from the latest whole checkpoint, and on the CPU it ends in the
    same bits as one that was never interrupted, its figures and pictures included. Ctrl-C, SIGTERM
    and SIGHUP end the run after the round in progress, with everything saved; a second Ctrl-C ends
    it at once. With other data than before it is refused, and nothing is changed.

    loggers: `fgan.run.loggers.Logger`s, told of the figures, pictures and the end of the run beside
        the files, such as `TensorBoard` and `WandB` there.

    Raises ValueError before the first round for settings and data that do not fit, for an `out`
    that holds another run, and for one that another run writes into at the moment;
    `fgan.run.checkpoints.CheckpointError` for a checkpoint that cannot be used; DivergenceError
    where a loss or the state is no longer finite, and SaveError, an OSError, where a file cannot be
    written, both with the last good checkpoint left in place.
    """
    _check_arguments(algorithm, out, resume=resume, conditional=conditional)
    rounds, batch_size = check_count("rounds", rounds), check_count("batch_size", batch_size)
    every = default_interval(rounds) if sample_every is None else sample_every
    plan = _Plan(rounds, batch_size, seed, conditional, log_every, every)
    _check_settings(algorithm, plan, keep)
    loggers = check_loggers(loggers)
    state = algorithm.init(seed)
    data = load(data, device=state.round.device) if isinstance(data, str) else data
    identity = fingerprint(data)
    fixed = fixed_samples(algorithm, data, seed, conditional, state)
    _check_fit(algorithm, state, data, fixed, plan)
    with ExitStack() as stack:
        state, records = _open(
            stack,
            algorithm,
            state,
            data,
            identity,
            fixed,
            Path(out),
            resume,
            keep,
            rounds,
            display,
            run,
            loggers,
        )
        start = int(state.round)
        stream = _batches(algorithm, state, data, plan, start, rounds - start)
        stopping = stack.enter_context(interruptible())
        for index, batch in zip(range(start, rounds), stream, strict=True):
            state, info = algorithm.step(state, batch, algorithm.noise(seed, index, batch_size))
            done = index + 1
            stopped = stopping.is_set()  # once: a signal from here on ends the next round
            last = done == rounds or stopped
            records.advance(done)
            if done % log_every == 0 or last:
                records.log(done, info)
            if done % every == 0 or last:
                records.save(done, info, state)
            if stopped:
                break
    return state


def _check_arguments(algorithm: object, out: object, **flags: object) -> None:
    """Raise ValueError for an argument that is of another kind than it has to be."""
    if not isinstance(algorithm, Algorithm):
        raise ValueError(
            f"algorithm is one that a recipe made, such as fgan.wgan_gp(generator, critic), and "
            f"{describe(algorithm)} was given"
        )
    if not isinstance(out, str | os.PathLike) or out == "":
        raise ValueError(
            f"out is the path of the run's folder, a string, and {describe(out)} was given"
        )
    for name, value in flags.items():
        check_flag(name, value)


def default_interval(rounds: int) -> int:
    """Rounds between pictures and checkpoints where nobody says: ten times in the whole run."""
    return max(1, rounds // 10)


class _Plan(NamedTuple):
    """How far a run goes, on which batches, and how often it writes something down."""

    rounds: int
    batch_size: int
    seed: int
    conditional: bool
    log_every: int
    sample_every: int


def _check_settings(algorithm: Algorithm, plan: _Plan, keep: int) -> None:
    for name in ("log_every", "sample_every"):
        check_count(name, getattr(plan, name))
    check_count("keep", keep, 0)
    if algorithm.members:
        raise ValueError("fgan.train trains one run: step a population in a loop of your own")


def _batches(
    algorithm: Algorithm, state: GANState, data: DataSet, plan: _Plan, start: int, count: int
) -> Iterator[Batch]:
    """The batches of `count` rounds, from round `start` on."""
    return batches(
        data,
        plan.batch_size,
        algorithm.n_critic,
        count,
        plan.seed,
        state.round.device,
        plan.conditional,
        start=start,
    )


def _check_fit(
    algorithm: Algorithm,
    state: GANState,
    data: DataSet,
    fixed: tuple[Tensor, Tensor | None],
    plan: _Plan,
) -> None:
    """What does not fit fails here, before anything is written. Raises ValueError."""
    _batches(algorithm, state, data, plan, 0, 0)
    drawn = draw_samples(algorithm, state, *fixed, data)
    with torch.no_grad():
        algorithm.score(state, drawn, fixed[1])


def _open(
    stack: ExitStack,
    algorithm: Algorithm,
    state: GANState,
    data: DataSet,
    identity: Fingerprint,
    fixed: tuple[Tensor, Tensor | None],
    out: Path,
    resume: bool,
    keep: int,
    rounds: int,
    display: Display | None,
    run: Run | None,
    loggers: tuple[Logger, ...],
) -> tuple[GANState, Records]:
    """The state that the run starts from, and its files, open until the stack closes."""
    history = stack.enter_context(_locked(out, resume, keep))
    if resume:
        same_data.check(out / CONFIG, identity)
    excused = frozenset(not_finite(state))  # such as a mask of infinities among the buffers
    state = history.load(like=state) if resume else state
    start = int(state.round)
    if start > rounds:
        raise ValueError(f"{out} has {start} rounds already, and {rounds} were asked for")
    with writing(history, out):
        metrics = MetricsFile(out / METRICS, start)
        stack.callback(metrics.on_end, start)
        remove_later(out / SAMPLES, start)
        if run is None:
            same_data.save(out / CONFIG, identity, keep=resume)
        else:
            replace(run, data=identity).save(out / CONFIG)
    from fgan.run.progress import Display  # rich takes as long to import as all of fgan

    screen = stack.enter_context(display or Display(rounds, start))
    files = (history, metrics, screen, out / SAMPLES)
    records = Records(algorithm, data, fixed, *files, excused, start, loggers)
    stack.callback(records.end)
    return state, records


@contextmanager
def _locked(out: Path, resume: bool, keep: int) -> Iterator[History]:
    """The run's folder, for this run alone, and the checkpoints in it.

    Raises FolderInUseError and CheckpointError, and ValueError where a new run finds another one.
    """
    if resume and not out.is_dir():
        raise no_checkpoint(out)
    make_folder(out)
    with exclusive(out):
        history = History(out, keep)
        if history and not resume:
            raise ValueError(f"{out} holds another run: resume it, or choose another folder")
        make_folder(out / SAMPLES)
        for folder in (out, out / SAMPLES, out / EARLIER):
            remove_temporary(folder)
        yield history
