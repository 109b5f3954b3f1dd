"""The pictures of a run: samples from latents that stay the same from round to round."""

import re
from pathlib import Path

import torch
from torch import Tensor

from fgan.data import DataSet
from fgan.run import pictures
from fgan.seeds import mix_seed
from fgan.types import Algorithm, GANState

MOST_COLUMNS = 16  # classes beyond that are left out of the picture, not out of the training

_FIXED = 3  # keeps these latents apart from those that rounds draw
_NAME = re.compile(r"round-(\d{6,})\.png")


def fixed_samples(
    algorithm: Algorithm, data: DataSet, seed: int, conditional: bool, like: GANState
) -> tuple[Tensor, Tensor | None]:
    """Latents [N, Z], the same ones for a whole run, and labels [N] that cycle through the classes.

    Images: eight rows. Points: two thousand of them.
    """
    points = len(data.sample_shape) == 1
    columns = min(data.num_classes, MOST_COLUMNS) if conditional else 8
    count = 2000 if points else 8 * columns
    parameter = next(iter(like.generator.params.values()))
    source = torch.Generator().manual_seed(mix_seed(seed, _FIXED))
    latent = torch.randn(count, algorithm.latent_dim, generator=source, device="cpu")
    latent = latent.to(parameter)
    if not conditional:
        return latent, None
    return latent, torch.arange(count, device=parameter.device) % columns


def draw_samples(
    algorithm: Algorithm, state: GANState, latent: Tensor, labels: Tensor | None, data: DataSet
) -> Tensor:
    """Samples from fixed latents; raises ValueError where they do not have the data's shape."""
    with torch.no_grad():
        samples = algorithm.generate(state, latent, labels)
    if tuple(samples.shape[1:]) != data.sample_shape:
        raise ValueError(
            f"the generator makes samples of shape {list(samples.shape[1:])}, and those of "
            f"{data.name} are {list(data.sample_shape)}"
        )
    return samples


def save_samples(path: Path, samples: Tensor, labels: Tensor | None, data: DataSet) -> None:
    """Write samples as a picture: a scatter plot of points in the plane, or a grid of images.

    Samples of any other shape have no picture, and nothing is written.
    """
    if samples.ndim == 2 and samples.shape[1] == 2:
        pictures.save_points(path, samples, labels, real=data.samples[: 2 * len(samples)])
    elif samples.ndim == 4 and labels is None:
        pictures.save_images(path, samples, columns=8)
    elif samples.ndim == 4:
        names = data.class_names[:MOST_COLUMNS]
        pictures.save_images(path, samples, columns=len(names), headings=names)


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
