"""Targets: recipes, objectives and `make_algorithm`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fuzz_core import Argument, Mutation, Target
from fuzz_games import LATENT, SIZE, OwnCritic, OwnGenerator
from fuzz_objects import make_argument as a
from fuzz_tensors import Maker
from fuzz_values import choices
from torch import Tensor, nn

import fgan
from fgan import losses, objectives
from fgan.penalties import SAMPLE_AT, gradient_penalty, zero_centered_penalty


def recipes() -> list[Target]:
    """The targets of this module."""
    return [*_recipes(), *_objectives()]


def _after_a_round(algorithm: Any) -> Any:
    """The state after a round of an algorithm."""
    state, noise = algorithm.init(0), algorithm.noise(0, 0, SIZE)
    source = torch.Generator().manual_seed(3)
    real = torch.randn(noise.mix.shape[0], SIZE, 5, generator=source)
    state, info = algorithm.step(state, fgan.Batch(real), noise)
    return state, info


class Width(nn.Module):
    """A critic with more than one output."""

    def __init__(self, output: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.output = nn.Linear(5, 2), output

    def forward(self, x: Tensor) -> Any:
        return self.output(self.layer(x))


def _wrong_critics() -> tuple[Any, ...]:
    one = ("one score", r"\[B\]", "one tensor", "scores")
    return (
        ("two scores a sample", Width(lambda h: h), (r"\[\d, 2\]",), one),
        ("scores and features", Width(lambda h: (h[:, 0], h)), ("tuple",), one),
        ("a dict of scores", Width(lambda h: {"scores": h[:, 0]}), ("dict",), one),
        ("one score for the batch", Width(lambda h: h.mean()), (r"\[\]",), one),
        ("whole numbers", Width(lambda h: h[:, 0].long()), ("int64",), ("float", *one)),
        ("cut from the graph", Width(lambda h: h[:, 0].detach()), ("gradient", "detach", "grad"),
         ("parameters", "gradient", "detach")),
        ("ends in a sigmoid", nn.Sequential(nn.Linear(5, 1), nn.Sigmoid()), ("sigmoid",),
         ("logits", "scores", "remove")),
        ("with BatchNorm's batch statistics", nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)), ("BatchNorm", "'1'"),
         ("LayerNorm", "per sample")),
        ("in float64", OwnCritic().double(), ("float64",), ("float32", "dtype")),
        ("of another width", OwnCritic((4,)), (r"\b[45]\b",), (r"\b[45]\b",)),
        ("that takes labels", fgan.models.mlp_critic((5,), 3), ("3 classes", "label", "condition"),
         ("label", "condition")),
    )  # fmt: skip


def _wrong_generators() -> tuple[Any, ...]:
    pair, cut = Width(lambda h: (h, h)), Width(lambda h: h.detach())
    pixels_of = Width(lambda h: h.to(torch.uint8))
    for module in (cut, pixels_of):
        module.layer, module.latent_dim = nn.Linear(3, 5), LATENT
    several = OwnGenerator((4,))
    double = OwnGenerator().double()
    pair.layer, pair.latent_dim = nn.Linear(3, 5), LATENT
    drawn = Width(lambda h: h + torch.randn_like(h))
    drawn.layer, drawn.latent_dim = nn.Linear(3, 5), LATENT
    shape = (r"\[5\]", r"\[4\]", "shape")
    return (
        ("samples of another shape", several, shape, shape),
        ("in float64", double, ("float64",), ("float32", "dtype")),
        ("cut from the graph", cut, ("gradient", "detach", "grad"),
         ("parameters", "gradient", "detach")),
        ("makes uint8", pixels_of, ("uint8",), ("float", "normalise")),
        ("a tuple of samples", pair, ("tuple",), ("tensor",)),
        ("that draws noise", drawn, ("random", "draws"), ("pure", "input", "noise")),
    )  # fmt: skip


_PENALISED = ("wgan-gp", "wgan-div", "dragan", "r3gan")


def _settings(recipe: str) -> dict[str, Argument]:
    adam = fgan.adam(2e-4, (0.5, 0.999))
    default = fgan.recipes.RECIPES[recipe]
    return {
        "generator": a(OwnGenerator(), "module", "generator", role="generator",
                       others=_wrong_generators()),
        "critic": a(OwnCritic(), "module", "critic", role="critic", others=tuple(
            row for row in _wrong_critics()
            if row[0] != "with BatchNorm's batch statistics" or recipe in _PENALISED)),
        "n_critic": a(2, "count", "n_critic", none=default.n_critic),
        "generator_optimizer": a(adam, "optimizer", "generator_optimizer", none=None),
        "critic_optimizer": a(adam, "optimizer", "critic_optimizer", none=None),
        "latent_dim": a(LATENT, "count", "latent_dim", none=LATENT),
        "ema_decay": a(0.9, "scalar", "ema_decay", high=1.0, none=None),
        "update": a("alternating", "choice", "update", known=("alternating", "simultaneous")),
        "autocast": a(None, "autocast", "autocast"),
        "sample_shape": a((5,), "shape", "sample_shape", none=(5,)),
    }  # fmt: skip


def _recipes() -> list[Target]:
    at = dict(known=tuple(SAMPLE_AT))
    own: dict[str, dict[str, Argument]] = {
        "gan": {"loss": a("minimax", "choice", "loss", known=("non_saturating", "minimax"))},
        "wgan": {"clip": a(0.02, "scalar", "clip", above=True)},
        "wgan-gp": {
            "penalty_weight": a(5.0, "scalar", "penalty_weight", "weight"),
            "target": a(0.5, "scalar", "target", schedule=False),
            "one_sided": a(False, "boolean", "one_sided"),
            "sample_at": a("real", "choice", "sample_at", r"\bat\b", **at),
        },
        "wgan-div": {
            "k": a(1.5, "scalar", r"\bk\b", schedule=False),
            "p": a(4.0, "scalar", r"\bp\b", schedule=False),
            "sample_at": a("fake", "choice", "sample_at", r"\bat\b", **at),
        },
        "hinge-gan": {},
        "lsgan": {},
        "dragan": {"penalty_weight": a(5.0, "scalar", "penalty_weight", "weight")},
        "r3gan": {"gamma": a(0.5, "scalar", "gamma", "penalty_weight")},
    }
    found = []
    for name, recipe in fgan.recipes.RECIPES.items():
        arguments = {**_settings(name), **own[name]}
        found.append(Target(name, recipe.function, arguments, lambda got: None,
                            digest=_after_a_round))  # fmt: skip
    warm = {name: a(n, "count", rf"\b{name}\b") for name, n in
            {"n_critic": 2, "warm": 4, "every": 3}.items()}  # fmt: skip
    warm["first"] = a(1, "count", r"\bfirst\b", low=0)
    found.append(Target(
        "recipes.critic_warmup", fgan.recipes.critic_warmup, warm,
        lambda got: None if got == [4, 2, 2, 4, 2] else "another schedule",
        digest=lambda schedule: [schedule(i) for i in range(5)],
    ))  # fmt: skip
    return found


def places(make: Maker) -> list[Mutation]:
    """Of where a penalty is taken: a word, or a function of the update's data."""
    kind = ("Points", "samples", "conditions")
    rows: list[tuple[str, Any, tuple[str, ...]]] = [
        ("a tensor, not points", lambda data: data.real, ("tensor",)),
        ("nothing", lambda data: None, ("None",)),
        ("of no argument", lambda: None, ("takes 0", "no argument", "function")),
        ("a pair", lambda data: (data.real, ()), ("tuple",)),
    ]
    found = [make(label, value, given=given, expected=kind) for label, value, given in rows]
    return [*choices(make), *found]


def autocasts(make: Maker) -> list[Mutation]:
    """Of None or torch.bfloat16."""
    known = (r"torch\.bfloat16", "None")
    rows = ("bfloat16", True, False, torch.float16, torch.float32, torch.int8, 16, "cpu", float, 0)
    found = [make(f"{value!r}", value, expected=known) for value in rows]
    context = torch.autocast("cpu", torch.bfloat16)
    return [*found, make("a context", context, given=("autocast",), expected=known)]


def _objectives() -> list[Target]:
    def algorithm_of(objective: Any) -> Any:
        return _after_a_round(fgan.make_algorithm(
            OwnGenerator.seeded(), OwnCritic.seeded(), objective, _OF_GENERATOR,
            generator_optimizer=fgan.sgd(0.1), critic_optimizer=fgan.sgd(0.1),
        ))  # fmt: skip

    def penalised(**given: Any) -> Any:
        return objectives.adversarial(
            losses.hinge_critic_loss, objectives.Penalty(**given)
        )  # fmt: skip

    def headed(**given: Any) -> Any:
        return objectives.adversarial(losses.hinge_critic_loss, objectives.Head(**given))

    wrong_losses = (
        ("one value for the batch", lambda r, f: (f - r).mean(), (r"\[\]", "0-d"),
         (r"\[B\]", r"\[4\]", "one value", "per sample", "a sample")),
        ("a loss of [B, 1]", lambda r, f: (f - r)[:, None], (r"\[4, 1\]",),
         (r"\[B\]", r"\[4\]", "one value", "a sample")),
        ("a tuple", lambda r, f: (f - r, r), ("tuple",), (r"\[B\]", "tensor", "one value")),
        ("of one argument", lambda s: s, ("1", "one", "takes"), ("real", "2", "two", "scores")),
        ("None for a loss", lambda r, f: None, ("None",), (r"\[B\]", "tensor", "one value")),
        ("a module of torch", nn.BCEWithLogitsLoss(), (r"\[\]", "0-d", "BCE"),
         (r"\[B\]", "one value", "a sample")),
    )  # fmt: skip
    loss = a(losses.hinge_critic_loss, "function", "loss", others=wrong_losses)
    wrong_penalties = (
        ("a mean", lambda c, x: zero_centered_penalty(c, x).mean(), (r"\[\]",),
         ("one value a sample", r"\[4\]")),
        ("a column", lambda c, x: zero_centered_penalty(c, x)[:, None], (r"\[4, 1\]",),
         ("one value a sample", r"\[4\]")),
        ("None for a penalty", lambda c, x: None, ("None",), ("one value a sample", "tensor")),
    )  # fmt: skip
    penalty = {
        "function": a(partial(gradient_penalty, target=0.5), "function", "penalty", "<lambda>",
                      "function", others=wrong_penalties),
        "weight": a(2.0, "scalar", "weight"),
        "at": a("real", "place", "sample_at", r"\bat\b", known=tuple(SAMPLE_AT)),
        "every": a(2, "count", "every"),
    }  # fmt: skip
    settings = _settings("gan")
    for name in ("generator_optimizer", "critic_optimizer"):
        settings[name] = a(fgan.sgd(0.1), "optimizer", name)
    wrong_objectives = (
        ("a loss, not an objective", losses.hinge_critic_loss, ("function",), ("Objective",)),
        ("the other player's", _OF_GENERATOR, ("GeneratorObjective",), ("CriticObjective",)),
    )
    wrong_of_generator = (
        ("a loss, not an objective", losses.hinge_generator_loss, ("function",), ("Objective",)),
        ("the other player's", _OF_CRITIC, ("CriticObjective",), ("GeneratorObjective",)),
    )
    both = {
        "critic_objective": a(_OF_CRITIC, "function", "critic_objective", others=wrong_objectives,
                              expected=("CriticObjective",)),
        "generator_objective": a(_OF_GENERATOR, "function", "generator_objective",
                                 others=wrong_of_generator, expected=("GeneratorObjective",)),
    }  # fmt: skip
    right: Callable[[Any], None] = lambda got: None  # noqa: E731 (one line is enough)
    head = {
        "name": a("class", "nothing", "name"),
        "loss": a(lambda x, y: x, "function", "loss"),
        "weight": a(1.0, "scalar", "weight"),
    }
    return [
        Target("adversarial", objectives.adversarial, {
            "critic_loss": loss, "one_pass": a(True, "boolean", "one_pass"),
            "distance": a(torch.neg, "function", "distance", others=(
                ("one value a sample", lambda loss: torch.zeros(4), (r"\[4\]",), ("0-d", "one")),
                ("None for a distance", lambda loss: None, ("None",), ("0-d", "tensor", "one")),
            )),
        }, right, digest=algorithm_of),
        Target("Penalty", penalised, penalty, right, digest=algorithm_of),
        Target("Head", headed, head, right, digest=lambda made: list(made.heads)),
        Target("adversarial_generator", objectives.adversarial_generator, {
            "generator_loss": loss, "uses_real": a(False, "boolean", "uses_real"),
        }, right, digest=lambda made: _after_a_round(fgan.make_algorithm(
            OwnGenerator.seeded(), OwnCritic.seeded(), _OF_CRITIC, made,
            generator_optimizer=fgan.sgd(0.1), critic_optimizer=fgan.sgd(0.1)))),
        Target("make_algorithm", fgan.make_algorithm, {**settings, **both, "project": a(
            lambda params, count: params, "function", "project", none=None, others=(
                ("nothing", lambda params, count: None, ("None",), ("parameters", "dict")),
                ("of one argument", lambda params: params, ("one", "1", "takes"), ("round", "two")),
            ))}, right,
               digest=_after_a_round),
    ]  # fmt: skip


_OF_CRITIC = objectives.adversarial(losses.hinge_critic_loss)
_OF_GENERATOR = objectives.adversarial_generator(losses.hinge_generator_loss)


MUTATIONS = {"place": places, "autocast": autocasts}
