"""Precision, recall, density and coverage beside loops and expectations that are known."""

import math

import pytest
import torch
from samples import normal, rotation

from fgan.evaluation import density_coverage, neighbours, precision_recall
from fgan.evaluation.neighbours import neighbourhoods


def by_loops(real, fake, k, k_coverage):
    """(precision, recall, density, coverage), from the papers' definitions, sample by sample."""

    def radius(points, i, k):
        others = [math.dist(points[i], x) for j, x in enumerate(points) if j != i]
        return sorted(others)[k - 1]

    def share_in_balls(points, centres):
        inside = [
            any(math.dist(p, c) <= radius(centres, i, k) for i, c in enumerate(centres))
            for p in points
        ]
        return sum(inside) / len(points)

    real, fake = real.tolist(), fake.tolist()
    balls = [(c, radius(real, i, k_coverage)) for i, c in enumerate(real)]
    held = [[math.dist(p, c) <= r for p in fake] for c, r in balls]
    density = sum(map(sum, held)) / (k_coverage * len(fake))
    coverage = sum(map(any, held)) / len(real)
    return share_in_balls(fake, real), share_in_balls(real, fake), density, coverage


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rows", [512, 7])
def test_beside_loops(seed, rows, monkeypatch):
    """Sets of two sizes with copies within and across them, in blocks of any size."""
    monkeypatch.setattr(neighbours, "_ROWS", rows)
    real, fake = normal(30, 3, seed), 0.7 + normal(22, 3, seed + 50)
    real[7] = real[8] = real[9] = real[10]
    fake[1] = fake[2] = fake[3] = fake[4] = real[7]
    expected = by_loops(real, fake, 3, 5)
    found = [*precision_recall(real, fake), *density_coverage(real, fake)]
    assert [float(value) for value in found] == pytest.approx(expected, abs=1e-12)
    each = neighbourhoods(real, fake)
    assert [float(values.mean()) for values in each] == pytest.approx(expected, abs=1e-12)
    assert [len(values) for values in each] == [22, 30, 22, 30]


def test_equal_and_disjoint_sets():
    """1 of a set and itself; 0 of sets that are far apart."""
    a = normal(50, 4, seed=1)
    assert [*precision_recall(a, a.clone()), density_coverage(a, a.clone()).coverage] == [1, 1, 1]
    far = [*precision_recall(a, a + 100), *density_coverage(a, a + 100)]
    assert far == [0, 0, 0, 0]


def test_what_each_measure_notices():
    """Dropped data lower recall and coverage; strange samples lower precision and density."""
    real = torch.cat([normal(100, 2, seed=1), 50 + normal(100, 2, seed=2)])
    half = normal(200, 2, seed=3)
    assert precision_recall(real, half).recall < 0.55 < 0.9 < precision_recall(real, half).precision
    assert density_coverage(real, half).coverage <= 0.5
    strange = torch.cat([real, real[:100] + 1000])
    assert float(precision_recall(real, strange).precision) == pytest.approx(2 / 3)
    assert precision_recall(real, strange).recall == 1


def test_a_generator_that_repeats_one_sample():
    """Its balls have no extent: recall is one sample's share, and precision says nothing."""
    real = normal(100, 3, seed=1)
    fake = real[:1].repeat(50, 1)
    found = precision_recall(real, fake)
    assert (float(found.precision), float(found.recall)) == (1.0, 0.01)
    assert density_coverage(real, fake).coverage < 0.2


@pytest.mark.parametrize(("real", "fake", "k"), [(40, 30, 5), (30, 60, 3), (25, 25, 1)])
def test_equal_distributions(real, fake, k):
    """Coverage 1 - Π (N - i) / (N + M - i) and density 1 on average, in two and five dimensions."""
    product = math.prod((real - i) / (real + fake - i) for i in range(1, k + 1))
    for width in (2, 5):
        found = [
            density_coverage(normal(real, width, s), normal(fake, width, s + 5000), k)
            for s in range(300)
        ]
        for values, expected in (
            (torch.stack([each.coverage for each in found]), 1 - product),
            (torch.stack([each.density for each in found]), 1.0),
        ):
            error = float(values.std()) / 300**0.5
            assert error < 0.02
            assert abs(float(values.mean()) - expected) < 4 * error


@pytest.mark.parametrize("measure", [precision_recall, density_coverage])
def test_order_rotation_and_scale_do_not_matter(measure):
    """Only the order of distances counts."""
    real, fake, turn = normal(60, 4, seed=1), 0.5 + normal(50, 4, seed=2), rotation(4, seed=3)
    expected = measure(real, fake)
    assert measure(real.flip(0), fake.roll(5, 0)) == expected
    assert measure(3 * real @ turn, 3 * fake @ turn) == expected
    assert float(expected[0]) > 0


def test_neighbours_out_of_range():
    """k leaves at least one other sample; widths agree."""
    few, many = normal(3, 2, seed=1), normal(20, 2, seed=2)
    with pytest.raises(ValueError, match="from 1 to 2, as there are 3 fake samples, and 3"):
        precision_recall(many, few)
    with pytest.raises(ValueError, match="3 real samples"):
        density_coverage(few, many)
    with pytest.raises(ValueError, match="3 real samples, and 5"):
        neighbourhoods(few, many, k=2)
    with pytest.raises(ValueError, match="and 0 was given"):
        density_coverage(many, few, k=0)
    with pytest.raises(ValueError, match="real samples have 2 features and fake samples 3"):
        precision_recall(many, normal(20, 3, seed=1))
