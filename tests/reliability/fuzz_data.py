"""Targets: data sets, batches and `train`."""

import contextlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from fuzz_core import Mutation, Target, same
from fuzz_games import OwnCritic, OwnGenerator
from fuzz_objects import make_argument as a
from fuzz_tensors import TENSOR, Maker
from torch import Tensor, nn

import fgan


def data_and_train() -> list[Target]:
    """The targets of this module."""
    return [*_data(), *_train(), *_load()]


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
            "conditional": a(True, "boolean", "conditional", none=True),
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
        make("none", (), meaning=right),  # labels that are no classes, with the same values
        make("None", None, given=("None",), expected=kind),
        make("a number", 3, given=(r"\b3\b", "int"), expected=kind),
        make("a list", list(right), meaning=right),
        make("numbers", (0, 1, 2), given=(r"\b0\b", "int"), expected=kind, plausible=False),
        make("one text", "abc", given=("abc", "str"), expected=kind),
    ]


def data(make: Maker) -> list[Mutation]:
    """Of a data set or its name."""
    kind = ("DataSet", "name", "data set", "uint8 or floating")
    loader = torch.utils.data.DataLoader([1, 2])
    tensors = torch.utils.data.TensorDataset(make.right.samples, make.right.labels)
    rows: list[tuple[str, Any, tuple[str, ...]]] = [
        ("None", None, ("None",)), ("a tensor", make.right.samples, ("Tensor",)),
        ("an array", make.right.samples.numpy(), ("array",)), ("a loader", loader, ("DataLoader",)),
        ("an unknown name", "ring", ("ring",)),
        ("a path", Path("rings"), ("Path",)), ("a number", 3, (r"\b3\b", "int")),
        ("a pair", (make.right.samples, make.right.labels), ("tuple",)),
        ("the class", fgan.data.DataSet, ("type", "class")),
        ("a generator of batches", iter([]), ("iterator",)),
    ]  # fmt: skip
    found = [make(label, value, given=given, expected=kind) for label, value, given in rows]
    return [*found, make("a data set of torch", tensors, meaning=make.right)]


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
        "batch_size": a(3, "count", "batch_size", none=64), "seed": a(1, "seed", r"\bseed"),
        "conditional": a(False, "boolean", "conditional", none=False),
        "resume": a(False, "boolean", "resume"),
        "log_every": a(1, "count", "log_every"),
        "sample_every": a(1, "count", "sample_every", none=1),
    }  # fmt: skip
    # rich and Pillow draw from Python's generator while they are imported.
    trained(**{name: argument.value for name, argument in arguments.items()})
    return [Target("train", trained, arguments, check, slow=True)]


def _load() -> list[Target]:
    generator, critic = OwnGenerator((2,)), OwnCritic((2,))
    algorithm, place = fgan.gan(generator, critic), tempfile.TemporaryDirectory()
    source = torch.Generator().manual_seed(5)
    points = _set(samples=torch.randn(9, 2, generator=source))
    with contextlib.redirect_stdout(io.StringIO()):
        state = fgan.train(
            algorithm, points, rounds=1, out=f"{place.name}/run", batch_size=3, conditional=False
        )
    sampled = fgan.load(f"{place.name}/run", generator=generator, critic=critic).sample

    def loaded(folder: Any, device: Any) -> Any:
        folder = Path(place.name) / "run" if folder == "run" else folder
        return fgan.load(folder, device, generator=generator, critic=critic).state

    def check(params: Any) -> str | None:
        return None if same(params, state.generator.params) else "another state"

    def check_samples(got: Tensor) -> str | None:
        drawn = torch.Generator().manual_seed(fgan.seeds.mix_seed(1))
        latent = torch.randn(4, algorithm.latent_dim, generator=drawn)
        expected = algorithm.generate(state, latent)
        return None if torch.equal(got, expected) else "other samples"

    return [
        Target("load", loaded, {
            "folder": a("run", "out", "folder"), "device": a("cpu", "device", "device"),
        }, check, digest=lambda got: got.generator.params),
        Target("Trained.sample", sampled, {
            "num": a(4, "count", "num"), "seed": a(1, "seed", r"\bseed"),
        }, check_samples),
    ]  # fmt: skip


def outs(make: Maker) -> list[Mutation]:
    """Of a folder to write to."""
    kind = ("path", "folder", "str")
    return [make(f"{v!r}", v, expected=kind) for v in (None, 3, ["runs"], 0.5, True)]


MUTATIONS = {
    "pixels": pixels,
    "floats": floats,
    "set_labels": set_labels,
    "class_names": class_names,
    "data": data,
    "out": outs,
}
