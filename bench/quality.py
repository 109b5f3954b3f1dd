"""How good the samples of the command line's runs are, at equal budgets, beside runs without fgan.

    python bench/quality.py                                  # Fashion-MNIST: every recipe, 3 seeds
    python bench/quality.py --recipes wgan-gp --seeds 0 --core-seconds 600 --threads 1
    python bench/quality.py --recipes "wgan-gp paper" --core-seconds 330    # the paper's values
    python bench/quality.py --recipes wgan-gp --ways eager compiled imperative --conditional yes
    python bench/quality.py --recipes wgan-gp --ways compiled imperative --to-bar
    python bench/quality.py --preset grid                    # 25 Gaussians: modes covered
    python bench/quality.py --preset cifar10 --inception-weights FILE    # for a GPU
    python bench/quality.py --report                         # the table of what is there
    python bench/quality.py --toy                            # some seconds: does it run?

A job is a recipe, conditional or not, a seed, and a way to play its rounds. Each finished job is a
line of results/quality-PRESET.jsonl, and is not played again; an interrupted one begins anew. Its
samples are a grid in results/quality-PRESET/.

A job first compiles and, for a budget in seconds, times some rounds with a state that is thrown
away: from these follows how many rounds the budget allows, and the learning rates fall over that
number. The clock runs in the rounds alone: neither while compiling nor in the evaluations, whose
2,000 samples say when a run has first reached the bar. At the end 5,000 samples are evaluated.

Images are compared in the features of one classifier, trained once, with a seed that nothing else
uses. Its distances are no FID. The row `real` has other test images in the place of generated ones,
as a perfect generator would have them.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from quality_peer import NoPeerError
from quality_players import WAYS, Clock, Player, check_peer, player_of
from quality_report import reached, report
from quality_setups import CONTESTANTS, PAPERS, PRESETS, Preset, config_of
from rich.console import Console
from rounds import machine

from fgan.data import batches
from fgan.data.files import make_folder
from fgan.evaluation.comparison import as_generated, compare, is_image
from fgan.evaluation.evaluator import Evaluator
from fgan.evaluation.features import Features
from fgan.evaluation.points import mixture_of
from fgan.evaluation.splits import Parts, chosen, load_parts
from fgan.run.configuration import Run
from fgan.run.features import cached_classifier, inception
from fgan.run.samples import draw_samples, fixed_samples, save_samples
from fgan.types import Batch, Noise

RESULTS = Path(__file__).with_name("results")
CLASSIFIER_SEED = 24_000
WARM, TIMED, GUESS = 3, 60, 10_000
"""Rounds that are thrown away, those of them that are timed, and the length of that run."""


class Job(NamedTuple):
    """One run."""

    recipe: str
    conditional: bool
    seed: int
    way: str


class Bench:
    """The data, the features and the evaluators of all jobs."""

    def __init__(self, preset: Preset, options: argparse.Namespace, console: Console) -> None:
        self.preset, self.options, self.console = preset, options, console
        self.is_toy = preset is PRESETS["toy"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.parts = load_parts(preset.data, options.data_root, self.device)
        if self.is_toy:
            training, reference = (chosen(data, 400) for data in self.parts[:2])
            self.parts = Parts(training, reference, "a toy")
        self.features = self._features()
        counts = (80, 100) if self.is_toy else (2000, 5000)
        self.during, self.end = (
            Evaluator(self.parts.reference, self.features, samples=count) for count in counts
        )

    def _features(self) -> Features | None:
        if not is_image(self.parts.reference):
            return None
        if self.preset.features == "inception":
            return inception(self.options.inception_weights, self.device)
        more = {"updates": 3} if self.is_toy else {}
        found = cached_classifier(
            *self.parts[:2], folder=self.options.cache, seed=CLASSIFIER_SEED,
            say=self.console.print, **more,
        )  # fmt: skip
        self.console.print(f"classifier of test accuracy {found.accuracy:.3f}")
        if found.accuracy < self.preset.accuracy:
            raise SystemExit(f"that is below {self.preset.accuracy}: no figures are computed")
        return found.as_features()

    def real(self) -> dict[str, Any]:
        """The figures of other real samples in the place of generated ones."""
        reference, count = self.parts.reference, self.end.samples
        if self.features is None:  # points, of which no part is kept from a classifier
            other = chosen(self.parts.training, count)
        else:
            other = chosen(reference, count, skip=count)
        labels = other.labels if other.class_names else None
        found = compare(
            self.end.real,
            as_generated(other.samples, torch.zeros((), device=self.device)),
            labels,
            self.features,
            mixture=mixture_of(reference),
        )
        values = {name: interval.value for name, interval in found.figures.items()}
        return {"recipe": "real", "figures": values, "accuracy": found.accuracy}

    def play(self, job: Job) -> dict[str, Any]:
        """Train and evaluate: what is kept of a job."""
        rounds = self._rounds(job)
        player, run = self._player(job, rounds)
        if job.way == "imperative":
            check_peer(run, self.device, self._given(run, player, 3))
        compiling = Clock(self.device)
        with compiling:
            for batch, noise in self._given(run, player, 2):
                player.step(batch, noise)
        player.restart(job.seed)
        clock, curve, due = Clock(self.device), [], moments(rounds)
        source = self._batches(run, rounds)
        for done in range(1, rounds + 1):
            with clock:
                player.step(next(source), player.noise(job.seed, done - 1))
            if done in due:
                figures = self.during(player.algorithm, player.state(), job.conditional)
                curve.append({"round": done, **clock.spent(), **figures})
                if self.options.to_bar and reached(curve, self.preset):
                    break
        settings = {name: value for name, value in vars(run.config).items() if value is not None}
        return {
            **job._asdict(),
            "rounds": done,
            **clock.spent(),
            "compile_seconds": round(compiling.wall, 1),
            "figures": self.end(player.algorithm, player.state(), job.conditional),
            "curve": curve,
            "settings": settings,
            "grid": self._grid(job, run, player),
        }

    def _rounds(self, job: Job) -> int:
        """As many as the budget allows."""
        budget = budget_of(self.preset, self.options)
        if "rounds" in budget:
            return int(budget["rounds"])
        player, run = self._player(job, GUESS)
        clock = Clock(self.device)
        for index, (batch, noise) in enumerate(self._given(run, player, WARM + TIMED)):
            clock = Clock(self.device) if index == WARM else clock
            with clock:
                player.step(batch, noise)
        ((name, limit),) = budget.items()
        return max(1, int(limit * TIMED / clock.spent()[name]))

    def _player(self, job: Job, rounds: int) -> tuple[Player, Run]:
        data = self.parts.training
        config = config_of(job.recipe, self.preset, job.conditional, job.seed, rounds, data)
        run = Run(config, data.sample_shape, data.class_names)
        backend = "interpreter" if self.is_toy else "inductor"
        return player_of(job.way, run, self.device, backend), run

    def _batches(self, run: Run, rounds: int) -> Any:
        config, data = run.config, self.parts.training
        conditional = config.conditional and bool(data.class_names)
        own = config.batch_size, config.critic_updates(), rounds, config.seed
        return batches(data, *own, self.device, conditional)

    def _given(self, run: Run, player: Player, rounds: int) -> list[tuple[Batch, Noise]]:
        """The batches and the noise of the first rounds."""
        given = enumerate(self._batches(run, rounds))
        return [(batch, player.noise(run.config.seed, index)) for index, batch in given]

    def _grid(self, job: Job, run: Run, player: Player) -> str:
        """Write a picture of samples; its path in the folder of the results."""
        data, state = self.parts.training, player.state()
        fixed = fixed_samples(player.algorithm, data, job.seed, job.conditional, state)
        folder = self.options.out.with_suffix("")
        make_folder(folder)
        kind = "conditional" if job.conditional else "unconditional"
        own = str(job.seed), job.way, str(int(state.round))
        name = "-".join([*job.recipe.split(), kind, *own])
        samples = draw_samples(player.algorithm, state, *fixed, data)
        save_samples(folder / f"{name}.png", samples, fixed[1], data)
        return f"{folder.name}/{name}.png"


def moments(rounds: int) -> set[int]:
    """The rounds after which a run is evaluated: 20 in the first fifth, and 16 in the rest."""
    shares = [i / 100 for i in range(1, 21)] + [0.2 + i / 20 for i in range(1, 17)]
    return {max(1, round(share * rounds)) for share in shares}


def budget_of(preset: Preset, options: argparse.Namespace) -> dict[str, float]:
    """What every run may cost: the one that was asked for, or else the preset's."""
    names = ("rounds", "seconds", "core_seconds")
    for source in (options, preset):
        found = {name: getattr(source, name) for name in names if getattr(source, name)}
        if found:
            return dict(list(found.items())[:1])
    raise SystemExit("give --rounds, --seconds or --core-seconds")


def jobs_of(preset: Preset, options: argparse.Namespace) -> list[Job]:
    """All runs that were asked for, seed by seed, so that a part is a table of fewer seeds."""
    kinds = {"yes": (True,), "no": (False,), None: preset.conditional}[options.conditional]
    recipes = options.recipes or preset.contestants
    return [
        Job(recipe, conditional, seed, way)
        for seed, recipe, conditional, way in itertools.product(
            options.seeds, recipes, kinds, options.ways
        )
    ]


def finished(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results; one that an interruption cut short is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def main() -> None:
    """Play what is not there, and print the table of all that is."""
    options = parsed()
    console = Console(highlight=False, soft_wrap=True)
    preset = PRESETS["toy" if options.toy else options.preset]
    if options.toy and options.out is None:
        options.out = Path(tempfile.mkdtemp()) / "quality-toy.jsonl"
        options.cache, options.ways, options.seeds = options.out.parent, list(WAYS), [0]
    options.out = options.out or RESULTS / f"quality-{options.preset}.jsonl"
    torch.set_num_threads(options.threads)
    rows = finished(options.out)
    budget = {"threads": options.threads, **budget_of(preset, options)}
    budget |= {"to_bar": 1} if options.to_bar else {}
    there = [(*(row[n] for n in Job._fields), row["budget"]) for row in rows if "way" in row]
    left = [job for job in jobs_of(preset, options) if (*job, budget) not in there]
    if left and not options.report:
        bench = Bench(preset, options, console)
        made = [] if any(row["recipe"] == "real" for row in rows) else [bench.real()]
        make_folder(options.out.parent)
        for job in [None, *left]:
            if job is not None:
                console.print(f"{len(left) - left.index(job)} left: {' '.join(map(str, job))}")
                try:
                    played = bench.play(job)
                except NoPeerError as error:
                    console.print(str(error))
                    continue
                made = [played | {"budget": budget, "machine": machine(bench.device.type)}]
            with options.out.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in made)
            rows += made
    console.print(report(rows, preset))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--preset", choices=[name for name in PRESETS if name != "toy"], default="fashion-mnist")
    add("--recipes", nargs="+", choices=[*CONTESTANTS, *PAPERS], metavar="NAME")
    add("--conditional", choices=["yes", "no"], help="(default: both)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--ways", nargs="+", choices=WAYS, default=["compiled"])
    add("--rounds", type=int, help="of every run, in place of a budget")
    add("--seconds", type=float, help="of training on the wall's clock, a run")
    add("--core-seconds", type=float, help="of training, summed over the cores, a run")
    add("--threads", type=int, default=1)
    add("--data-root", type=Path)
    add("--cache", type=Path, help="where the classifier is kept")
    add("--inception-weights", type=Path)
    add("--out", type=Path, help="(default: results/quality-PRESET.jsonl)")
    add("--to-bar", action="store_true", help="stop a run once it has reached the bar")
    add("--report", action="store_true", help="play nothing")
    add("--toy", action="store_true", help="some seconds, for correctness")
    return parser.parse_args()


if __name__ == "__main__":
    main()
