"""Where penalties are taken, and the box that clipping projects on: groups 7 and 8."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import normal, seeds, shapes

from fgan.penalties import SAMPLE_AT, interpolate, partners
from fgan.recipes import clip_parameters


def exactly(got, expected, tolerance=1e-12):
    """Equal to rounding, relative to the larger of 1 and the value."""
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def uniform(seed, size):
    """ε in [0, 1), float64."""
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(shape, seed, size=5):
    """(real, fake, mix) of one batch."""
    return normal(seed, size, *shape), normal(seed + 1, size, *shape), uniform(seed + 2, size)


@given(shapes() | st.just(()), seeds)
def test_interpolation_has_exact_endpoints(shape, seed):
    """Real at ε = 1 and fake at ε = 0, to the bit, for samples of any rank."""
    real, fake, _ = drawn(shape, seed)
    assert torch.equal(interpolate(real, fake, torch.ones(5)), real)
    assert torch.equal(interpolate(real, fake, torch.zeros(5)), fake)


@given(shapes(), seeds)
def test_interpolation_lies_on_the_segment(shape, seed):
    """x̂ - x̃ = ε (x - x̃), each sample with its own ε: so on the line, and between the ends."""
    real, fake, mix = drawn(shape, seed)
    moved = (interpolate(real, fake, mix) - fake).flatten(1)
    exactly(moved, mix[:, None] * (real - fake).flatten(1))


@given(shapes(), seeds)
def test_interpolation_is_symmetric(shape, seed):
    """Swapping the ends and taking 1 - ε gives the same point; ε = 1/2 the mean."""
    real, fake, mix = drawn(shape, seed)
    exactly(interpolate(real, fake, mix), interpolate(fake, real, 1 - mix))
    exactly(interpolate(real, fake, torch.full((5,), 0.5)), (real + fake) / 2)


@given(seeds)
def test_interpolation_keeps_the_samples_dtype(seed):
    """An ε of another precision does not promote the samples."""
    real, fake, mix = drawn((2,), seed)
    assert interpolate(real.float(), fake.float(), mix).dtype == torch.float32
    assert interpolate(real.bfloat16(), fake.bfloat16(), mix).dtype == torch.bfloat16


def next_alike(labels):
    """By the definition: the first after i, round the corner, with the label of i."""
    size = len(labels)
    return [
        next(j % size for j in range(i + 1, i + size + 1) if labels[j % size] == labels[i])
        for i in range(size)
    ]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_partners_share_their_condition(labels):
    """The next sample of the same label, for labels as numbers and as one-hot rows."""
    expected = next_alike(labels)
    numbers = torch.tensor(labels)
    one_hot = (numbers[:, None] == torch.arange(3)).float()
    for condition in (numbers, one_hot):
        found = partners((condition,), len(labels), condition.device)
        assert found.tolist() == expected
    assert partners((), len(labels), numbers.device).tolist() == next_alike([0] * len(labels))


@given(shapes(), seeds, st.booleans())
def test_points_are_what_their_names_say(shape, seed, labelled):
    """Each place against its definition, one sample at a time."""
    real, fake, mix = drawn(shape, seed)
    labels = [0, 1, 0, 1, 1]
    conditions = (torch.tensor(labels),) if labelled else ()
    j = next_alike(labels if labelled else [0] * 5)

    def between(a, b):
        return torch.stack([e * p + (1 - e) * q for e, p, q in zip(mix, a, b, strict=True)])

    odd = [i % 2 == 1 for i in range(5)]
    mate_of_real = torch.stack([fake[i] if odd[i] else real[j[i]] for i in range(5)])
    mate_of_fake = torch.stack([real[i] if odd[i] else fake[j[i]] for i in range(5)])
    expected = {
        "real": real,
        "fake": fake,
        "real_and_fake": torch.cat([real, fake]),
        "interpolate": between(real, fake),
        "interpolate_within": torch.cat([between(real, real[j]), between(fake, fake[j])]),
        "interpolate_mixed": torch.cat([between(real, mate_of_real), between(fake, mate_of_fake)]),
    }
    assert expected.keys() == SAMPLE_AT.keys()
    for name, samples in expected.items():
        points = SAMPLE_AT[name](real, fake, mix, conditions)
        exactly(points.samples, samples)
        repeat = len(samples) // 5
        assert [c.tolist() for c in points.conditions] == [labels * repeat] * labelled


@pytest.mark.parametrize("as_tensor", [False, True])
@given(seed=seeds, bound=st.floats(0.01, 3.0))
def test_clipping_is_a_projection(as_tensor, seed, bound):
    """Bounded, idempotent, the nearest point of the box, and the input untouched."""
    params = {"w": normal(seed, 4, 3), "b": normal(seed + 1)}
    before = {name: p.clone() for name, p in params.items()}
    limit = torch.tensor(bound, dtype=torch.float64) if as_tensor else bound
    clipped = clip_parameters(params, limit)
    for name, p in params.items():
        assert torch.equal(p, before[name])
        assert p._version == 0
        expected = torch.where(p.abs() <= bound, p, torch.sign(p) * bound)
        assert torch.equal(clipped[name], expected)
        assert clipped[name].abs().max() <= bound
        assert torch.equal(clip_parameters(clipped, limit)[name], clipped[name])
