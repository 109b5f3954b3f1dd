"""Feature networks: the classifier, a user's module, and the samples themselves."""

import pytest
import torch
from torch import nn

from fgan import data
from fgan.data import DataSet
from fgan.evaluation import Features, module_features, splits, train_classifier
from fgan.evaluation.classifier import Classifier, build_classifier
from fgan.evaluation.features import extract, standardised
from fgan.evaluation.splits import chosen, held_out, load_parts


def stripes(count, channels=1, size=12, seed=0):
    """Images of two classes, upright and lying stripes, with noise."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    wave = (torch.arange(size) // 2 % 2 * 200.0).expand(size, size)
    images = torch.where(labels[:, None, None] == 1, wave, wave.mT)
    noise = 50 * torch.rand(count, channels, size, size, generator=source)
    return DataSet(
        "stripes", (images[:, None] + noise).to(torch.uint8), labels, ("lying", "upright")
    )


def test_the_classifier_learns_and_follows_from_its_seed():
    """Two classes of stripes in 40 updates, twice the same, the global generator untouched."""
    training, test = stripes(400), stripes(100, seed=1)
    before = torch.get_rng_state()
    first, again = (train_classifier(training, test, updates=40) for _ in range(2))
    other = train_classifier(training, test, seed=1, updates=40)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.accuracy == again.accuracy > 0.95
    images = data.normalise(test.samples)
    assert torch.equal(first.module(images), again.module(images))
    assert not torch.equal(first.module(images), other.module(images))
    assert not first.module.training


def test_the_accuracy_is_that_of_the_test_images():
    """With the labels of the test images swapped, nearly all answers are wrong."""
    test = stripes(100, seed=1)
    swapped = DataSet("swapped", test.samples, 1 - test.labels, test.class_names)
    assert train_classifier(stripes(400), swapped, updates=40).accuracy < 0.05


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 48), (2, 5, 5), (1, 1, 9)])
def test_images_of_any_size(shape):
    """The features are 64 numbers whatever the image; in evaluation mode each image alone."""
    classifier = Classifier(shape, 7).eval()
    images = torch.randn(4, *shape)
    assert classifier.features(images).shape == (4, 64)
    assert classifier(images).shape == (4, 7)
    torch.testing.assert_close(classifier(images[1:2]), classifier(images)[1:2])


def test_a_classifier_as_features():
    """Both of its outputs, batch by batch, from uint8 images and from the same in [-1, 1]."""
    found = train_classifier(stripes(100), stripes(50), updates=5)
    features, images = found.as_features(), stripes(30).samples
    assert (features.name, features.accuracy) == ("classifier", found.accuracy)
    whole = extract(features.extract, images, batch_size=30)
    torch.testing.assert_close(extract(features.extract, images, batch_size=7), whole)
    torch.testing.assert_close(extract(features.extract, data.normalise(images)), whole)
    assert extract(features.classify, images).shape == (30, 2)


def test_what_a_classifier_refuses():
    """Other images, points, and a single class."""
    with pytest.raises(ValueError, match=r"trained on images \[1, 28, 28\], got \[3, 28, 28\]"):
        Classifier((1, 28, 28), 2)(torch.zeros(1, 3, 28, 28))
    with pytest.raises(ValueError, match=r"takes uint8 images .* rings has float32 samples \[2\]"):
        train_classifier(data.load("rings"), data.load("rings"))
    single = stripes(10)
    single = DataSet("one", single.samples, single.labels * 0, ("only",))
    with pytest.raises(ValueError, match="at least two classes, and one has 1"):
        build_classifier(single)


def test_a_module_of_the_users():
    """A copy in evaluation mode: BatchNorm treats each sample alone, the module stays as it was."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3))
    features = module_features(module, "mine")
    samples = torch.randn(10, 3, 4)
    module(samples)  # training mode: moves the running statistics of the module alone
    found = extract(features.extract, samples)
    torch.testing.assert_close(extract(features.extract, samples, batch_size=1), found)
    assert module.training
    assert next(module.parameters()).requires_grad
    assert not found.requires_grad


def test_only_inception_is_called_inception():
    """The name decides what is called FID, so no other network may have it."""
    with pytest.raises(ValueError, match="give another name"):
        module_features(nn.Flatten(), "inception")
    assert not module_features(nn.Flatten(), "mine").is_inception
    assert Features("inception", nn.Flatten()).is_inception


@pytest.mark.parametrize(
    ("function", "samples", "message"),
    [
        (nn.Identity(), torch.zeros(4, 1, 2, 2), r"\[4, F\], got \[4, 1, 2, 2\]: pool or flatten"),
        (lambda x: (x, x), torch.zeros(4, 2), "got tuple"),
        (lambda x: x[:1], torch.zeros(4, 2), r"got \[1, 2\]"),
        (
            nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()),
            torch.zeros(4, 1, 2, 2),
            r"does not take float32 samples \[1, 2, 2\]: .* 3 channels",
        ),
        (nn.Flatten(), torch.tensor([[1.0], [float("nan")]]), "1 of 2 samples hold NaN"),
        (lambda x: x / 0, torch.zeros(4, 2), "4 of 4 samples' features hold NaN"),
    ],
)
def test_features_that_are_none(function, samples, message):
    """Shapes other than [B, F], and values that are not finite."""
    with pytest.raises(ValueError, match=message):
        extract(function, samples)


def test_standardised_samples():
    """Mean 0 and std 1 in the reference; a constant number is only centred."""
    reference = torch.randn(50, 2, 3) * torch.tensor([1.0, 100.0, 0.0]) + 5
    found = extract(standardised(reference).extract, reference)
    assert found.shape == (50, 6)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(6).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.std(dim=0), torch.tensor([1, 1, 0, 1, 1, 0]).double())


def test_a_data_set_in_two_parts():
    """Each sample is in one of them, with its label; choosing follows from the seed."""
    whole = data.load("rings")
    *parts, origin = held_out(whole)
    assert origin == "held out of the training split"
    assert [len(part) for part in parts] == [6000, 6000]
    together = torch.cat([torch.cat([p.samples, p.labels[:, None].float()], 1) for p in parts])
    before = torch.cat([whole.samples, whole.labels[:, None].float()], 1)
    assert torch.equal(together.unique(dim=0), before.unique(dim=0))
    assert torch.equal(held_out(whole)[0].samples, parts[0].samples)
    some, same, other = (chosen(whole, 100, seed) for seed in (1, 1, 2))
    assert torch.equal(some.samples, same.samples)
    assert not torch.equal(some.samples, other.samples)
    assert len(chosen(parts[0], 7000)) == 6000


def test_parts_of_a_mapped_set_fit_into_the_memory(monkeypatch):
    """At most 10,000 samples each, here 4, which are copies and then like any other samples."""
    monkeypatch.setattr(splits, "HELD_OUT", 4)
    whole = DataSet("file", torch.arange(20)[:, None].float(), torch.arange(20), mapped=True)
    monkeypatch.setattr(splits, "load", lambda *given, **options: whole)
    parts = load_parts("folder:somewhere")
    assert [len(parts.training), len(parts.reference)] == [4, 4]
    assert [part.mapped for part in parts[:2]] == [False, False]
    seen = torch.cat([parts.training.samples, parts.reference.samples]).flatten()
    assert len(set(seen.tolist())) == 8
    assert torch.equal(seen.long(), torch.cat([parts.training.labels, parts.reference.labels]))
    in_memory = held_out(DataSet("memory", whole.samples))
    assert [len(in_memory.training), len(in_memory.reference)] == [16, 4]


def test_the_test_split_where_there_is_one(monkeypatch):
    """The generator is compared with the test split; without its files, with a part held out."""
    whole = data.load("glyphs")

    def load(name, root, device, image_size=None, train=True, skip_broken=False):
        if not train and root == "halved":
            raise data.DataError("no test files")
        count = 100 if train else 30
        return DataSet(name, whole.samples[:count], whole.labels[:count], whole.class_names)

    monkeypatch.setattr(splits, "load", load)
    parts = load_parts("mnist")
    assert (len(parts.training), len(parts.reference)) == (100, 30)
    assert parts.origin == "the test split"
    halves = load_parts("mnist", "halved")
    assert (len(halves.training), len(halves.reference)) == (50, 50)
    assert len(load_parts("glyphs").reference) == 50


def test_too_little_memory_is_no_fault_of_the_network():
    """torch's own error goes through, where others about shapes are said anew."""

    def exhausted(batch):
        raise torch.OutOfMemoryError("no more memory")

    with pytest.raises(torch.OutOfMemoryError):
        extract(exhausted, torch.zeros(4, 1, 8, 8))
