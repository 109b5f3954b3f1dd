"""Samples without labels, conditions of any kind, and flips."""

import pytest
import torch

from fgan.data import DataSet, batches, fingerprint, normalise
from fgan.seeds import mix_seed

X = torch.arange(12.0).view(6, 2)
IMAGES = torch.arange(6 * 12, dtype=torch.uint8).view(6, 1, 3, 4)


def test_samples_without_labels_have_no_conditions():
    """The batches are those of the labelled set; conditions that are asked for are an error."""
    labelled = DataSet("points", X, torch.zeros(6).long(), ("all",))
    plain = DataSet("points", X)
    got, want = next(batches(plain, 4)), next(batches(labelled, 4, conditional=False))
    assert got.condition is None
    assert torch.equal(got.real, want.real)
    with pytest.raises(ValueError, match="conditional is True, and points has no labels"):
        batches(plain, 4, conditional=True)
    with pytest.raises(ValueError, match="there are 1 class_names, and labels is None"):
        batches(DataSet("points", X, None, ("all",)), 4)


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        (torch.arange(6), torch.arange(6)),
        (torch.arange(6, dtype=torch.int32), torch.arange(6)),
        (torch.arange(12).view(6, 2), torch.arange(12).view(6, 2)),
        (torch.arange(18.0).view(6, 3).double(), torch.arange(18.0).view(6, 3)),
        (torch.eye(6) > 0, torch.eye(6)),
        (IMAGES, normalise(IMAGES)),
        (IMAGES.float() / 99, IMAGES.float() / 99),
        (torch.arange(6, dtype=torch.uint8), torch.arange(6)),
    ],
)
def test_conditions_of_any_kind_stay_beside_their_samples(labels, want):
    """Integers as int64, numbers as float32, uint8 images in [-1, 1]."""
    stream = batches(DataSet("points", X, labels), 4, 3, rounds=2)
    for batch in stream:
        rows = (batch.real[..., 0] / 2).long()
        assert batch.condition.dtype == want.dtype
        assert torch.equal(batch.condition, want[rows])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(5, 2), "one row for each of the samples"),
        (torch.zeros(()), "one row for each of the samples"),
        (torch.zeros(6, 0), "one row for each of the samples"),
        (torch.full((6, 1), float("nan")), "6 of 6 labels hold NaN"),
        (torch.zeros(6, dtype=torch.complex64), "labels are real numbers"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(labels, message):
    """Before the first batch."""
    with pytest.raises(ValueError, match=f"points: .*{message}|points: {message}"):
        batches(DataSet("points", X, labels), 2)


def test_fingerprints_tell_conditions_apart():
    """Samples, labels, their shape and their dtype; the order of all of them."""
    sets = [
        DataSet("a", X),
        DataSet("a", X.flip(0)),
        DataSet("a", X, torch.arange(6)),
        DataSet("a", X, torch.arange(6).flip(0)),
        DataSet("a", X, torch.arange(6).view(6, 1)),
        DataSet("a", X, torch.arange(6, dtype=torch.int32)),
        DataSet("a", X, torch.arange(6), tuple("abcdef")),
        DataSet("a", X, X),
    ]
    assert len({fingerprint(data).contents for data in sets}) == len(sets)
    assert fingerprint(DataSet("b", X.clone())).contents == fingerprint(sets[0]).contents


def test_flips_are_a_function_of_the_seed_and_the_round():
    """Every image is itself or its mirror image, condition images with it, from any round on."""
    data = DataSet("images", IMAGES, 255 - IMAGES)
    plain = list(batches(data, 4, 3, rounds=6, seed=2))
    flipped = list(batches(data, 4, 3, rounds=6, seed=2, flip=True))
    for index, (batch, other) in enumerate(zip(flipped, plain, strict=True)):
        source = torch.Generator().manual_seed(mix_seed(2, 0xF11B, index))
        mask = (torch.rand(3, 4, generator=source) < 0.5).tolist()
        for i in range(3):
            for j in range(4):
                want = other.real[i, j].flip(-1) if mask[i][j] else other.real[i, j]
                assert torch.equal(batch.real[i, j], want)
                assert torch.allclose(batch.condition[i, j], -want)
    resumed = list(batches(data, 4, 3, rounds=4, seed=2, flip=True, start=2))
    for batch, other in zip(resumed, flipped[2:], strict=True):
        assert torch.equal(batch.real, other.real)
    halves = [next(batches(data, 4, 3, seed=2, flip=True, share=(r, 2))).real for r in (0, 1)]
    assert torch.equal(torch.cat(halves, dim=1), flipped[0].real)


def test_only_images_are_flipped():
    """Points have no left and right."""
    with pytest.raises(ValueError, match=r"flip is for images .* a sample of points is \[2\]"):
        batches(DataSet("points", X), 2, flip=True)
