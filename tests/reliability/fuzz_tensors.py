"""Mutations of tensors: samples, latents, scores, labels."""

import re
from collections.abc import Iterator
from typing import Any

import torch
from fuzz_core import NAN, REFUSED, Argument, Mutation
from torch import Tensor, nn

TENSOR = (r"tensor", r"\[B\b", r"\[n_critic", r"\[P\b", r"number a sample")
"""How messages say that a tensor is expected."""


def shape_of(tensor: Tensor) -> tuple[str, ...]:
    """How messages show a shape: the whole of it, or what stands behind the batch axis."""
    shapes = [list(tensor.shape[i:]) for i in range(max(tensor.ndim, 1))] + [list(tensor.shape[:2])]
    shown = [re.escape(str(shape)) for shape in shapes if shape or not tensor.ndim]
    return (*shown, re.escape(str(tuple(tensor.shape))), re.escape(f"{tensor.dtype}"[6:] + " ["))


def shown(value: Any) -> tuple[str, ...]:
    """How messages show any other value: by its repr, itself, or the name of its type."""
    texts = [repr(value)[:40], str(value)[:40], getattr(value, "__name__", "")]
    return tuple(re.escape(text) for text in [*texts, type(value).__name__] if text)


MATES = ("label", "condition", "latent", "sample", r"\breal\b", "fake", r"\bmix\b", "score")
"""What else has one entry a sample: where sizes differ, a message may name either."""


def rows_of(tensor: Tensor, axis: int) -> tuple[str, ...]:
    """The number of entries along an axis, as a word of its own."""
    return (*shape_of(tensor), rf"\b{tensor.shape[axis]}\b")


def _shape_expected(right: Tensor) -> tuple[str, ...]:
    return (
        *shape_of(right), *(rf"\b{n}\b" for n in right.shape[:2]), r"\[B\b", r"\[n_critic",
        r"(one|as many|each|every|single)\b",
        r"at least one", r"the same",
    )  # fmt: skip


class Maker:
    """Makes the mutations of one argument."""

    def __init__(self, name: str, argument: Argument) -> None:
        self.name, self.argument = name, argument
        self.right, self.hints = argument.value, argument.hints

    def __call__(self, label: str, value: Any, *, given: Any = None, **options: Any) -> Mutation:
        if self.hints.get("unread"):  # the value of the result does not depend on it
            options["meaning"] = self.right
        names = self.argument.names + tuple(options.pop("names", ()))
        options["expected"] = options.get("expected", ()) + tuple(self.hints.get("expected", ()))
        given = shown(value) if given is None else given
        return Mutation(self.name, label, value, given, names=names, **options)


def tensors(make: Maker) -> Iterator[Mutation]:
    """Of a floating-point tensor [B, ...] (`lead` batch axes)."""
    x, hints = make.right, make.hints
    lead, dtype = hints.get("lead", 1), str(x.dtype)[6:]
    shape, named = _shape_expected(x), (dtype, r"dtype")
    # What computes in any dtype may take others: the values count.
    any_dtype = hints.get("any_dtype", False)
    plain = x if any_dtype or dtype == "float64" else REFUSED
    other = torch.float32 if dtype == "float64" else torch.float64
    for some in (other, torch.float16):
        yield make(str(some)[6:], x.to(some), given=(str(some)[6:],), expected=named,
                   meaning=plain, loose=True)  # fmt: skip
    whole = x.abs().clamp(max=9)
    rows = [("integers", whole.to(torch.int64)), ("uint8", whole.to(torch.uint8)),
            ("booleans", x > 0), ("complex", x.to(torch.complex64))]  # fmt: skip
    for label, changed in rows:
        is_real = any_dtype and not changed.is_complex()
        yield make(label, changed, given=(str(changed.dtype)[6:],), loose=True,
                   expected=(*named, "floating", "normalise"), plausible=label in ("integers",
                   "uint8"), meaning=changed.to(x.dtype) if is_real else REFUSED)  # fmt: skip
    if lead:
        given = rows_of(x[0], 0) if x.ndim > 1 else shape_of(x[0])
        yield make("one axis less", x[0], given=given, expected=shape, names=MATES)
    yield make("one axis more in front", x[None], given=rows_of(x[None], 0), expected=shape,
               names=MATES)  # fmt: skip
    yield make("one axis more at the end", x[..., None], given=shape_of(x[..., None]),
               expected=shape, meaning=x if hints.get("flattened") else REFUSED)  # fmt: skip
    if x.ndim > lead:
        wide = torch.cat([x, x[..., :1]], dim=-1)
        yield make("wider", wide, given=shape_of(wide), expected=shape,
                   meaning=hints.get("any_shape", REFUSED))  # fmt: skip
        narrow = x[..., :1]
        yield make("one number wide", narrow, given=shape_of(narrow), expected=shape)
        yield make("transposed", x.mT, given=rows_of(x.mT, 0), expected=shape,
                   plausible=x.ndim == 2, names=MATES)  # fmt: skip
    if hints.get("fixed_rows", True) and x.ndim:
        axis = max(lead - 1, 0)
        for label, some in (
            ("one row", x.narrow(axis, 0, 1)),
            ("a row less", x.narrow(axis, 0, x.shape[axis] - 1)),
            ("twice as many rows", torch.cat([x, x], dim=axis)),
        ):
            yield make(label, some, given=rows_of(some, axis), expected=shape, names=MATES)
    empty = x.narrow(max(lead - 1, 0), 0, 0) if x.ndim else x[None][:0]
    yield make("no rows", empty, given=(*shape_of(empty), r"\b0\b", r"\bno\b", "empty"),
               expected=shape, plausible=False,
               meaning=empty if hints.get("any_rows") else REFUSED, names=MATES)  # fmt: skip
    yield from _not_tensors(make, x)
    yield from _plain_forms(make, x)


def _not_tensors(make: Maker, x: Tensor) -> Iterator[Mutation]:
    optional = make.hints.get("none", REFUSED)
    yield make("None", None, given=("None", r"\bgive real", "needs latents"),
               expected=(*TENSOR, "real samples", "latents"), meaning=optional)  # fmt: skip
    yield make("a tuple, as a loader gives", (x, x), given=("tuple",), expected=TENSOR)
    yield make("a list of numbers", x.tolist(), given=("list",), expected=TENSOR, meaning=x)
    of_numpy = ("ndarray", "numpy", r"\barray\(")
    yield make("an array", x.detach().numpy(), given=of_numpy, expected=TENSOR,
               meaning=x)  # fmt: skip
    yield make("a number", 0.5, given=(r"0\.5", "float"), expected=TENSOR, plausible=False)
    yield make("text", "samples", given=("'samples'", r"\bstr\b"), expected=TENSOR,
               plausible=False)  # fmt: skip
    yield make("a dict", {"x": x}, given=("dict",), expected=TENSOR)
    yield make("a module", nn.Linear(1, 1), given=("Linear",), expected=TENSOR, plausible=False)
    if not make.hints.get("alone"):
        yield make("on meta", x.to("meta"), given=("meta",), expected=("cpu", "device"),
                   names=MATES)  # fmt: skip
    sparse = x.detach().to_sparse() if x.ndim else x
    yield make("sparse", sparse, given=("sparse", "layout"),
               expected=("strided", "dense", "is a tensor"),
               meaning=x, plausible=False)  # fmt: skip


def _plain_forms(make: Maker, x: Tensor) -> Iterator[Mutation]:
    """Odd forms of the same values, which are right: an error for one is obscure."""
    if x.is_floating_point() and x.numel():
        nan = x.detach().clone()
        nan.view(-1)[0] = float("nan")
        yield make("with a NaN", nan, given=("nan",), expected=("finite", "number"), meaning=NAN,
                   plausible=False)  # fmt: skip
    spread = torch.stack([x, x], dim=-1)[..., 0]
    yield make("strided", spread, meaning=x, plausible=False)
    if x.is_floating_point():
        yield make("that requires gradients", x.detach().clone().requires_grad_(), meaning=x,
                   plausible=False)  # fmt: skip
    yield make("a parameter", nn.Parameter(x.detach().clone(), x.is_floating_point()), meaning=x,
               plausible=False)  # fmt: skip


def labels(make: Maker) -> Iterator[Mutation]:
    """Of integer labels [B] for `classes` classes (`lead` batch axes)."""
    y, classes = make.right, make.hints["classes"]
    lead, strict = make.hints.get("lead", 1), make.hints.get("strict", True)
    shape = (*_shape_expected(y), r"label")
    one = y.narrow(lead - 1, 0, 1)
    yield make(
        "one label for the batch", one, given=rows_of(one, lead - 1), expected=shape, names=MATES
    )
    yield make("a 0-d label", y.flatten()[0], given=(r"\[\]", r"\(\)", "0-d"), expected=shape)
    less = y.narrow(lead - 1, 0, y.shape[lead - 1] - 1)
    yield make("a label less", less, given=rows_of(less, lead - 1), expected=shape, names=MATES)
    twice = torch.cat([y, y], dim=lead - 1)
    yield make(
        "twice as many labels", twice, given=rows_of(twice, lead - 1), expected=shape, names=MATES
    )
    if lead > 1:
        yield make("without the axis of updates", y[0], given=shape_of(y[0]), expected=shape)
    integers = (r"integer", r"int64", r"\[0, ", r"classes")
    if strict:
        # Real and fake samples, or the parts of a batch, may be scored together.
        column = (*shape_of(y[..., None]), r"\[\d+, 1\]")
        yield make("a column [B, 1]", y[..., None], given=column, expected=shape)
        hot = nn.functional.one_hot(y, classes)
        wide = (*shape_of(hot), rf"\[\d+, {classes}\]")
        yield make("one-hot integers", hot, given=wide, expected=shape)
        yield make("one-hot floats", hot.float(), given=(*wide, "float32"),
                   expected=(*shape, *integers))  # fmt: skip
        yield make("floats", y.float(), given=("float32",), expected=integers)
        yield make("booleans", y > 0, given=("bool",), expected=integers)
        yield make("from one to the number of classes", torch.full_like(y, classes),
                   given=(rf"\b{classes}\b",), expected=integers)  # fmt: skip
        yield make("negative labels", y - 9, given=(r"-\d",), expected=integers)
        yield make("int32 labels", y.int(), given=("int32",), meaning=y)
        yield make("uint8 labels", y.to(torch.uint8), given=("uint8",), meaning=y)
    yield make("class names", ["a"] * y.shape[0], given=("list",), expected=TENSOR)
    yield make("an integer", 1, given=(r"\b1\b", r"\bint\b"), expected=TENSOR)
    yield make("a tuple of conditions", (y, y), given=("tuple",), expected=TENSOR)
    yield make("a dict of conditions", {"y": y}, given=("dict",), expected=TENSOR)
    yield make("a list of labels", y.tolist(), given=("list",), expected=TENSOR, meaning=y)
    of_numpy = ("ndarray", "numpy", r"\barray\(")
    yield make("an array of labels", y.numpy(), given=of_numpy, expected=TENSOR,
               meaning=y)  # fmt: skip
    yield make("no labels", None, given=("None", "no condition", "without", "and needs", "1 were",
                                         "has none", "1 was"),
               expected=("label", "condition"))  # fmt: skip
    yield make("labels on meta", y.to("meta"), given=("meta",), expected=("cpu", "device"))
    yield from _plain_forms(make, y)


def no_labels(make: Maker) -> Iterator[Mutation]:
    """Of the condition of networks that take none."""
    size, lead = make.hints["size"], make.hints.get("updates")
    shape = (size,) if lead is None else (lead, size)
    y = torch.zeros(shape, dtype=torch.int64)
    without = ("no condition", "without", "takes 1 input", "neither", "unconditional", "none")
    given = (*shape_of(y), "condition", "2 were given")
    yield make("labels for networks without", y, given=given, expected=without)
    yield make("a label for networks without", 3, given=(r"\b3\b", r"\bint\b", "2 were given"),
               expected=(*without, *TENSOR))  # fmt: skip
