"""Whole evaluations, of generators whose figures are known."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

import fgan
from fgan import data
from fgan.data import DataSet
from fgan.evaluation import (
    Features,
    compare,
    evaluate,
    evaluate_state,
    held_out,
    train_classifier,
)
from fgan.evaluation import trained as trained_module
from fgan.evaluation.trained import draw


def algorithm_for(shape, classes=None):
    """A small pair of perceptrons."""
    generator = fgan.models.mlp_generator(shape, 4, num_classes=classes, hidden=(8,))
    return fgan.gan(generator, fgan.models.mlp_critic(shape, num_classes=classes, hidden=(8,)))


def plain_images(count=400, classes=4):
    """Images of one grey each, which tells the class: 10 for the first, 60 for the second, …"""
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    noise = torch.randint(0, 10, (count, 1, 4, 4), generator=source)
    grey = 10 + 50 * labels.reshape(-1, 1, 1, 1) + noise
    return DataSet("plain", grey.to(torch.uint8), labels, tuple("abcdefgh"[:classes]))


def classify(images):
    """The class of plain images, as logits [B, 4]."""
    grey = (images.mean(dim=(1, 2, 3)) + 1) * 127.5
    return -(grey[:, None] - (15 + 50 * torch.arange(4))).abs()


GREYS = Features("greys", lambda x: x.flatten(1)[:, :3], classify, accuracy=1.0)


def painter(images, shift=0):
    """`generate` of a generator that paints the class it is asked for, or one `shift` beyond."""

    def generate(state, latent, condition=None):
        of_class = [images.samples[images.labels == (c + shift) % 4] for c in condition]
        index = (latent[:, 0].abs() * 1e4).long().tolist()
        picked = [x[i % len(x)] for x, i in zip(of_class, index, strict=True)]
        return data.normalise(torch.stack(picked))

    return generate


def test_a_perfect_conditional_generator():
    """Figures near those of equal distributions, label accuracy 1, and nothing called FID."""
    images = plain_images()
    algorithm = algorithm_for((1, 4, 4), 4)._replace(generate=painter(images))
    found = evaluate_state(algorithm, algorithm.init(0), images, GREYS, samples=200)
    assert (found.features, found.accuracy, found.real, found.fake) == ("greys", 1.0, 200, 200)
    values = {name: figure.value for name, figure in found.figures.items()}
    assert values["label_accuracy"] == 1.0
    assert values["frechet_distance"] < 0.01
    assert values["intra_class_frechet_distance"] < 0.01
    assert values["precision"] > 0.9
    assert values["coverage"] > 0.8
    assert not any("fid" in name or "kid" in name for name in values)
    assert found.notes == ()
    interval = found.figures["frechet_distance"]
    assert interval.low < interval.value < interval.high


def test_a_generator_that_mistakes_the_classes():
    """The distributions are equal, and only the figures by class know."""
    images = plain_images()
    right, wrong = (
        evaluate_state(
            algorithm._replace(generate=painter(images, shift)),
            algorithm.init(0),
            images,
            GREYS,
            samples=200,
        ).figures
        for shift, algorithm in ((0, algorithm_for((1, 4, 4), 4)), (1, algorithm_for((1, 4, 4), 4)))
    )
    assert wrong["label_accuracy"].value == 0
    assert wrong["frechet_distance"].value < 0.02
    assert (
        wrong["intra_class_frechet_distance"].value
        > 10 * right["intra_class_frechet_distance"].value
    )


def test_names_in_inception_features():
    """FID and KID are figures of the Inception features alone."""
    images = plain_images()
    fake = data.normalise(images.samples)
    found = compare(images, fake, images.labels, GREYS._replace(name="inception"))
    assert {"fid", "kid", "intra_fid"} <= found.figures.keys()
    assert not {"frechet_distance", "kernel_distance"} & found.figures.keys()


def test_the_grid():
    """True points cover 25 modes, 98.9 % of them within 3 std; one mode alone is one mode."""
    pytest.importorskip("scipy")
    training, reference, _ = held_out(data.load("grid"))
    algorithm = algorithm_for((2,), 25)
    state = algorithm.init(0)

    def true_points(state, latent, condition=None):
        return training.samples[(latent[:, 0].abs() * 1e4).long() % len(training)]

    def one_mode(state, latent, condition=None):
        return 0.03 * latent[:, :2]

    true, single = (
        evaluate_state(algorithm._replace(generate=generate), state, reference, samples=2000)
        for generate in (true_points, one_mode)
    )
    assert true.features == "samples"
    assert true.figures["modes_covered"].value == 25
    assert true.figures["high_quality"].low < 0.9889 < true.figures["high_quality"].high + 0.005
    assert true.figures["w1"].value < 0.15
    assert true.figures["sliced_wasserstein"].value < 0.06
    assert single.figures["modes_covered"].value == 1
    assert single.figures["w1"].value > 0.7
    assert single.figures["recall"].value < 0.1


def test_the_distance_that_the_critic_sees():
    """mean D(real) - mean D(fake), with a critic that gives the first number and the label."""
    images = plain_images()
    algorithm = algorithm_for((1, 4, 4), 4)._replace(
        generate=lambda state, z, y: torch.zeros(len(z), 1, 4, 4),
        score=lambda state, x, y: x[:, 0, 0, 0] + y,
    )
    found = evaluate_state(algorithm, algorithm.init(0), images, GREYS, samples=400)
    expected = data.normalise(images.samples)[:, 0, 0, 0].mean()
    assert found.figures["critic_distance"].value == pytest.approx(float(expected), abs=1e-5)


def test_tables_and_signals():
    """Samples of any shape; what there are too few samples for is left out, and said."""
    source = torch.Generator().manual_seed(1)
    signals = torch.randn(60, 2, 40, generator=source) * 50
    real = DataSet("signals", signals, torch.zeros(60).long(), ("all",))
    algorithm = algorithm_for((2, 40))
    found = evaluate_state(algorithm, algorithm.init(0), real, samples=50, conditional=False)
    assert {"precision", "coverage", "kernel_distance", "sliced_wasserstein"} <= set(found.figures)
    assert not {"frechet_distance", "w1", "label_accuracy"} & set(found.figures)
    assert found.notes == (
        "frechet_distance is left out: it needs more samples than features, and there are 50 "
        "samples of 80 features",
    )


def test_the_same_seed_gives_the_same_figures():
    """Samples, subsets and intervals; another seed gives others."""
    images = plain_images()
    algorithm = algorithm_for((1, 4, 4), 4)
    state = algorithm.init(0)
    first, again, other = (
        evaluate_state(algorithm, state, images, GREYS, samples=100, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first.figures["frechet_distance"] == again.figures["frechet_distance"]
    assert first.figures["precision"] == again.figures["precision"]
    assert first.figures["frechet_distance"] != other.figures["frechet_distance"]


def test_the_labels_of_the_fakes_are_those_of_the_data():
    """In turn, as often as needed; latents follow from the seed, whatever the batch."""
    images = plain_images(8)
    asked = []

    def generate(state, latent, condition=None):
        asked.append(condition)
        return torch.zeros(len(latent), 1, 4, 4)

    algorithm = algorithm_for((1, 4, 4), 4)._replace(generate=generate)
    _, labels = draw(algorithm, algorithm.init(0), images, 300)
    assert torch.equal(torch.cat(asked), labels)
    assert torch.equal(labels, images.labels.repeat(38)[:300])


def test_figures_do_not_depend_on_the_default_device():
    """What is drawn from the CPU's generators is drawn on the CPU."""
    algorithm = algorithm_for((2,), 3)
    state, rings, images = algorithm.init(0), data.load("rings"), plain_images(40)
    digits = algorithm_for((1, 4, 4))
    first = digits.init(0)

    def figures():
        points = evaluate_state(algorithm, state, held_out(rings).reference, samples=60)
        bare = DataSet("bare", images.samples)
        patches = evaluate_state(digits, first, bare, samples=40, conditional=False)
        trained = train_classifier(images, images, updates=1)
        return points.figures, patches.figures, trained.accuracy

    here = figures()
    torch.set_default_device("meta")
    try:
        there = figures()
    finally:
        torch.set_default_device(None)
    assert repr(there) == repr(here)


def test_evaluate_takes_what_a_run_leaves_behind():
    """An object with algorithm, state and config; its data are loaded by name."""
    algorithm = algorithm_for((2,), 3)
    config = SimpleNamespace(data="rings", image_size=None, conditional=True)
    trained = SimpleNamespace(algorithm=algorithm, state=algorithm.init(0), config=config)
    found = evaluate(trained, samples=300)
    assert (found.real, found.fake, found.features) == (300, 300, "samples")
    assert "intra_class_frechet_distance" in found.figures


def test_evaluate_trains_a_classifier_for_images(monkeypatch):
    """On the half of the given data that the generator is not compared with."""
    seen = []

    def quick(training, test):
        seen.extend([training, test])
        return train_classifier(training, test, updates=2)

    monkeypatch.setattr(trained_module, "train_classifier", quick)
    algorithm = algorithm_for((1, 4, 4), 4)
    config = SimpleNamespace(data="plain", image_size=None, conditional=True)
    trained = SimpleNamespace(algorithm=algorithm, state=algorithm.init(0), config=config)
    found = evaluate(trained, plain_images(), samples=100)
    assert (found.features, found.real) == ("classifier", 100)
    assert [len(part) for part in seen] == [200, 200]


def test_what_is_left_out_is_said(monkeypatch):
    """The interval of wide features, and W1 without SciPy."""
    wide = DataSet("wide", torch.randn(300, 2), torch.zeros(300).long(), ("all",))
    features = Features("wide", lambda x: torch.cat([x, torch.zeros(len(x), 256)], dim=1))
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    found = compare(wide, wide.samples + 1, features=features)
    assert found.figures["frechet_distance"].value == pytest.approx(2, rel=1e-5)
    assert math.isnan(found.figures["frechet_distance"].low)
    assert "w1" not in found.figures
    first, second = found.notes
    assert first.startswith("frechet_distance has no interval: to resample 258 features")
    assert second.startswith("w1 is left out: ")
    assert "pip install" in second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: torch.full_like(x, float("nan")), "100 of 100 generated samples hold NaN"),
        (lambda x: x.expand(-1, 3, -1, -1), r"samples \[3, 4, 4\], and those of plain are \[1, 4"),
    ],
)
def test_generators_that_cannot_be_evaluated(change, message):
    """NaN samples, and those of another number of channels."""
    algorithm = algorithm_for((1, 4, 4), 4)
    generate = algorithm.generate
    broken = algorithm._replace(generate=lambda *given: change(generate(*given)))
    with pytest.raises(ValueError, match=message):
        evaluate_state(broken, algorithm.init(0), plain_images(), GREYS, samples=100)


def test_what_cannot_be_asked_for():
    """Images without features or with too few samples, a population, and no samples at all."""
    images = plain_images()
    algorithm = algorithm_for((1, 4, 4), 4)
    state = algorithm.init(0)
    with pytest.raises(ValueError, match="images are compared in the features of a network"):
        evaluate_state(algorithm, state, images, samples=100)
    pixels = GREYS._replace(extract=lambda x: x.flatten(1))
    with pytest.raises(ValueError, match="there are 16 samples, and the features 'greys' have 16"):
        evaluate_state(algorithm, state, images, pixels, samples=16)
    evaluate_state(algorithm, state, images, pixels, samples=17)
    with pytest.raises(ValueError, match="samples is a whole number from 6"):
        evaluate_state(algorithm, state, images, GREYS, samples=5)
    several = fgan.population(algorithm)
    with pytest.raises(ValueError, match="one run"):
        evaluate_state(several, several.init([0, 1]), images, GREYS, samples=100)
