"""`fgan replay`: rounds of a run again, and where the first number that is not finite arose.

A round is a pure function of the state, the batch and the noise, and both of these are functions of
the seed and the round. So any round can be played again from an earlier state, with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan import tree
from fgan.algorithm import of_parts
from fgan.data import DataSet, batches, fingerprint, load
from fgan.data.iterables import Iterables, Keys
from fgan.run import checkpoints, positions, same_data
from fgan.run.checkpoints import not_finite
from fgan.run.configuration import Run
from fgan.run.init_from import state_from
from fgan.run.loop import CONFIG
from fgan.run.origin import Origin, Watch, forward_line
from fgan.run.samples import takes_conditions
from fgan.run.source import source_of
from fgan.run.start import started
from fgan.scalars import check_count
from fgan.types import Algorithm, Batch, Data, GANInfo, GANState, Gradient, Noise, Parts

__all__ = ["replay"]

Say = Callable[[str], None]


class Place(NamedTuple):
    """Where a round stopped to be finite."""

    round: int
    """Counted from 1, as in the metrics."""
    part: str
    """Such as "critic update 2", or "generator update"."""
    leaves: tuple[str, ...]
    """What came out of that part and is not finite, by name."""
    origin: Origin | None
    """None where the operation was not seen."""

    def __str__(self) -> str:
        lines = [f"round {self.round}, {self.part}"]
        origin = self.origin
        if origin is not None and not origin.phase:
            lines[0] += f": {origin.value} in what the round was given"
            lines.append(f"given      {origin.operation}, {origin.outputs[0]}")
        elif origin is not None:
            passes = {"penalty": "the penalty's passes", "update": "optimiser and projection"}
            where = passes.get(origin.phase, f"{origin.phase} pass")
            lines[0] += f", {where}: the first number that is not finite is {origin.value}"
            lines.append(f"layer      {origin.layer or 'outside of the networks'}")
            shapes = f"{', '.join(origin.inputs)} -> {', '.join(origin.outputs)}"
            lines.append(f"operation  {origin.operation}: {shapes}")
            lines.append(f"line       {origin.line or 'unknown'}")
        more = f" and {len(self.leaves) - 1} more" if len(self.leaves) > 1 else ""
        lines.append(f"result     {self.leaves[0]}{more}")
        return "\n".join(lines)


class Replay(NamedTuple):
    """What playing rounds again has shown."""

    start: int
    """Rounds that the state had completed from which the rounds were played."""
    round: int
    """The last round played, counted from 1."""
    place: Place | None
    """None where all numbers of the rounds are finite."""
    state: GANState
    """After the last round, or before the round that is not finite."""


class _Found(Exception):  # noqa: N818 (no error: the end of a search)
    def __init__(self, place: Place) -> None:
        self.place = place


def replay_run(
    folder: Path,
    round: int | None = None,
    device: torch.device | str = "cpu",
    data_root: Path | None = None,
    say: Say = lambda line: None,
) -> Replay:
    """`replay` for a folder that `fgan train` has written; all settings are read from it.

    round: counted from 1. By default the rounds after the newest checkpoint, up to the last round
        that was asked for, or to the first that is not finite.

    Raises ValueError for a folder without a run and for a round that the run does not have.
    """
    run = Run.load(folder / CONFIG)
    config = run.config
    if round is not None and not 1 <= round <= config.rounds:
        raise ValueError(f"--round is from 1 to {config.rounds} in {folder}, and {round} was given")
    data = load(config.data, data_root, device, config.image_size, skip_broken=config.skip_broken)
    same_data.check(folder / CONFIG, fingerprint(data))
    algorithm, last = run.build(device), round or config.rounds
    state = None
    if config.init_from is not None:
        state = algorithm.init()
        if all(done >= last for done in checkpoint_files(folder).values()):
            state, _ = state_from(Path(config.init_from), config.init_round, state)
    return replay(
        algorithm,
        data,
        out=folder,
        round=last,
        batch_size=config.batch_size,
        seed=config.seed,
        conditional=None if config.conditional else False,
        say=say,
        state=state,
        flip=config.flip,
    )


def replay(
    algorithm: Algorithm,
    data: str | DataSet | Iterables,
    *,
    out: str | Path,
    round: int,
    batch_size: int | None = None,
    seed: int = 0,
    conditional: bool | None = None,
    say: Say = lambda line: None,
    state: GANState | None = None,
    flip: bool = False,
    keys: Keys | None = None,
) -> Replay:
    """Play rounds of `fgan.train` again, up to round `round`, counted from 1, as in the metrics.

    The arguments are those that `fgan.train` was given. The rounds start from the latest checkpoint
    in `out` before that round, or from `init` or `state`. They are not compiled; on one machine,
    with as many threads, an uncompiled run has the same bits. The first round with a number that is
    not finite, in the state or in a figure, is run once more, watched operation by operation, and
    the search ends there.

    say: is given a line on every checkpoint that is used or left out.

    Raises ValueError for a population and for a round below 1.

    Example:
        >>> from fgan.run.replay import replay
        >>> algorithm = fgan.gan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> points = fgan.data.DataSet("points", torch.randn(100, 2))
        >>> state = fgan.train(algorithm, points, rounds=2, out="runs/replayed")
        round 2/2 ...
        >>> again = replay(algorithm, points, out="runs/replayed", round=2)
        >>> torch.equal(again.state.critic.params["weight"], state.critic.params["weight"])
        True
    """
    check_count("round", round)
    if algorithm.members:
        raise ValueError("replay takes one run, as fgan.train does, and this is a population")
    initial = algorithm.init(seed if state is None else None)
    first = initial if state is None else started(state, initial)
    state = _state_before(Path(out), first, round, say)
    start = int(state.round)
    source, size = source_of(data, batch_size, initial.round.device, keys)
    preview = source if isinstance(source, DataSet) else source.preview
    conditional = takes_conditions(algorithm, first, preview, conditional)
    stream = batches(
        source,
        size,
        algorithm.n_critic,
        round - start,
        seed,
        state.round.device,
        conditional,
        start=start,
        flip=flip,
        position=positions.load(Path(out)).get(start),
    )
    step = of_parts(algorithm.parts)["step"]
    for index, batch in enumerate(stream, start):
        noise = algorithm.noise(seed, index, size)
        with torch.no_grad():
            new, info = step(state, batch, noise)
        if not_finite(new, since=state) or not_finite(info):
            return Replay(start, index + 1, find(algorithm.parts, state, batch, noise, info), state)
        state = new
    return Replay(start, round, None, state)


def checkpoint_files(folder: Path) -> dict[Path, int]:
    """The checkpoints of a run, and the rounds that each has completed, the latest first.

    Whatever the files are called, the round is read from the state. A file that cannot be read is
    left out.
    """
    rounds: dict[Path, int] = {}
    for path in sorted([*folder.glob("checkpoint*.pt"), *folder.glob("checkpoints/*.pt")]):
        try:
            leaves = torch.load(path, map_location="cpu", weights_only=True)["leaves"]
            rounds[path] = int(leaves[".round"])
        except Exception:  # torch raises half a dozen kinds for a damaged file
            continue
    return dict(sorted(rounds.items(), key=lambda item: -item[1]))


def _state_before(folder: Path, initial: GANState, round: int, say: Say) -> GANState:
    """The latest finite state in a folder that has completed fewer rounds, or the initial one."""
    for path, done in checkpoint_files(folder).items():
        if done >= round:
            continue
        try:
            state = checkpoints.load(path, like=initial)
        except checkpoints.CheckpointError as error:
            say(f"{path.name} is left out: {error}")
            continue
        if bad := not_finite(state, since=initial):
            say(f"{path.name} (round {done}) is left out: {bad[0]} is not finite")
            continue
        say(f"from {path.name}, which has completed round {done}")
        return state
    say("from the initial state")
    return initial


def find(parts: Parts, state: GANState, batch: Batch, noise: Noise, info: GANInfo) -> Place:
    """The place where a round stops to be finite: it runs once more, watched.

    info: the round's figures, which name the place if no watched part of the round does.
    """
    done = int(state.round) + 1

    def run(watch: Watch) -> Place | None:
        for name, tensor in _given(state, batch, noise):
            watch.given(name, tensor)
        step = of_parts(_watched(parts, watch, state, done))["step"]
        with torch.no_grad(), watch.layers.hooked(), watch:
            try:
                step(state, batch, noise)
            except _Found as found:
                return found.place
        return None

    place = run(Watch())
    if place is None:
        figures = (f"the figure {name.removeprefix('.')}" for name in not_finite(info))
        names = tuple(figures) or ("the state",)
        return Place(done, "after the updates", names, None)
    if place.origin is not None and place.origin.phase in ("backward", "penalty"):
        line = forward_line(run, place.origin) or place.origin.line
        place = place._replace(origin=place.origin._replace(line=line))
    return place


def _given(state: GANState, batch: Batch, noise: Noise) -> Iterator[tuple[str, Tensor]]:
    """What the round is given and is not finite; of a batch, with the first sample's place."""
    for root, given in ("state", state), ("batch", batch), ("noise", noise):
        bad = set(not_finite(given))
        for name, tensor in tree.named_leaves(given).items():
            if name in bad:
                first = (~torch.isfinite(tensor)).nonzero()[0].tolist()
                at = f"[{', '.join(map(str, first))}]" if first else ""
                yield f"{root}{name}{at}", tensor


def _watched(parts: Parts, watch: Watch, start: GANState, done: int) -> Parts:
    """The parts of a round, each of which raises _Found for a result that is not finite."""
    updates = 0

    def check(part: str, result: Any, since: Any, named: Callable[[str], str]) -> None:
        bad = not_finite(result, since)
        if not bad:
            return
        leaves = tree.named_leaves(result)
        known = [origin for name in bad if (origin := watch.origin_of(leaves[name])) is not None]
        origin = min(known) if known else None
        raise _Found(Place(done, part, tuple(map(named, bad)), origin))

    def check_gradient(part: str, player: str, gradient: Gradient) -> None:
        kinds = {
            ".params": f"the gradient of the {player}'s ",
            ".buffers": f"the {player}'s new buffer ",
            ".info": "the figure ",
        }

        def named(name: str) -> str:
            field, _, key = name.partition("[")
            return kinds[field] + key.removesuffix("]")

        check(part, gradient, Gradient({}, getattr(start, player).buffers, {}), named)

    def fakes(state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        watch.layers.start("generator")
        made = parts.fakes(state, latent, condition)
        check(f"fakes of critic update {updates + 1}", (made,), None, lambda key: "the fakes")
        return made

    def critic_gradient(state: GANState, data: Data) -> Gradient:
        nonlocal updates
        updates += 1
        watch.layers.start("critic")
        gradient = parts.critic_gradient(state, data)
        check_gradient(f"critic update {updates}", "critic", gradient)
        return gradient

    def generator_gradient(state: GANState, latent: Tensor, data: Data) -> Gradient:
        watch.layers.start("both")
        gradient = parts.generator_gradient(state, latent, data)
        check_gradient("generator update", "generator", gradient)
        return gradient

    def applied(part: str, apply: Callable[..., GANState], *inputs: Any) -> GANState:
        watch.layers.start("")
        watch.is_update = True
        state = apply(*inputs)
        watch.is_update = False
        check(part, state, start, lambda key: f"state{key}")
        return state

    return parts._replace(
        fakes=fakes,
        critic_gradient=critic_gradient,
        generator_gradient=generator_gradient,
        apply_critic=lambda *x: applied(f"critic update {updates}", parts.apply_critic, *x),
        apply_generator=lambda *x: applied("generator update", parts.apply_generator, *x),
    )
