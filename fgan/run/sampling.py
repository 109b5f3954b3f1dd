"""`fgan sample`: samples of a run as a grid, as single files, as arrays and as contact sheets."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fgan.data import to_uint8
from fgan.data.files import make_folder, replacing
from fgan.run import same_data
from fgan.run.film import save_film
from fgan.run.json_files import read_object
from fgan.run.latents import interpolated, latents
from fgan.run.loop import CONFIG, SAMPLES
from fgan.run.samples import has_picture, save_picture
from fgan.run.trained import Trained, label_of, load
from fgan.scalars import check_count

_NUM, _ROWS = 64, 8
_COLUMNS, _OF_SIGNALS = 10, 6


class Drawn(NamedTuple):
    """Samples and how they are shown."""

    samples: Tensor
    """[N, ...]"""
    columns: int
    headings: Sequence[str]
    """One above each column, or none."""
    labels: Tensor | None
    """[N]"""
    names: Sequence[str]
    """Of the classes, or none."""

    def save(self, path: Path) -> None:
        """Write the picture that suits the samples' shape, as PNG (`fgan.run.samples`)."""
        save_picture(path, *self)


def sample_run(
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
    *,
    num: int | None = None,
    condition: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    files: Path | None = None,
    sheets: Path | None = None,
    film: Path | None = None,
    interpolate: int | None = None,
    truncation: float | None = None,
    best: bool = False,
) -> None:
    """Draw from the run in `folder`, and write all that has a place: `out`, `files`, `sheets`,
    `film`.

    Raises ValueError before anything is drawn where no place is given or a place is not there, for
    what the run does not have, and for pictures that its samples do not have.
    """
    if (out, files, sheets, film) == (None,) * 4:
        raise ValueError("give --out FILE.png, --out FILE.npz, --files, --sheets or --film a place")
    for path in (out, film):
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent} to write {path.name} into")
    count = check_count("--num", (_ROWS if interpolate else _NUM) if num is None else num)
    if interpolate is not None:
        check_count("--interpolate", interpolate, 2)
    if film is not None:
        say(f"{save_film(folder / SAMPLES, film)} pictures of training in {film}")
    if (out, files, sheets) == (None,) * 3:
        return
    trained = load(folder, device, best=best)
    shape = same_data.of_json(read_object(folder / CONFIG), folder / CONFIG).sample_shape
    in_numbers = out is not None and out.suffix == ".npz"
    _check_pictures(shape, (out is not None and not in_numbers) or sheets is not None, files)
    if sheets is not None and not trained.config.conditional:
        raise ValueError("the run is unconditional, so it has no sheets of classes: use --out")

    def drawn(condition: str | int | None) -> Drawn:
        return draw(trained, count, condition, seed, truncation, interpolate)

    if out is not None or files is not None:
        found = drawn(condition)
        if out is not None:
            if in_numbers:
                save_arrays(out, found)
            else:
                found.save(out)
            say(f"{len(found.samples)} samples in {out}")
        if files is not None:
            save_files(files, found)
            say(f"{len(found.samples)} files in {files}")
    if sheets is not None:
        names = save_sheets(sheets, drawn, condition, trained)
        say(f"{len(names)} sheets in {sheets}: {', '.join(names)}")


def draw(
    trained: Trained,
    num: int,
    condition: str | int | None = None,
    seed: int = 0,
    truncation: float | None = None,
    interpolate: int | None = None,
) -> Drawn:
    """`num` samples; with `interpolate`, `num` rows of that many, from one latent to another.

    Raises ValueError as `Trained.sample` does.
    """
    labels = trained.conditions(num, condition)
    names = trained.class_names
    like = next(iter(trained.state.generator.params.values()))
    width = trained.algorithm.latent_dim
    if interpolate is not None:
        start, end = latents(2 * num, width, like, seed, truncation).split(num)
        path = interpolated(start, end, interpolate).flatten(0, 1)
        labels = None if labels is None else labels.repeat_interleave(interpolate, 0)
        return Drawn(trained.generate(path, labels), interpolate, (), labels, names)
    samples = trained.generate(latents(num, width, like, seed, truncation), labels)
    if condition is None and labels is not None:
        columns = min(num, len(names))
        return Drawn(samples, columns, names[:columns], labels, names)
    most = _OF_SIGNALS if samples.ndim == 3 else _COLUMNS
    return Drawn(samples, min(num, most), (), labels, names)


def _check_pictures(shape: tuple[int, ...], together: bool, files: Path | None) -> None:
    """Raise ValueError for pictures that samples of this shape do not have.

    together: whether many samples are drawn in one picture. files: where each has one of its own.
    """
    numbers = "--out FILE.npz writes the numbers"
    if together and not has_picture(shape):
        raise ValueError(f"samples {list(shape)} have no picture: {numbers}")
    if files is None:
        return
    if len(shape) < 2:
        raise ValueError(
            f"samples {list(shape)} are no images, and one of them has no picture: --out FILE.png "
            f"draws all of them in one, and {numbers}"
        )
    if not has_picture(shape):
        raise ValueError(f"samples {list(shape)} have no picture: {numbers}")
    if len(shape) == 3 and shape[0] not in (1, 3):
        raise ValueError(
            f"samples {list(shape)} are no images of one or three channels: --out FILE.png draws "
            f"the first channel, and {numbers}"
        )


def save_arrays(path: Path, drawn: Drawn) -> None:
    """Write `samples` [N, ...] as they were generated, images in [-1, 1], and `labels` [N] and
    `class_names` where there are labels, as arrays of NumPy."""
    arrays = {"samples": drawn.samples.cpu().numpy()}
    if drawn.labels is not None:
        arrays |= {
            "labels": drawn.labels.cpu().numpy(),
            "class_names": np.array(drawn.names),
        }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # of allow_pickle, a flag


def save_files(folder: Path, drawn: Drawn) -> None:
    """Write every sample as a PNG: images of one or three channels pixel by pixel, a folder that
    `folder:PATH` reads as data, and signals and volumes as plots.

    With labels there is a sub-folder for each class.
    """
    samples = drawn.samples.cpu()
    places = [folder] * len(samples)
    if drawn.labels is not None:
        names = folder_names(drawn.names)
        places = [folder / names[label] for label in drawn.labels.tolist()]
    for place in set(places):
        make_folder(place)
    for index, (place, sample) in enumerate(zip(places, samples, strict=True)):
        path = place / f"{index:06d}.png"
        if sample.ndim == 3:
            image = to_uint8(sample)
            array = image[0] if len(image) == 1 else image.permute(1, 2, 0)
            Image.fromarray(array.contiguous().numpy()).save(path)
        else:
            save_picture(path, sample[None], 1)


def save_sheets(
    folder: Path,
    drawn: Callable[[str | int | None], Drawn],
    condition: str | None,
    trained: Trained,
) -> list[str]:
    """Write a picture for each class, or for one, and return the names of the files.

    drawn: draws the samples of a class.
    """
    names = folder_names(trained.class_names)
    labels = range(len(names)) if condition is None else [label_of(condition, trained.class_names)]
    make_folder(folder)
    for label in labels:
        drawn(label).save(folder / f"{names[label]}.png")
    return [f"{names[label]}.png" for label in labels]


def folder_names(class_names: Sequence[str]) -> list[str]:
    """Names of classes as names of files: no separators, none hidden, and no two alike."""
    plain = [re.sub(r"[^\w .+-]", "_", name).strip(". ") or "class" for name in class_names]
    if len({name.casefold() for name in plain}) == len(plain):
        return plain
    return [f"{number}-{name}" for number, name in enumerate(plain)]
