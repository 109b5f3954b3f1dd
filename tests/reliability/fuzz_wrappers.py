"""Targets: `make_functional`, example networks, and what wraps an algorithm."""

import re
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from fuzz_core import REFUSED, Argument, Mutation, Target, same
from fuzz_games import SIZE, OwnCritic, game
from fuzz_objects import dtypes
from fuzz_objects import make_argument as a
from fuzz_tensors import Maker, labels, tensors

import fgan


def wrappers() -> list[Target]:
    """The targets of this module."""
    return [*_networks(), *_wrappers(), *_models()]


def _networks() -> list[Target]:
    module = OwnCritic.seeded()
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


def _models() -> list[Target]:
    norms = dict(known=fgan.models.norms.NORMS)
    classes = a(3, "count", "num_classes", "classes", none=None)
    latent = a(4, "count", "latent_dim")
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
        "labels": a(y, "any_labels", "label", classes=3),
        "num_classes": a(3, "count", "num_classes", "classes"),
        "dtype": a(torch.float32, "any_dtype", "dtype"),
    }, lambda got: None if same(got, torch.eye(3)[y]) else "another value"))  # fmt: skip
    return found


def any_labels(make: Maker) -> list[Mutation]:
    """Of integers of any shape."""
    shapes = {"one label for the batch", "a 0-d label", "a label less", "twice as many labels",
              "a column [B, 1]", "one-hot integers", "labels on meta"}  # fmt: skip
    return [m for m in labels(make) if m.label not in shapes]


def any_dtypes(make: Maker) -> list[Mutation]:
    """Of any dtype of torch."""
    return [m for m in dtypes(make) if not isinstance(m.value, torch.dtype)]


def _forked(make: Callable[..., Any]) -> Callable[..., Any]:
    """A maker of modules, whose initialisation draws from the global generator as torch's does."""

    @wraps(make)
    def made(**given: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            return make(**given)

    return made


MUTATIONS = {
    "input": inputs,
    "algorithm_function": algorithm_functions,
    "values": values,
    "passes": passes,
    "any_labels": any_labels,
    "any_dtype": any_dtypes,
}
