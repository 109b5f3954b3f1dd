"""The command line: `fgan train` and `fgan sample`."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fgan.compiler.compile import compile as compiled
from fgan.data import NAMES, DataSet, load
from fgan.penalties import SAMPLE_AT
from fgan.recipes import RECIPES
from fgan.run import checkpoints, pictures
from fgan.run.configuration import MODELS, Config, Run
from fgan.run.loop import CHECKPOINT, CONFIG, SAMPLES, DivergenceError, train
from fgan.scalars import check_count
from fgan.seeds import mix_seed
from fgan.types import Algorithm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 for a run that diverged, or 2 for bad input."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    try:
        command(console, **options)
    except DivergenceError as error:
        print(f"fgan: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"fgan: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def train_command(
    console: Console,
    out: Path | None,
    resume: bool,
    data_root: Path | None,
    device: str | None,
    compile: bool | None,
    log_every: int,
    sample_every: int | None,
    **given: Any,
) -> None:
    """`fgan train`: a setting that is not given has its default, or the resumed run's value."""
    given = {name: value for name, value in given.items() if value is not None}
    target = _device(device)
    config = _resumed(out, given) if resume else Config(**given)
    out = out or Path("runs") / f"{config.recipe}-{config.data.replace(':', '-').replace('/', '-')}"
    data = load(config.data, data_root, target, config.image_size)
    run = Run(config, data.sample_shape, data.class_names)
    algorithm = run.build(target)
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
        conditional=config.conditional,
        resume=resume,
        log_every=log_every,
        sample_every=sample_every,
        run=run,
    )
    done = int(state.round)
    if done < config.rounds:
        console.print(f"stopped after round {done}; go on with: fgan train --resume --out {out}")
    console.print(f"pictures   {out / SAMPLES}/round-{done:06d}.png and earlier ones beside it")
    console.print(f"more       fgan sample {out} --num 64 --out more.png")


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
        if not run.config.conditional:
            raise ValueError(f"the run in {folder} is unconditional: leave --condition out")
        labels = torch.full((num,), _label(condition, names), device=target)
    elif run.config.conditional:
        labels = torch.arange(num, device=target) % len(names)
        columns = min(num, len(names))
        headings = names[:columns]
    algorithm = run.build(target)
    state = checkpoints.load(folder / CHECKPOINT, like=algorithm.init())
    source = torch.Generator().manual_seed(mix_seed(seed))
    latent = torch.randn(num, algorithm.latent_dim, generator=source).to(target)
    with torch.no_grad():
        samples = algorithm.generate(state, latent, labels)
    if samples.ndim == 2:
        pictures.save_points(out, samples, labels)
    else:
        pictures.save_images(out, samples, columns, headings)
    console.print(f"{num} samples in {out}")


def _resumed(out: Path | None, given: dict[str, Any]) -> Config:
    if out is None:
        raise ValueError("--resume needs the run's folder: --out DIR")
    config = Run.load(out / CONFIG).config
    for name, value in given.items():
        if name != "rounds" and value != getattr(config, name):
            raise ValueError(
                f"the run in {out} has {name} = {getattr(config, name)!r}, and {value!r} was "
                "given: a resumed run keeps its settings, except --rounds"
            )
    return dataclasses.replace(config, **given)


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {reason}") from error
    return device


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
    kind = "conditional" if config.conditional else "unconditional"
    updates = "by schedule" if callable(algorithm.n_critic) else algorithm.n_critic
    console.print(f"recipe     {kind} {config.recipe}, n_critic {updates}")
    console.print(
        f"data       {data.name}: {len(data)} samples {list(data.sample_shape)}, "
        f"{data.num_classes} classes"
    )
    console.print(f"device     {device}, batches of {config.batch_size}, seed {config.seed}")
    console.print(f"output     {out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fgan", description="Train GANs as pure functions and draw from them."
    )
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
    add("--data-root", type=Path, metavar="DIR", help="where real data sets lie, or go")
    add("--rounds", type=int, metavar="N", help=f"in total (default: {defaults.rounds})")
    add("--batch-size", type=int, metavar="B", help=f"(default: {defaults.batch_size})")
    add("--seed", type=int, metavar="S", help=f"(default: {defaults.seed})")
    add("--out", type=Path, metavar="DIR", help="(default: runs/RECIPE-NAME)")
    add("--unconditional", dest="conditional", action="store_const", const=False)
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the steps (default: on CUDA alone)",
    )
    add("--resume", action="store_true", help="go on from the checkpoint in --out DIR")
    add("--log-every", type=int, default=10, metavar="N", help="rounds (default: 10)")
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
    add("folder", type=Path, metavar="DIR", help="of the run")
    add("--num", type=int, default=64, metavar="N", help="(default: 64)")
    add("--condition", metavar="LABEL", help="a class, by name or number (default: all in turn)")
    add("--seed", type=int, default=0, metavar="S", help="of the latents (default: 0)")
    add("--out", type=Path, required=True, metavar="FILE.png")
    add("--device", metavar="D", help="(default: cuda where there is one, else cpu)")
    return parser
