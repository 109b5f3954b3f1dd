"""`fgan train --init-from RUN`: a new run that starts from the weights of another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from fgan import tree
from fgan.run import checkpoints
from fgan.run.configuration import Config, Run
from fgan.run.history import earlier, read_latest
from fgan.run.json_files import read_object
from fgan.run.loop import CONFIG
from fgan.scores import describe
from fgan.types import GANState

_PLAYERS = (".generator.params", ".generator.buffers", ".critic.params", ".critic.buffers")
_AVERAGE, _AVERAGED = ".ema.", ".generator."


def networks_of(folder: Path) -> dict[str, Any]:
    """The settings of the networks of the run in `folder`; {} where a script made them.

    Raises ValueError for a folder without a run.
    """
    if not (folder / CONFIG).is_file():
        raise ValueError(f"there is no run in {folder}: no {CONFIG}")
    if "recipe" not in read_object(folder / CONFIG):
        return {}
    config = Run.load(folder / CONFIG).config
    names = (each.name for each in fields(Config) if each.metadata["group"] == "the networks")
    return {name: getattr(config, name) for name in names if name != "autocast"}


def state_from(folder: Path, round: int | None, like: GANState) -> tuple[GANState, int]:
    """A first state with the weights and buffers of the run in `folder`, and after which round.

    round: of the checkpoint; None: the latest one.
    like: a first state of the new run. Its optimisers stay, so that rates and moments begin anew.
        Its average of the generator begins as that of the other run, or as its weights.

    Raises ValueError for a round without a checkpoint, and where the networks are others.
    """
    found = _checkpoint(folder, round)
    wanted = tree.named_leaves(like)
    leaves = {}
    for name, tensor in wanted.items():
        source = name
        if name.startswith(_AVERAGE) and name not in found:
            source = name.replace(_AVERAGE, _AVERAGED, 1)
        elif not name.startswith((_AVERAGE, *_PLAYERS)):
            leaves[name] = tensor
            continue
        there = found.get(source)
        if there is None or (there.shape, there.dtype) != (tensor.shape, tensor.dtype):
            raise _others(folder, source, there, tensor)
        leaves[name] = there.detach().clone().to(tensor.device)
    for name, there in found.items():
        if name.startswith(_PLAYERS) and name not in wanted:
            raise _others(folder, name, there, None)
    state: GANState = tree.unflatten(list(leaves.values()), tree.flatten(like)[1])
    return state, int(found[".round"])


def _checkpoint(folder: Path, round: int | None) -> Mapping[str, Tensor]:
    """The leaves of a checkpoint by name."""
    known = earlier(folder)
    if round in known:
        return checkpoints.read(known[round])
    latest, _ = read_latest(folder, checkpoints.read)
    done = int(latest[".round"])
    if round not in (None, done):
        rounds = ", ".join(map(str, sorted({*known, done})))
        raise ValueError(
            f"the run in {folder} has no checkpoint of round {round}; those that it has are of "
            f"{rounds}"
        )
    return latest


def _others(folder: Path, name: str, there: Tensor | None, here: Tensor | None) -> ValueError:
    """What is told of networks that differ."""
    sides = ["absent" if tensor is None else f"{describe(tensor)}" for tensor in (there, here)]
    return ValueError(
        f"the run in {folder} has other networks: {name} is {sides[0]} there and {sides[1]} here. "
        "Use the same --model, --width, --latent-dim and other settings of the networks, the same "
        "shape of a sample, and the same number of classes (or --unconditional)"
    )
