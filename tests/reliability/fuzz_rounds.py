"""Targets: the functions of an algorithm, for every game, beside an imperative twin."""

from typing import Any

import torch
from fuzz_core import Argument, Target, same
from fuzz_games import CLASSES, LATENT, SIZE, Game, game, other_noises, other_states
from fuzz_inputs import target_of_parts
from fuzz_objects import make_argument as a
from torch import Tensor, nn

import fgan


def rounds_of(name: str) -> list[Target]:
    """The targets of the game of that name."""
    own = game(name)
    of = f"{name}: "
    if name == "compiled":
        return [_step(own, of)]
    found = [
        _init(own, of), _noise(own, of), _generate(own, of), _score(own, of), _fakes(own, of),
        _critic_update(own, of), _critic_update_with_fakes(own, of), _generator_update(own, of),
        _step(own, of),
    ]  # fmt: skip
    return found


def _state(own: Game, *reads: str) -> Argument:
    return a(own.state, "state", r"\bstate", reads=reads, others=other_states(own.name),
             algorithm=own.algorithm)  # fmt: skip


def _condition(own: Game, value: Tensor | None, lead: int = 1, updates: int | None = None,
               ) -> Argument:  # fmt: skip
    names = ("condition", "label", r"\binputs?\b")
    if own.classes is None:
        return a(None, "no labels", *names, size=SIZE, updates=updates)
    return a(value, "labels", *names, classes=CLASSES, strict=own.strict, lead=lead)


def _latent(own: Game, value: Tensor, *names: str, **hints: Any) -> Argument:
    hints.setdefault("lead", 1)
    return a(value, "tensor", "latent", r"\binputs?\b", *names, **hints)


def _real(own: Game, value: Tensor, **hints: Any) -> Argument:
    return a(value, "tensor", r"\breal\b", "data", r"\binputs?\b", **hints)


def _init(own: Game, of: str) -> Target:
    def check(state: Any) -> str | None:
        if own.members or own.name == "relativistic":
            return None
        shapes = {k: p.shape for k, p in own.generator.named_parameters() if p.requires_grad}
        fits = shapes == {k: p.shape for k, p in state.generator.params.items()}
        finite = all(bool(p.isfinite().all()) for p in state.generator.params.values())
        return None if fits and finite else "the parameters are not the module's"

    kind = "seeds" if own.members else "seed"
    argument = a(own.seed, kind, r"\bseeds?\b", optional=True, members=2)
    name = "seeds" if own.members else "seed"
    return Target(f"{of}init", own.algorithm.init, {name: argument}, check)


def _noise(own: Game, of: str) -> Target:
    draw = own.algorithm.noise

    def check(noise: Any) -> str | None:
        shape = [own.updates, *([2] if own.members else []), SIZE]
        fits = list(noise.mix.shape) == shape
        fits &= list(noise.critic_latent.shape) == [*shape, LATENT]
        inside = bool(((noise.mix >= 0) & (noise.mix < 1)).all())
        return None if fits and inside and noise.mix.dtype == own.dtype else "another shape"

    seed = a(own.seed, "seeds" if own.members else "seed", r"\bseeds?\b", members=2)
    arguments = {
        "seeds" if own.members else "seed": seed,
        "round_index": a(2, "seed", "round_index", r"\bround\b"),
        "batch_size": a(SIZE, "count", "batch_size"),
        "device": a("cpu", "device", "device"),
        "dtype": a(own.dtype, "dtype", "dtype"),
        "generator_batch_size": a(SIZE, "count", "generator_batch_size", none=SIZE),
    }
    return Target(f"{of}noise", draw, arguments, check)


def _generate(own: Game, of: str) -> Target:
    condition = None if own.condition is None else own.condition[0]

    def check(samples: Tensor) -> str | None:
        if own.members:
            return None if samples.shape == (2, SIZE, *own.shape) else "another shape"
        module = own.loaded(own.state, "ema").eval()
        return _differs(samples, module(own.shared_latent, *own.label(0)).detach())

    ema = "ema_decay" in own.options
    arguments = {
        "state": _state(own, *(["ema"] if ema else ["generator"])),
        "latent": _latent(
            own, own.shared_latent, fixed_rows=own.classes is not None, any_rows=own.classes is None
        ),
        "condition": _condition(own, condition),
    }
    return Target(f"{of}generate", own.algorithm.generate, arguments, check)


def _score(own: Game, of: str) -> Target:
    condition = None if own.condition is None else own.condition[0]

    def check(scores: Tensor) -> str | None:
        if own.members:
            return None if scores.shape == (2, SIZE) else "another shape"
        module = own.loaded(own.state, "critic").eval()
        return _differs(scores, module(own.real[0], *own.label(0)).detach().reshape(-1))

    arguments = {
        "state": _state(own, "critic"),
        "samples": a(
            own.real[0],
            "tensor",
            "samples",
            r"\binputs?\b",
            flattened=not own.strict,
            any_rows=own.classes is None,
            fixed_rows=own.classes is not None,
        ),
        "condition": _condition(own, condition),
    }
    return Target(f"{of}score", own.algorithm.score, arguments, check)


def _fakes(own: Game, of: str) -> Target:
    condition = None if own.condition is None else own.condition[0]
    latent = own.latent

    def check(samples: Tensor) -> str | None:
        if own.members:
            return None if samples.shape == (2, SIZE, *own.shape) else "another shape"
        module = own.loaded(own.state).train()
        return _differs(samples, module(latent, *own.label(0)).detach())

    arguments = {
        "state": _state(own, "generator"),
        "latent": _latent(own, latent, fixed_rows=own.classes is not None,
                          lead=2 if own.members else 1, any_rows=own.classes is None),
        "condition": _condition(own, condition),
    }  # fmt: skip
    return Target(f"{of}fakes", own.algorithm.fakes, arguments, check)


def _update_inputs(own: Game) -> dict[str, Argument]:
    condition = None if own.condition is None else own.condition[0]
    latent, mix = own.noise.critic_latent[0], own.noise.mix[0]
    lead = 2 if own.members else 1
    unused = own.name in ("gan", "minimax", "wgan", "simultaneous", "relativistic", "population",
                          "values", "wgan_div")  # fmt: skip
    found = {
        "state": _state(own, "generator", "critic", "critic_opt"),
        "real": _real(own, own.real[0]),
        "condition": _condition(own, condition),
        "latent": _latent(own, latent, lead=lead),
        "mix": a(mix, "tensor", r"\bmix\b", "ε", lead=lead, any_dtype=True, unread=unused),
    }  # fmt: skip
    if "critic" in own.extra:
        shift = {name: x[0] for name, x in own.extra["critic"].items()}
        found["extra"] = a(shift, "extra", "extra", "shift", "random tensor")
    return found


def _critic_update(own: Game, of: str) -> Target:
    def check(result: Any) -> str | None:
        if own.spec is None or own.members or own.name == "accumulated":
            return None
        twin = own.twin()
        twin.update_critic(own.real[0], own.label(0), own.noise.critic_latent[0], own.noise.mix[0])
        return _twin_differs(result[0], twin.critic)

    return Target(f"{of}critic_update", own.algorithm.critic_update, _update_inputs(own), check,
                  digest=_of_critic)  # fmt: skip


def _of_critic(result: Any) -> Any:
    """What a critic's update computes: the rest of the state is what was given."""
    state, info = result
    return state.critic, info


def _of_generator(result: Any) -> Any:
    state, info = result
    return state.generator, state.ema, state.round, info


def _critic_update_with_fakes(own: Game, of: str) -> Target:
    inputs = _update_inputs(own)
    fake = own.real[0].flip(0) + 0.1
    lead = 1
    if own.members:
        fake, lead = torch.stack([fake, fake + 1]), 2
    inputs["latent"] = a(None, "nothing", "latent")
    inputs["fake"] = a(fake, "tensor", r"\bfakes?\b", "generator makes", r"\binputs?\b", lead=lead)
    inputs["state"] = _state(own, "critic", "critic_opt")
    return Target(
        f"{of}critic_update with fakes",
        own.algorithm.critic_update,
        inputs,
        lambda r: None,
        digest=_of_critic,
    )


def _generator_update(own: Game, of: str) -> Target:
    condition = None if own.condition is None else own.condition[0]
    latent = own.latent

    def check(result: Any) -> str | None:
        if own.spec is None or own.members or own.name == "accumulated":
            return None
        twin = own.twin()
        gradients = twin.generator_gradients(latent, own.label(0), own.real[0])
        twin.apply(twin.optimize_generator, twin.generator, gradients)
        return _twin_differs(result[0], twin.generator)

    reads = ("generator", "critic", "generator_opt", "ema")
    fixed = own.classes is not None or own.members or own.name == "relativistic"
    arguments = {
        "state": _state(own, *reads),
        "latent": _latent(own, latent, lead=2 if own.members else 1, fixed_rows=fixed),
        "condition": _condition(own, condition),
    }
    if own.name == "relativistic":
        arguments["real"] = _real(own, own.real[0])
    return Target(f"{of}generator_update", own.algorithm.generator_update, arguments, check,
                  digest=_of_generator)  # fmt: skip


def _step(own: Game, of: str) -> Target:
    def check(result: Any) -> str | None:
        if own.spec is None or own.members:
            return None
        twin = own.twin()
        twin.round(own.batch, own.noise, simultaneous=own.updates == 1)
        return _twin_differs(result[0].generator, twin.generator) or _twin_differs(
            result[0].critic, twin.critic
        )

    noise, lead = own.noise, 3 if own.members else 2
    unused = own.spec is None or own.spec.get("at") != "interpolate"
    of_batch = dict(
        real=_real(own, own.real, lead=2, names=("batch",)),
        condition=_condition(own, own.condition, 2, own.updates),
    )
    of_noise = dict(
        critic_latent=_latent(own, noise.critic_latent, lead=lead),
        generator_latent=_latent(own, noise.generator_latent, lead=lead - 1, fixed_rows=False),
        mix=a(noise.mix, "tensor", r"\bmix\b", lead=lead, any_dtype=True, unread=unused),
    )  # fmt: skip
    data = fgan.data.DataSet("points", torch.zeros(4, 5), torch.zeros(4).long(), ("a",))
    arguments = {
        "state": _state(own, "generator", "critic", "generator_opt", "critic_opt", "ema"),
        "batch": a(own.batch, "batch", "batch", mutations=target_of_parts, data=data,
                   noise=noise, **of_batch),
        "noise": a(noise, "noise", "noise", mutations=target_of_parts, batch=own.batch,
                   algorithm=own.algorithm, others=other_noises(own.name), **of_noise),
    }  # fmt: skip
    slow = own.name == "compiled"
    return Target(f"{of}step", own.algorithm.step, arguments, check, slow=slow)


def _differs(got: Tensor, expected: Tensor) -> str | None:
    return None if same(got.detach(), expected) else "another value than the module's"


def _twin_differs(player: Any, module: nn.Module) -> str | None:
    expected = {name: p.detach() for name, p in module.named_parameters()}
    got = {name: p for name, p in player.params.items()}
    if got.keys() != expected.keys():
        return "other parameters than the twin's"
    # Adam's first step is lr · sign(g), and rounding decides on the sign of a zero gradient.
    for name, p in got.items():
        if not torch.allclose(p, expected[name], rtol=1e-3, atol=1e-5):
            return f"{name} is another one than the twin's"
    return None
