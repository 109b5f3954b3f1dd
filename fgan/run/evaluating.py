"""Evaluations in the course of a run: when they are due, what they cost, and what is compared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from inspect import signature
from typing import Any, Protocol

import torch

from fgan.data import DataSet
from fgan.evaluation.comparison import suits_classifier
from fgan.evaluation.evaluator import Evaluator
from fgan.evaluation.inputs import NotFiniteError
from fgan.evaluation.splits import Parts, held_out, load_parts
from fgan.run.features import cached_classifier
from fgan.run.ranks import Ranks
from fgan.run.source import Source
from fgan.types import Algorithm, GANState

PREFIX = "evaluation_"
"""Before the name of an evaluation's figure, so that it is none of a round's own."""

_SHOWN = {
    "fid": "FID",
    "frechet_distance": "Fréchet distance",
    "sliced_wasserstein": "sliced Wasserstein distance",
    "patch_sliced_wasserstein": "sliced Wasserstein distance of patches",
    "modes_covered": "modes covered",
    "high_quality": "high quality",
    "label_accuracy": "label accuracy",
    "precision": "precision",
    "recall": "recall",
}


class Evaluates(Protocol):
    """What `fgan.train` takes as evaluator, such as `fgan.evaluation.Evaluator`.

    Every process of a data-parallel run has to be given one of the same class. One whose call has a
    keyword `share` is called by all processes at the same time, each with `share=(rank, size)`, and
    has to have the same figures in all. Any other is called by rank 0 alone.
    """

    @property
    def best_by(self) -> str:
        """The name of the figure whose smallest value is the best."""

    def __call__(
        self, algorithm: Algorithm, state: GANState, conditional: bool = True
    ) -> dict[str, float]:
        """The figures of a state by name: finite numbers, `best_by` among them."""


class Evaluations:
    """The evaluations of a run."""

    def __init__(self, evaluator: Evaluates, conditional: bool, ranks: Ranks) -> None:
        self._evaluator, self._conditional = evaluator, conditional
        self._options: dict[str, Any] = {}
        self.by_all_ranks = ranks.size > 1 and "share" in signature(evaluator).parameters
        """Whether all ranks evaluate a state together; else rank 0 does it alone."""
        if self.by_all_ranks:
            self._options = {"share": (ranks.rank, ranks.size)}
        self.seconds = 0.0
        """Seconds spent in evaluations so far."""
        self.best_by = PREFIX + evaluator.best_by

    def take(self, algorithm: Algorithm, state: GANState) -> tuple[dict[str, float], str]:
        """The figures of a state, as they stand in `metrics.jsonl`, and a line about them.

        Raises NotFiniteError where a sample or a figure is not finite, and ValueError where the
        evaluator's `best_by` is none of its figures.
        """
        began = time.monotonic()
        found = self._evaluator(algorithm, state, self._conditional, **self._options)
        spent = time.monotonic() - began
        self.seconds += spent
        if self._evaluator.best_by not in found:
            raise ValueError(
                f"the evaluator's best_by is {self._evaluator.best_by!r}, which is none of its "
                f"figures: {', '.join(found)}"
            )
        for name, value in found.items():
            if not math.isfinite(value):
                raise NotFiniteError(f"the evaluation's {name} is {value}")
        words = [f"{_SHOWN[name]} {value:.4g}" for name, value in found.items() if name in _SHOWN]
        line = f"{', '.join(words)} ({spent:.1f} s, so far {self.seconds:.1f} s)"
        return {PREFIX + name: value for name, value in found.items()}, line


def is_evaluated(every: int | None, rounds: int, done: int) -> bool:
    """Whether the state after round `done` is evaluated: every so often, and after `rounds`."""
    return every is not None and (done % every == 0 or done == rounds)


def evaluations_of(
    evaluator: Evaluates | None,
    every: int | None,
    conditional: bool,
    data: object,
    source: Source,
    device: torch.device,
    ranks: Ranks,
) -> Evaluations | None:
    """The evaluations that were asked for, with the default evaluator where none was given.

    data: as `fgan.train` was given it; source: the same, loaded. device: that of the run.
    ranks: rank 0 makes the default evaluator first, and keeps the classifier on disk for the
        others.

    Raises ValueError for an `evaluator` without `every` or of another kind, and for data that no
    default evaluator can be made of.
    """
    if every is None:
        if evaluator is not None:
            raise ValueError("an evaluator is used every so many rounds: give evaluate_every too")
        return None
    if evaluator is None:
        made = ranks.on_rank_0(lambda: default_evaluator(data, source, device, print))
        evaluator = made or default_evaluator(data, source, device, lambda line: None)
    elif not (callable(evaluator) and isinstance(getattr(evaluator, "best_by", None), str)):
        raise ValueError(
            "evaluator is a fgan.evaluation.Evaluator, or another function of an algorithm and a "
            f"state with the attribute best_by, and {evaluator!r} was given"
        )
    # Such as with a classifier of its own, where a host does not see the files of rank 0.
    ranks.check_equal({"evaluator": getattr(evaluator, "identity", None)})
    return Evaluations(evaluator, conditional, ranks)


def default_evaluator(
    data: object, source: Source, device: torch.device, say: Callable[[str], None]
) -> Evaluator:
    """Compares with the test split of a data set that has one, or else with a half held out.

    say: is told what takes time.

    Raises ValueError for data that are no data set of tensors, and as `evaluator_of` does.
    """
    if not isinstance(source, DataSet):
        raise ValueError(
            "evaluate_every needs samples to compare with, and the data are read batch by batch: "
            "give evaluator=fgan.evaluation.Evaluator(reference, features) with a DataSet of them"
        )
    if isinstance(data, str):
        return evaluator_of(load_parts(data, device=device, training=source), say)
    return evaluator_of(held_out(source, device), say)


def evaluator_of(parts: Parts, say: Callable[[str], None]) -> Evaluator:
    """The evaluator of data in two parts; of images, in the features of their classifier.

    say: is told what takes time.

    Raises ValueError as `cached_classifier` and `Evaluator` do.
    """
    features = None
    if suits_classifier(parts.reference):
        features = cached_classifier(parts.training, parts.reference, say=say).as_features()
    return Evaluator(parts.reference, features)
