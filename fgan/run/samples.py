"""The pictures of a run: samples from latents that stay the same from round to round."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fgan.data import DataSet, condition_of, normalise
from fgan.run import pictures, plots
from fgan.scores import ConditionError
from fgan.seeds import mix_seed
from fgan.types import Algorithm, GANState

MOST_COLUMNS = 16  # classes beyond that are left out of the picture, not out of the training

MOST_SLICES = 8
POINTS = 2000
"""Points of a scatter plot, and rows of a table."""
_LAYOUTS = {2: (4, 6), 3: (8, 8), 4: (1, 8)}
"""By the axes of a sample: rows and columns of signals, images and volumes."""

_FIXED = 3  # keeps these latents apart from those that rounds draw
_NAME = re.compile(r"round-(\d{6,})\.png")


def takes_conditions(
    algorithm: Algorithm, state: GANState, data: DataSet, wanted: bool | None
) -> bool:
    """Whether a run has conditions: as `wanted`, or else where the data and the networks have them.

    Raises ValueError where they are wanted and the data have none.
    """
    if data.labels is None:
        if wanted:
            raise ValueError(
                f"conditional is True, and {data.name} has no labels: give the data labels, or "
                "leave conditional out"
            )
        return False
    if wanted is not None:
        return wanted
    parameter = next(iter(state.generator.params.values()))
    latent = torch.zeros(1, algorithm.latent_dim, device="cpu").to(parameter)
    condition = condition_of(data.labels[:1]).to(parameter.device)
    try:
        with torch.no_grad():
            algorithm.generate(state, latent, condition)
    except ConditionError:
        return False
    return True


def fixed_samples(
    algorithm: Algorithm, data: DataSet, seed: int, conditional: bool, like: GANState
) -> tuple[Tensor, Tensor | None]:
    """Latents [N, Z] and conditions [N, ...], the same ones for a whole run.

    Classes come in turn, in so many rows as `_LAYOUTS` says; other conditions are those of the
    first samples.
    """
    classes = data.num_classes if conditional else 0
    rows, columns = _LAYOUTS.get(len(data.sample_shape), (1, 8))
    columns = min(classes or columns, MOST_COLUMNS)
    count = POINTS if len(data.sample_shape) < 2 else rows * columns
    parameter = next(iter(like.generator.params.values()))
    source = torch.Generator().manual_seed(mix_seed(seed, _FIXED))
    latent = torch.randn(count, algorithm.latent_dim, generator=source, device="cpu")
    latent = latent.to(parameter)
    if not conditional or data.labels is None:
        return latent, None
    if classes:
        return latent, torch.arange(count, device=parameter.device) % columns
    turn = torch.arange(count, device=data.labels.device) % len(data)
    return latent, condition_of(data.labels[turn]).to(parameter.device)


def draw_samples(
    algorithm: Algorithm, state: GANState, latent: Tensor, labels: Tensor | None, data: DataSet
) -> Tensor:
    """Samples from fixed latents.

    Raises ValueError where they do not have the data's shape, and where the networks need a
    condition that the data do not have.
    """
    try:
        with torch.no_grad():
            samples = algorithm.generate(state, latent, labels)
    except ConditionError as error:
        if labels is None and data.labels is None:
            raise ValueError(
                f"{data.name} has no labels, and the networks take a condition: {error}"
            ) from error
        raise
    if tuple(samples.shape[1:]) != data.sample_shape:
        raise ValueError(
            f"the generator makes samples of shape {list(samples.shape[1:])}, and those of "
            f"{data.name} are {list(data.sample_shape)}"
        )
    return samples


def save_samples(path: Path, samples: Tensor, labels: Tensor | None, data: DataSet) -> None:
    """Write samples as a picture, beside or over some of the `data` where that shows something.

    Points [N, 2]: a scatter plot. Tables [N, F]: a histogram of each column. Signals [N, C, L]:
    line plots. Images [N, C, H, W]: a grid, with a column per class. Volumes [N, C, D, H, W]: a row
    of slices each. Samples of any other shape have no picture, and nothing is written.
    """
    if not has_picture(data.sample_shape):
        return
    classes = labels if labels is not None and labels.ndim == 1 else None
    whole = classes is not None and not classes.is_floating_point()
    names = data.class_names if classes is not None else ()
    columns = min(len(names), MOST_COLUMNS) or _LAYOUTS.get(samples.ndim - 1, (1, 8))[1]
    real = data.samples[: 2 * len(samples)]
    real = normalise(real) if real.dtype == torch.uint8 else real
    save_picture(path, samples, columns, names[:columns], classes if whole else None, names, real)


def has_picture(sample_shape: Sequence[int]) -> bool:
    """Whether samples of this shape can be drawn."""
    return len(sample_shape) <= 4


def save_picture(
    path: Path,
    samples: Tensor,
    columns: int,
    headings: Sequence[str] = (),
    labels: Tensor | None = None,
    names: Sequence[str] = (),
    real: Tensor | None = None,
) -> None:
    """Write samples of a shape that `has_picture`, as `save_samples` says.

    columns, headings: of signals and images; one word above each column, or none.
    labels: [N], the classes, which points are coloured by, and `names`, which volumes have.
    real: samples of the data, drawn in grey behind points, tables and signals.
    """
    if samples.ndim == 2 and samples.shape[1] == 2:
        pictures.save_points(path, samples, labels, real=real)
    elif samples.ndim in (1, 2):
        known = None if real is None else real.reshape(len(real), -1)
        plots.save_histograms(path, samples.reshape(len(samples), -1), known)
    elif samples.ndim == 3:
        plots.save_lines(path, samples, columns, headings, real)
    elif samples.ndim == 4:
        pictures.save_images(path, samples, columns, headings)
    else:
        rows = [names[label] for label in labels.tolist()] if labels is not None and names else []
        save_slices(path, samples, rows)


def save_slices(path: Path, volumes: Tensor, names: Sequence[str] = ()) -> None:
    """Write volumes [N, C, D, H, W] in [-1, 1], a row each, of slices through their depth.

    names: a word for each volume, or none.
    """
    depth = volumes.shape[2]
    chosen = torch.linspace(0, depth - 1, min(depth, MOST_SLICES), device="cpu").round().long()
    slices = volumes.index_select(2, chosen.to(volumes.device)).transpose(1, 2).flatten(0, 1)
    headings = [f"slice {int(i) + 1}" for i in chosen]
    pictures.save_images(path, slices, columns=len(chosen), headings=headings, rows=names)


def picture_path(folder: Path, done: int) -> Path:
    """Where the picture after round `done` is."""
    return folder / f"round-{done:06d}.png"


def remove_later(folder: Path, done: int) -> None:
    """Remove the pictures after round `done`, which a lost continuation of the run left behind."""
    for number, path in saved_pictures(folder).items():
        if number > done:
            path.unlink(missing_ok=True)


def saved_pictures(folder: Path) -> dict[int, Path]:
    """The pictures in a run's folder `samples/`, by their round."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob("round-*.png"))
    return {int(match[1]): path for match, path in named if match}
