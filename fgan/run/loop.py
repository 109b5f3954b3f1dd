"""The loop around the pure step: everything that touches clocks, files, signals and the screen."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fgan.data import Batches, DataSet, Fingerprint, Rounds, batches, placed
from fgan.data.files import make_folder, remove_temporary
from fgan.data.iterables import Iterables, Keys
from fgan.run import positions, same_data
from fgan.run.best import Best
from fgan.run.checkpoints import not_finite
from fgan.run.configuration import Run
from fgan.run.evaluating import Evaluates, evaluations_of, is_evaluated
from fgan.run.history import CHECKPOINT, EARLIER, History, no_checkpoint
from fgan.run.lock import exclusive
from fgan.run.loggers import Logger, check_loggers
from fgan.run.metrics import MetricsFile, scores
from fgan.run.ranks import ranks_of
from fgan.run.records import DivergenceError, Records, SaveError, SharedRecords, writing
from fgan.run.samples import draw_samples, fixed_samples, remove_later, takes_conditions
from fgan.run.signals import interruptible
from fgan.run.source import Source, known_of, source_of
from fgan.run.start import started
from fgan.scalars import check_count, check_flag
from fgan.scores import describe
from fgan.types import Algorithm, GANInfo, GANState

if TYPE_CHECKING:
    from fgan.run.progress import Display

__all__ = ["CHECKPOINT", "CONFIG", "METRICS", "SAMPLES", "DivergenceError", "SaveError", "train"]

CONFIG, METRICS, SAMPLES = "config.json", "metrics.jsonl", "samples"


def train(
    algorithm: Algorithm,
    data: str | DataSet | Iterables,
    *,
    rounds: int,
    out: str | Path,
    batch_size: int | None = None,
    seed: int = 0,
    conditional: bool | None = None,
    resume: bool = False,
    log_every: int = 10,
    sample_every: int | None = None,
    keep: int = 3,
    display: Display | None = None,
    run: Run | None = None,
    state: GANState | None = None,
    flip: bool = False,
    keys: Keys | None = None,
    loggers: Sequence[Logger] = (),
    evaluate_every: int | None = None,
    evaluator: Evaluates | None = None,
) -> GANState:
    """Train for `rounds` rounds and return the final state.

    `data` is the name of a data set, a `DataSet`, a data set of torch, or any iterable of batches;
    `fgan.data.batches` says which there are, and what `flip` and `keys` are for. `batch_size` is 64
    by default, and that of the iterable where it has one. `conditional`: by default, where the data
    have labels and the networks take a condition.

    Every random number follows from `seed`, but for those of an iterable. The folder `out` gets
    `metrics.jsonl` (a line every `log_every` rounds), `samples/round-NNNNNN.png` (fixed latents, a
    column per class), `curves.png` (the figures over the rounds) and `checkpoint.pt`, all three
    every `sample_every` rounds (default: ten times) and at the end; the `keep` checkpoints before
    it stay in `checkpoints/`. A `run` is written as `config.json`, and without one the data's
    fingerprint alone. Files are whole or not there, also after a crash, a power cut or on a full
    disk.

    The run starts from `algorithm.init(seed)`, which draws all weights anew, or from a copy of
    `state`: `state=algorithm.init()` keeps the weights of the modules, and the state of another run
    is trained further (fine-tuning). Its optimisers go on where they were, and rounds are counted
    from 0 again, also those that schedules see.

    With `resume`, the run goes on from the latest whole checkpoint (not from `state`), and on the
    CPU it ends in the same bits as one that was never interrupted, its figures and pictures
    included; a warning says where an iterable cannot go on where it was. Ctrl-C, SIGTERM and SIGHUP
    end the run after the round in progress, with everything saved; a second Ctrl-C ends it at once.
    With other data than before it is refused, and nothing is changed. A run also ends, with a
    warning, where an iterator has no more batches.

    loggers: `fgan.run.loggers.Logger`s, told of the figures, pictures and the end of the run beside
        the files, such as `TensorBoard` and `WandB` there.
    evaluate_every: rounds between evaluations, each of them a checkpoint too. Round `rounds` is
        evaluated as well; a run that ends before it is not evaluated at its end. The figures are in
        `metrics.jsonl` under names that begin with "evaluation_", and `best.pt` is the checkpoint
        with the smallest distance. The training keeps its bits.
    evaluator: by default, `fgan.evaluation.Evaluator` with 2,000 samples of the test split, or of a
        half that is held out; of images in the features of a classifier, which is trained before
        the first round unless it is on disk.

    A data-parallel algorithm (`fgan.data_parallel`, of all processes) is trained by all processes
    together, each of which calls this with the same arguments. Rank 0 alone writes files, shows the
    progress and tells the loggers; all evaluate together. A signal to any process ends all after
    the same round, and an error of rank 0 is raised in all. The states are compared at every
    checkpoint. A run may be resumed by another number of processes.

    Raises ValueError before the first round for settings and data that do not fit, for a `state` of
    another algorithm, for an `out` that holds another run, and for one that another run writes into
    at the moment; `fgan.run.checkpoints.CheckpointError` for a checkpoint that cannot be used;
    DivergenceError where a loss or the state is no longer finite, and SaveError, an OSError, where
    a file cannot be written, both with the last good checkpoint left in place;
    `fgan.run.rank_errors.RankError` where another process has ended, does not answer within the
    time-out of the process group, or has another state.

    Example:
        >>> algorithm = fgan.gan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> points = fgan.data.DataSet("points", torch.randn(100, 2))
        >>> state = fgan.train(algorithm, points, rounds=2, out="runs/points")
        round 2/2 ...
        >>> int(state.round)
        2
    """
    _check_arguments(algorithm, out, resume=resume, flip=flip)
    if conditional is not None:
        check_flag("conditional", conditional)
    rounds = check_count("rounds", rounds)
    if evaluate_every is not None:
        evaluate_every = check_count("evaluate_every", evaluate_every)
    every = default_interval(rounds) if sample_every is None else sample_every
    _check_settings(algorithm, keep, log_every, every)
    loggers = check_loggers(loggers)
    ranks = ranks_of(algorithm)
    # A state that is given, or resumed, needs no weights from the seed, which not all layers draw.
    initial = algorithm.init(seed if state is None and not resume else None)
    first = initial if state is None else started(state, initial)
    source, size = source_of(data, batch_size, initial.round.device, keys)
    preview, identity = known_of(source)
    if isinstance(source, DataSet):
        source = placed(source, initial.round.device)
    wanted = takes_conditions(algorithm, first, preview, conditional)
    plan = _Plan(rounds, size, seed, wanted, flip)
    fixed = fixed_samples(algorithm, preview, seed, wanted, first)
    _check_fit(algorithm, first, source, preview, fixed, plan)
    with ExitStack() as stack:
        stack.enter_context(ranks.guarded())
        ranks.check_equal(
            plan._asdict()
            | {"data": identity, "log_every": log_every, "sample_every": every}
            | {"evaluate_every": evaluate_every, "evaluator": type(evaluator).__name__}
        )
        evaluations = evaluations_of(
            evaluator, evaluate_every, wanted, data, source, initial.round.device, ranks
        )
        opening = partial(
            _open,
            stack,
            algorithm,
            first,
            preview,
            identity,
            fixed,
            Path(out),
            resume,
            keep,
            rounds,
            display,
            run,
            frozenset(not_finite(initial)),  # such as a mask of infinities among the buffers
            loggers,
            None if evaluations is None else evaluations.best_by,
        )
        opened = ranks.on_rank_0(opening)
        state = ranks.spread(first if opened is None else opened[0])
        start = int(state.round)
        place = ranks.from_rank_0(lambda: positions.load(Path(out)).get(start) if resume else None)
        stream = _batches(algorithm, state, source, plan, start, rounds - start, place)
        own = None if opened is None else opened[1]
        due = partial(is_evaluated, evaluate_every, rounds)
        records = SharedRecords(ranks, own, stream, evaluations, due)
        stopping = stack.enter_context(interruptible())
        done, info, evaluated = start, None, False
        may_end = isinstance(source, Batches)
        for index, batch in enumerate(ranks.batches_for_all(stream, stopping, may_end), start):
            state, info = algorithm.step(state, batch, algorithm.noise(seed, index, size))
            done = index + 1
            stopped = ranks.stopped(stopping)  # once: a signal from here on ends the next round
            last = done == rounds or stopped
            records.advance(done)
            evaluated = records.evaluate(done, info, algorithm, state)
            if done % log_every == 0 or last or evaluated:
                records.log(done, info)
            if done % every == 0 or last or evaluated:
                records.save(done, info, state)
            if stopped:
                break
        else:
            info = None if evaluated else info  # its figures and its checkpoint are there
            _ended_early(records, preview.name, done, rounds, log_every, every, info, state)
    return state


def _ended_early(
    records: SharedRecords,
    name: str,
    done: int,
    rounds: int,
    log_every: int,
    every: int,
    info: GANInfo | None,
    state: GANState,
) -> None:
    """Save the last round of a run whose iterator had no more batches."""
    if done == rounds:
        return
    warnings.warn(
        f"{name} had no more batches after round {done} of {rounds}: a function that makes the "
        "iterator, in its place, is called anew for each epoch",
        stacklevel=3,
    )
    if info is not None and done % log_every:
        records.log(done, info)
    if info is not None and done % every:
        records.save(done, info, state)


def _check_arguments(algorithm: object, out: object, **flags: object) -> None:
    """Raise ValueError for an argument that is of another kind than it has to be."""
    if not isinstance(algorithm, Algorithm):
        raise ValueError(
            f"algorithm is one that a recipe made, such as fgan.wgan_gp(generator, critic), and "
            f"{describe(algorithm)} was given"
        )
    if not isinstance(out, str | os.PathLike) or out == "":
        given = "an empty string" if out == "" else describe(out)
        raise ValueError(f"out is the path of the run's folder, a string, and {given} was given")
    for name, value in flags.items():
        check_flag(name, value)


def default_interval(rounds: int) -> int:
    """Rounds between pictures and checkpoints where nobody says: ten times in the whole run."""
    return max(1, rounds // 10)


class _Plan(NamedTuple):
    """How far a run goes, and on which batches."""

    rounds: int
    batch_size: int
    seed: int
    conditional: bool
    flip: bool


def _check_settings(algorithm: Algorithm, keep: int, log_every: int, sample_every: int) -> None:
    check_count("log_every", log_every)
    check_count("sample_every", sample_every)
    check_count("keep", keep, 0)
    if algorithm.members:
        raise ValueError("fgan.train trains one run: step a population in a loop of your own")


def _batches(
    algorithm: Algorithm,
    state: GANState,
    data: Source,
    plan: _Plan,
    start: int,
    count: int,
    position: Mapping[str, Any] | None = None,
) -> Rounds:
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
        share=algorithm.share,
        flip=plan.flip,
        position=position,
    )


def _check_fit(
    algorithm: Algorithm,
    state: GANState,
    data: Source,
    preview: DataSet,
    fixed: tuple[Tensor, Tensor | None],
    plan: _Plan,
) -> None:
    """What does not fit fails here, before anything is written. Raises ValueError."""
    _batches(algorithm, state, data, plan, 0, 0)
    drawn = draw_samples(algorithm, state, *fixed, preview)
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
    excused: frozenset[str],
    loggers: tuple[Logger, ...],
    best_by: str | None,
) -> tuple[GANState, Records]:
    """The state that the run starts from, and its files, open until the stack closes."""
    history = stack.enter_context(_locked(out, resume, keep))
    if resume:
        same_data.check(out / CONFIG, identity)
    state = history.load(like=state) if resume else state
    start = int(state.round)
    if start > rounds:
        raise ValueError(f"{out} has {start} rounds already, and {rounds} were asked for")
    with writing(history, out):
        best = Best(out, start, scores(out / METRICS, best_by), history.latest_is_whole)
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
    records = Records(algorithm, data, fixed, *files, excused, start, loggers, best_by, best)
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
