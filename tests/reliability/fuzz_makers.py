"""Targets: what makes algorithms, networks, data and runs."""

import contextlib
import io
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fuzz_core import REFUSED, Argument, Mutation, Target, same
from fuzz_games import LATENT, SIZE, OwnCritic, OwnGenerator, game
from fuzz_structures import make_argument as a
from fuzz_values import Maker
from torch import Tensor, nn

import fgan
from fgan import losses, objectives
from fgan.penalties import SAMPLE_AT, gradient_penalty, zero_centered_penalty


def makers() -> list[Target]:
    """The targets of this module."""
    return [
        *_recipes(), *_objectives(), *_networks(), *_wrappers(), *_models(), *_data(), *_train(),
    ]  # fmt: skip


# --- recipes --------------------------------------------------------------------------------------


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
    pair = Width(lambda h: (h, h))
    several = OwnGenerator((4,))
    double = OwnGenerator().double()
    pair.layer, pair.latent_dim = nn.Linear(3, 5), LATENT
    drawn = Width(lambda h: h + torch.randn_like(h))
    drawn.layer, drawn.latent_dim = nn.Linear(3, 5), LATENT
    shape = (r"\[5\]", r"\[4\]", "shape")
    return (
        ("samples of another shape", several, shape, shape),
        ("in float64", double, ("float64",), ("float32", "dtype")),
        ("a tuple of samples", pair, ("tuple",), ("tensor",)),
        ("that draws noise", drawn, ("random", "draws"), ("pure", "input", "noise")),
    )  # fmt: skip


def _settings(recipe: str) -> dict[str, Argument]:
    adam = fgan.adam(2e-4, (0.5, 0.999))
    default = fgan.recipes.RECIPES[recipe]
    return {
        "generator": a(OwnGenerator(), "module", "generator", role="generator",
                       others=_wrong_generators()),
        "critic": a(OwnCritic(), "module", "critic", role="critic", others=tuple(
            row for row in _wrong_critics()
            if row[0] != "with BatchNorm's batch statistics" or recipe in ("wgan-gp", "wgan-div"))),
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
        "at": a("real", "choice", "sample_at", r"\bat\b", known=tuple(SAMPLE_AT)),
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
        }, right, digest=algorithm_of),
        Target("Penalty", penalised, penalty, right, digest=algorithm_of),
        Target("Head", headed, head, right, digest=lambda made: list(made.heads)),
        Target("adversarial_generator", objectives.adversarial_generator, {
            "generator_loss": loss, "uses_real": a(False, "boolean", "uses_real"),
        }, right, digest=lambda made: _after_a_round(fgan.make_algorithm(
            OwnGenerator.seeded(), OwnCritic.seeded(), _OF_CRITIC, made,
            generator_optimizer=fgan.sgd(0.1), critic_optimizer=fgan.sgd(0.1)))),
        Target("make_algorithm", fgan.make_algorithm, {**settings, **both}, right,
               digest=_after_a_round),
    ]  # fmt: skip


_OF_CRITIC = objectives.adversarial(losses.hinge_critic_loss)
_OF_GENERATOR = objectives.adversarial_generator(losses.hinge_generator_loss)


def _seeded(cls: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return cls()


OwnGenerator.seeded = OwnCritic.seeded = classmethod(_seeded)


# --- networks and wrappers ------------------------------------------------------------------------


def _networks() -> list[Target]:
    module = _seeded(OwnCritic)
    x = torch.linspace(-1, 1, 20).reshape(4, 5)
    network = fgan.make_functional(module)
    expected = module(x).detach()

    def applied(made: Any) -> Any:
        return made.apply(made.params, made.buffers, x)[0]

    def apply(params: Any, buffers: Any, x: Any, **options: Any) -> Any:
        return network.apply(params, buffers, x, **options)

    def differs(got: Any) -> str | None:
        return None if same(got.detach(), expected) else "another value than the module's"

    arguments = {"module": a(module, "module", "module", role="module"),
                 "autocast": a(None, "autocast", "autocast")}  # fmt: skip
    inputs = {
        "params": a(network.params, "params", "params", "parameter"),
        "buffers": a(network.buffers, "nothing", "buffers"),
        "x": a(x, "input", "input", r"\bx\b", fixed_rows=False),
        "training": a(False, "boolean", "training"),
    }
    more = fgan.make_functional(fgan.models.mlp_critic((5,), hidden=(6, 6), norm="batch"))
    buffered = {
        "params": a(more.params, "params", "params", "parameter"),
        "buffers": a(more.buffers, "params", "buffers?"),
        "x": a(x, "input", "input", r"\bx\b"),
        "training": a(True, "boolean", "training"),
    }

    def apply_buffered(params: Any, buffers: Any, x: Any, **options: Any) -> Any:
        return more.apply(params, buffers, x, **options)

    return [
        Target("make_functional", fgan.make_functional, arguments, differs, digest=applied),
        Target("apply", apply, inputs, lambda got: differs(got[0])),
        Target("apply with buffers", apply_buffered, buffered, lambda got: None),
    ]


def inputs(make: Maker) -> list[Mutation]:
    """Of a module's input, which only has to be a tensor of the module's dtype and device."""
    from fuzz_values import tensors

    kept = {"float64", "float16", "None", "a tuple, as a loader gives", "a list of numbers",
            "an array", "a number", "text", "a dict", "on meta", "strided"}  # fmt: skip
    return [m for m in tensors(make) if m.label in kept]


def _wrappers() -> list[Target]:
    own, labelled = game("wgan"), game("wgan_gp")
    step = partial(_step_of, own)
    rates = torch.tensor([1e-3, 1e-4])

    def population(algorithm: Any, values: Any = None) -> Any:
        return fgan.population(algorithm, values)

    def members(made: Any) -> Any:
        state = made.init((0, 1))
        return made.step(state, own.batch, made.noise((0, 1), 0, SIZE))[0]

    def of_rate(rate: Any) -> Any:
        return fgan.wgan(own.generator, own.critic, critic_optimizer=fgan.rmsprop(rate), n_critic=2)

    right: Callable[[Any], None] = lambda got: None  # noqa: E731
    backends = a("interpreter", "choice", "backend", known=("inductor", "interpreter"))
    return [
        Target("accumulate", fgan.accumulate, {
            "algorithm": a(own.algorithm, "algorithm", "algorithm"), "parts": a(2, "count",
            "parts"),
        }, right, digest=step),
        Target("population", population, {
            "algorithm": a(own.algorithm, "algorithm", "algorithm", "function")}, right,
            digest=members),
        Target("population of values", population, {
            "algorithm": a(of_rate, "algorithm_function", "function", "algorithm"),
            "values": a(rates, "values", "values", "tensors"),
        }, right, digest=members),
        Target("compile", fgan.compile, {
            "algorithm": a(labelled.algorithm, "algorithm", "algorithm"),
            "donate": a(False, "boolean", "donate"), "backend": backends,
            "cuda_graph": a(False, "boolean", "cuda_graph"),
            "disable_passes": a((), "passes", "disable_passes", "pass"),
        }, right, digest=partial(_step_of, labelled), slow=True),
    ]  # fmt: skip


def _step_of(own: Any, algorithm: Any) -> Any:
    # A copy, since an algorithm that donates overwrites it.
    return algorithm.step(fgan.tree.clone(own.state), own.batch, own.noise)[0]


def algorithm_functions(make: Maker) -> list[Mutation]:
    """Of a function from the values of one member to its algorithm."""
    kind = ("algorithm", "Algorithm")
    rows: list[tuple[str, Any, tuple[str, ...]]] = [
        ("None", None, ("None",)),
        ("makes nothing", lambda rate: None, ("None",)),
        ("makes a state", lambda rate: game("gan").state, ("GANState",)),
        ("makes a pair", lambda rate: (game("gan").algorithm, rate), ("tuple", r"\(Algorithm")),
        ("text", "wgan", ("str", "wgan")),
    ]
    return [
        *(make(label, value, given=given, expected=kind) for label, value, given in rows),
        make("an algorithm", game("wgan").algorithm, given=("values", "Algorithm"),
             expected=("function",)),
        make("of two arguments", lambda rate, decay: None, given=("two", "2", "decay"),
             expected=("values", "one")),
    ]  # fmt: skip


def values(make: Maker) -> list[Mutation]:
    """Of the values of a population's members."""
    kind = ("tensor", r"\[members\]", "axis", "at least one", "number", "float")
    rows: list[tuple[str, Any, tuple[str, ...]]] = [
        ("None", None, ("None",)), ("a number", 1e-3, (r"0\.001", "float")),
        ("text", "1e-3", ("1e-3", "str")), ("0-d", torch.tensor(1e-3), (r"\[\]", "0-d", "axis")),
        ("no members", torch.zeros(0), (r"\[0\]", r"\bno\b", r"\b0\b")),
        ("of two sizes", (make.right, torch.zeros(3)), (r"\[3\]", r"\b3\b", "axis")),
        ("a dict of numbers", {"rate": 1e-3}, ("rate", "float")),
        ("a column", make.right[:, None], (r"\[2, 1\]", r"\[1\]", r"shape")),
    ]  # fmt: skip
    found = [make(label, value, given=given, expected=kind) for label, value, given in rows]
    numbers = make.right.tolist()
    found.append(make("a list", numbers, given=("list", r"\[0\.001"), expected=kind,
                      meaning=make.right))  # fmt: skip
    found.append(make("an array", make.right.numpy(), given=("array",), expected=kind,
                      meaning=make.right))  # fmt: skip
    return found


def passes(make: Maker) -> list[Mutation]:
    """Of names of graph passes, which the interpreter leaves alone."""
    from fgan.compiler.passes import PASSES

    known = tuple(re.escape(p.name) for p in PASSES)[:3]
    rows = [("a word", "cs"), ("an unknown name", ("csee",)), ("None", None), ("a number", 3),
            ("numbers", (3,)), ("True", True)]  # fmt: skip
    return [
        make(label, value, given=(re.escape(repr(value)), "str", "int", "None", "csee", r"\b3\b"),
             expected=("names", "sequence", "passes", *known),
             meaning=() if label == "None" else REFUSED)
        for label, value in rows
    ]  # fmt: skip


# --- models, data, train --------------------------------------------------------------------------


def _models() -> list[Target]:
    norms = dict(known=fgan.models.layers.NORMS)
    classes, latent = a(3, "count", "num_classes", "classes", none=None), a(4, "count",
                                                                            "latent_dim")  # fmt: skip
    of: dict[str, dict[str, Argument]] = {
        "mlp_generator": {"sample_shape": a((2, 3), "shape", "sample_shape"), "latent_dim": latent,
                          "hidden": a((5, 6), "shape", "hidden"),
                          "output": a("linear", "choice", "output", known=("tanh", "linear"),
                                      none="linear")},
        "mlp_critic": {"sample_shape": a((2, 3), "shape", "sample_shape"),
                       "hidden": a((5, 6), "shape", "hidden")},
        "conv_generator": {"image_shape": a((1, 28, 28), "shape", "image_shape"),
                           "latent_dim": latent, "width": a(2, "count", "width")},
        "conv_critic": {"image_shape": a((1, 28, 28), "shape", "image_shape"),
                        "width": a(2, "count", "width")},
        "resnet_generator": {"image_shape": a((1, 32, 32), "shape", "image_shape"),
                             "latent_dim": latent, "width": a(2, "count", "width")},
        "resnet_critic": {"image_shape": a((1, 32, 32), "shape", "image_shape"),
                          "width": a(2, "count", "width")},
    }  # fmt: skip

    def digest(module: Any) -> Any:
        sizes = {name: tuple(p.shape) for name, p in module.state_dict().items()}
        shape, labels = module.sample_shape, module.num_classes and torch.zeros(2).long()
        x = torch.zeros(2, *([module.latent_dim] if hasattr(module, "latent_dim") else shape))
        out = module(x, labels) if module.num_classes else module(x)
        return {"sizes": sizes, "shape": tuple(map(int, shape)), "out": tuple(out.shape)}

    def check(got: Any, critic: bool, shape: tuple[int, ...]) -> str | None:
        return None if got["out"] == ((2,) if critic else (2, *shape)) else "another shape"

    found = []
    for name, more in of.items():
        norm = a("none", "choice", "norm", **norms)
        shape = next(iter(more.values())).value
        found.append(Target(
            f"models.{name}", _forked(getattr(fgan.models, name)),
            {**more, "num_classes": classes, "norm": norm},
            partial(check, critic="critic" in name, shape=shape), digest=digest,
        ))  # fmt: skip
    y = torch.tensor([0, 2, 1])
    found.append(Target("models.one_hot", fgan.models.one_hot, {
        "labels": a(y, "any_labels", "label", classes=3), "num_classes": a(3, "count", "num_classes",
                                                                        "classes"),
        "dtype": a(torch.float32, "any_dtype", "dtype"),
    }, lambda got: None if same(got, torch.eye(3)[y]) else "another value"))  # fmt: skip
    return found


def any_labels(make: Maker) -> list[Mutation]:
    """Of integers of any shape."""
    from fuzz_values import labels

    shapes = {"one label for the batch", "a 0-d label", "a label less", "twice as many labels",
              "a column [B, 1]", "one-hot integers", "labels on meta"}  # fmt: skip
    return [m for m in labels(make) if m.label not in shapes]


def any_dtypes(make: Maker) -> list[Mutation]:
    """Of any dtype of torch."""
    from fuzz_structures import dtypes

    return [m for m in dtypes(make) if not isinstance(m.value, torch.dtype)]


def _forked(make: Callable[..., Any]) -> Callable[..., Any]:
    """A maker of modules, whose initialisation draws from the global generator as torch's does."""

    def made(**given: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            return make(**given)

    return made


def _set(**changes: Any) -> Any:
    source = torch.Generator().manual_seed(2)
    content = dict(
        name="points", samples=torch.randn(9, 5, generator=source),
        labels=torch.arange(9) % 3, class_names=("a", "b", "c"),
    ) | changes  # fmt: skip
    return fgan.data.DataSet(**content)


def _taken(stream: Any) -> Any:
    return [tuple(batch) for batch, _ in zip(stream, range(2), strict=False)]


def _data() -> list[Target]:
    points = _set()

    def check(got: Any) -> str | None:
        rows = {tuple(x.tolist()): int(y) for x, y in zip(points.samples, points.labels,
                                                          strict=True)}  # fmt: skip
        for real, labels in got:
            for x, y in zip(real.flatten(0, 1), labels.flatten(), strict=True):
                if rows.get(tuple(x.tolist())) != int(y):
                    return "a sample that the data set does not have"
        return None

    def normalised(got: Tensor) -> str | None:
        return None if same(got, images.float() / 127.5 - 1) else "another value"

    images = torch.arange(24, dtype=torch.uint8).reshape(2, 1, 3, 4) * 10
    updates = a(2, "count", "n_critic")
    return [
        Target("data.batches", fgan.data.batches, {
            "data": a(points, "data", "data"), "batch_size": a(3, "count", "batch_size"),
            "n_critic": updates, "rounds": a(2, "count", "rounds", low=0, none=None),
            "seed": a(1, "seed", r"\bseed"), "device": a("cpu", "device", "device"),
            "conditional": a(True, "boolean", "conditional"),
            "start": a(1, "count", "start", low=0),
        }, check, digest=_taken),
        Target("data.load", fgan.data.load, {
            "name": a("rings", "choice", "name", "data set", known=("rings", "grid")),
            "device": a("cpu", "device", "device"),
        }, lambda got: None if got["samples"].shape == (12_000, 2) else "another shape",
            digest=lambda made: dict(name=made.name, samples=made.samples, labels=made.labels)),
        Target("data.normalise", fgan.data.normalise, {
            "images": a(images, "pixels", "images", "normalise")}, normalised),
        Target("data.to_uint8", fgan.data.to_uint8, {
            "images": a(images.float() / 127.5 - 1, "floats", "images", "to_uint8")},
            lambda got: None if torch.equal(got, images) else "another value"),
        Target("DataSet", lambda **given: fgan.data.batches(_set(**given), 2), {
            "samples": a(points.samples, "floats", "samples", rows=True),
            "labels": a(points.labels, "set_labels", "labels"),
            "class_names": a(points.class_names, "class_names", "class names", "class_names"),
        }, lambda got: None, digest=_taken),
    ]  # fmt: skip


def _not_tensors(make: Maker, right: Tensor) -> list[Mutation]:
    from fuzz_values import TENSOR

    return [
        make("None", None, given=("None",), expected=TENSOR),
        make("a list", right.tolist(), given=("list",), expected=TENSOR, meaning=right),
        make("an array", right.numpy(), given=("array",), expected=TENSOR, meaning=right),
        make("a list of tensors", list(right), given=("list",), expected=TENSOR, meaning=right),
        make("text", "x", given=("str", "'x'"), expected=TENSOR),
        make("a number", 3, given=(r"\b3\b", "int"), expected=TENSOR),
    ]


def pixels(make: Maker) -> list[Mutation]:
    """Of uint8 images."""
    right = make.right
    others = [torch.float32, torch.int64, torch.float64, torch.bool]
    return [
        *(make(str(t), right.to(t), given=(str(t)[6:],), expected=("uint8",)) for t in others),
        *_not_tensors(make, right),
    ]


def floats(make: Maker) -> list[Mutation]:
    """Of floating samples, of a data set where `rows`."""
    right = make.right
    found = [
        make("integers", right.to(torch.int64), given=("int64",), expected=("float", "uint8")),
        make("booleans", right > 0, given=("bool",), expected=("float", "uint8")),
        make("complex", right.to(torch.complex64), given=("complex",), expected=("float",),
             plausible=False),
        make("float64", right.double(), given=("float64",), expected=("float32",), meaning=right),
        *_not_tensors(make, right),
    ]  # fmt: skip
    if make.hints.get("rows"):
        fits = ("one for each", "at least one", "labels", r"\b9\b")
        found += [
            make("none", right[:0], given=(r"\b0\b", r"\[0"), expected=fits),
            make("fewer than labels", right[:5], given=(r"\b5\b",), expected=fits),
            make("0-d", right[0, 0], given=(r"\[\]", r"\(\)"), expected=fits),
            make(
                "with a NaN",
                torch.full_like(right, float("nan")),
                given=("nan",),
                expected=("finite", "number"),
            ),
        ]
    return found


def set_labels(make: Maker) -> list[Mutation]:
    """Of a data set's labels."""
    y = make.right
    kind = ("int64", "one for each", r"\[0, 3\)", "class names", "tensor")
    return [
        make("floats", y.float(), given=("float32",), expected=kind),
        make("int32", y.int(), given=("int32",), expected=kind, meaning=y),
        make("from one", y + 1, given=(r"\b3\b",), expected=kind),
        make("negative", y - 1, given=("-1",), expected=kind),
        make("fewer", y[:5], given=(r"\b5\b",), expected=kind),
        make("a column", y[:, None], given=(r"9, 1",), expected=kind),
        make("one-hot", nn.functional.one_hot(y), given=(r"9, 3",), expected=kind),
        *_not_tensors(make, y),
    ]


def class_names(make: Maker) -> list[Mutation]:
    """Of a data set's class names."""
    right = make.right
    kind = ("names", "sequence", "tuple", "classes", "labels")
    return [
        make("fewer than classes", ("a", "b"), given=(r"\b2\b",), expected=kind),
        make("none", (), given=(r"\b0\b", r"\bno\b"), expected=kind),
        make("None", None, given=("None",), expected=kind),
        make("a number", 3, given=(r"\b3\b", "int"), expected=kind),
        make("a list", list(right), meaning=right),
        make("numbers", (0, 1, 2), given=(r"\b0\b", "int"), expected=kind, plausible=False),
        make("one text", "abc", given=("abc", "str"), expected=kind),
    ]


def data(make: Maker) -> list[Mutation]:
    """Of a data set or its name."""
    kind = ("DataSet", "name", "data set")
    loader = torch.utils.data.DataLoader([1, 2])
    tensors = torch.utils.data.TensorDataset(make.right.samples, make.right.labels)
    rows: list[tuple[str, Any, tuple[str, ...]]] = [
        ("None", None, ("None",)), ("a tensor", make.right.samples, ("Tensor",)),
        ("an array", make.right.samples.numpy(), ("array",)), ("a loader", loader, ("DataLoader",)),
        ("a data set of torch", tensors, ("TensorDataset",)), ("an unknown name", "ring", ("ring",)),
        ("a path", Path("rings"), ("Path",)), ("a number", 3, (r"\b3\b", "int")),
        ("a pair", (make.right.samples, make.right.labels), ("tuple",)),
        ("the class", fgan.data.DataSet, ("type", "class")),
        ("a generator of batches", iter([]), ("iterator",)),
    ]  # fmt: skip
    return [make(label, value, given=given, expected=kind) for label, value, given in rows]


def _train() -> list[Target]:
    algorithm = fgan.gan(OwnGenerator((2,)), OwnCritic((2,)), n_critic=2)
    source = torch.Generator().manual_seed(4)
    points = _set(samples=torch.randn(9, 2, generator=source))

    def trained(**given: Any) -> Any:
        if given.get("out") != "run":
            return fgan.train(**given).generator.params
        folder, quiet = Path(tempfile.mkdtemp()), io.StringIO()
        try:
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                return fgan.train(**given | {"out": folder / "run"}).generator.params
        finally:
            shutil.rmtree(folder)

    def check(params: Any) -> str | None:
        """The round that `step` makes of the same batch and noise."""
        state = algorithm.init(1)
        stream = fgan.data.batches(points, 3, 2, 1, 1, conditional=False)
        state, _ = algorithm.step(state, next(stream), algorithm.noise(1, 0, 3))
        return None if same(params, state.generator.params) else "another state than the step's"

    arguments = {
        "algorithm": a(algorithm, "algorithm", "algorithm"),
        "data": a(points, "data", "data"),
        "rounds": a(1, "count", "rounds"), "out": a("run", "out", r"\bout\b"),
        "batch_size": a(3, "count", "batch_size"), "seed": a(1, "seed", r"\bseed"),
        "conditional": a(False, "boolean", "conditional"),
        "resume": a(False, "boolean", "resume"),
        "log_every": a(1, "count", "log_every"),
        "sample_every": a(1, "count", "sample_every", none=1),
    }  # fmt: skip
    # rich and Pillow draw from Python's generator while they are imported.
    trained(**{name: argument.value for name, argument in arguments.items()})
    return [Target("train", trained, arguments, check, slow=True)]


def outs(make: Maker) -> list[Mutation]:
    """Of a folder to write to."""
    kind = ("path", "folder", "str")
    return [make(f"{v!r}", v, expected=kind) for v in (None, 3, ["runs"], 0.5, True)]


MUTATIONS = {
    "any_labels": any_labels, "any_dtype": any_dtypes, "autocast": autocasts, "input": inputs, "algorithm_function": algorithm_functions,
    "values": values, "passes": passes, "pixels": pixels, "floats": floats,
    "set_labels": set_labels, "class_names": class_names, "data": data, "out": outs,
}  # fmt: skip
