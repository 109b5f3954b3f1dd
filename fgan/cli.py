"""The command line: `fgan train`, `sample`, `export`, `evaluate` and `replay`."""

import argparse
import dataclasses
import shlex
import textwrap
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import torch
from rich.console import Console

from fgan.compiler.compile import compile as compiled
from fgan.data import DataSet, load
from fgan.evaluation.splits import load_parts
from fgan.run import (
    compiling,
    evaluating,
    flags,
    init_from,
    named_loggers,
    presets,
    same_data,
    signals,
    torchrun,
)
from fgan.run.configuration import Config, Run
from fgan.run.dry_run import try_round
from fgan.run.limits import no_compiler, too_much
from fgan.run.loop import CONFIG, SAMPLES, DivergenceError, default_interval, train
from fgan.run.outlet import Outlet, release_stdout
from fgan.run.rank_errors import RankError
from fgan.run.reading import Reading
from fgan.run.replay import replay_run
from fgan.types import Algorithm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 for a run that diverged, or 2 for bad input.

    Where torchrun has started several processes, they train together (`fgan.run.torchrun`).
    """
    return torchrun.launched(partial(_run, arguments))


def _run(arguments: Sequence[str] | None, launch: torchrun.Launch) -> int:
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    console = Console(
        file=cast(IO[str], Outlet()), soft_wrap=True, highlight=False, markup=False, emoji=False
    )
    try:
        signals.take_over()
        more = {"launch": launch} if command is train_command else {}
        command(console, **options, **more)
    except (DivergenceError, RankError) as error:
        launch.tell(error)
        return 1
    except (ValueError, OSError) as error:
        launch.tell(error)
        return 2
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
        reason = too_much(error) or no_compiler(error)
        if reason is None:
            raise
        launch.tell(error, reason)
        return 2
    except KeyboardInterrupt:
        return signals.INTERRUPTED
    finally:
        release_stdout()
    return 0


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
    target = _device(device)
    launch.check(target)
    if resume and preset is not None:
        raise ValueError("a resumed run keeps its settings: leave --preset out")
    known = _resumed(console, out, given) if resume else None
    preset = presets.DEFAULT if preset is None else preset
    presets.check_preset(preset)
    config = known.config if known else Config(**given)  # checked before the data are read
    loggers = named_loggers.openers(config.loggers if launch.rank == 0 else ())
    data = load(
        config.data,
        data_root,
        target,
        config.image_size,
        skip_broken=config.skip_broken,
        progress=Reading(console.print),
    )
    if not known:
        if config.init_from is not None:
            given = init_from.networks_of(Path(config.init_from)) | given
        config = presets.complete(given, preset, data.sample_shape, data.num_classes)
    if config.sample_every is None:  # said once: a longer run keeps the interval it began with
        config = dataclasses.replace(config, sample_every=default_interval(config.rounds))
    config = compiling.decided(config, target, is_new=known is None)
    launch.check_batch(config.batch_size, config.accumulate)
    out = out or Path("runs") / f"{config.recipe}-{config.data.replace(':', '-').replace('/', '-')}"
    run = Run(config, data.sample_shape, data.class_names)
    if known and known.data and out:
        same_data.check_form(out / CONFIG, known.data, data.sample_shape, data.class_names)
    algorithm = _built(run, target, out / CONFIG if known else None)
    first = None
    if config.init_from is not None and not known:
        first, done = init_from.state_from(
            Path(config.init_from), config.init_round, algorithm.init()
        )
        run = dataclasses.replace(run, config=dataclasses.replace(config, init_round=done))
    if launch.restarted and not resume and run.is_begun(out / CONFIG):
        console.print("restarted  by torchrun: the run goes on from its latest checkpoint")
        resume, first = True, None
    _greet(console, run, data, algorithm, out, target)
    if not known:
        console.print(f"settings   preset {preset} (see --dry-run and --preset)")
    asked = given.get("compile") is not None
    if not (asked or known) and target.type == "cpu":
        console.print(f"compiled   {compiling.reason(config)}")
    if dry_run:
        beside = "" if known or preset == presets.DEFAULT else f" beside --preset {preset}"
        console.print(f"all of them, as --config FILE.toml takes them{beside}:")
        try_round(console.print, run, data, algorithm, None if resume else out)
        return
    evaluator = None
    if config.evaluate_every is not None:
        parts = load_parts(
            config.data, data_root, target, config.image_size, config.skip_broken, data
        )
        evaluator = evaluating.evaluator_of(parts, console.print)
    algorithm = launch.parallel(algorithm)
    if launch.size > 1:
        console.print(
            f"processes  {launch.size}, each with {config.batch_size // launch.size} samples"
        )
    if config.compile:
        by_itself = not asked and target.type == "cpu"
        make = partial(compiling.compiled_if_possible, say=console.print) if by_itself else compiled
        algorithm = make(algorithm)
    with named_loggers.opened(loggers, out, config, resume) as opened:
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
    done = int(state.round)
    if done < config.rounds:
        console.print(
            f"stopped after round {done}; go on with: fgan train --resume --out {_quoted(out)}"
        )
    elif resume:
        console.print(f"complete   all {done} rounds are done; --rounds N asks for more")
    console.print(f"pictures   {out / SAMPLES}/round-{done:06d}.png and earlier ones beside it")
    console.print(f"more       fgan sample {_quoted(out)} --num 64 --out more.png")


def sample_command(console: Console, folder: Path, device: str | None, **options: Any) -> None:
    """`fgan sample`: draw from a trained generator, all of one class or every class in turn."""
    from fgan.run.sampling import sample_run

    sample_run(folder, _device(device), console.print, **options)


def export_command(console: Console, folder: Path, to: str, out: Path | None) -> None:
    """`fgan export`: a trained generator as a file for other programs."""
    from fgan.run.export import check_format, export
    from fgan.run.trained import load as load_run

    check_format(to)
    for path in export(load_run(folder, "cpu"), to, folder, out):
        console.print(f"written    {path}")


def evaluate_command(console: Console, folder: Path, device: str | None, **options: Any) -> None:
    """`fgan evaluate`: the figures of a run, in a table and in its folder."""
    from fgan.run import evaluate

    report = evaluate.evaluate_run(folder, device=_device(device), say=console.print, **options)
    content = report.content
    accuracy = report.evaluation.accuracy
    known = "" if accuracy is None else f", test accuracy {accuracy:.3f}"
    console.print(
        f"{content['data']}, round {content['round']}: {content['generated_samples']} generated "
        f"samples beside {content['real_samples']} real ones ({content['compared_with']})"
    )
    console.print(f"features   {content['features']}{known}")
    console.print(evaluate.table(report))
    others = content["other_real_samples"]
    if 0 < others < content["generated_samples"]:
        console.print(f"real       {others} samples: fewer make the Fréchet distance larger")
    for note in content["notes"]:
        console.print(note)
    console.print(f"written    {report.path}")


def replay_command(
    console: Console, folder: Path, round: int | None, data_root: Path | None, device: str | None
) -> None:
    """`fgan replay`: play rounds again; status 1 where a number is not finite, which is shown."""
    say = partial(console.print, markup=False)  # names of tensors have brackets
    _, last, place, _ = replay_run(folder, round, _device(device), data_root, say)
    if place is not None:
        say(str(place))
        raise DivergenceError(f"round {place.round} is not finite")
    console.print(f"all numbers of round {last} are finite")


_MAY_CHANGE = ("rounds", "log_every", "sample_every", "evaluate_every", "logger", "compile")
"""Settings of which the state after any round is independent, but for the decay of the rates, and
for the rounding of compiled sums."""


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


def _built(run: Run, device: torch.device, source: Path | None) -> Algorithm:
    """The run's algorithm; an error names the file `source` where the settings come from one."""
    try:
        return run.build(device)
    except ValueError as error:
        raise ValueError(f"{source}: {error}" if source else str(error)) from error


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            device = torch.device(name)
            torch.zeros(1, device=device).item()  # the device meta holds no numbers
    except Exception as error:  # each backend raises its own kind
        reason = textwrap.shorten(str(error) or type(error).__name__, 160)
        raise ValueError(f"device {name!r} cannot be used: {reason}") from error
    return device


def _quoted(path: Path) -> str:
    """The path as one word of a shell's command line, and never an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _path(text: str) -> Path:
    """An option's path. Raises ArgumentTypeError for "", which would be the current folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"a path is expected, and {text!r} was given")
    return Path(text)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors take one line, not the list of all options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fgan: {message} ({self.prog} --help says more)\n")


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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fgan", description="Train GANs as pure functions and draw from them.")
    # Looked up when it is needed: no module imports the package itself, which imports them all.
    version = import_module("fgan").__version__
    parser.add_argument("--version", action="version", version=f"fgan {version}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = commands.add_parser("train", help="train a GAN").add_argument
    commands.choices["train"].set_defaults(command=train_command)
    add("--out", type=_path, metavar="DIR", help="(default: runs/RECIPE-NAME)")
    add("--resume", action="store_true", help="go on from the checkpoint in --out DIR")
    add("--config", dest="settings", type=_path, metavar="FILE", help="TOML; flags win over it")
    add("--preset", metavar="NAME", help=f"{', '.join(presets.PRESETS)} (default: minutes)")
    add("--dry-run", action="store_true", help="show all settings, try a round, write nothing")
    add("--data-root", type=_path, metavar="DIR", help="where real data sets lie, or go")
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")
    flags.add_settings(commands.choices["train"])

    add = commands.add_parser("sample", help="draw from a trained generator").add_argument
    commands.choices["sample"].set_defaults(command=sample_command)
    add("folder", type=_path, metavar="DIR", help="of the run")
    add("--num", type=int, metavar="N", help="(default: 64; of --interpolate: 8)")
    add("--condition", metavar="LABEL", help="a class, by name or number (default: all in turn)")
    add("--seed", type=int, default=0, metavar="S", help="of the latents (default: 0)")
    add("--out", type=_path, metavar="FILE", help="FILE.png: a grid; FILE.npz: arrays of NumPy")
    add("--files", type=_path, metavar="DIR", help="each sample as a PNG, a sub-folder a class")
    add("--sheets", type=_path, metavar="DIR", help="a contact sheet of N samples for each class")
    add("--film", type=_path, metavar="FILE.gif", help="the pictures of training, animated")
    add("--interpolate", type=int, metavar="K", help="N rows of K samples from latent to latent")
    add("--truncation", type=float, metavar="T", help="latents within ±T: less variety")
    add("--best", action="store_true", help="the best checkpoint of --evaluate-every")
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")

    about = "write a trained generator as a file for other programs (extra export)"
    add = commands.add_parser("export", help=about).add_argument
    commands.choices["export"].set_defaults(command=export_command)
    add("folder", type=_path, metavar="DIR", help="of the run")
    add("--to", required=True, metavar="FORMAT", help="safetensors, torch-export or onnx")
    add("--out", type=_path, metavar="FOLDER", help="(default: DIR/export)")

    about = "play rounds again, and find the first number that is not finite"
    add = commands.add_parser("replay", help=about).add_argument
    commands.choices["replay"].set_defaults(command=replay_command)
    add("folder", type=_path, metavar="DIR", help="of the run")
    add("--round", type=int, metavar="N", help="(default: all after the newest checkpoint)")
    add("--data-root", type=_path, metavar="DIR", help="as in fgan train")
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")

    add = commands.add_parser("evaluate", help="measure a trained generator").add_argument
    commands.choices["evaluate"].set_defaults(command=evaluate_command)
    add("folder", type=_path, metavar="DIR", help="of the run")
    add("--samples", type=int, default=5000, metavar="N", help="to generate (default: 5000)")
    add("--features", metavar="NAME", help="images: classifier, inception or patches")
    add("--best", action="store_true", help="the best checkpoint of --evaluate-every")
    add("--inception-weights", dest="weights", type=_path, metavar="FILE", help="of torch-fidelity")
    add("--seed", type=int, default=0, metavar="S", help="of latents and subsets (default: 0)")
    add("--data-root", type=_path, metavar="DIR", help="where real data sets lie, or go")
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")
    return parser
