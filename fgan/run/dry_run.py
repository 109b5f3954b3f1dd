"""`fgan train --dry-run`: all settings, and one round of which nothing is kept."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from fgan.data import DataSet, batches
from fgan.run.configuration import Run
from fgan.run.flags import as_toml
from fgan.run.history import History
from fgan.types import Algorithm


def try_round(
    say: Callable[[str], None], run: Run, data: DataSet, algorithm: Algorithm, out: Path | None
) -> None:
    """Say the settings as TOML, and play the first round, uncompiled. Nothing is written.

    out: the folder of a new run; None for a run that is resumed.

    Raises ValueError for a folder that holds another run, and what the round raises.
    """
    config = run.config
    for line in as_toml(dataclasses.replace(config, model=run.model)):
        say(line)
    if out is not None and History(out, 0):
        raise ValueError(f"{out} holds another run: resume it, or choose another folder")
    state = algorithm.init(config.seed)
    own = (config.batch_size, algorithm.n_critic, 1, config.seed, state.round.device)
    conditional = config.conditional and bool(data.class_names)
    for batch in batches(data, *own, conditional, flip=config.flip):
        algorithm.step(state, batch, algorithm.noise(config.seed, 0, config.batch_size))
    say("dry run    one round was tried without an error; nothing was written")
