"""The command line: `fgan train`, `fgan sample`, `fgan evaluate` and `fgan replay`."""

import argparse
import dataclasses
import shlex
import sys
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
from fgan.data import NAMES, DataSet, load
from fgan.penalties import SAMPLE_AT
from fgan.recipes import RECIPES
from fgan.run import pictures, same_data, signals
from fgan.run.configuration import MODELS, Config, Run
from fgan.run.history import load_latest
from fgan.run.limits import no_compiler, too_much
from fgan.run.loop import CONFIG, SAMPLES, DivergenceError, default_interval, train
from fgan.run.outlet import Outlet, release_stdout
from fgan.run.replay import replay_run
from fgan.scalars import check_count
from fgan.seeds import mix_seed
from fgan.types import Algorithm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 for a run that diverged, or 2 for bad input."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    console = Console(
        file=cast(IO[str], Outlet()), soft_wrap=True, highlight=False, markup=False, emoji=False
    )
    try:
        signals.take_over()
        command(console, **options)
    except DivergenceError as error:
        print(f"fgan: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"fgan: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
        reason = too_much(error) or no_compiler(error)
        if reason is None:
            raise
        print(f"fgan: {reason}", file=sys.stderr)
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
    compile: bool | None,
    **given: Any,
) -> None:
    """`fgan train`: a setting that is not given has its default, or the resumed run's value."""
    given = {name: value for name, value in given.items() if value is not None}
    target = _device(device)
    known = _resumed(out, given) if resume else None
    config = known.config if known else Config(**given)
    if config.sample_every is None:  # said once: a longer run keeps the interval it began with
        config = dataclasses.replace(config, sample_every=default_interval(config.rounds))
    out = out or Path("runs") / f"{config.recipe}-{config.data.replace(':', '-').replace('/', '-')}"
    data = load(config.data, data_root, target, config.image_size)
    run = Run(config, data.sample_shape, data.class_names)
    if known and known.data and out:
        same_data.check_form(out / CONFIG, known.data, data.sample_shape, data.class_names)
    algorithm = _built(run, target, out / CONFIG if known else None)
    if target.type == "cuda" if compile is None else compile:
        algorithm = compiled(algorithm)
    _greet(console, run, data, algorithm, out, target)
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
        run=run,
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


def sample_command(
    console: Console,
    folder: Path,
    num: int,
    condition: str | None,
    seed: int,
    out: Path,
    device: str | None,
) -> None:
    """`fgan sample`: draw from a trained generator, all of one class or every class in turn."""
    check_count("--num", num)
    if not out.parent.is_dir():
        raise ValueError(f"there is no folder {out.parent} to write {out.name} into")
    run, target = Run.load(folder / CONFIG), _device(device)
    names = run.class_names
    labels, columns = None, min(num, 10)
    headings: Sequence[str] = ()
    if condition is not None:
        if not (run.config.conditional and names):
            raise ValueError(f"the run in {folder} is unconditional: leave --condition out")
        labels = torch.full((num,), _label(condition, names), device=target)
    elif run.config.conditional and names:
        labels = torch.arange(num, device=target) % len(names)
        columns = min(num, len(names))
        headings = names[:columns]
    algorithm = _built(run, target, folder / CONFIG)
    state, _ = load_latest(folder, like=algorithm.init())
    source = torch.Generator().manual_seed(mix_seed(seed))
    latent = torch.randn(num, algorithm.latent_dim, generator=source, device="cpu").to(target)
    with torch.no_grad():
        samples = algorithm.generate(state, latent, labels)
    if samples.ndim == 2:
        pictures.save_points(out, samples, labels)
    else:
        pictures.save_images(out, samples, columns, headings)
    console.print(f"{num} samples in {out}")


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
    console.print(f"written    {folder / evaluate.EVALUATION}")


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


_MAY_CHANGE = ("rounds", "log_every", "sample_every")
"""Settings of which the state after any round is independent."""


def _resumed(out: Path | None, given: dict[str, Any]) -> Run:
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
                "given: a resumed run keeps its settings, except --rounds, --log-every and "
                "--sample-every"
            )
    changed = {name: given[name] for name in _MAY_CHANGE if name in given}
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


def _label(condition: str, names: Sequence[str]) -> int:
    """A class by its name or its number."""
    if condition in names:
        return names.index(condition)
    if condition.isdecimal() and int(condition) < len(names):
        return int(condition)
    raise ValueError(
        f"{condition!r} is no class of this run; its classes are 0 to {len(names) - 1}: "
        f"{', '.join(names)}"
    )


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
    console.print(f"networks   {run.model}{chosen}")
    console.print(f"device     {device}, batches of {config.batch_size}, seed {config.seed}")
    console.print(f"output     {out}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fgan", description="Train GANs as pure functions and draw from them.")
    # Looked up when it is needed: no module imports the package itself, which imports them all.
    version = import_module("fgan").__version__
    parser.add_argument("--version", action="version", version=f"fgan {version}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = commands.add_parser("train", help="train a GAN").add_argument
    commands.choices["train"].set_defaults(command=train_command)
    defaults = Config()
    add("recipe", nargs="?", metavar="RECIPE", help=f"{', '.join(RECIPES)} (default: wgan-gp)")
    add("--data", metavar="NAME", help=f"{', '.join(NAMES)} (default: {defaults.data})")
    add("--image-size", type=int, metavar="S", help="folder:PATH: the middle squares, resized")
    add("--data-root", type=_path, metavar="DIR", help="where real data sets lie, or go")
    add("--rounds", type=int, metavar="N", help=f"in total (default: {defaults.rounds})")
    add("--batch-size", type=int, metavar="B", help=f"(default: {defaults.batch_size})")
    add("--seed", type=int, metavar="S", help=f"(default: {defaults.seed})")
    add("--out", type=_path, metavar="DIR", help="(default: runs/RECIPE-NAME)")
    add("--unconditional", dest="conditional", action="store_const", const=False)
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the steps (default: on CUDA alone)",
    )
    add("--resume", action="store_true", help="go on from the checkpoint in --out DIR")
    add("--log-every", type=int, metavar="N", help=f"rounds (default: {defaults.log_every})")
    add("--sample-every", type=int, metavar="N", help="rounds between pictures and checkpoints")
    add("--n-critic", type=int, metavar="N", help="critic updates a round")
    add("--model", metavar="NAME", help=f"{', '.join(MODELS)} (default: by the data)")
    add("--latent-dim", type=int, metavar="Z", help=f"(default: {defaults.latent_dim})")
    add("--width", type=int, metavar="W", help="of the networks")
    add("--critic-norm", metavar="NORM", help="none, layer, group, instance, spectral, weight")
    add("--lr", type=float, metavar="RATE", help="learning rate of both players")
    add("--ema-decay", type=float, metavar="E", help=f"(default: {defaults.ema_decay})")
    add("--update", metavar="WAY", help="alternating (default) or simultaneous")
    add("--loss", metavar="LOSS", help="gan: non_saturating (default) or minimax")
    add("--clip", type=float, metavar="C", help="wgan: bound of the critic's weights")
    add("--critic-warmup", action="store_const", const=True, help="wgan: 100 updates at first")
    add("--penalty-weight", type=float, metavar="LAMBDA", help="wgan-gp, dragan (default: 10)")
    add("--k", type=float, metavar="K", help="wgan-div (default: 2)")
    add("--p", type=float, metavar="P", help="wgan-div (default: 6)")
    add("--gamma", type=float, metavar="G", help="r3gan (default: 1)")
    add("--sample-at", metavar="PU", help=f"wgan-gp, wgan-div: {', '.join(SAMPLE_AT)}")

    add = commands.add_parser("sample", help="draw from a trained generator").add_argument
    commands.choices["sample"].set_defaults(command=sample_command)
    add("folder", type=_path, metavar="DIR", help="of the run")
    add("--num", type=int, default=64, metavar="N", help="(default: 64)")
    add("--condition", metavar="LABEL", help="a class, by name or number (default: all in turn)")
    add("--seed", type=int, default=0, metavar="S", help="of the latents (default: 0)")
    add("--out", type=_path, required=True, metavar="FILE.png")
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")

    about = "play rounds again, and find the first number that is not finite"
    add = commands.add_parser("replay", help=about).add_argument
    commands.choices["replay"].set_defaults(command=replay_command)
    add("folder", type=_path, metavar="DIR", help="of the run")
    add("--round", type=int, metavar="N", help="(default: all after the newest checkpoint)")
    add("--data-root", type=_path, metavar="DIR", help="as in fgan train")
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")

    add = commands.add_parser("evaluate", help="measure a trained generator").add_argument
    commands.choices["evaluate"].set_defaults(command=evaluate_command)
    add("folder", type=Path, metavar="DIR", help="of the run")
    add("--samples", type=int, default=5000, metavar="N", help="to generate (default: 5000)")
    add("--features", metavar="NAME", help="images: classifier (default) or inception")
    add("--inception-weights", dest="weights", type=Path, metavar="FILE", help="of torch-fidelity")
    add("--seed", type=int, default=0, metavar="S", help="of latents and subsets (default: 0)")
    add("--data-root", type=Path, metavar="DIR", help="where real data sets lie, or go")
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")
    return parser
