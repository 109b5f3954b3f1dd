"""Fréchet, kernel and sliced Wasserstein distances beside closed forms and other programs."""

import math

import pytest
import torch
from samples import exactly, normal, rotation

from fgan.evaluation import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    precision_recall,
    sliced_wasserstein,
    wasserstein_distance,
)
from fgan.evaluation.distances import kernel_estimate, square_root, wasserstein_1d

MEASURES = [frechet_distance, kernel_distance, sliced_wasserstein]


# Fréchet


def test_equal_sets_have_no_frechet_distance():
    """Of a set and itself, reordered, also with features that are constant or repeated."""
    a = normal(200, 12, seed=1) * torch.logspace(-3, 3, 12, dtype=torch.float64)
    a[:, 3], a[:, 4] = 5.0, a[:, 5]
    scale = float(a.var(dim=0).sum())
    assert float(frechet_distance(a, a.flip(0))) < 1e-12 * scale


@pytest.mark.parametrize("seed", range(5))
def test_gaussians_with_commuting_covariances(seed):
    """‖m‖² + Σ(sᵢ - tᵢ)² for covariances with the same axes and standard deviations s and t."""
    axes, shift = rotation(6, seed), normal(1, 6, seed + 10)[0]
    s, t = normal(2, 6, seed + 20).abs() + 0.1
    first = exactly(torch.zeros(6).double(), axes @ torch.diag(s**2) @ axes.mT, 50, seed + 30)
    second = exactly(shift, axes @ torch.diag(t**2) @ axes.mT, 70, seed + 40)
    expected = shift.square().sum() + (s - t).square().sum()
    torch.testing.assert_close(frechet_distance(first, second), expected, rtol=1e-10, atol=0)


def test_two_by_two_covariances_that_do_not_commute():
    """tr √(AB) = √(tr AB + 2 √det AB) for 2 x 2 matrices, by their two eigenvalues."""
    first = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
    second = torch.tensor([[1.0, -0.8], [-0.8, 3.0]]).double()
    product = first @ second
    common = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = first.trace() + second.trace() - 2 * common
    zero = torch.zeros(2).double()
    a, b = exactly(zero, first, 40, seed=1), exactly(zero, second, 40, seed=2)
    torch.testing.assert_close(frechet_distance(a, b), expected, rtol=1e-10, atol=0)


def test_frechet_beside_scipy():
    """SciPy's matrix square root, of the product of two covariances."""
    linalg = pytest.importorskip("scipy.linalg")
    mix = normal(8, 8, seed=3)
    a, b = normal(300, 8, seed=1), 0.5 + normal(200, 8, seed=2) @ mix
    product = linalg.sqrtm(torch.cov(a.mT).numpy() @ torch.cov(b.mT).numpy()).real
    expected = (a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum()
    expected = expected - 2 * product.trace()
    torch.testing.assert_close(frechet_distance(a, b), expected, rtol=1e-9, atol=0)


@pytest.mark.filterwarnings("ignore")  # torchmetrics' own
def test_frechet_beside_torchmetrics():
    """torchmetrics' FID over a feature network of ours, which it takes as it is."""
    image = pytest.importorskip("torchmetrics.image.fid")
    network = torch.nn.Flatten()
    a = torch.rand(80, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    b = torch.rand(90, 1, 3, 3, generator=torch.Generator().manual_seed(2)) ** 2
    network.num_features = 9
    metric = image.FrechetInceptionDistance(feature=network, normalize=True)
    metric.set_dtype(torch.float64)
    # In float64 throughout: torchmetrics turns [0, 1] into uint8 for its own network alone.
    metric.update(a.double(), real=True)
    metric.update(b.double(), real=False)
    ours = frechet_distance(a.flatten(1), b.flatten(1))
    torch.testing.assert_close(ours.float(), metric.compute().float(), rtol=1e-6, atol=0)


def test_frechet_refuses_what_it_cannot_estimate():
    """N samples have a covariance of rank N - 1, so more than F are needed."""
    enough, few = normal(9, 8, seed=1), normal(8, 8, seed=2)
    frechet_distance(enough, enough)
    with pytest.raises(ValueError, match="8 samples have 8 features each: take more samples"):
        frechet_distance(enough, few)


def test_square_roots():
    """The square of the root is the matrix, of full rank or not."""
    factor = normal(7, 4, seed=5)
    matrix = factor @ factor.mT
    root = square_root(matrix)
    torch.testing.assert_close(root, root.mT)
    torch.testing.assert_close(root @ root, matrix)


# kernel


def naive_mmd(a, b):
    """The unbiased estimate, pair by pair."""

    def k(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    within = 0.0
    for each in (a, b):
        n = len(each)
        pairs = [k(each[i], each[j]) for i in range(n) for j in range(n) if i != j]
        within += sum(pairs) / (n * (n - 1))
    return within - 2 * sum(k(x, y) for x in a for y in b) / (len(a) * len(b))


def test_the_kernel_distance_pair_by_pair():
    """One subset that is the whole of two sets of one size."""
    a, b = normal(9, 3, seed=1), 0.3 + normal(9, 3, seed=2)
    assert kernel_distance(a, b).item() == pytest.approx(naive_mmd(a, b), rel=1e-12)


@pytest.mark.parametrize(("width", "shift"), [(3, 1.0), (20, 0.5)])
def test_the_expected_kernel_distance_of_shifted_gaussians(width, shift):
    """3μ² + 3μ⁴ + (d³μ⁶ + 6d²μ⁴ + (3d + 6)dμ²) / d³, as the docstring derives it."""
    d, m = width, shift
    expected = 3 * m**2 + 3 * m**4 + (d**3 * m**6 + 6 * d**2 * m**4 + (3 * d + 6) * d * m**2) / d**3
    values = torch.stack(
        [
            kernel_distance(normal(300, d, seed), m + normal(300, d, seed + 1000), subsets=1)
            for seed in range(40)
        ]
    )
    error = values.std() / 40**0.5
    assert error < 0.05 * expected
    assert (values.mean() - expected).abs() < 4 * error


def test_the_kernel_distance_has_no_bias():
    """Of equal distributions it is 0 on average, with ten samples; a biased one would be 0.6."""
    values = torch.stack(
        [kernel_distance(normal(10, 4, seed), normal(10, 4, seed + 5000)) for seed in range(400)]
    )
    error = values.std() / 20
    assert error < 0.06
    assert values.mean().abs() < 4 * error
    assert (values < 0).any()


def test_the_standard_error_is_that_of_new_samples():
    """What the subsets say about the error, beside the spread over fresh samples."""
    found = [
        kernel_estimate(normal(400, 4, s), 0.5 + normal(400, 4, s + 900), 60, 100)
        for s in range(60)
    ]
    spread = torch.stack([each.value for each in found]).std()
    said = torch.stack([each.error for each in found]).mean()
    assert 0.7 < float(said / spread) < 1.4
    whole = kernel_estimate(normal(50, 4, 1), normal(50, 4, 2))
    assert whole.error.isnan()


def test_subsets_follow_from_the_seed():
    """The same seed gives the same subsets, and the global generator does not move."""
    a, b = normal(60, 3, seed=1), normal(60, 3, seed=2)
    before = torch.get_rng_state()
    first, again, other = (
        kernel_distance(a, b, subsets=3, subset_size=20, seed=seed) for seed in (4, 4, 5)
    )
    assert first == again != other
    lines = [sliced_wasserstein(a, b, 4, seed=seed) for seed in (4, 4, 5)]
    assert lines[0] == lines[1] != lines[2]
    assert torch.equal(torch.get_rng_state(), before)


# sliced Wasserstein


def test_the_distance_on_a_line_beside_scipy():
    """Of sets of two sizes, with repeated values."""
    stats = pytest.importorskip("scipy.stats")
    a, b = normal(13, 1, seed=1)[:, 0].round(decimals=1), normal(8, 1, seed=2)[:, 0] * 2
    assert wasserstein_1d(a, b).item() == pytest.approx(stats.wasserstein_distance(a, b), rel=1e-12)


def test_the_distance_on_a_line_of_equal_counts_is_that_of_sorted_values():
    """Of N and N values: the mean difference of the sorted ones."""
    a, b = normal(3, 11, seed=1), normal(3, 11, seed=2)
    expected = (a.sort().values - b.sort().values).abs().mean(dim=-1)
    torch.testing.assert_close(wasserstein_1d(a, b), expected)


@pytest.mark.parametrize("width", [1, 2, 5, 30])
def test_the_sliced_distance_of_a_shift(width):
    """‖t‖ Γ(F/2) / (√π Γ((F + 1)/2)) on average over the lines."""
    a, shift = normal(20, width, seed=1), normal(1, width, seed=2)[0]
    found = sliced_wasserstein(a, a + shift, projections=20_000)
    factor = math.exp(math.lgamma(width / 2) - math.lgamma((width + 1) / 2)) / math.sqrt(math.pi)
    expected = float(torch.linalg.vector_norm(shift)) * factor
    assert found.item() == pytest.approx(expected, rel=1e-9 if width == 1 else 0.03)


# all of them


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_samples_does_not_matter(measure):
    """Of sets that are not cut into subsets; either set may come first."""
    a, b = normal(40, 5, seed=1), 1 + normal(40, 5, seed=2)
    expected = measure(a, b)
    torch.testing.assert_close(measure(a.flip(0), b.roll(3, 0)), expected)
    torch.testing.assert_close(measure(b, a), expected)
    assert expected.dtype == torch.float64
    assert measure(a.float(), b.float()).dtype == torch.float64


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
def test_a_rotation_of_the_features_does_not_matter(measure):
    """Both sets rotated."""
    a, b, turn = normal(40, 5, seed=1), 1 + normal(40, 5, seed=2), rotation(5, seed=3)
    torch.testing.assert_close(measure(a @ turn, b @ turn), measure(a, b))


def test_scaled_features():
    """Twice the features: four times the Fréchet distance, twice the sliced Wasserstein one."""
    a, b = normal(40, 5, seed=1), 1 + normal(40, 5, seed=2)
    torch.testing.assert_close(frechet_distance(2 * a, 2 * b), 4 * frechet_distance(a, b))
    torch.testing.assert_close(sliced_wasserstein(2 * a, 2 * b), 2 * sliced_wasserstein(a, b))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.randn(20, 3), torch.randn(20, 4), "have 3 features and .* 4"),
        (torch.randn(20, 3), torch.randn(20, 1, 3), r"features \[N, F\].*got \[20, 1, 3\]"),
        (torch.randn(1, 3), torch.randn(20, 3), "at least two samples"),
        (torch.ones(20, 3, dtype=torch.int64), torch.randn(20, 3), "torch.int64"),
        (torch.randn(20, 3), torch.full((20, 3), float("nan")), "20 of 20 .* NaN or infinite"),
        (torch.full((20, 3), float("inf")), torch.randn(20, 3), "diverged"),
    ],
)
def test_what_does_not_fit_is_refused(measure, a, b, message):
    """Shapes, widths, types and values that are not finite."""
    with pytest.raises(ValueError, match=message):
        measure(a, b)


@pytest.mark.parametrize(
    ("function", "options", "name"),
    [
        (kernel_distance, {"subsets": 0}, "subsets"),
        (kernel_distance, {"subset_size": 1}, "subset_size"),
        (sliced_wasserstein, {"projections": 0}, "projections"),
    ],
)
def test_counts_out_of_range(function, options, name):
    """Counts that leave nothing to average."""
    with pytest.raises(ValueError, match=name):
        function(normal(5, 2, 1), normal(5, 2, 2), **options)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "measure", [*MEASURES, wasserstein_distance, precision_recall, density_coverage]
)
def test_on_a_gpu(measure):
    """The values of the CPU, on the device of the features."""
    a, b = normal(60, 5, seed=1), 0.5 + normal(60, 5, seed=2)
    found, expected = measure(a.cuda(), b.cuda()), measure(a, b)
    torch.testing.assert_close(found, expected, check_device=False)
