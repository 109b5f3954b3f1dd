"""Mutations of parameters, states, batches and noise."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from fuzz_core import REFUSED, Mutation, is_mark
from fuzz_tensors import TENSOR, Maker, shape_of
from torch import Tensor, nn

import fgan
from fgan import tree
from fgan.types import EMA

NETWORKS = (r"generator", r"critic", r"module", r"network", r"parameter")


def params(make: Maker) -> Iterator[Mutation]:
    """Of a dict of parameters by name."""
    yield from parameters(make, make.right, lambda changed: changed, make.hints.get("reads", True))
    yield from any_params(make)


def any_params(make: Maker) -> Iterator[Mutation]:
    """Of a dict of parameters with any names and shapes."""
    others = (r"parameter", r"name", r"dict", r"tree", r"keys")
    for label, value in (
        ("None", None), ("a module", nn.Linear(2, 2)),
        *((("an empty dict", {}),) if make.argument.kind == "params" else ()),
        ("a list of tensors", list(make.right.values())), ("a tensor", torch.zeros(3)),
        ("a generator of parameters", nn.Linear(2, 2).parameters()),
    ):  # fmt: skip
        names = (*make.argument.names, *map(re.escape, make.right))
        given = (type(value).__name__, r"\{\}", "empty", r"\bno\b", "missing", "lack", "without",
                 "neither", "do not", "None")  # fmt: skip
        yield Mutation(make.name, label, value, given, (*others, *names), names=names)


def parameters(
    make: Maker, right: dict[str, Tensor], put: Callable[[Any], Any], reads: bool, where: str = ""
) -> Iterator[Mutation]:
    """Of one dict of tensors within an argument; `put(dict)` makes the argument of it."""
    if not right:
        return
    meaning = REFUSED if reads else make.right
    key = next(iter(right))
    last = list(right)[-1]
    x, quoted, quoted_last = right[key], re.escape(key), re.escape(last)
    names = (quoted, quoted_last, "extra_", "parameters of", "tensors of the state")

    def of(label: str, change: dict[str, Any], given: tuple[str, ...], expected: tuple[str, ...],
           plausible: bool = True) -> Mutation:  # fmt: skip
        expected += ("begins with the members",)
        return Mutation(make.name, f"{where}{label}", put(change), given, expected, meaning,
                        plausible, names)  # fmt: skip

    without = {k: v for k, v in right.items() if k != last}
    lacking = ("lack", "missing", "misses", "absent", r"ha(s|ve) no", "without", "differ",
               r"neither .* do\b", "do not", r"\bnone\b")  # fmt: skip
    also = (quoted_last, "expect", "module", "network", "should", *lacking)
    yield of("a parameter missing", without, lacking, also)
    typo = {(k if k != key else f"{k}_"): v for k, v in right.items()}
    yield of("a misspelt parameter", typo, (quoted + "_", *lacking), (quoted, *also))
    extra = ("additional", "extra", "unknown", "unexpected", "not", "more", "beside", "differ")
    yield of("an additional parameter", {**right, "extra_": x}, ("extra_",), (*extra, *also))
    if x.ndim:
        wide = {**right, key: torch.cat([x, x])}
        yield of("a parameter of twice the size", wide, shape_of(wide[key]), shape_of(x))
        small = {**right, last: right[last].flatten()[:1]}
        expected = shape_of(right[last])
        if right[last].shape != small[last].shape:
            yield of("a parameter that broadcasts", small, shape_of(small[last]), expected)
        front = {**right, key: x[None]}
        yield of("a parameter with one more axis", front, shape_of(x[None]), shape_of(x))
    if x.is_floating_point():
        other = torch.float64 if x.dtype is torch.float32 else torch.float32
        changed = {**right, key: x.to(other)}
        yield of("a parameter of another dtype", changed, (str(other)[6:],), (str(x.dtype)[6:],))
        all_other = {k: v.to(other) for k, v in right.items()}
        yield of("all of another dtype", all_other, (str(other)[6:],), (str(x.dtype)[6:], "dtype"))
        integers = {**right, key: x.to(torch.int64)}
        yield of("integers", integers, ("int64",), (str(x.dtype)[6:],), False)
    yield of("a parameter on meta", {**right, key: x.to("meta")}, ("meta",), ("cpu", "device"))
    yield of("None for a parameter", {**right, key: None}, ("None", "neither"),
             ("tensor", "module", "network", *shape_of(x)))  # fmt: skip
    yield of("an array for a parameter", {**right, key: x.detach().numpy()},
             ("array", "numpy"), ("tensor", *shape_of(x)))  # fmt: skip
    yield of("a number for a parameter", {**right, key: 0.5}, (r"0\.5", "float"),
             ("tensor", *shape_of(x)), False)  # fmt: skip


def states(make: Maker) -> Iterator[Mutation]:
    """Of a state; hints: `reads`, the parts that the function reads."""
    state, hints = make.right, make.hints
    reads = hints.get("reads", ("generator", "critic", "generator_opt", "critic_opt", "ema"))
    for part in ("generator", "critic"):
        player = getattr(state, part)
        for name in ("params", "buffers"):
            yield from parameters(
                make, getattr(player, name), functools.partial(_put, state, part, name),
                part in reads, f"{part}'s {name}: ",
            )  # fmt: skip
        yield from _opt_states(make, part, f"{part}_opt" in reads)
    if isinstance(state.ema, EMA):
        yield from parameters(
            make, state.ema.params,
            lambda changed: state._replace(ema=EMA(changed, state.ema.buffers)),
            "ema" in reads, "the average's params: ",
        )  # fmt: skip
    yield from _whole_states(make, reads)


def _put(state: Any, part: str, name: str, changed: Any) -> Any:
    return state._replace(**{part: getattr(state, part)._replace(**{name: changed})})


def _opt_states(make: Maker, part: str, reads: bool) -> Iterator[Mutation]:
    """The optimiser's state of another optimiser, or with other shapes."""
    state = make.right
    player = getattr(state, part)
    names = ("opt_state", "optimi[sz]er", "AdamState", "RMSpropState", "SGDState", "moment")
    kind = type(player.opt_state).__name__
    meaning = REFUSED if reads else state
    expected = (kind, "optimi[sz]er", "same", *map(re.escape, player.params))
    others = {
        "adam's": fgan.adam(1e-3), "adam's without mean": fgan.adam(1e-3, (0.0, 0.9)),
        "rmsprop's": fgan.rmsprop(1e-3), "sgd's": fgan.sgd(1e-3), "momentum's": fgan.sgd(1e-3, 0.9),
    }  # fmt: skip
    shape = tuple(state.round.shape)
    for label, optimizer in others.items():
        other = optimizer.init(player.params)
        if shape:
            other = other._replace(updates=other.updates.expand(shape).clone())
        if tree.same_structure(other, player.opt_state):
            continue
        given = (type(other).__name__, "mean", "momentum", "square", "lack", "missing", "empty")
        yield Mutation(make.name, f"{part}: {label} state", _put(state, part, "opt_state", other),
                       given, expected, meaning, True, names)  # fmt: skip
    for label, other in (("no optimiser's state", {}), ("None for it", None),
                         ("torch's state_dict", {"state": {}, "param_groups": []})):  # fmt: skip
        given = (type(other).__name__, "None", r"\{\}", "empty", "lack", "missing", "without")
        yield Mutation(make.name, f"{part}: {label}", _put(state, part, "opt_state", other),
                       given, expected, meaning, True, names)  # fmt: skip
    named = player.opt_state._asdict()
    moments = next((n for n, v in named.items() if isinstance(v, dict) and v), None)
    if moments:
        for changed in parameters(
            make, named[moments],
            lambda m: _put(state, part, "opt_state", player.opt_state._replace(**{moments: m})),
            reads, f"{part}'s {moments}: ",
        ):  # fmt: skip
            changed.names += names
            yield changed
    if "updates" in named:
        other = player.opt_state._replace(updates=3)
        yield Mutation(make.name, f"{part}: a number of updates", _put(state, part, "opt_state",
                       other), (r"\b3\b", "int"), ("tensor", "0-d"), meaning, True,
                       ("updates", *names))  # fmt: skip


def _whole_states(make: Maker, reads: tuple[str, ...]) -> Iterator[Mutation]:
    state, hints = make.right, make.hints
    is_state = ("GANState", "state", "init")

    def of(label: str, value: Any, given: tuple[str, ...], plausible: bool = True) -> Mutation:
        return Mutation(make.name, label, value, given, is_state, REFUSED, plausible, ("state",))

    yield of("None", None, ("None",))
    yield of("(state, info), not unpacked", (state, None), ("tuple", "pair", "of 2"))
    yield of("the generator's part", state.generator, ("PlayerState",))
    yield of("its parameters", state.generator.params, ("dict",))
    yield of("a dict", state._asdict(), ("dict",))
    yield of("a plain tuple", tuple(state), ("tuple",))
    yield of("a list", list(state), ("list",), False)
    yield of("the algorithm", hints["algorithm"], ("Algorithm",))
    yield of("init without parentheses", hints["algorithm"].init, ("function", "init", "bound"))
    yield of("the network", nn.Linear(2, 2), ("Linear",))
    yield of("a seed", 0, (r"\b0\b", "int"))
    networks = (*is_state, *NETWORKS, r"\d")
    swapped = state._replace(generator=state.critic, critic=state.generator)
    yield Mutation(make.name, "players swapped", swapped, ("lack", "missing", "has", r"\["),
                   networks, state if reads == ("ema",) else REFUSED, True,
                   NETWORKS)  # fmt: skip
    for label, other in hints.get("others", {}).items():
        meaning = REFUSED
        yield Mutation(make.name, label, other, ("lack", "missing", "has", r"\[", "of the",
                       "member", "average", "ema", "State", "dtype", "float"), networks, meaning,
                       True, (*NETWORKS, "state", "ema", "member", "optimi"))  # fmt: skip
    if "ema" in reads and isinstance(state.ema, EMA):
        yield Mutation(make.name, "without the average", state._replace(ema={}),
                       ("ema", "average", "lack", "missing", "no "), ("ema", "average"),
                       REFUSED, True, ("ema", "average"))  # fmt: skip
    if not isinstance(state.ema, EMA):
        average = EMA(state.generator.params, state.generator.buffers)
        yield Mutation(make.name, "with an average", state._replace(ema=average),
                       ("ema", "average"), ("ema", "average", r"\{\}"), state, True,
                       ("ema", "average"))  # fmt: skip
    meaning = state if not hints.get("reads_round") else REFUSED
    for label, value, given in (
        ("round as a number", 3, (r"\b3\b", "int")), ("round None", None, ("None",)),
        ("round [1]", torch.zeros(1, dtype=torch.int64), (r"\[1\]",)),
        ("round as floats", state.round.float(), ("float",)),
    ):  # fmt: skip
        yield Mutation(make.name, label, state._replace(round=value), given,
                       ("0-d", "integer", "tensor", r"\[\]", "int64"), meaning, False,
                       ("round",))  # fmt: skip


def batches(make: Maker) -> Iterator[Mutation]:
    """Of a batch; hints: `conditional`, `of_real`, `of_condition` (mutations of its parts)."""
    batch, hints = make.right, make.hints
    for part in ("real", "condition"):
        argument = hints[part]
        for m in hints["mutations"](part, argument):
            plain = m.meaning if is_mark(m.meaning) else batch._replace(**{part: m.meaning})
            yield Mutation(make.name, f"{part}: {m.label}", batch._replace(**{part: m.value}),
                           m.given, m.expected, plain, m.plausible, m.names, m.loose)  # fmt: skip
    is_batch = ("Batch", *TENSOR)
    names = ("batch",)
    for label, value, given, meaning in (
        ("None", None, ("None",), REFUSED),
        ("a tensor", batch.real, ("Tensor", *shape_of(batch.real)), REFUSED),
        ("a pair, as a loader gives", (batch.real, batch.condition), ("tuple",), batch),
        ("a list, as a loader gives", [batch.real, batch.condition], ("list",), REFUSED),
        ("a dict", batch._asdict(), ("dict",), REFUSED),
        ("a list of batches", [batch], ("list",), REFUSED),
        ("a batch in a batch", fgan.Batch(batch), ("Batch",), REFUSED),
        ("a loader", torch.utils.data.DataLoader([1]), ("DataLoader",), REFUSED),
        ("a data set", hints["data"], ("DataSet",), REFUSED),
        ("an iterator", iter([batch]), ("iterator",), REFUSED),
        ("the noise", hints["noise"], ("Noise",), REFUSED),
        ("the class", fgan.Batch, ("type", "class", "Batch"), REFUSED),
    ):
        yield Mutation(make.name, label, value, given, is_batch, meaning, True, names)


def noises(make: Maker) -> Iterator[Mutation]:
    """Of a round's noise."""
    noise, hints = make.right, make.hints
    for part in ("critic_latent", "generator_latent", "mix"):
        for m in hints["mutations"](part, hints[part]):
            plain = m.meaning if is_mark(m.meaning) else noise._replace(**{part: m.meaning})
            yield Mutation(make.name, f"{part}: {m.label}", noise._replace(**{part: m.value}),
                           m.given, m.expected, plain, m.plausible, m.names, m.loose)  # fmt: skip
    is_noise = ("Noise", "noise")
    for label, value, given in (
        ("None", None, ("None",)),
        ("a seed", 0, (r"\b0\b", "int")),
        ("a tensor", noise.critic_latent, ("Tensor", *shape_of(noise.critic_latent))),
        ("a plain tuple", tuple(noise), ("tuple",)),
        ("a dict", noise._asdict(), ("dict",)),
        ("noise without parentheses", hints["algorithm"].noise, ("function", "bound", "noise")),
        ("the batch", hints["batch"], ("Batch",)),
        ("a generator of torch", torch.Generator(), ("Generator",)),
    ):
        yield Mutation(make.name, label, value, given, is_noise, REFUSED, True, ("noise",))
    for label, other in hints.get("others", {}).items():
        shape = (*shape_of(other.critic_latent), *shape_of(other.mix), r"\[", r"\d")
        yield Mutation(make.name, label, other, shape, (r"\[", r"\d", *is_noise), REFUSED, True,
                       ("noise", "latent", "mix"))  # fmt: skip
    for label, extra in (("extra None", None), ("extra a tensor", noise.mix)):
        given = (type(extra).__name__, "None")
        yield Mutation(make.name, label, noise._replace(extra=extra), given, ("dict", "extra"),
                       REFUSED, False, ("extra",))  # fmt: skip
