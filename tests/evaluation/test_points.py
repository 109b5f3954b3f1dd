"""Modes, the exact Wasserstein distance, and resampling."""

import itertools
import math
import sys

import pytest
import torch
from samples import normal

from fgan import data
from fgan.evaluation import bootstrap, frechet_distance, modes, wasserstein_distance
from fgan.evaluation.points import mixture_of

CENTRES = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


def test_modes_by_hand():
    """Three samples near one mode, one just within and one just beyond 3 std of another."""
    samples = torch.tensor([[0.0, 0.1], [0.2, 0.0], [-0.3, 0.0], [10.0, 1.49], [10.0, 1.51]])
    found = modes(samples, CENTRES, std=0.5)
    assert found.covered == 2
    assert found.high_quality == 4 / 5
    assert found.counts.tolist() == [3, 1, 0]


def test_the_share_of_true_samples():
    """1 - exp(-9/2) of a Gaussian in the plane lies within three standard deviations."""
    found = modes(normal(20_000, 2, seed=1), CENTRES, std=1.0)
    share = 1 - math.exp(-4.5)
    assert abs(float(found.high_quality) - share) < 4 * (share * (1 - share) / 20_000) ** 0.5


def test_the_mixture_of_a_data_set():
    """The grid's modes are 1/√2 apart with a std of 0.05/√2; rings have none."""
    mixture = mixture_of(data.load("grid"))
    steps = (torch.arange(5).double() - 2) / 2**0.5
    expected = torch.cartesian_prod(steps, steps)
    torch.testing.assert_close(mixture.centres, expected, rtol=0, atol=0.01)
    assert mixture.std == pytest.approx(0.05 / 2**0.5, rel=0.02)
    assert mixture_of(data.load("rings")) is None


def test_wasserstein_by_all_assignments():
    """The best of the 720 assignments of six points."""
    pytest.importorskip("scipy")
    a, b = normal(6, 2, seed=1), normal(6, 2, seed=2) * 2
    best = min(
        sum(math.dist(x, b[j]) for x, j in zip(a, order, strict=True)) / 6
        for order in itertools.permutations(range(6))
    )
    assert wasserstein_distance(a, b).item() == pytest.approx(best, rel=1e-12)


def test_wasserstein_of_a_shift():
    """Every point moves by the shift, in any number of dimensions; on a line without SciPy."""
    pytest.importorskip("scipy")
    for width in (1, 2, 3):
        a, shift = normal(100, width, seed=1), normal(1, width, seed=2)
        expected = torch.linalg.vector_norm(shift)
        torch.testing.assert_close(wasserstein_distance(a, a.flip(0) + shift), expected)
    torch.testing.assert_close(
        wasserstein_distance(torch.tensor([[0.0], [0.0], [3.0]]), torch.tensor([[0.0], [0.0]])),
        torch.tensor(1.0).double(),
    )


def test_wasserstein_says_what_it_needs(monkeypatch):
    """Equal sizes in the plane, and SciPy."""
    with pytest.raises(ValueError, match="got 4 and 5 samples"):
        wasserstein_distance(normal(4, 2, 1), normal(5, 2, 2))
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"pip install 'fgan\[metrics\]'"):
        wasserstein_distance(normal(4, 2, 1), normal(4, 2, 2))
    assert wasserstein_distance(normal(4, 1, 1), normal(5, 1, 2)) > 0


def test_modes_out_of_range():
    """A std of 0, and centres of another width."""
    with pytest.raises(ValueError, match="std is above 0"):
        modes(normal(4, 2, 1), CENTRES, std=0.0)
    with pytest.raises(ValueError, match="samples have 3 features and centres 2"):
        modes(normal(4, 3, 1), CENTRES, std=1.0)


def test_the_interval_of_a_mean():
    """Two sets are resampled apart: the standard error of a difference of means."""
    a, b = normal(400, 1, seed=1), 2 * normal(100, 1, seed=2)
    found = bootstrap(lambda x, y: x.mean() - y.mean(), a, b, replicates=400)
    assert found.value == pytest.approx(float(a.mean() - b.mean()))
    error = (1 / 400 + 4 / 100) ** 0.5
    assert found.high - found.value == pytest.approx(1.96 * error, rel=0.2)
    assert found.value - found.low == pytest.approx(found.high - found.value)
    same = bootstrap(lambda x, y: x.mean() - y.mean(), a, a, replicates=400)
    assert same.high == pytest.approx(1.96 * (2 / 400) ** 0.5, rel=0.2)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """80 % intervals of a mean, over 200 data sets."""
    hits = 0
    for seed in range(200):
        found = bootstrap(torch.mean, normal(50, 1, seed), replicates=60, level=0.8, seed=seed)
        hits += found.low <= 0 <= found.high
    assert 0.70 < hits / 200 < 0.88


def test_the_interval_of_a_frechet_distance_is_about_the_estimate():
    """Resampling adds a bias, which must not move the interval away from the value."""
    a, b = normal(120, 5, seed=1), normal(120, 5, seed=2)
    found = bootstrap(frechet_distance, a, b, replicates=20, seed=3)
    assert found.value == pytest.approx(float(frechet_distance(a, b)))
    assert found.low < found.value < found.high
    assert found == bootstrap(frechet_distance, a, b, replicates=20, seed=3)
    assert found != bootstrap(frechet_distance, a, b, replicates=20, seed=4)


def test_resampling_out_of_range():
    """Fewer than two replicates, and a level that is no probability."""
    with pytest.raises(ValueError, match="replicates"):
        bootstrap(torch.mean, normal(5, 1, 1), replicates=1)
    with pytest.raises(ValueError, match="level lies between 0 and 1"):
        bootstrap(torch.mean, normal(5, 1, 1), level=95)
