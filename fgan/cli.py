"""The command line: `fgan train`, `sample`, `export`, `evaluate` and `replay`."""

import argparse
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from rich.console import Console

from fgan.data.devices import working_device
from fgan.run import flags, presets, signals, torchrun
from fgan.run.limits import no_compiler, too_much
from fgan.run.loop import DivergenceError
from fgan.run.outlet import Outlet, release_stdout
from fgan.run.rank_errors import RankError
from fgan.run.replay import replay_run
from fgan.run.train_command import train_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 for a run that diverged, or 2 for bad input.

    Where torchrun has started several processes, they train together (`fgan.run.torchrun`).
    """
    return torchrun.launched(partial(_run, arguments))


def _run(arguments: Sequence[str] | None, launch: torchrun.Launch) -> int:
    options = vars(_parser(launch).parse_args(arguments))
    command = options.pop("command")
    console = Console(
        file=cast(IO[str], Outlet()), soft_wrap=True, highlight=False, markup=False, emoji=False
    )
    try:
        signals.take_over()
        command(console, **options)
    except (DivergenceError, RankError) as error:
        launch.report(error)
        return 1
    except (ValueError, OSError) as error:
        launch.report(error)
        return 2
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
        reason = too_much(error) or no_compiler(error)
        if reason is None:
            raise
        launch.report(error, reason)
        return 2
    except KeyboardInterrupt:
        return signals.INTERRUPTED
    finally:
        release_stdout()
    return 0


def sample_command(console: Console, folder: Path, device: str | None, **options: Any) -> None:
    """`fgan sample`: draw from a trained generator, all of one class or every class in turn."""
    from fgan.run.sampling import sample_run

    sample_run(folder, working_device(device), console.print, **options)


def export_command(console: Console, folder: Path, to: str, out: Path | None, best: bool) -> None:
    """`fgan export`: a trained generator as a file for other programs."""
    from fgan.run.export import FOLDER_OF_BEST, check_format, export
    from fgan.run.trained import load as load_run

    check_format(to)
    out = folder / FOLDER_OF_BEST if best and out is None else out
    for path in export(load_run(folder, "cpu", best=best), to, folder, out):
        console.print(f"written    {path}")


def evaluate_command(console: Console, folder: Path, device: str | None, **options: Any) -> None:
    """`fgan evaluate`: the figures of a run, in a table and in its folder."""
    from fgan.run import evaluate

    report = evaluate.evaluate_run(
        folder, device=working_device(device), say=console.print, **options
    )
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
    _, last, place, _ = replay_run(folder, round, working_device(device), data_root, say)
    if place is not None:
        say(str(place))
        raise DivergenceError(f"round {place.round} is not finite")
    console.print(f"all numbers of round {last} are finite")


def _path(text: str) -> Path:
    """An option's path. Raises ArgumentTypeError for "", which would be the current folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"a path is expected, and {text!r} was given")
    return Path(text)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors take one line, not the list of all options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fgan: {message} ({self.prog} --help says more)\n")


def _parser(launch: torchrun.Launch) -> argparse.ArgumentParser:
    parser = _Parser(prog="fgan", description="Train GANs as pure functions and draw from them.")
    # Looked up when it is needed: no module imports the package itself, which imports them all.
    version = import_module("fgan").__version__
    parser.add_argument("--version", action="version", version=f"fgan {version}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = commands.add_parser("train", help="train a GAN").add_argument
    commands.choices["train"].set_defaults(command=partial(train_command, launch=launch))
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
    add("--out", type=_path, metavar="FOLDER", help="(default: DIR/export or DIR/export-best)")
    add("--best", action="store_true", help="the best checkpoint of --evaluate-every")

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
