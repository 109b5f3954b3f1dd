"""The testing kit judges strangers' losses: sound ones pass, and each mistake is called by name."""

import pytest
import torch
from torch.nn.functional import relu, softplus

import fgan
from fgan.testing import check_loss
from fgan.testing.engine import demand_close

# --- losses: (critic's, generator's), with what is claimed of them


def smoothed(real, fake):
    """The standard loss with one-sided label smoothing (Salimans et al. 2016)."""
    return 0.9 * softplus(-real) + 0.1 * softplus(real) + softplus(fake)


SOUND_LOSSES = {
    "least squares about 0": (
        lambda r, f: torch.square(r - 1) / 2 + torch.square(f + 1) / 2,
        lambda r, f: torch.square(f) / 2,
        dict(mirrored=True, non_negative=True, blind_value=1.0),
    ),
    "smoothed": (smoothed, lambda r, f: softplus(-f), dict(non_negative=True)),
    "relativistic hinge": (
        lambda r, f: relu(1 - (r - f)),
        lambda r, f: relu(1 - (f - r.detach())),
        dict(offset_invariant=True, monotone=True, mirrored=True, blind_value=1.0),
    ),
    "total variation": (
        lambda r, f: (torch.tanh(f) - torch.tanh(r)) / 2,
        lambda r, f: -torch.tanh(f) / 2,
        dict(saturating=True, antisymmetric=True, monotone=True, transformable=True),
    ),
    "with a branch on the values": (
        lambda r, f: f - r if bool(r.isfinite().all()) else f,
        lambda r, f: -f,
        dict(homogeneous=True, antisymmetric=True, offset_invariant=True),
    ),
}


@pytest.mark.parametrize("name", list(SOUND_LOSSES))
def test_sound_losses_pass(name):
    """What is unusual about a loss that is right breaks no invariant."""
    critic, generator, claims = SOUND_LOSSES[name]
    check_loss(critic, generator, max_examples=12, **claims)


def critic(r, f):
    """The standard critic's loss."""
    return softplus(-r) + softplus(f)


def generator(r, f):
    """The non-saturating generator's loss."""
    return softplus(-f)


def clamped_in_place(r, f):
    """Writes into its arguments."""
    return (-r.clamp_(max=1)) + f.clamp_(min=-1)


def with_dropout(r, f):
    """Draws random numbers."""
    return critic(r, f) * (torch.rand_like(r) > 0.1)


def raising(r, f):
    """Does not cope with large scores."""
    if (r.abs() > 1e6).any():
        raise RuntimeError("scores exploded")
    return critic(r, f)


WRONG_LOSSES = {
    "mean over the batch": (lambda r, f: critic(r, f).mean(), generator, "shape and dtype"),
    "column": (lambda r, f: critic(r, f)[:, None], generator, "shape and dtype"),
    "promoted": (critic, lambda r, f: generator(r, f).double(), "shape and dtype"),
    "in-place clamp": (clamped_in_place, generator, "pure"),
    "global generator": (with_dropout, generator, "pure"),
    "log of a sigmoid": (
        lambda r, f: -torch.log(torch.sigmoid(r)) - torch.log(1 - torch.sigmoid(f)),
        generator,
        "finite",
    ),
    "raises": (raising, generator, "finite"),
    "mean of the fakes": (lambda r, f: softplus(f.mean() - r), generator, "per sample"),
    "sorted": (lambda r, f: critic(r, f).sort().values, generator, "per sample"),
    "real scores detached": (lambda r, f: critic(r.detach(), f), generator, "gradient"),
    "fake scores detached": (critic, lambda r, f: generator(r, f.detach()), "gradient"),
    "epsilon, critic": (
        lambda r, f: -(r.sigmoid() + 1e-8).log() - (1 - f.sigmoid() + 1e-8).log(),
        generator,
        "precision",
    ),
    "epsilon, generator": (critic, lambda r, f: -(f.sigmoid() + 1e-8).log(), "bends one way"),
    "sure and wrong": (lambda r, f: -softplus(r) - softplus(-f), generator, "bends one way"),
    "sign swapped": (lambda r, f: r - f, lambda r, f: -f, "high on real"),
    "the paper's mirrored sign": (lambda r, f: r - f, lambda r, f: f, "high on real"),
    "generator of the other sign": (critic, lambda r, f: softplus(f), "high on real"),
    "squashed scores": (
        lambda r, f: torch.square(r.sigmoid() - 1) + torch.square(f.sigmoid()),
        generator,
        "bends one way",
    ),
}


@pytest.mark.parametrize("name", list(WRONG_LOSSES))
def test_wrong_losses_are_caught(name):
    """The message names the invariant, the break and an example."""
    *losses, invariant = WRONG_LOSSES[name]
    with pytest.raises(AssertionError, match=f"the invariant '{invariant}' broke") as error:
        check_loss(*losses, max_examples=12)
    assert "smallest example:\n  " in str(error.value)


CLAIMS = {
    "offset invariant": dict(offset_invariant=True),
    "antisymmetric": dict(antisymmetric=True),
    "homogeneous": dict(homogeneous=True),
    "mirrored": dict(mirrored=True),
    "blind value": dict(blind_value=2.0),
}


@pytest.mark.parametrize("claim", list(CLAIMS))
def test_claims_that_are_false_are_caught(claim):
    """A claim about a smoothed loss that holds for others is refuted by name."""
    with pytest.raises(AssertionError, match=f"the invariant '{claim}' broke"):
        check_loss(smoothed, generator, max_examples=5, **CLAIMS[claim])


@pytest.mark.parametrize(
    ("losses", "claim"),
    [
        ((fgan.losses.wasserstein_critic_loss, generator), dict(non_negative=True)),
        (
            (
                fgan.losses.least_squares_critic_loss,
                fgan.losses.least_squares_generator_loss,
            ),
            dict(monotone=True),
        ),
        ((critic, fgan.losses.least_squares_generator_loss), dict(monotone=True)),
        (SOUND_LOSSES["with a branch on the values"][:2], dict(transformable=True)),
    ],
)
def test_more_false_claims_are_caught(losses, claim):
    """Wasserstein's loss is not positive, least squares not monotone, a branch not mappable."""
    name = next(iter(claim)).replace("_", "-")
    with pytest.raises(AssertionError, match=f"the invariant '{name}' broke"):
        check_loss(*losses, max_examples=8, **claim)


def test_an_error_of_the_loss_itself_is_chained():
    """Where a user's function raises, the report names the error, and carries it as its cause."""
    with pytest.raises(AssertionError, match="it raised RuntimeError: scores exploded") as error:
        check_loss(raising, generator)
    assert isinstance(error.value.__cause__, RuntimeError)


def test_the_example_is_the_smallest():
    """A loss wrong above 100 alone is shown with one score a little above."""

    def wrong(r, f):
        return torch.where(r > 100, torch.nan, critic(r, f))

    with pytest.raises(AssertionError, match="the invariant 'finite' broke") as error:
        check_loss(wrong, generator)
    assert "tensor([101.]" in str(error.value)
    assert "tensor([0.]" in str(error.value)


@pytest.mark.parametrize("got", [torch.inf, -torch.inf, torch.nan])
def test_nothing_is_close_to_an_infinity_but_the_same_one(got):
    """However large the other number is."""
    got = torch.tensor([got])
    demand_close(got, got, "itself")
    for other in (1.0, 1e300, torch.inf * (-1 if got > 0 else 1)):
        with pytest.raises(AssertionError, match="apart"):
            demand_close(got, torch.tensor([other], dtype=torch.float64), "apart")
