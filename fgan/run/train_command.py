"""`fgan train`: from flags to a run in a folder, and what is told on the way."""

from __future__ import annotations

import dataclasses
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fgan.compiler.compile import compile as compiled
from fgan.data import DataSet, load
from fgan.data.devices import working_device
from fgan.evaluation.evaluator import Evaluator
from fgan.evaluation.splits import load_parts
from fgan.run import (
    compiling,
    evaluating,
    flags,
    init_from,
    named_loggers,
    presets,
    same_data,
    torchrun,
)
from fgan.run.configuration import Config, Run
from fgan.run.dry_run import try_round
from fgan.run.loop import CONFIG, SAMPLES, default_interval, train
from fgan.run.reading import Reading
from fgan.types import Algorithm, GANState


def train_command(
    console: Console,
    out: Path | None,
    resume: bool,
    data_root: Path | None,
    device: str | None,
    settings: Path | None,
    preset: str | None,
    dry_run: bool,
    launch: torchrun.Launch,
    **given: Any,
) -> None:
    """`fgan train`: a setting that is not given has the preset's value, or the resumed run's."""
    given = flags.merged(given, settings)
    if given.get("init_from") is not None:  # a replay may start from another folder
        given["init_from"] = str(Path(given["init_from"]).expanduser().resolve())
    target = working_device(device)
    launch.check(target)
    if resume and preset is not None:
        raise ValueError("a resumed run keeps its settings: leave --preset out")
    known = _resumed(console, out, given) if resume else None
    preset = presets.DEFAULT if preset is None else preset
    presets.check_preset(preset)
    config = known.config if known else Config(**given)  # checked before the data are read
    loggers = named_loggers.openers(config.loggers if launch.rank == 0 else ())
    data = _loaded(console, config, data_root, target)
    if not known:
        config = _completed(given, preset, data)
    if config.sample_every is None:  # said once: a longer run keeps the interval it began with
        config = dataclasses.replace(config, sample_every=default_interval(config.rounds))
    config = compiling.decided(config, target, is_new=known is None)
    launch.check_batch(config.batch_size, config.accumulate)
    out = out or Path("runs") / f"{config.recipe}-{config.data.replace(':', '-').replace('/', '-')}"
    run = Run(config, data.sample_shape, data.class_names)
    if known and known.data:
        same_data.check_form(out / CONFIG, known.data, data.sample_shape, data.class_names)
    algorithm = _built(run, target, out / CONFIG if known else None)
    run, first = (run, None) if known else _first_state(run, algorithm)
    if launch.restarted and not resume and run.is_begun(out / CONFIG):
        console.print("restarted  by torchrun: the run goes on from its latest checkpoint")
        resume, first = True, None
    _greet(console, run, data, algorithm, out, target)
    is_asked = given.get("compile") is not None
    _tell_settings(console, run.config, None if known else preset, is_asked, target)
    if dry_run:
        beside = "" if known or preset == presets.DEFAULT else f" beside --preset {preset}"
        console.print(f"all of them, as --config FILE.toml takes them{beside}:")
        try_round(console.print, run, data, algorithm, None if resume else out)
        return
    make_evaluator = partial(_evaluator, console, run.config, data, data_root, target)
    evaluator = make_evaluator() if launch.rank == 0 else None
    with named_loggers.opened(loggers, out, run.config, resume) as opened:
        # The other processes go on from here: what can fail in this one alone comes before.
        algorithm = _prepared(console, algorithm, run.config, launch, is_asked, target)
        if launch.rank > 0:  # with the classifier that rank 0 has kept on disk
            evaluator = make_evaluator()
        state = train(
            algorithm,
            data,
            rounds=config.rounds,
            out=out,
            batch_size=config.batch_size,
            seed=config.seed,
            conditional=None if config.conditional else False,
            resume=resume,
            log_every=config.log_every,
            sample_every=config.sample_every,
            flip=config.flip,
            run=run,
            state=first,
            loggers=opened,
            evaluate_every=config.evaluate_every,
            evaluator=evaluator,
        )
    _tell_end(console, int(state.round), config.rounds, resume, out)


_MAY_CHANGE = ("rounds", "log_every", "sample_every", "evaluate_every", "logger", "compile")
"""Settings that a resumed run may change. They do not affect the state after a round, except that
`rounds` changes a decaying learning rate and `compile` changes the rounding of sums."""


def _resumed(console: Console, out: Path | None, given: dict[str, Any]) -> Run:
    """The run in `out`, with the settings that a resumed run may change."""
    if out is None:
        raise ValueError("--resume needs the run's folder: --out DIR")
    run = Run.load(out / CONFIG)
    for name, value in given.items():
        if (name, value) == ("model", "auto"):  # the one that was chosen when the run began
            continue
        if name not in _MAY_CHANGE and value != getattr(run.config, name):
            raise ValueError(
                f"the run in {out} has {name} = {getattr(run.config, name)!r}, and {value!r} was "
                "given: a resumed run keeps its settings, except --rounds, --log-every, "
                "--sample-every, --evaluate-every, --logger and --compile"
            )
    changed = {name: given[name] for name in _MAY_CHANGE if name in given}
    before, now = run.config.rounds, changed.get("rounds", run.config.rounds)
    if run.config.decay != "none" and now != before:
        console.print(
            f"rates      they fall over {now} rounds from here on, and fell over {before} before: "
            "the bits are not those of a run of that length"
        )
    return dataclasses.replace(run, config=dataclasses.replace(run.config, **changed))


def _loaded(
    console: Console, config: Config, data_root: Path | None, device: torch.device
) -> DataSet:
    return load(
        config.data,
        data_root,
        device,
        config.image_size,
        skip_broken=config.skip_broken,
        progress=Reading(console.print),
    )


def _completed(given: dict[str, Any], preset: str, data: DataSet) -> Config:
    """A new run's settings: those given, of the run whose weights it takes, and of the preset."""
    if given.get("init_from") is not None:
        given = init_from.networks_of(Path(given["init_from"])) | given
    return presets.complete(given, preset, data.sample_shape, data.num_classes)


def _built(run: Run, device: torch.device, source: Path | None) -> Algorithm:
    """The run's algorithm; an error names the file `source` where the settings come from one."""
    try:
        return run.build(device)
    except ValueError as error:
        raise ValueError(f"{source}: {error}" if source else str(error)) from error


def _first_state(run: Run, algorithm: Algorithm) -> tuple[Run, GANState | None]:
    """The state of the run whose weights this one takes, and the settings with its round."""
    source = run.config.init_from
    if source is None:
        return run, None
    state, done = init_from.state_from(Path(source), run.config.init_round, algorithm.init())
    return dataclasses.replace(run, config=dataclasses.replace(run.config, init_round=done)), state


def _evaluator(
    console: Console,
    config: Config,
    data: DataSet,
    data_root: Path | None,
    device: torch.device,
) -> Evaluator | None:
    if config.evaluate_every is None:
        return None
    size, skip_broken = config.image_size, config.skip_broken
    parts = load_parts(config.data, data_root, device, size, skip_broken, data)
    return evaluating.evaluator_of(parts, console.print)


def _prepared(
    console: Console,
    algorithm: Algorithm,
    config: Config,
    launch: torchrun.Launch,
    is_asked: bool,
    device: torch.device,
) -> Algorithm:
    """The algorithm of all processes, compiled where that was decided."""
    algorithm = launch.parallel(algorithm)
    if launch.size > 1:
        console.print(
            f"processes  {launch.size}, each with {config.batch_size // launch.size} samples"
        )
    if not config.compile:
        return algorithm
    if is_asked or device.type != "cpu":
        return compiled(algorithm)
    return compiling.compiled_if_possible(algorithm, say=console.print)


def _greet(
    console: Console,
    run: Run,
    data: DataSet,
    algorithm: Algorithm,
    out: Path,
    device: torch.device,
) -> None:
    config = run.config
    kind = "conditional" if config.conditional and data.class_names else "unconditional"
    updates = "by schedule" if callable(algorithm.n_critic) else algorithm.n_critic
    console.print(f"recipe     {kind} {config.recipe}, n_critic {updates}")
    console.print(
        f"data       {data.name}: {len(data)} samples {list(data.sample_shape)}, "
        f"{data.num_classes} classes"
    )
    if data.left_out:
        console.print(f"left out   {data.left_out}")
    chosen = ", chosen by the samples' shape (see --model)" if config.model == "auto" else ""
    generator, critic = run.sizes
    console.print(
        f"networks   {run.model}{chosen}: {generator:,} parameters in the generator, {critic:,} in "
        "the critic"
    )
    console.print(
        f"device     {device}, {config.rounds} rounds, batches of {config.batch_size}, seed "
        f"{config.seed}"
    )
    console.print(f"output     {out}")
    if config.init_from is not None:
        console.print(
            f"weights    of {config.init_from} after round {config.init_round}; the optimisers "
            "began anew"
        )


def _tell_settings(
    console: Console, config: Config, preset: str | None, is_asked: bool, device: torch.device
) -> None:
    """Where the settings of a new run come from; preset is None for a resumed one."""
    if preset is None:
        return
    console.print(f"settings   preset {preset} (see --dry-run and --preset)")
    if not is_asked and device.type == "cpu":
        console.print(f"compiled   {compiling.reason(config)}")


def _tell_end(console: Console, done: int, rounds: int, resume: bool, out: Path) -> None:
    if done < rounds:
        console.print(
            f"stopped after round {done}; go on with: fgan train --resume --out {_quoted(out)}"
        )
    elif resume:
        console.print(f"complete   all {done} rounds are done; --rounds N asks for more")
    console.print(f"pictures   {out / SAMPLES}/round-{done:06d}.png and earlier ones beside it")
    console.print(f"more       fgan sample {_quoted(out)} --num 64 --out more.png")


def _quoted(path: Path) -> str:
    """The path as one word of a shell's command line, and never an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
