"""The evaluation of a run in its course: the figures of a whole evaluation, at less cost."""

import pytest
import torch
from helpers import unchanged
from test_trained import GREYS, algorithm_for, painter, plain_images

import fgan
from fgan import data
from fgan.data import DataSet
from fgan.evaluation import Evaluator, Features, evaluate_state


def values(evaluation):
    """The figures without their intervals."""
    return {name: figure.value for name, figure in evaluation.figures.items()}


def compared(algorithm, reference, features=None, conditional=True, samples=120):
    """(the evaluator's figures, those of a whole evaluation of the same samples)."""
    state = algorithm.init(0)
    evaluator = Evaluator(reference, features, samples=samples, seed=2)
    with unchanged(state):
        found = evaluator(algorithm, state, conditional)
    whole = evaluate_state(
        algorithm, state, reference, features, samples=samples, seed=2, conditional=conditional
    )
    return evaluator, found, values(whole)


def test_figures_of_images_are_those_of_a_whole_evaluation():
    """Of the same samples, real and generated; label accuracy is of the classes asked for."""
    images = plain_images()
    algorithm = algorithm_for((1, 4, 4), 4)._replace(generate=painter(images))
    evaluator, found, whole = compared(algorithm, images, GREYS)
    assert found == pytest.approx({name: whole[name] for name in found}, abs=1e-9)
    assert set(found) == {
        "frechet_distance", "precision", "recall", "density", "coverage", "label_accuracy",
        "critic_distance",
    }  # fmt: skip
    assert evaluator.best_by == "frechet_distance"
    assert found["label_accuracy"] == 1
    mistaken = algorithm._replace(generate=painter(images, shift=1))
    assert evaluator(mistaken, mistaken.init(0))["label_accuracy"] == 0
    _, unconditional, _ = compared(algorithm_for((1, 4, 4)), images, GREYS, conditional=False)
    assert "label_accuracy" not in unconditional


def test_images_without_classes_are_compared_by_their_patches():
    """No classifier can be trained for them, and the best state has the smallest distance."""
    images = plain_images()
    bare = DataSet("bare", images.samples)
    algorithm = algorithm_for((1, 4, 4))
    evaluator, found, whole = compared(algorithm, bare, conditional=False)
    assert set(found) == {"patch_sliced_wasserstein", "critic_distance"}
    assert found == pytest.approx({name: whole[name] for name in found}, abs=1e-9)
    assert evaluator.best_by == "patch_sliced_wasserstein"


def test_figures_of_points_and_signals():
    """Modes of a known mixture; the sliced distance tells which state is the best."""
    grid = data.load("grid")
    evaluator, found, whole = compared(algorithm_for((2,), 25), grid)
    assert found == pytest.approx({name: whole[name] for name in found}, abs=1e-9)
    assert {"modes_covered", "high_quality", "sliced_wasserstein"} < set(found)
    assert evaluator.best_by == "sliced_wasserstein"
    source = torch.Generator().manual_seed(0)
    wide = DataSet("wide", torch.randn(50, 2, 40, generator=source))
    _, found, whole = compared(algorithm_for((2, 40)), wide, conditional=False)
    assert "frechet_distance" not in found  # fewer samples than numbers in one
    assert found == pytest.approx({name: whole[name] for name in found}, abs=1e-9)


def test_real_features_are_computed_once():
    """However often the evaluator is called; in Inception features the distance is FID."""
    images, calls = plain_images(), []

    def extract(x):
        calls.append(len(x))
        return GREYS.extract(x)

    evaluator = Evaluator(images, Features("inception", extract), samples=100)
    assert sum(calls) == 100
    algorithm = algorithm_for((1, 4, 4), 4)._replace(generate=painter(images))
    found = [evaluator(algorithm, algorithm.init(0)) for _ in range(2)]
    assert sum(calls) == 300
    assert found[0] == found[1]
    assert evaluator.best_by == "fid" in found[0]


def test_bad_input_is_refused_when_the_evaluator_is_made():
    """Before a run begins."""
    images = plain_images(8)
    with pytest.raises(ValueError, match="images are compared in the features of a network"):
        Evaluator(images)
    with pytest.raises(ValueError, match="samples is a whole number from 6"):
        Evaluator(images, GREYS, samples=5)
    with pytest.raises(ValueError, match=r"there are 8 samples.*'flat' have 16 numbers"):
        Evaluator(images, Features("flat", lambda x: x.flatten(1)))
    with pytest.raises(ValueError, match="samples of the reference"):
        Evaluator(plain_images(5), GREYS)
    nan = algorithm_for((1, 4, 4), 4)._replace(
        generate=lambda state, z, y: torch.full((len(z), 1, 4, 4), float("nan"))
    )
    with pytest.raises(ValueError, match="hold NaN"):
        Evaluator(plain_images(40), GREYS)(nan, nan.init(0))
    population = fgan.population(algorithm_for((1, 4, 4), 4))
    with pytest.raises(ValueError, match="of one run"):
        Evaluator(plain_images(40), GREYS)(population, population.init([0, 1]))
