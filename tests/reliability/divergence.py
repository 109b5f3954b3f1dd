"""Runs that diverge on purpose: each ends by name, keeps a good state, and shows its place.

A variant trains for some good rounds and saves them. Then a learning rate, a sample or a layer
makes a number infinite. The variant passes if

- the run ends with DivergenceError, which names a figure, and a round within one logged interval of
  the first round whose state or figures are not finite;
- the checkpoint is that of the good rounds, finite, and a run with better settings goes on from it;
- `replay` finds the player, and the pass or the sample.

`run(count)` takes `count` of the 79 variants, spread over all kinds.
"""

import io
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from torch import nn

import fgan
from fgan.data import DataSet
from fgan.run import checkpoints
from fgan.run.loop import DivergenceError
from fgan.run.progress import Display
from fgan.run.replay import not_finite, replay
from fgan.types import Algorithm

NAME = "runs that diverge on purpose"

GOOD, LOG = 3, 2
"""Rounds before a variant breaks the run, and the logged interval."""
BATCH, LATENT, SHAPE, WIDTH = 16, 3, 2, 8
SETTINGS = {"batch_size": BATCH, "conditional": False, "seed": 5}


class Variant(NamedTuple):
    """One way to diverge."""

    kind: str
    label: str
    good: Algorithm
    """Of the good rounds, and to go on with afterwards."""
    broken: Algorithm
    data: DataSet
    player: str
    """Whose update `replay` has to name, and whose layer where there is one."""
    phase: str
    """What `replay` has to name: "forward", "penalty", "backward", "update"; "" for a sample."""


class Layer(nn.Module):
    """A layer of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


FORWARD = {
    "logarithm of zero": lambda x: torch.log(x - x) + x,
    "division by zero": lambda x: x / (x - x),
    "exponential that overflows": lambda x: torch.exp(x.abs() + 1000) + x,
    "product that overflows": lambda x: (x.abs() + 1) * 3e38 * 10 + x,
    "square root of a negative number": lambda x: torch.sqrt(-x.abs() - 1) + x,
}
"""Layers whose output is not finite."""
BACKWARD = {
    "square root of zero": lambda x: torch.sqrt(x - x) + x,
    "norm of zero": lambda x: torch.square(x - x).sum(1, keepdim=True).sqrt() + x,
}
"""Layers whose output is finite, and whose derivative is not."""


def networks(function=None, player=""):
    """A small generator and critic with the same parameters every time; one has the layer."""

    def built(first, last, name):
        layer = Layer(function) if name == player else nn.Identity()
        return nn.Sequential(nn.Linear(first, WIDTH), nn.Tanh(), layer, nn.Linear(WIDTH, last))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return built(LATENT, SHAPE, "generator"), built(SHAPE, 1, "critic")


def points(bad=None):
    """A line of points, twice as many as a run draws; `bad` is in one of them."""
    count = 4 * BATCH * GOOD
    numbers = torch.arange(count, dtype=torch.float32)
    labels = torch.zeros(count, dtype=torch.int64)
    samples = (2 * numbers / count - 1).repeat(SHAPE, 1).T.contiguous()
    if bad is not None:
        samples[3, 1] = bad
    return DataSet("line", samples, labels, ("all",))


def bad_samples():
    """(kind, passed, total, remark): data with such numbers are refused before any round."""
    found = []
    for bad in (float("nan"), float("inf"), -float("inf")):
        try:
            next(iter(fgan.data.batches(points(bad), BATCH, conditional=False)))
            found.append(f"{bad} was taken")
        except ValueError as error:
            found.append("" if "sample 3" in str(error) else f"{bad}: {error}")
    return "bad sample", found.count(""), len(found), next(filter(None, found), "")


RECIPES = {name: recipe.function for name, recipe in fgan.recipes.RECIPES.items()}


PENALISED = ("wgan-gp", "wgan-div", "dragan", "r3gan")


def variants():
    """All of them."""
    for name, recipe in RECIPES.items():

        def made(*layer, recipe=recipe, **options):
            networks_ = networks(*layer)
            own = {"n_critic": 1, "latent_dim": LATENT, "sample_shape": (SHAPE,)}
            return recipe(*networks_, **own, **options)

        good = made()
        for player in ("critic", "generator"):
            if (name, player) != ("wgan", "critic"):  # clamped, it is finite at any rate
                slow, fast = (made(**{f"{player}_optimizer": fgan.sgd(r)}) for r in (1e-3, 1e42))
                label = f"{name}: rate 1e42 of the {player}"
                yield Variant("huge learning rate", label, slow, fast, points(), player, "update")
            for what, function in (FORWARD | BACKWARD).items():
                phase = "forward" if what in FORWARD else "backward"
                if phase == "backward" and player == "critic" and name in PENALISED:
                    phase = "penalty"
                label = f"{name}: {what} in the {player}"
                broken = made(function, player)
                yield Variant(f"layer, {phase} pass", label, good, broken, points(), player, phase)
        half = {"autocast": torch.bfloat16}
        label = f"{name}: overflow in bfloat16"
        good, broken = made(**half), made(FORWARD["product that overflows"], "critic", **half)
        yield Variant("overflow in bfloat16", label, good, broken, points(), "critic", "forward")


def trained(algorithm, data, rounds, out, **options):
    """A run that prints nothing."""
    quiet = Display(rounds, console=Console(file=io.StringIO()))
    options = SETTINGS | {"log_every": LOG, "sample_every": 2 * GOOD, "display": quiet} | options
    return fgan.train(algorithm, data, rounds=rounds, out=out, **options)


def fault(variant, out):
    """What does not hold for a variant, or ""."""
    good, broken, data = variant.good, variant.broken, variant.data
    saved = trained(good, data, GOOD, out)
    try:
        trained(broken, data, 4 * GOOD, out, resume=True)
        return "the run did not end"
    except DivergenceError as error:
        found = re.match(r"round (\d+): (\w+) is (nan|-?inf)\.", str(error))
    if not found:
        return "the error does not name round and figure"
    ended = int(found[1])
    kept = checkpoints.load(out / "checkpoint.pt", like=saved)
    if not_finite(kept) or int(kept.round) != GOOD:
        return "the checkpoint is not that of the good rounds"
    place = replay(broken, data, out=out, round=ended, **SETTINGS).place
    if place is None or place.origin is None:
        return "replay does not find the place"
    if not place.round <= ended <= place.round + LOG:
        return f"the run ended at round {ended}, and round {place.round} is not finite"
    origin = place.origin
    if origin.phase != variant.phase:
        return f"replay names the phase {origin.phase!r}"
    of_player = "fakes" in place.part or "generator" in place.part
    if of_player != (variant.player == "generator"):
        return f"replay names the {place.part}"
    has_layer = variant.phase in ("forward", "backward", "penalty")
    if has_layer and origin.layer != f"'2' (Layer) of the {variant.player}":
        return f"replay names the layer {origin.layer}"
    if has_layer and Path(__file__).name not in origin.line:
        return f"replay names the line {origin.line}"
    going_on = trained(good, points(), GOOD + 1, out, resume=True)
    return "the run does not go on" if not_finite(going_on) else ""


def run(count):
    """(kind, passed, total, remark) for each kind of variant."""
    every = list(variants())
    count = min(count, len(every))
    chosen = [every[i * len(every) // count] for i in range(count)]
    rows: dict[str, list[str]] = {}
    refused = bad_samples()
    for variant in chosen:
        with tempfile.TemporaryDirectory() as folder:
            said = fault(variant, Path(folder))
        rows.setdefault(variant.kind, []).append(f"{variant.label}: {said}" if said else "")
    return [refused] + [
        (kind, faults.count(""), len(faults), next(filter(None, faults), ""))
        for kind, faults in rows.items()
    ]


if __name__ == "__main__":
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 10**6):
        print(*row, sep=" | ")
