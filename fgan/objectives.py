"""What each player minimises: a loss, any number of penalties, any number of heads.

A critic's objective has a function `(critic, data) -> (loss, buffers, figures)`, and a generator's
`(critic, fake, data) -> (loss, figures)`. `critic(x, *conditions)` gives (the module's output, its
buffers after the pass); all passes of one update start from the same buffers. `loss` is a 0-d
tensor; `figures` is a dict of 0-d tensors for `GANInfo`: "distance", "penalty", "real_score" and
"fake_score" go to the fields of these names, the others to `terms`.

`adversarial` and `adversarial_generator` build the usual ones. Losses of another kind (translation,
semi-supervised, InfoGAN) are further functions of this form, for `fgan.make_algorithm`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan import tree
from fgan.losses import Loss
from fgan.networks.second_order import twice_differentiable
from fgan.penalties import PAIRING, SAMPLE_AT, Points, takes_conditions
from fgan.scalars import check_flag, scalar_at
from fgan.scores import as_scores, check_callable, describe
from fgan.terms import Head as Head
from fgan.terms import Penalty as Penalty
from fgan.terms import Term as Term
from fgan.terms import check_loss, checked_terms, name_of
from fgan.types import Data, Params
from fgan.types import Draw as Draw

__all__ = [
    "CriticObjective",
    "Draw",
    "GeneratorObjective",
    "Head",
    "Penalty",
    "Term",
    "adversarial",
    "adversarial_generator",
]

Critic = Callable[..., tuple[Any, Params]]
"""(x [B, ...], *conditions) -> (output, buffers)"""
Figures = dict[str, Tensor]


class CriticObjective(NamedTuple):
    """What the critic minimises.

    Example:
        >>> def function(critic, data):  # Wasserstein, by hand
        ...     real, buffers = critic(data.real)
        ...     fake, _ = critic(data.fake)
        ...     distance = real.mean() - fake.mean()
        ...     return -distance, buffers, {"distance": distance}
        >>> objective = fgan.objectives.CriticObjective(function)
    """

    function: Callable[[Critic, Data], tuple[Tensor, Params, Figures]]
    """(critic, data) -> (loss, buffers, figures), with data.real and data.fake [B, ...]."""
    draws: dict[str, Draw] = {}  # noqa: RUF012 (never written to)
    """The random tensors that the function reads in `data.extra`."""
    lazy: dict[str, int] = {}  # noqa: RUF012
    """The penalties that are not taken in every round, and their intervals. An objective that wraps
    another one has to pass `lazy` on, since the noise marks the rounds of these penalties."""
    calls: tuple[Callable[..., Any], ...] = ()
    """The losses and penalties that the function calls, where it says so: those of fgan need no
    check for random numbers."""
    heads: tuple[str, ...] = ()
    """The names of the critic's outputs behind the scores; a critic with heads returns a tuple."""
    whole_batch: tuple[str, ...] = ()
    """The penalties whose points depend on the whole batch, such as pairs of its samples. An
    objective that wraps another one has to pass this on, since such a batch is not to be taken in
    parts."""


class GeneratorObjective(NamedTuple):
    """What the generator minimises.

    Example:
        >>> def function(critic, fake, data):
        ...     scores, _ = critic(fake)
        ...     return -scores.mean(), {}
        >>> objective = fgan.objectives.GeneratorObjective(function)
    """

    function: Callable[[Critic, Tensor, Data], tuple[Tensor, Figures]]
    """(critic, fake [B, ...], data) -> (loss, figures)."""
    uses_real: bool = False
    """Whether the function needs data.real [B, ...]."""
    draws: dict[str, Draw] = {}  # noqa: RUF012
    """The random tensors that the function reads in `data.extra`."""
    calls: tuple[Callable[..., Any], ...] = ()
    """As `CriticObjective.calls`."""


def adversarial(
    critic_loss: Loss,
    *terms: Penalty | Head,
    distance: Callable[[Tensor], Tensor] = torch.neg,
    one_pass: bool = False,
) -> CriticObjective:
    """The critic's objective: mean loss, plus weighted penalties, plus weighted losses of heads.

    critic_loss: a per-sample loss of the form in `fgan.losses`.
    distance: the estimate of the distance, from the mean critic loss before the penalties.
    one_pass: score real and fake samples in one pass, which is faster, and right only for a critic
        that treats each sample alone (`fgan.networks.is_per_sample`).

    Raises ValueError for a weight, place or interval out of range, and for two terms of one name.

    Example:
        >>> lazy = fgan.objectives.Penalty(
        ...     fgan.penalties.zero_centered_penalty, weight=5.0, at="real", every=16
        ... )
        >>> objective = fgan.objectives.adversarial(fgan.losses.non_saturating_critic_loss, lazy)
        >>> objective.lazy
        {'zero_centered_penalty': 16}
    """
    check_flag("one_pass", one_pass)
    check_loss("critic_loss", critic_loss)
    check_callable("distance", distance, "of the mean loss, 0-d", 1)
    checked = checked_terms(terms, Penalty, Head)
    penalties = [term for term in checked if isinstance(term, Penalty)]
    heads = [term for term in checked if isinstance(term, Head)]

    def objective(critic: Critic, data: Data) -> tuple[Tensor, Params, Figures]:
        def scores_at(x: Tensor, *conditions: Tensor) -> tuple[Tensor, list[Tensor], Params]:
            output, buffers = critic(x, *conditions)
            return *_split_output(output, x, len(heads)), buffers

        conditions = () if data.condition is None else (data.condition,)
        real, fake = _both(data)
        if one_pass:
            both = (torch.cat([x, x]) for x in conditions)
            scores, outputs, buffers = scores_at(torch.cat([real, fake]), *both)
            real_scores, fake_scores = scores.chunk(2)
            parts = [output.chunk(2) for output in outputs]
        else:
            real_scores, real_outputs, buffers = scores_at(real, *conditions)
            fake_scores, fake_outputs, _ = scores_at(fake, *conditions)
            parts = list(zip(real_outputs, fake_outputs, strict=True))
        adversarial_loss = _mean(critic_loss(real_scores, fake_scores), fake_scores, critic_loss)

        def score(x: Tensor, *conditions: Tensor) -> Tensor:
            return scores_at(x, *conditions)[0]

        for_penalties = twice_differentiable(score)
        total, penalty, values = _add_penalties(penalties, for_penalties, adversarial_loss, data)
        for head, pair in zip(heads, parts, strict=True):
            on_real, on_fake = (_head_loss(head, output, data) for output in pair)
            total = _add(total, head, on_real + on_fake, data, values, head.name)
        figures = {
            "distance": _distance(distance, adversarial_loss),
            "penalty": penalty,
            "real_score": real_scores.mean(),
            "fake_score": fake_scores.mean(),
        }
        return total, buffers, figures | values

    lazy = {term.name: term.every for term in penalties if term.every > 1}
    calls: list[Callable[..., Any]] = [critic_loss, *(head.loss for head in heads)]
    calls += [] if distance is torch.neg else [distance]
    for term in penalties:
        calls += [term.function, *([term.at] if callable(term.at) else [])]
    return CriticObjective(
        objective,
        lazy=lazy,
        calls=tuple(calls),
        heads=tuple(h.name for h in heads),
        whole_batch=tuple(term.name for term in penalties if term.at in PAIRING),
    )


def adversarial_generator(
    generator_loss: Loss, *terms: Head | Term, uses_real: bool = False
) -> GeneratorObjective:
    """The generator's objective: mean loss of the fakes' scores, plus weighted terms.

    terms: losses of heads, and terms that see the fakes.
    uses_real: whether `generator_loss` uses the real scores, which are NaN otherwise.

    Raises ValueError for a weight out of range, for two terms of one name, and for a penalty.

    Example:
        >>> loss = fgan.losses.relativistic_generator_loss
        >>> fgan.objectives.adversarial_generator(loss, uses_real=True).uses_real
        True
    """
    check_flag("uses_real", uses_real)
    check_loss("generator_loss", generator_loss)
    checked = checked_terms(terms, Head, Term)
    own_heads = [term for term in checked if isinstance(term, Head)]
    own_terms = [term for term in checked if isinstance(term, Term)]

    def objective(critic: Critic, fake: Tensor, data: Data) -> tuple[Tensor, Figures]:
        conditions = () if data.condition is None else (data.condition,)
        fake_scores, outputs = _split_output(critic(fake, *conditions)[0], fake, len(own_heads))
        # NaN, so that a loss that uses real scores without saying so shows it.
        real_scores = torch.full_like(fake_scores, torch.nan)
        if uses_real and data.real is not None:
            real_scores, _ = _split_output(critic(data.real, *conditions)[0], fake, len(own_heads))
        total = _mean(generator_loss(real_scores, fake_scores), fake_scores, generator_loss)
        figures: Figures = {}
        for head, output in zip(own_heads, outputs, strict=True):
            value = _head_loss(head, output, data)
            total = _add(total, head, value, data, figures, f"generator_{head.name}")
        for term in own_terms:
            value = _mean(term.function(fake, data), fake_scores, term.function)
            total = _add(total, term, value, data, figures, f"generator_{term.name}")
        return total, figures

    functions: list[Callable[..., Any]] = [
        *(head.loss for head in own_heads),
        *(term.function for term in own_terms),
    ]
    return GeneratorObjective(
        objective, uses_real or bool(own_terms), calls=(generator_loss, *functions)
    )


def _mean(values: object, scores: Tensor, loss: Callable[..., Tensor]) -> Tensor:
    """The mean of one value a sample, and nothing that has been broadcast."""
    if not isinstance(values, Tensor) or values.shape != scores.shape:
        given = list(values.shape) if isinstance(values, Tensor) else describe(values)
        raise ValueError(
            f"a loss is one value a sample, {list(scores.shape)}, and {name_of(loss)!r} gave "
            f"{given}"
        )
    return values.mean()


def _distance(distance: Callable[[Tensor], Tensor], loss: Tensor) -> Tensor:
    value = distance(loss)
    if not isinstance(value, Tensor) or value.ndim:
        raise ValueError(f"distance gives a 0-d tensor, and it gave {describe(value)}")
    return value


def _both(data: Data) -> tuple[Tensor, Tensor]:
    if data.real is None or data.fake is None:
        raise ValueError("a critic's objective needs real samples and fakes")
    return data.real, data.fake


def _add_penalties(
    penalties: list[Penalty], score: Callable[..., Tensor], loss: Tensor, data: Data
) -> tuple[Tensor, Tensor, Figures]:
    """(the loss with the penalties of this round, `info.penalty`, each penalty by name)."""
    values: Figures = {}
    total, parts = loss, []
    for term in penalties:
        if term.every > 1 and term.name not in data.extra:
            values[term.name] = torch.zeros_like(loss)  # not taken in this round
            continue
        value = _penalty_at(term, score, data).mean()
        weight = tree.like(scalar_at(term.weight, data.round), value)
        parts.append((weight * term.every if term.every > 1 else weight) * value)
        total, values[term.name] = total + parts[-1], value
    if len(penalties) == 1:
        return total, values[penalties[0].name], values
    return total, sum(parts, torch.zeros_like(loss)), values


def _penalty_at(term: Penalty, score: Callable[..., Tensor], data: Data) -> Tensor:
    real, fake = _both(data)
    conditions = () if data.condition is None else (data.condition,)
    if callable(term.at):
        points = term.at(data)
        if not isinstance(points, Points):
            raise ValueError(
                f"the place (at) of the penalty {term.name!r} gives fgan.penalties.Points(samples, "
                f"conditions), and it gave {describe(points)}"
            )
    else:
        if data.mix is None:
            raise ValueError(f"the penalty {term.name!r} needs mix [B], and None was given")
        points = SAMPLE_AT[term.at](real, fake, data.mix, conditions)
    if not points.conditions:
        value = term.function(score, points.samples)
    elif not takes_conditions(term.function):
        raise ValueError(
            f"the penalty {term.name!r} takes no conditions, and this round has some: give it a "
            "keyword, penalty(critic, x, *, conditions=()), and call critic(x, *conditions)"
        )
    else:
        value = term.function(score, points.samples, conditions=points.conditions)
    if not isinstance(value, Tensor) or value.shape != points.samples.shape[:1]:
        given = list(value.shape) if isinstance(value, Tensor) else describe(value)
        raise ValueError(
            f"a penalty is one value a sample, [{len(points.samples)}], and {term.name!r} gave "
            f"{given}"
        )
    return value


def _split_output(output: Any, x: Tensor, heads: int) -> tuple[Tensor, list[Tensor]]:
    """(scores [B], a tensor for each head)."""
    if not heads:
        return as_scores(output, x), []
    if not isinstance(output, tuple | list) or len(output) != heads + 1:
        what = f"{len(output)} outputs" if isinstance(output, tuple | list) else "one output"
        raise ValueError(
            f"the objective has {heads} head{'s' * (heads > 1)}, so its critic returns (scores, "
            f"{', '.join(['output'] * heads)}), and this one gave {what}"
        )
    return as_scores(output[0], x), list(output[1:])


def _head_loss(head: Head, output: Tensor, data: Data) -> Tensor:
    if data.condition is None:
        raise ValueError(f"the head {head.name!r} needs conditions, and the batch has none")
    rows = data.condition.new_empty(data.condition.shape[:1])
    return _mean(head.loss(output, data.condition), rows, head.loss)


def _add(
    total: Tensor, term: Head | Term, value: Tensor, data: Data, figures: Figures, name: str
) -> Tensor:
    """The total with the weighted loss of a head or term, which is noted under its name."""
    figures[name] = value
    weight = tree.like(scalar_at(term.weight, data.round), value)
    return total + weight * value


def is_known(objective: CriticObjective | GeneratorObjective) -> bool:
    """Whether all that an objective calls is fgan's own, which draws no random numbers."""

    return bool(objective.calls) and all(map(_is_own, (objective.function, *objective.calls)))


def _is_own(function: Any) -> bool:
    """Whether a function, and all functions that a partial binds, are written in fgan."""
    if isinstance(function, partial):
        bound = [*function.args, *function.keywords.values()]
        return all(map(_is_own, [function.func, *filter(callable, bound)]))
    return str(getattr(function, "__module__", "")).partition(".")[0] == "fgan"


def check_objectives(critic: object, generator: object) -> None:
    """Raise ValueError unless these are the objectives of a critic and of a generator."""
    for name, objective, kind in [
        ("critic_objective", critic, CriticObjective),
        ("generator_objective", generator, GeneratorObjective),
    ]:
        if not isinstance(objective, kind):
            raise ValueError(f"{name} is a {kind.__name__}, and {objective!r} was given")
        assert isinstance(objective, CriticObjective | GeneratorObjective)
        lazy = objective.lazy if isinstance(objective, CriticObjective) else {}
        if same := objective.draws.keys() & lazy.keys():
            raise ValueError(f"a random tensor and a lazy penalty are both called {min(same)!r}")
        for draw in objective.draws.values():
            if draw.distribution not in ("normal", "uniform"):
                raise ValueError(
                    "a draw's distribution is 'normal' or 'uniform', and "
                    f"{draw.distribution!r} was given"
                )
