"""The pictures of a run: samples from latents that stay the same from round to round."""

from __future__ import annotations

import re
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
    classes = labels if labels is not None and labels.ndim == 1 else None
    names = data.class_names[:MOST_COLUMNS] if classes is not None else ()
    real = data.samples[: 2 * len(samples)]
    real = normalise(real) if real.dtype == torch.uint8 else real
    if samples.ndim == 2 and samples.shape[1] == 2:
        whole = classes is not None and not classes.is_floating_point()
        pictures.save_points(path, samples, classes if whole else None, real=real)
    elif samples.ndim in (1, 2):
        plots.save_histograms(path, samples.reshape(len(samples), -1), real.reshape(len(real), -1))
    elif samples.ndim == 3:
        plots.save_lines(path, samples, len(names) or _LAYOUTS[2][1], names, real)
    elif samples.ndim == 4:
        pictures.save_images(path, samples, columns=len(names) or 8, headings=names)
    elif samples.ndim == 5:
        save_slices(path, samples)


def save_slices(path: Path, volumes: Tensor) -> None:
    """Write volumes [N, C, D, H, W] in [-1, 1], a row each, of slices through their depth."""
    depth = volumes.shape[2]
    chosen = torch.linspace(0, depth - 1, min(depth, MOST_SLICES), device="cpu").round().long()
    slices = volumes.index_select(2, chosen.to(volumes.device)).transpose(1, 2)
    headings = [f"slice {int(i) + 1}" for i in chosen]
    pictures.save_images(path, slices.flatten(0, 1), columns=len(chosen), headings=headings)


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
