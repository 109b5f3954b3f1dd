"""`check_loss`: correct losses pass, and each wrong loss fails with the name of its invariant."""

import pytest
import torch
from torch.nn.functional import relu, softplus

import fgan
from fgan.testing import check_loss
from fgan.testing.engine import require_close

# --- losses: (critic's, generator's, keywords of check_loss)


def smoothed(real, fake):
    """The standard loss with one-sided label smoothing (Salimans et al. 2016)."""
    return 0.9 * softplus(-real) + 0.1 * softplus(real) + softplus(fake)


CORRECT_LOSSES = {
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


@pytest.mark.parametrize("name", list(CORRECT_LOSSES))
def test_correct_losses_pass(name):
    """Unusual but correct losses satisfy every invariant."""
    critic, generator, options = CORRECT_LOSSES[name]
    check_loss(critic, generator, max_examples=6, **options)


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
    """Raises for large scores."""
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
    "epsilon, generator": (critic, lambda r, f: -(f.sigmoid() + 1e-8).log(), "monotone gradient"),
    "concave": (lambda r, f: -softplus(r) - softplus(-f), generator, "monotone gradient"),
    "sign swapped": (lambda r, f: r - f, lambda r, f: -f, "high on real"),
    "the paper's mirrored sign": (lambda r, f: r - f, lambda r, f: f, "high on real"),
    "generator of the other sign": (critic, lambda r, f: softplus(f), "high on real"),
    "squashed scores": (
        lambda r, f: torch.square(r.sigmoid() - 1) + torch.square(f.sigmoid()),
        generator,
        "monotone gradient",
    ),
}


@pytest.mark.parametrize("name", list(WRONG_LOSSES))
def test_wrong_losses_are_caught(name):
    """The message has the invariant, what broke it, and an example."""
    *losses, invariant = WRONG_LOSSES[name]
    with pytest.raises(AssertionError, match=f"the invariant '{invariant}' broke") as error:
        check_loss(*losses, max_examples=6)
    assert "smallest example:\n  " in str(error.value)


OPTIONS = {
    "offset invariant": dict(offset_invariant=True),
    "antisymmetric": dict(antisymmetric=True),
    "homogeneous": dict(homogeneous=True),
    "mirrored": dict(mirrored=True),
    "blind value": dict(blind_value=2.0),
}


@pytest.mark.parametrize("name", list(OPTIONS))
def test_optional_invariants_that_do_not_hold_are_named(name):
    """An optional invariant that the smoothed loss does not have fails by its name."""
    with pytest.raises(AssertionError, match=f"the invariant '{name}' broke"):
        check_loss(smoothed, generator, max_examples=5, **OPTIONS[name])


@pytest.mark.parametrize(
    ("losses", "option"),
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
        (CORRECT_LOSSES["with a branch on the values"][:2], dict(transformable=True)),
    ],
)
def test_more_optional_invariants_that_do_not_hold_are_named(losses, option):
    """Wasserstein has negative values, least squares is not monotone, a branch fails under vmap."""
    name = next(iter(option)).replace("_", "-")
    with pytest.raises(AssertionError, match=f"the invariant '{name}' broke"):
        check_loss(*losses, max_examples=5, **option)


def test_an_error_of_the_loss_itself_is_chained():
    """Where a user's function raises, the message has that error, which is also the cause."""
    with pytest.raises(AssertionError, match="it raised RuntimeError: scores exploded") as error:
        check_loss(raising, generator)
    assert isinstance(error.value.__cause__, RuntimeError)


def test_the_example_is_the_smallest():
    """A loss that is wrong above 100 is reported with one score of 101."""

    def wrong(r, f):
        return torch.where(r > 100, torch.nan, critic(r, f))

    with pytest.raises(AssertionError, match="the invariant 'finite' broke") as error:
        check_loss(wrong, generator)
    assert "tensor([101.]" in str(error.value)
    assert "tensor([0.]" in str(error.value)


@pytest.mark.parametrize("got", [torch.inf, -torch.inf, torch.nan])
def test_only_the_same_infinity_is_close_to_an_infinity(got):
    """A large number is not close to an infinity."""
    got = torch.tensor([got])
    require_close(got, got, "itself")
    for other in (1.0, 1e300, torch.inf * (-1 if got > 0 else 1)):
        with pytest.raises(AssertionError, match="different"):
            require_close(got, torch.tensor([other], dtype=torch.float64), "different")
