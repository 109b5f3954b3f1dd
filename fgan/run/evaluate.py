"""`fgan evaluate`: the run in a folder beside its data, as a table and as a file."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table

from fgan.data.files import replacing
from fgan.evaluation.classifier import WIDTH
from fgan.evaluation.comparison import (
    Evaluation,
    Figures,
    as_generated,
    check_enough,
    compare,
    is_image,
)
from fgan.evaluation.features import INCEPTION_WIDTH, Features
from fgan.evaluation.points import mixture_of
from fgan.evaluation.resampling import Interval
from fgan.evaluation.splits import Parts, chosen, load_parts
from fgan.evaluation.trained import FEWEST, evaluate_state
from fgan.run import checkpoints
from fgan.run.configuration import Run
from fgan.run.features import cached_classifier, inception
from fgan.run.loop import CHECKPOINT, CONFIG
from fgan.scalars import check_count
from fgan.types import GANState

EVALUATION = "evaluation.json"
FEATURES = ("classifier", "inception")

_TITLES = {
    "fid": "FID",
    "kid": "KID",
    "intra_fid": "intra-class FID",
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "kernel distance",
    "intra_class_frechet_distance": "intra-class Fréchet distance",
    "w1": "W1, 1000 points",
}
"""What the table calls a figure, where it is not its name."""


class Report(NamedTuple):
    """An evaluation of a run."""

    evaluation: Evaluation
    real: Figures
    """The figures of real samples of the other part in the generator's place: what a perfect
    generator would have."""
    content: dict[str, Any]
    """What is in `evaluation.json`."""


def evaluate_run(
    folder: Path,
    *,
    samples: int = 5000,
    features: str | None = None,
    seed: int = 0,
    weights: Path | None = None,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Evaluate the run in `folder`, and write `evaluation.json` into it.

    The generator is compared with the test split of its data, or with half of the data where there
    is none; of images, in the features of a classifier (default) that was trained on the other
    part, or of the Inception network. `weights` is the file of Inception's weights, `data_root` as
    for `fgan.data.load`. `say` is told what takes time.

    Raises ValueError for a folder without a run or a checkpoint, for data that are not those of the
    run, for features that cannot be had, and as `evaluate_state` does.
    """
    check_count("--samples", samples, FEWEST)
    if features not in (None, *FEATURES):
        raise ValueError(f"features are {' or '.join(FEATURES)}, and {features!r} was given")
    if weights is not None and features != "inception":
        raise ValueError("the path to Inception's weights is for --features inception alone")
    run = Run.load(folder / CONFIG)
    algorithm = run.build(device)
    state = checkpoints.load(folder / CHECKPOINT, like=algorithm.init())
    network = inception(weights, device) if features == "inception" else None
    parts = parts_of(run, data_root, device)
    if not is_image(parts.reference):
        if features is not None:
            raise ValueError(
                f"--features is for images, and {parts.reference.name} has samples "
                f"{list(parts.reference.sample_shape)}, which are compared as they are"
            )
    else:
        enough = min(samples, len(parts.reference))
        check_enough(features or "classifier", INCEPTION_WIDTH if network else WIDTH, enough)
    if network is None and is_image(parts.reference):
        classifier = cached_classifier(parts.training, parts.reference, say=say)
        network = classifier.as_features()
    found = evaluate_state(
        algorithm,
        state,
        parts.reference,
        network,
        samples=samples,
        seed=seed,
        conditional=run.config.conditional,
    )
    real = _of_real(run, state, parts, network, found.fake, seed)
    content = _content(run, found, real, parts, seed, int(state.round))
    with replacing(folder / EVALUATION) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return Report(found, real, content)


def parts_of(run: Run, data_root: Path | None, device: torch.device | str) -> Parts:
    """The data of a run, in two parts.

    Raises ValueError where they do not have the run's sample shape and classes.
    """
    config = run.config
    parts = load_parts(config.data, data_root, device, config.image_size)
    data = parts.training
    if data.sample_shape != run.sample_shape or data.class_names != run.class_names:
        raise ValueError(
            f"{config.data} has changed since the run was trained: samples "
            f"{list(data.sample_shape)} of {', '.join(data.class_names)}; the run has "
            f"{list(run.sample_shape)} of {', '.join(run.class_names)}"
        )
    return parts


def table(report: Report) -> Table:
    """The figures of a report: generated samples, their intervals, and real samples beside them."""
    shown = Table("measure", "generated", "95 %", "real", box=None, pad_edge=False)
    for column in shown.columns[1:]:
        column.justify = "right"
    for name, figure in report.evaluation.figures.items():
        real = report.real.get(name)
        shown.add_row(
            _TITLES.get(name, name.replace("_", " ")),
            _number(figure.value),
            "" if math.isnan(figure.low) else f"{_number(figure.low)} to {_number(figure.high)}",
            "" if real is None else _number(real.value),
        )
    return shown


def _of_real(
    run: Run,
    state: GANState,
    parts: Parts,
    features: Features | None,
    count: int,
    seed: int,
) -> Figures:
    """The figures of real samples of the training part in the place of generated ones."""
    like = next(iter(state.generator.params.values()))
    real = chosen(parts.training, count, seed)
    labels = real.labels if run.config.conditional else None
    return compare(
        chosen(parts.reference, count, seed),
        as_generated(real.samples, like),
        labels,
        features,
        mixture=mixture_of(parts.reference),
        seed=seed,
    ).figures


def _content(
    run: Run, found: Evaluation, real: Figures, parts: Parts, seed: int, rounds: int
) -> dict[str, Any]:
    return {
        "round": rounds,
        "data": run.config.data,
        "compared_with": parts.origin,
        "features": found.features,
        "classifier_accuracy": found.accuracy,
        "generated_samples": found.fake,
        "real_samples": found.real,
        "seed": seed,
        "generated": {name: _plain(figure) for name, figure in found.figures.items()},
        "real": {name: _plain(figure) for name, figure in real.items()},
        "notes": list(found.notes),
    }


def _plain(figure: Interval) -> dict[str, float | None]:
    """For JSON, which has no NaN."""
    return {
        name: value if math.isfinite(value) else None for name, value in figure._asdict().items()
    }


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) >= 2 else f"{value:.4g}"
