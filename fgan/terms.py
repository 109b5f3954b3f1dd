"""Terms of an objective: penalties, losses of a critic's further outputs, terms that see fakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from fgan.penalties import SAMPLE_AT, Points
from fgan.scalars import Scalar, check_count, check_scalar
from fgan.scores import check_callable
from fgan.types import Data, GANInfo


class Penalty(NamedTuple):
    """A penalty of a critic's objective: weight · mean of function(critic, points).

    With `every=k` it is taken in every k-th round (the rounds 0, k, 2k, …), k times as heavy:
    lazy regularisation (Karras et al. 2020, arXiv 1912.04958, appendix B). Which rounds is decided
    by the noise, outside of traced code, so a round without the penalty does not pay for it.

    Example:
        >>> r1 = fgan.objectives.Penalty(
        ...     fgan.penalties.zero_centered_penalty, weight=0.5, at="real", name="r1"
        ... )
        >>> objective = fgan.objectives.adversarial(fgan.losses.non_saturating_critic_loss, r1)
    """

    function: Callable[..., Tensor]
    """`function(critic, x [P, ...]) -> [P]`, and with conditions `function(critic, x,
    conditions=(...))`; what `fgan.testing.check_penalty` accepts."""
    weight: Scalar = 1.0
    at: str | Callable[[Data], Points] = "interpolate"
    """Where: a name in `fgan.penalties.SAMPLE_AT`, or a function of the update's data."""
    every: int = 1
    name: str = ""
    """In `info.terms`; the function's own name by default."""


class Head(NamedTuple):
    """A further output of a critic that returns (scores, output, ...), and the loss it has.

    `loss(output [B, ...], condition [B, ...]) -> [B]`, on real samples and on fakes in the critic's
    objective, and on fakes in the generator's: an auxiliary classifier with cross entropy (Odena et
    al. 2017, arXiv 1610.09585, eq. 2 and 3).

    Example:
        >>> def cross_entropy(logits, labels):
        ...     return torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        >>> head = fgan.objectives.Head("class", cross_entropy)
        >>> fgan.objectives.adversarial(fgan.losses.hinge_critic_loss, head).heads
        ('class',)
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    weight: Scalar = 1.0


class Term(NamedTuple):
    """A term of a generator's objective that sees the fakes: weight · mean of function(fake, data).

    pix2pix has the distance to the target (Isola et al. 2017, arXiv 1611.07004, eq. 3 and 4), as in
    the example.

    Example:
        >>> def l1(fake, data):
        ...     return (fake - data.real).abs().flatten(1).mean(1)
        >>> objective = fgan.objectives.adversarial_generator(
        ...     fgan.losses.non_saturating_generator_loss, fgan.objectives.Term(l1, weight=100.0)
        ... )
    """

    function: Callable[[Tensor, Data], Tensor]
    """`function(fake [B, ...], data) -> [B]`, with data.real and data.condition of the samples that
    the latents belong to: those of the batch's last update."""
    weight: Scalar = 1.0
    name: str = ""
    """In `info.terms`, behind "generator_"; the function's own name by default."""


def _checked(term: Penalty) -> Penalty:
    form = "(critic, x) -> [P] such as fgan.penalties.gradient_penalty"
    check_callable("a penalty's function", term.function, form, 2)
    if callable(term.at):
        check_callable("a penalty's place", term.at, "of fgan.types.Data", 1)
    weight = check_scalar("penalty_weight", term.weight, 0.0)
    every = check_count("every", term.every)
    known = callable(term.at) or (isinstance(term.at, str) and term.at in SAMPLE_AT)
    if not known:
        raise ValueError(f"sample_at is one of {', '.join(SAMPLE_AT)}; {term.at!r} was given")
    name = term.name or name_of(term.function)
    return term._replace(name=name, weight=weight, every=every)


def name_of(function: Any) -> str:
    """A function's name, also of one that a partial binds."""
    function = getattr(function, "func", function)  # of a partial
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def check_loss(name: str, loss: object) -> None:
    check_callable(name, loss, "(scores [B], scores [B]) -> [B] such as those in fgan.losses", 2)


_FIGURES = {name for name in GANInfo._fields if name != "terms"}


def checked_terms(terms: tuple[Any, ...], *kinds: type) -> list[Any]:
    """The terms with names, and with weights as numbers of Python."""
    for term in terms:
        if not isinstance(term, kinds):
            known = " and ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"this objective's terms are {known}, and {term!r} was given")
    checked = [_checked(term) if isinstance(term, Penalty) else _weighted(term) for term in terms]
    names = [term.name for term in checked]
    for name in names:
        if names.count(name) > 1 or {name, f"generator_{name}"} & _FIGURES:
            raise ValueError(
                f"two figures of this objective are called {name!r}: give "
                f"{' or '.join(kind.__name__ for kind in kinds)} a name"
            )
    return checked


def _weighted(term: Any) -> Any:
    """A head or a term with a name, and its weight as a number of Python."""
    if isinstance(term, Head):
        check_loss(f"the loss of head {term.name!r}", term.loss)
        weight = check_scalar(f"the weight of head {term.name!r}", term.weight, 0.0)
        return term._replace(weight=weight)
    check_callable("a term's function", term.function, "(fake [B, ...], data) -> [B]", 2)
    name = term.name or name_of(term.function)
    weight = check_scalar(f"the weight of term {name!r}", term.weight, 0.0)
    return term._replace(name=name, weight=weight)
