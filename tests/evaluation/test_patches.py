"""The sliced Wasserstein distance of patches, for images without classes."""

import math

import numpy as np
import pytest
import torch

from fgan.data import DataSet
from fgan.evaluation import BY_PATCHES, compare, patch_distances
from fgan.evaluation.patches import enlarged, laplacian_pyramid, level_sizes


def noise(count=60, shape=(1, 28, 28), seed=0):
    """Images of independent pixels."""
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 15, 22), (2, 16, 7)])
def test_the_pyramid_is_that_of_scipy_and_gives_the_image_back(shape):
    """Smoothed by the binomial kernel, mirrored at the edges, as Burt and Adelson have it."""
    filters = pytest.importorskip("scipy.ndimage")
    images = noise(2, shape).double()
    levels = laplacian_pyramid(images)
    assert [tuple(level.shape[2:]) for level in levels] == level_sizes(*shape[1:])
    line = np.array([1, 4, 6, 4, 1]) / 16
    kernel = np.outer(line, line)[None, None]
    smaller = filters.convolve(images.numpy(), kernel, mode="mirror")[:, :, ::2, ::2]
    if len(levels) == 2:
        np.testing.assert_allclose(levels[1], smaller, atol=1e-12)
    if len(levels) > 1:
        wide = np.zeros_like(images)
        wide[:, :, ::2, ::2] = smaller
        difference = images.numpy() - 4 * filters.convolve(wide, kernel, mode="mirror")
        np.testing.assert_allclose(levels[0], difference, atol=1e-12)
    rebuilt = levels[-1]
    for level in levels[-2::-1]:
        rebuilt = level + enlarged(rebuilt, level)
    torch.testing.assert_close(rebuilt, images)


def test_a_brighter_set_differs_at_the_last_level_alone_by_a_known_distance():
    """Plain greys: a shift by t of each of F numbers gives t √F Γ(F/2) / (√π Γ((F + 1)/2))."""
    found = patch_distances(torch.zeros(20, 1, 28, 28), torch.full((20, 1, 28, 28), 0.5))
    assert list(found) == [(28, 28), (14, 14), (7, 7)]
    numbers = 7 * 7
    ratio = math.exp(math.lgamma(numbers / 2) - math.lgamma((numbers + 1) / 2))
    expected = 0.5 * math.sqrt(numbers / math.pi) * ratio
    assert float(found[7, 7]) == pytest.approx(expected, rel=0.2)  # the mean of 128 lines
    assert max(float(found[28, 28]), float(found[14, 14])) < 1e-5


def test_lost_detail_is_seen_where_it_is_lost():
    """Without the finest level: far at 28 x 28, and near at the smaller sizes."""
    real, other = noise(seed=1), noise(seed=2)
    smaller = laplacian_pyramid(other)
    coarse = enlarged(smaller[1] + enlarged(smaller[2], smaller[1]), other)
    floor, found = patch_distances(real, other), patch_distances(real, coarse)
    assert float(found[28, 28]) > 5 * float(floor[28, 28])
    assert float(found[7, 7]) < 3 * float(floor[7, 7])


def test_images_smaller_than_a_patch_bytes_and_seeds():
    """One level of one patch an image; uint8 means [-1, 1]; the same seed gives the same bits."""
    real = torch.randint(0, 256, (30, 3, 4, 5), dtype=torch.uint8)
    fake = noise(30, (3, 4, 5))
    found = patch_distances(real, fake, seed=3)
    assert list(found) == [(4, 5)]
    again = patch_distances(real.float() / 127.5 - 1, fake, seed=3)
    assert float(again[4, 5]) == pytest.approx(float(found[4, 5]), rel=1e-5)
    assert float(patch_distances(real, fake, seed=3)[4, 5]) == float(found[4, 5])


def test_images_without_classes_are_compared_by_their_patches():
    """Without features, and on request where there are classes; the figures have their sizes."""
    images = ((noise() + 1) * 127).to(torch.uint8)
    fake = noise(seed=5)
    plain = compare(DataSet("plain", images), fake)
    classes = DataSet("named", images, torch.arange(60) % 2, ("a", "b"))
    asked = compare(classes, fake, classes.labels, BY_PATCHES)
    assert plain.figures.keys() == asked.figures.keys()
    assert plain.features == asked.features == "patches"
    values = [
        plain.figures[f"patch_sliced_wasserstein_{side}x{side}"].value for side in (28, 14, 7)
    ]
    mean = plain.figures["patch_sliced_wasserstein"].value
    assert mean == pytest.approx(sum(values) / 3)
    with pytest.raises(ValueError, match="images are compared in the features of a network"):
        compare(classes, fake)


@pytest.mark.parametrize(
    ("real", "fake", "reason"),
    [
        (torch.zeros(4, 5), torch.zeros(4, 5), r"real is images \[N, C, H, W\], and a tensor"),
        (noise(2), torch.zeros(0, 1, 28, 28), "fake is images"),
        (noise(2), noise(2, (3, 28, 28)), r"real images are \[1, 28, 28\], and the fake ones \[3"),
    ],
)
def test_what_are_no_images_of_one_shape(real, fake, reason):
    """Both sides are named."""
    with pytest.raises(ValueError, match=reason):
        patch_distances(real, fake)


def test_patches_are_no_features():
    """They are compared as sets, and a function of one sample is refused in words."""
    with pytest.raises(ValueError, match="patches are compared as sets"):
        BY_PATCHES.extract(torch.zeros(2, 1, 8, 8))
