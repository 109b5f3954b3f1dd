"""Images beside real ones without a feature network: the distributions of their patches.

The measure is the one of Karras et al. 2018 (arXiv 1710.10196, section 5). It needs no labels, so
it suits images without classes.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from fgan.data import normalise
from fgan.evaluation.distances import sliced_wasserstein
from fgan.evaluation.features import PATCHES, Features
from fgan.evaluation.inputs import generator
from fgan.scores import describe

OF_PATCHES = "patch_sliced_wasserstein"
"""The name of the mean distance over the sizes of a pyramid."""


def _no_features(samples: Tensor) -> Tensor:
    raise ValueError(
        "patches are compared as sets: BY_PATCHES has no features of single samples, and is for "
        "fgan.evaluation.compare and evaluate_state"
    )


BY_PATCHES = Features(PATCHES, _no_features)
"""Given as features to `fgan.evaluation.compare`: images are compared by `patch_distances`."""

SIDE = 7
"""Pixels of a patch, in both directions; fewer where an image has fewer."""

_PATCHES_PER_LEVEL, _PATCHES_PER_IMAGE = 2**14, 16  # patches of one level, and of one image in it
_BATCH = 250
_PROJECTIONS = 128
_CUTTING = 0xE9  # keeps this random stream apart from the others
_KERNEL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def patch_distances(real: Tensor, fake: Tensor, seed: int = 0) -> dict[tuple[int, int], Tensor]:
    """The sliced Wasserstein distance of patches at each level of a Laplacian pyramid.

    real [N, C, H, W] and fake [M, C, H, W], uint8 or in [-1, 1]. The result has the height and
    width of each level, the finest first, and a 0-d distance. The finest level holds the detail of
    an image, and the last one, the only one that is not a difference, its layout and brightness.

    At each level every image gives as many patches [C, 7, 7] at random places: 2¹⁴ / N, at least 1
    and at most 16. They are standardised by the mean and the standard deviation of each channel
    in the real patches, so that a shift of the fakes counts; Karras et al. standardise each side by
    its own. They stop at 16 x 16 pixels, and here the last level is as small as a patch.

    Raises ValueError unless both are images of one shape.

    Example:
        >>> grey = torch.zeros(4, 1, 28, 28)
        >>> found = fgan.evaluation.patch_distances(grey, grey)
        >>> [(size, float(distance)) for size, distance in found.items()]
        [((28, 28), 0.0), ((14, 14), 0.0), ((7, 7), 0.0)]
    """
    for name, images in (("real", real), ("fake", fake)):
        if not isinstance(images, Tensor) or images.ndim != 4 or images.numel() == 0:
            raise ValueError(f"{name} is images [N, C, H, W], and {describe(images)} was given")
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            f"real images are {list(real.shape[1:])}, and the fake ones {list(fake.shape[1:])}"
        )
    source = generator(seed, _CUTTING)
    of_real, of_fake = (_all_patches(images, source) for images in (real, fake))
    found = {}
    for size, a, b in zip(level_sizes(*real.shape[2:]), of_real, of_fake, strict=True):
        mean = a.mean(dim=(0, 2, 3), keepdim=True)
        std = a.std(dim=(0, 2, 3), keepdim=True)
        std = torch.where(std > 1e-6, std, 1.0)
        scaled = [((patches - mean) / std).flatten(1) for patches in (a, b)]
        found[size] = sliced_wasserstein(scaled[0], scaled[1], _PROJECTIONS, seed)
    return found


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of each level: halved, rounded up, while a patch fits into the half."""
    sizes = [(height, width)]
    while min(half := tuple(-(-side // 2) for side in sizes[-1])) >= SIDE:
        sizes.append((half[0], half[1]))
    return sizes


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Images [N, C, H, W] in levels: differences of detail, and the smallest image (Burt and
    Adelson 1983). Each level but the last, with the next one enlarged, gives the larger image."""
    levels = []
    for size in level_sizes(*images.shape[2:])[1:]:
        smaller = _smooth(images)[:, :, ::2, ::2]
        assert smaller.shape[2:] == size
        levels.append(images - enlarged(smaller, images))
        images = smaller
    return [*levels, images]


def enlarged(images: Tensor, like: Tensor) -> Tensor:
    """Images at twice the size, that of `like`, smoothed in between."""
    wide = torch.zeros_like(like)
    wide[:, :, ::2, ::2] = images
    return 4 * _smooth(wide)


def _smooth(images: Tensor) -> Tensor:
    """By the binomial filter of five pixels in both directions, mirrored at the edges."""
    flat = F.pad(images.flatten(0, 1)[:, None], [2] * 4, mode="reflect")
    kernel = flat.new_tensor(_KERNEL)
    flat = F.conv2d(F.conv2d(flat, kernel[None, None, :, None]), kernel[None, None, None, :])
    return flat.reshape(images.shape)


def _all_patches(images: Tensor, source: Generator) -> list[Tensor]:
    """Patches [P, C, h, w] of each level; of every image as many, at random places."""
    each = min(max(1, _PATCHES_PER_LEVEL // len(images)), _PATCHES_PER_IMAGE)
    parts = [
        [_cut(level, each, source) for level in laplacian_pyramid(_as_floats(batch))]
        for batch in images.split(_BATCH)
    ]
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def _cut(level: Tensor, each: int, source: Generator) -> Tensor:
    """`each` patches of every image [N, C, H, W]: [N * each, C, h, w]."""
    sides = [min(SIDE, side) for side in level.shape[2:]]
    windows = level.unfold(2, sides[0], 1).unfold(3, sides[1], 1)  # [N, C, rows, columns, h, w]
    count = len(level) * each
    which = torch.arange(count, device="cpu") // each
    row, column = (
        torch.randint(windows.shape[axis], (count,), generator=source, device="cpu")
        for axis in (2, 3)
    )
    at = [index.to(level.device) for index in (which, row, column)]
    return windows[at[0], :, at[1], at[2]]


def _as_floats(images: Tensor) -> Tensor:
    return normalise(images) if images.dtype == torch.uint8 else images.float()


def mean_distance(distances: dict[tuple[int, int], Tensor]) -> float:
    """The mean over the levels, as Karras et al. report it."""
    return math.fsum(map(float, distances.values())) / len(distances)
