"""Generated samples beside real ones: every figure that suits samples of their kind."""

from typing import NamedTuple

import torch
from torch import Tensor

from fgan.data import DataSet, normalise
from fgan.evaluation.distances import (
    frechet_distance,
    gaussian_fit_distance,
    kernel_estimate,
    sliced_wasserstein,
)
from fgan.evaluation.features import Features, extract, standardised
from fgan.evaluation.inputs import check_finite, generator
from fgan.evaluation.neighbours import neighbourhoods
from fgan.evaluation.patches import BY_PATCHES, OF_PATCHES, mean_distance, patch_distances
from fgan.evaluation.points import Mixture, modes, wasserstein_distance
from fgan.evaluation.resampling import Interval, bootstrap, normal_interval

_ASSIGNING = 0xE8  # keeps this random stream apart from the others
ASSIGNED = 1000
"""Points of the exact W1: the optimal assignment takes a time of N³."""
REPLICATES = 100
"""Resamples for the interval of a Fréchet distance."""
RESAMPLED_WIDTH = 256
"""Features up to which the Fréchet distance has an interval: a replicate costs F³."""
NAN = float("nan")

Figures = dict[str, Interval]


class Evaluation(NamedTuple):
    """The figures of a comparison, and what was compared.

    Example:
        >>> real = fgan.data.DataSet("normal", torch.randn(50, 2))
        >>> result = fgan.evaluation.compare(real, torch.randn(40, 2))
        >>> result.real, result.fake, "recall" in result.figures
        (50, 40, True)
    """

    features: str
    """The name of the feature network."""
    accuracy: float | None
    """Of the feature network as a classifier, on images that it was not trained on."""
    real: int
    """The number of real samples."""
    fake: int
    """The number of generated samples."""
    figures: Figures
    """By name. Low and high are NaN where there is no interval."""
    notes: tuple[str, ...]
    """What was left out, and why."""


class _Compared(NamedTuple):
    """Both sides of a comparison, on one device."""

    real: Tensor
    """[N, ...]"""
    fake: Tensor
    """[M, ...]"""
    of_real: Tensor
    """[N, F], the features"""
    of_fake: Tensor
    """[M, F]"""
    features: Features
    seed: int


def compare(
    real: DataSet,
    fake: Tensor,
    labels: Tensor | None = None,
    features: Features | None = None,
    *,
    mixture: Mixture | None = None,
    seed: int = 0,
) -> Evaluation:
    """Every figure that suits samples of this kind, of `fake` [M, ...] beside `real`.

    - `frechet_distance` and `kernel_distance` in the features, called `fid` and `kid` in those of
      the Inception network alone; `precision` and `recall` (k = 3), `density` and `coverage`
      (k = 5);
    - with `labels` [M], the classes that the fakes were asked for: `intra_class_frechet_distance`
      (or `intra_fid`), the mean over the classes, and `label_accuracy`, the share of fakes that the
      features' classifier puts into the class asked for;
    - for all but images `sliced_wasserstein`, in the features;
    - for points (at most three numbers) `w1`, the exact Wasserstein distance of 1000 points each,
      and with a `mixture` `modes_covered` and `high_quality`.

    The default features are the samples themselves, standardised. Images of two classes or more
    need others. Images without classes are compared by `BY_PATCHES`, which needs no network and has
    other figures in place of these: the sliced Wasserstein distance of patches at each size of a
    pyramid, `patch_sliced_wasserstein_28x28` and so on, and their mean `patch_sliced_wasserstein`
    (`fgan.evaluation.patches.patch_distances`).

    Intervals are at 95 %. Those of means over samples, such as precision, are normal ones, with the
    balls of the other set held fixed.

    Raises ValueError for fakes of another shape than the real samples, for NaN, for images in no
    more samples than features, and for all that the features refuse.

    Example:
        >>> real = fgan.data.DataSet("normal", torch.randn(50, 2))
        >>> result = fgan.evaluation.compare(real, torch.randn(50, 2))
        >>> 0 <= result.figures["precision"].value <= 1
        True
    """
    image = is_image(real)
    if tuple(fake.shape[1:]) != real.sample_shape:
        raise ValueError(
            f"the generator makes samples {list(fake.shape[1:])}, and those of {real.name} are "
            f"{list(real.sample_shape)}"
        )
    check_finite("generated samples", fake)
    as_fake = as_generated(real.samples, fake)
    features = features or default_features(real, as_fake)
    if features.is_patches:
        figures = {name: bare(value) for name, value in of_patches(as_fake, fake, seed).items()}
        return Evaluation(features.name, None, len(as_fake), len(fake), figures, ())
    of_fake = extract(features.extract, fake)
    of_real = extract(features.extract, as_fake)
    if image:
        check_enough(features.name, of_real.shape[1], min(len(of_real), len(of_fake)))
    both = _Compared(as_fake, fake, of_real, of_fake, features, seed)
    figures, notes = _distances(both)
    if labels is not None:
        wanted, asked = (each.to(of_fake.device) for each in (real.class_labels, labels))
        _add(figures, notes, _by_class(both, wanted, asked))
    if not image:
        figures["sliced_wasserstein"] = bare(sliced_wasserstein(of_real, of_fake, seed=seed))
    if len(real.sample_shape) == 1 and real.sample_shape[0] <= 3:
        _add(figures, notes, _of_points(both, mixture))
    return Evaluation(
        features.name, features.accuracy, len(of_real), len(of_fake), figures, tuple(notes)
    )


def default_features(data: DataSet, samples: Tensor) -> Features:
    """Patches for images without classes; for all but images the samples themselves, standardised.

    Raises ValueError for images of classes, which are compared in the features of a network.
    """
    if suits_classifier(data):
        raise ValueError(
            "images are compared in the features of a network: train a classifier "
            "(fgan.evaluation.train_classifier), or use module_features(module, name) or BY_PATCHES"
        )
    return BY_PATCHES if is_image(data) else standardised(samples)


def check_enough(name: str, width: int, samples: int) -> None:
    """Raise ValueError for no more samples than features, which the Fréchet distance needs."""
    if samples <= width:
        raise ValueError(
            f"there are {samples} samples, and the features {name!r} have {width} numbers each: "
            "the Fréchet distance needs more samples than that"
        )


def is_image(data: DataSet) -> bool:
    """Whether the samples are images: uint8 [N, C, H, W]."""
    return data.samples.dtype == torch.uint8 and data.samples.ndim == 4


def suits_classifier(data: DataSet) -> bool:
    """Whether a classifier can be trained on the samples: images of two classes or more."""
    return is_image(data) and data.num_classes > 1


def as_generated(samples: Tensor, fake: Tensor) -> Tensor:
    """Real samples in a generator's range, dtype and place."""
    return (normalise(samples) if samples.dtype == torch.uint8 else samples).to(fake)


def bare(value: Tensor | float) -> Interval:
    """A value without an interval."""
    return Interval(float(value), NAN, NAN)


def _add(figures: Figures, notes: list[str], more: tuple[Figures, list[str]]) -> None:
    figures.update(more[0])
    notes.extend(more[1])


def _distances(both: _Compared) -> tuple[Figures, list[str]]:
    """What is measured in the features alone."""
    real, fake = both.of_real, both.of_fake
    inception = both.features.is_inception
    frechet = "fid" if inception else "frechet_distance"
    few, width = min(len(real), len(fake)), real.shape[1]
    figures: Figures = {}
    notes = []
    if few <= width:
        notes.append(
            f"{frechet} is left out: it needs more samples than features, and there are {few} "
            f"samples of {width} features"
        )
    elif width > RESAMPLED_WIDTH:
        figures[frechet] = bare(frechet_distance(real, fake))
        notes.append(f"{frechet} has no interval: to resample {width} features takes too long")
    else:
        figures[frechet] = bootstrap(
            gaussian_fit_distance,
            real,
            fake,
            replicates=REPLICATES,
            seed=both.seed,
        )
    kernel = kernel_estimate(real, fake, seed=both.seed)
    figures["kid" if inception else "kernel_distance"] = normal_interval(
        float(kernel.value), float(kernel.error)
    )
    for name, values in neighbourhoods(real, fake)._asdict().items():
        figures[name] = _mean(values)
    return figures, notes


def _by_class(both: _Compared, real: Tensor, fake: Tensor) -> tuple[Figures, list[str]]:
    """The Fréchet distance class by class, and label accuracy; labels [N] and [M]."""
    figures: Figures = {}
    notes = []
    name = "intra_fid" if both.features.is_inception else "intra_class_frechet_distance"
    pairs = [(both.of_real[real == c], both.of_fake[fake == c]) for c in real.unique().tolist()]
    fewest, width = min(len(each) for pair in pairs for each in pair), both.of_real.shape[1]
    if fewest <= width:
        notes.append(
            f"{name} is left out: a class has {fewest} samples, and it needs more than the {width} "
            "features"
        )
    else:
        values = [frechet_distance(*pair) for pair in pairs]
        figures[name] = bare(torch.stack(values).mean())
    if both.features.classify is not None:
        seen = extract(both.features.classify, both.fake).argmax(dim=1)
        figures["label_accuracy"] = _mean((seen == fake).double())
    return figures, notes


def of_patches(real: Tensor, fake: Tensor, seed: int) -> dict[str, float]:
    """The distance of the patches at every size of the images, and their mean."""
    found = patch_distances(real, fake, seed)
    sizes = {f"{OF_PATCHES}_{height}x{width}": float(d) for (height, width), d in found.items()}
    return {OF_PATCHES: mean_distance(found)} | sizes


def _of_points(both: _Compared, mixture: Mixture | None) -> tuple[Figures, list[str]]:
    """Modes, and the exact W1."""
    figures: Figures = {}
    notes = []
    if mixture is not None:
        centres = mixture.centres.to(both.fake)
        found = modes(both.fake, centres, mixture.std)
        share = float(found.high_quality)
        figures["modes_covered"] = bare(found.covered)
        figures["high_quality"] = normal_interval(
            share, (share * (1 - share) / len(both.fake)) ** 0.5
        )
    count = min(ASSIGNED, len(both.real), len(both.fake))
    try:
        some = (_chosen(samples, count, both.seed) for samples in (both.real, both.fake))
        figures["w1"] = bare(wasserstein_distance(*some))
    except ImportError as error:
        notes.append(f"w1 is left out: {error}")
    return figures, notes


def _chosen(samples: Tensor, count: int, seed: int) -> Tensor:
    """`count` of the samples, drawn without replacement: the samples may be in order of classes."""
    source = generator(seed, _ASSIGNING)
    order = torch.randperm(len(samples), generator=source, device="cpu")[:count]
    return samples[order.to(samples.device)]


def _mean(values: Tensor) -> Interval:
    """The mean of one value per sample [N], with the normal interval of its standard error."""
    return normal_interval(float(values.mean()), float(values.std() / len(values) ** 0.5))
