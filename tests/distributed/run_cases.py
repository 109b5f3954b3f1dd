"""Whole runs that all ranks of these tests make together: `fgan.train`, and the command line.

Each of `RUNS` is a function of (rank, size, folder) that every rank calls, with the same folder.
"""

import contextlib
import io
import os
import signal
import warnings
from functools import partial
from unittest import mock

import torch
import torch.distributed as dist
from helpers import pair

import fgan
from fgan.cli import main
from fgan.data import DataSet
from fgan.evaluation import Evaluator, Features
from fgan.evaluation.gathering import gathered
from fgan.run.ranks import ranks_of

BATCH, ROUNDS = 24, 6

SMALL = [
    *("train", "wgan-gp", "--data", "rings", "--width", "8", "--latent-dim", "2"),
    *("--n-critic", "1", "--batch-size", str(BATCH), "--log-every", "2", "--sample-every", "2"),
]


def points(count=64):
    """Points on a curve, of three classes."""
    x = torch.linspace(-1, 1, count)
    return DataSet("curve", torch.stack([x, x**3], 1), torch.arange(count) % 3, tuple("abc"))


def game(change=lambda index, state: state, norm=False, **options):
    """A conditional WGAN-GP in float64; `change` makes another state of that before each round."""
    settings = dict(n_critic=2, ema_decay=0.9) | options
    algorithm = fgan.wgan_gp(*pair(conditional=True, norm=norm), **settings)

    def wrapped(algorithm):
        def step(state, batch, noise):
            state = change(int(state.round), state)
            return algorithm.step(state, batch._replace(real=batch.real.double()), noise)

        return algorithm._replace(step=step)

    return algorithm, wrapped


def trained(out, *changes, parallel=True, norm=False, data=None, options=None, **settings):
    """The final state of a small run."""
    algorithm, wrapped = game(*changes, norm=norm, **(options or {}))
    algorithm = wrapped(fgan.data_parallel(algorithm) if parallel else algorithm)
    given = dict(rounds=ROUNDS, batch_size=BATCH, seed=3, log_every=2, sample_every=3) | settings
    return fgan.train(algorithm, points() if data is None else data, out=out, **given)


def refused(function):
    """The kind and the message of the error that a function raises."""
    try:
        function()
    except Exception as error:
        return type(error).__name__, str(error)
    return None


# --- fgan.train -----------------------------------------------------------------------------------


def whole(rank, size, folder):
    """A run that nothing disturbs."""
    return trained(folder / "run", flip=False)


def resumed(rank, size, folder):
    """All ranks, then one process, then all."""
    trained(folder / "run", rounds=2)
    if rank == 0:
        trained(folder / "run", rounds=4, resume=True, parallel=False)
    dist.barrier()
    return trained(folder / "run", resume=True)


def signalled(rank, size, folder):
    """The last rank, or the first, is asked to stop while it plays the third round."""
    found = {}
    for name, who in ("SIGTERM", size - 1), ("SIGINT", size - 1), ("SIGHUP", 0):

        def ask(index, state, name=name, who=who):
            if index == 2 and rank == who:
                signal.raise_signal(getattr(signal, name))
            return state

        state = trained(folder / name, ask, rounds=100)
        names = sorted(path.name for path in (folder / name / "samples").iterdir())
        found[name] = int(state.round), names
        dist.barrier()
    return found


def diverged(rank, size, folder):
    """A rate that is too high."""
    wild = dict(generator_optimizer=fgan.sgd(1e308), critic_optimizer=fgan.sgd(1e308))
    return refused(lambda: trained(folder / "run", options=wild, log_every=1))


def occupied(rank, size, folder):
    """A folder that holds a run."""
    trained(folder / "run", rounds=1)
    return refused(lambda: trained(folder / "run"))


def unwritable(rank, size, folder):
    """The folder of the pictures is lost on the way."""

    def lose(index, state):
        if index == 1 and rank == 0:
            (folder / "run" / "samples").rmdir()
            (folder / "run" / "samples").write_text("")
        return state

    return refused(lambda: trained(folder / "run", lose))


def different(rank, size, folder):
    """One number of one rank's state changes by its last bit."""

    def change(index, state):
        if index == 4 and rank == size - 1:
            params = state.critic.params
            moved = torch.nextafter(params["last.bias"], torch.tensor(torch.inf).double())
            critic = state.critic._replace(params=params | {"last.bias": moved})
            return state._replace(critic=critic)
        return state

    # A rate of 0: the changed number is the only one.
    still = dict(critic_optimizer=fgan.sgd(0.0), generator_optimizer=fgan.sgd(0.0))
    return refused(lambda: trained(folder / "run", change, options=still))


def unequal(rank, size, folder):
    """Every rank asks for another number of rounds, or has other data."""
    rounds = refused(lambda: trained(folder / "run", rounds=5 + rank))
    data = refused(lambda: trained(folder / "run", data=points(64 + rank)))
    return rounds, data, (folder / "run").exists()


def indivisible(rank, size, folder):
    """One sample too many."""
    return refused(lambda: trained(folder / "run", batch_size=size + 1)), (folder / "run").exists()


def ended(rank, size, folder):
    """The last rank's iterator has a batch less than the others'."""
    whole = points(BATCH)
    labels = whole.labels
    batches = iter([(whole.samples, labels)] * (9 - (rank == size - 1)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        state = trained(folder / "run", data=batches, rounds=50, batch_size=None)
    return int(state.round), [str(each.message) for each in said]


def other_groups(rank, size, folder):
    """An algorithm of this process alone."""
    groups = [dist.new_group([each]) for each in range(size)]
    single = fgan.data_parallel(game()[0], groups[rank])
    return refused(lambda: fgan.train(single, points(), rounds=1, out=folder / "run"))


def told(rank, size, folder):
    """What rank 0 knows, in all ranks; and an error that cannot be sent as it is."""
    ranks = ranks_of(fgan.data_parallel(game()[0]))

    class OwnError(Exception):  # of no module: it cannot be read back
        pass

    def fail():
        raise OwnError(f"by rank {rank}")

    return ranks.from_rank_0(lambda: {"rank": rank}), refused(lambda: ranks.on_rank_0(fail))


class Measuring:
    """Points as features and their classes as logits; counts the points."""

    def __init__(self):
        self.points = 0

    def __call__(self, x):
        self.points += len(x)
        return x.double()

    @staticmethod
    def classify(x):
        return torch.stack([x[:, 0], x[:, 1], -x[:, 0]], 1).double()


def points_evaluator(measuring=None):
    """An evaluator of points with a classifier, whose samples have no equal parts."""
    measuring = measuring or Measuring()
    features = Features("as they are", measuring, measuring.classify)
    found = Evaluator(points(60), features, samples=37)
    measuring.points = 0  # the real ones, which are measured once
    return found


def evaluated(rank, size, folder):
    """A run that all ranks evaluate, and how many samples this rank has measured; what is raised
    where features fail in some ranks, and where the ranks have other evaluators."""

    def own(algorithm, state, conditional=True):
        assert rank == 0
        return {"figure": float(state.round)}

    own.best_by, measuring = "figure", Measuring()
    together = points_evaluator(measuring)
    state = trained(folder / "together", evaluate_every=3, evaluator=together)
    trained(folder / "own", evaluate_every=3, evaluator=own)
    trained(folder / "default", evaluate_every=3)
    found = {"state": state, "measured": measuring.points}
    for name, extract in FAILING.items():
        failing = points_evaluator()
        failing.features = failing.features._replace(extract=partial(extract, rank, size))
        found[name] = refused(partial(trained, folder / name, evaluate_every=3, evaluator=failing))
    algorithm, failing = fgan.data_parallel(game()[0]), points_evaluator()
    failing.features = failing.features._replace(extract=partial(two_errors, rank, size))
    found["without a run"] = refused(
        partial(failing, algorithm, algorithm.init(0), share=algorithm.share)
    )
    share, cpu = (rank, size), torch.device("cpu")
    for name, count in ("of few", size - 1), ("of none", 0):
        measure = partial(measured_rows, rank, size)
        found[name] = refused(partial(gathered, measure, count, share, cpu))
    found["rows of few"] = gathered(lambda rows: [torch.arange(9)[rows]], size - 1, share, cpu)
    others = {
        "one": points_evaluator() if rank == 0 else None,
        "another": Evaluator(points(60), samples=30 + rank),
    }
    for name, other in others.items():
        found[name] = refused(partial(trained, folder / name, evaluate_every=3, evaluator=other))
    return found


def measured_rows(rank, size, rows):
    """Fails in the last rank alone."""
    return [broken(rank, size, torch.arange(9)[rows])]


def not_finite(rank, size, x):
    """In the last rank alone."""
    return x.double() / (rank < size - 1)


def two_errors(rank, size, x):
    """Of another kind in each rank."""
    if rank < size - 1:
        raise ValueError(f"bad features in rank {rank}")
    return x.double() / 0


def broken(rank, size, x):
    """No ValueError, in the last rank alone."""
    if rank == size - 1:
        raise ZeroDivisionError("features without samples")
    return x.double()


FAILING = {"not finite": not_finite, "two errors": two_errors, "broken": broken}


# --- the command line -----------------------------------------------------------------------------


def command(*arguments, rank, size, restarts=0):
    """(status, standard output, standard error) of `fgan`, as torchrun calls it in each process."""
    variables = {
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": str(restarts),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
    }
    out, error = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, variables),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        try:
            status = main([str(each) for each in arguments])
        except SystemExit as ending:
            status = ending.code
    return status, out.getvalue(), error.getvalue()


def commands(rank, size, folder):
    """Commands that train, and such that are refused or do something else."""
    fgan_ = partial(command, rank=rank, size=size)
    out = ("--out", folder / "run")
    found = {"help": fgan_("train", "--help"), "flag": fgan_(*SMALL, *out, "--no-such-flag")}
    found["value"] = fgan_(*SMALL, *out, "--rounds", "0")
    found["batch"] = fgan_(*SMALL, *out, "--batch-size", size + 1)
    found["parts"] = fgan_(*SMALL, *out, "--accumulate", BATCH)
    found["pairs"] = fgan_(*SMALL, *out, "--sample-at", "interpolate_mixed")
    found["dry run"] = fgan_(*SMALL, *out, "--dry-run")
    found["written"] = (folder / "run").exists()
    dist.barrier()
    found["train"] = fgan_(*SMALL, *out, "--rounds", "4", "--evaluate-every", "4")
    found["occupied"] = fgan_(*SMALL, *out, "--rounds", "4")
    found["sample"] = fgan_("sample", folder / "run", "--num", "4", "--out", folder / "more.png")
    return found


def restarted(rank, size, folder):
    """A run, begun anew by torchrun with the same and with other settings."""
    fgan_ = partial(command, rank=rank, size=size)
    out = ("--out", folder / "run", "--preset", "minutes")
    first = fgan_(*SMALL, *out, "--rounds", "8", "--no-compile", restarts=1)
    dist.barrier()
    if rank == 0:  # as if it had been killed after round 4
        (folder / "run" / "checkpoint.pt").unlink()
        (folder / "run" / "checkpoints" / "round-000006.pt").unlink()
    dist.barrier()
    again = fgan_(*SMALL, *out, "--rounds", "8", "--no-compile", restarts=1)
    other = fgan_(*SMALL, *out, "--rounds", "8", "--no-compile", "--lr", "0.5", restarts=1)
    return first, again, other


RUNS = {
    "whole": whole,
    "resumed": resumed,
    "signalled": signalled,
    "diverged": diverged,
    "occupied": occupied,
    "unwritable": unwritable,
    "different": different,
    "unequal": unequal,
    "indivisible": indivisible,
    "ended": ended,
    "other groups": other_groups,
    "told": told,
    "evaluated": evaluated,
    "commands": commands,
    "restarted": restarted,
}


def stop(rank, size, folder):
    """The last rank stops in the third round, and does not go on; what the others then raise."""

    def freeze(index, state):
        if index == 2 and rank == size - 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return state

    return refused(lambda: trained(folder / "run", freeze, sample_every=1))
