"""`fgan evaluate`: the run in a folder beside its data, as a table and as a file."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table
from torch import Tensor

from fgan.evaluation.classifier import WIDTH
from fgan.evaluation.comparison import (
    Evaluation,
    Figures,
    as_generated,
    check_enough,
    compare,
    is_image,
    suits_classifier,
)
from fgan.evaluation.features import INCEPTION_WIDTH, PATCHES, Features
from fgan.evaluation.patches import BY_PATCHES
from fgan.evaluation.points import mixture_of
from fgan.evaluation.splits import Parts, chosen, load_parts
from fgan.evaluation.trained import FEWEST, evaluate_state
from fgan.run import checkpoints
from fgan.run.best import read_checkpoint
from fgan.run.configuration import Run
from fgan.run.features import cached_classifier, inception
from fgan.run.json_files import write_object
from fgan.run.loop import CONFIG
from fgan.scalars import check_count
from fgan.types import GANState

EVALUATION, EVALUATION_OF_BEST = "evaluation.json", "evaluation-best.json"
FEATURES = ("classifier", "inception", PATCHES)

_TITLES = {
    "fid": "FID",
    "kid": "KID",
    "intra_fid": "intra-class FID",
    "frechet_distance": "Fréchet distance",
    "kernel_distance": "kernel distance",
    "intra_class_frechet_distance": "intra-class Fréchet distance",
    "w1": "W1, 1000 points",
    "patch_sliced_wasserstein": "sliced Wasserstein of patches",
}
"""What the table calls a figure, where it is not its name."""


_NO_CLASSES = (
    "there are no classes to train a classifier on, so the images are compared by their patches; "
    "--features inception gives FID"
)
_FLIPPED = "the run saw mirrored images too (flip); it is compared with the images as they are"


class Report(NamedTuple):
    """An evaluation of a run."""

    evaluation: Evaluation
    real: Evaluation | None
    """Other real samples in the generator's place: what a perfect generator would have. None where
    too few samples are left."""
    content: dict[str, Any]
    """What is in the file."""
    path: Path
    """Of the file."""


def evaluate_run(
    folder: Path,
    *,
    samples: int = 5000,
    features: str | None = None,
    seed: int = 0,
    weights: Path | None = None,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    best: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Evaluate the run in `folder`, and write `evaluation.json` into it.

    With `best`, it is the best checkpoint of a run that evaluated itself, and the file is
    `evaluation-best.json`.

    The generator is compared with the test split of its data, or with a part that is held out where
    there is none (`load_parts`). Images are compared in the features of a classifier that was
    trained on the other part (default where they have classes), or of the Inception network, or by
    their patches (default where they have none). `weights` is the file of Inception's weights,
    `data_root` as for `fgan.data.load`. `say` is told what takes time.

    Raises ValueError for a folder without a run or a checkpoint, for data that are not those of the
    run, for features that cannot be had, and as `evaluate_state` does.
    """
    check_count("--samples", samples, FEWEST)
    if features not in (None, *FEATURES):
        raise ValueError(f"features are one of {', '.join(FEATURES)}, and {features!r} was given")
    if weights is not None and features != "inception":
        raise ValueError("the path to Inception's weights is for --features inception alone")
    run = Run.load(folder / CONFIG)
    algorithm = run.build(device)
    like = algorithm.init()
    state = read_checkpoint(folder, best, lambda path: checkpoints.load(path, like))
    network = inception(weights, device) if features == "inception" else None
    parts = parts_of(run, data_root, device)
    if is_image(parts.reference):
        network = _of_images(parts, features, network, samples, say)
    elif features is not None:
        raise ValueError(
            f"--features is for images, and {parts.reference.name} has samples "
            f"{list(parts.reference.sample_shape)}, which are compared as they are"
        )
    conditional = run.config.conditional
    found = evaluate_state(
        algorithm,
        state,
        parts.reference,
        network,
        samples=samples,
        seed=seed,
        conditional=conditional,
    )
    parameter = next(iter(state.generator.params.values()))
    real = _of_real(parts, network, found, seed, conditional, parameter)
    path = folder / (EVALUATION_OF_BEST if best else EVALUATION)
    report = Report(found, real, _content(run, state, parts, found, real, seed), path)
    write_object(path, report.content)
    return report


def _of_images(
    parts: Parts,
    name: str | None,
    network: Features | None,
    samples: int,
    say: Callable[[str], None],
) -> Features:
    """The features called `name`; by default those of a classifier, or patches without classes.

    network: Inception's, where it is asked for.
    """
    has_classes = suits_classifier(parts.reference)
    if name == "classifier" and not has_classes:
        raise ValueError(
            f"--features classifier needs two classes, and {parts.reference.name} has "
            f"{parts.reference.num_classes}: --features patches and inception need none"
        )
    name = name or ("classifier" if has_classes else PATCHES)
    if name == PATCHES:
        return BY_PATCHES
    width = WIDTH if network is None else INCEPTION_WIDTH
    check_enough(name, width, min(samples, len(parts.reference)))
    if network is not None:
        return network
    return cached_classifier(parts.training, parts.reference, say=say).as_features()


def parts_of(run: Run, data_root: Path | None, device: torch.device | str) -> Parts:
    """The data of a run, in two parts.

    Raises ValueError where they do not have the run's sample shape and classes.
    """
    config = run.config
    parts = load_parts(config.data, data_root, device, config.image_size, config.skip_broken)
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
    shown = Table("measure", "generated", "95 %", box=None, pad_edge=False)
    if report.real is not None:
        shown.add_column("real")
    for column in shown.columns[1:]:
        column.justify = "right"
    for name, figure in report.evaluation.figures.items():
        cells = [
            _TITLES.get(name, name.replace("_", " ")),
            _number(figure.value),
            "" if math.isnan(figure.low) else f"{_number(figure.low)} to {_number(figure.high)}",
        ]
        if report.real is not None and name in report.real.figures:
            cells.append(_number(report.real.figures[name].value))
        shown.add_row(*cells)
    return shown


def _of_real(
    parts: Parts,
    features: Features | None,
    found: Evaluation,
    seed: int,
    conditional: bool,
    like: Tensor,
) -> Evaluation | None:
    """Real samples in the place of generated ones; None where there are too few.

    Of images, those of the reference that the generator is not compared with: the classifier was
    trained on all others.
    """
    if features is None or features.is_patches:  # nothing was trained on the other part
        real = chosen(parts.training, found.fake, seed)
        fewest = FEWEST
    else:
        real = chosen(parts.reference, found.fake, seed, skip=found.real)
        fewest = 1 + (INCEPTION_WIDTH if features.is_inception else WIDTH)
    if len(real) < fewest:
        return None
    return compare(
        chosen(parts.reference, found.fake, seed),
        as_generated(real.samples, like),
        real.labels if conditional else None,
        features,
        mixture=mixture_of(parts.reference),
        seed=seed,
    )


def _content(
    run: Run,
    state: GANState,
    parts: Parts,
    found: Evaluation,
    real: Evaluation | None,
    seed: int,
) -> dict[str, Any]:
    """A report for JSON."""
    return {
        "round": int(state.round),
        "data": run.config.data,
        "compared_with": parts.origin,
        "features": found.features,
        "classifier_accuracy": found.accuracy,
        "generated_samples": found.fake,
        "real_samples": found.real,
        "other_real_samples": 0 if real is None else real.fake,
        "seed": seed,
        "generated": _plain(found.figures),
        "real": {} if real is None else _plain(real.figures),
        "notes": [*found.notes, *_notes(run, parts, found)],
    }


def _notes(run: Run, parts: Parts, found: Evaluation) -> Iterator[str]:
    """What a reader of the figures has to know of the run, in words."""
    if found.features == PATCHES and not suits_classifier(parts.reference):
        yield _NO_CLASSES
    if run.config.flip:
        yield _FLIPPED


def _plain(figures: Figures) -> dict[str, dict[str, float | None]]:
    """Without NaN, which JSON does not have."""
    return {
        name: {k: v if math.isfinite(v) else None for k, v in figure._asdict().items()}
        for name, figure in figures.items()
    }


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) >= 2 else f"{value:.4g}"
