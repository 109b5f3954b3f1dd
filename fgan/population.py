"""A population of runs as one algorithm: every part of a round under `torch.func.vmap`.

What one run computes with a matrix, a population computes with a batch of them, so that networks
too small to keep a processor busy do so together. A population has the surface of an algorithm,
and `fgan.compile` takes it as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vmap

from fgan import tree
from fgan.checks import check_members, check_seeds, check_state
from fgan.types import (
    Algorithm,
    Batch,
    CriticInfo,
    Data,
    Extra,
    GANInfo,
    GANState,
    GeneratorInfo,
    InitFunction,
    Noise,
    NoiseFunction,
)


def population(algorithm: Algorithm | Callable[[Any], Algorithm], values: Any = None) -> Algorithm:
    """Runs that differ in their seeds, or in hyper-parameters too, as one algorithm.

    With `values`, a tensor [members] or a tree of such tensors, the first argument is a function
    from the values of one member, 0-d tensors, to its algorithm:

        fgan.population(lambda rate: fgan.wgan(G, D, critic_optimizer=fgan.rmsprop(rate)), rates)

    It is called within `vmap`, once an eager round: networks are built outside of it, and values
    are only computed with, in losses and schedules too.

    Everything takes and gives what it does in a single run, with an axis for the members:

    - `init(seeds)`, one seed a member, gives a state with leaves [members, ...];
    - `noise(seeds, round_index, batch_size, ...)` gives `Noise([n_critic, members, B, Z],
      [members, B, Z], [n_critic, members, B])`;
    - `step(state, batch, noise)` takes one batch for all, [n_critic, B, ...], and the parts of a
      round a [B, ...] of it beside latents [members, B, Z]; their figures are [members];
    - `generate(state, latent, condition=None)` and `score(state, samples, condition=None)` take one
      latent [B, Z] or sample for all, and give [members, B, ...].

    Every member is the run that it would be alone, up to the rounding of reordered sums.
    `fgan.tree.unstack` takes a state apart, and `fgan.tree.stack` makes one of the states of single
    runs. A population of populations, of values by seeds, say, has two such axes. An eager round is
    one `vmap` of a run's round, and a compiled one is made of its parts: compile the population,
    not the run. `torch.compile` takes a population of seeds as well, but cannot follow a function
    of values.

    Where members that differ in their seeds see batches of their own, [members, n_critic, B, ...],
    the round of one is vmapped over them, and over the state and noise of the population:

        axes = (0, fgan.Batch(0, None), fgan.Noise(1, 0, 1))  # Batch(0, 0) with conditions
        state, info = torch.func.vmap(algorithm.step, axes)(state, batch, noise)

    Raises ValueError for values that are no tensors with a common axis, and for a function that
    does not make an algorithm or does not run within `vmap`; `init` and `noise` do for another
    number of seeds; `step`, `generate` and `score` for a state of other members, and for values on
    another device; `step` for noise of other members. Layers for which `vmap` has no rule, torch's
    own `spectral_norm` in training among them, raise RuntimeError at the first round, and so do
    losses and schedules that ask a value which way to go; `fgan.models` has a spectral norm that
    works.
    """
    if isinstance(algorithm, Algorithm):
        if values is not None:
            raise ValueError("values are given to a function that makes an algorithm of them")
        single, runs, build = algorithm, None, lambda value: algorithm
    else:
        runs, build = _algorithms(algorithm, values), algorithm
        single = runs[0]
    members = (None if runs is None else len(runs), *single.members)

    def init(seeds: Sequence[Any]) -> GANState:
        check_seeds(seeds, members[0])
        each_run = [single] * len(seeds) if runs is None else runs
        pairs = zip(each_run, seeds, strict=True)
        state: GANState = tree.stack([run.init(seed) for run, seed in pairs])
        return state

    def noise(seeds: Sequence[Any], *given: Any, **options: Any) -> Noise:
        check_seeds(seeds, members[0])
        drawn: Noise = tree.stack([single.noise(seed, *given, **options) for seed in seeds])
        # The updates of a round come first: a round takes one after another.
        latents, mix = (x.movedim(0, 1).contiguous() for x in (drawn.critic_latent, drawn.mix))
        extra = dict(drawn.extra)
        if "critic" in extra:
            extra["critic"] = tree.map(lambda x: x.movedim(0, 1).contiguous(), extra["critic"])
        return Noise(latents, drawn.generator_latent, mix, extra)

    def each(part: Callable[[Algorithm], Callable[..., Any]], *inputs: tuple[Any, Any]) -> Any:
        """A part of the algorithm for every member, given (input, the axis of its members)."""
        axes = [_axes(value, axis) for value, axis in inputs]

        def of_one(value: Any, *rest: Any) -> Any:
            return part(build(value))(*rest)

        in_dims = (None if values is None else 0, *axes)
        return vmap(of_one, in_dims)(values, *(value for value, _ in inputs))

    def of_members(name: str, *axes: Any) -> Callable[..., Any]:
        """The function of that name in `Algorithm`, with these axes of its arguments' members."""

        def call(*inputs: Any) -> Any:
            return each(lambda run: getattr(run, name), *zip(inputs, axes, strict=False))

        return call

    def part_of_members(name: str, *axes: Any) -> Callable[..., Any]:
        """The function of that name in `Parts`."""

        def call(*inputs: Any) -> Any:
            return each(lambda run: getattr(run.parts, name), *zip(inputs, axes, strict=True))

        return call

    def critic_update(
        state: GANState,
        real: Tensor,
        condition: Tensor | None,
        latent: Tensor | None,
        mix: Tensor,
        fake: Tensor | None = None,
        extra: Extra | None = None,
    ) -> tuple[GANState, CriticInfo]:
        inputs = state, real, condition, latent, mix, fake, extra
        made: tuple[GANState, CriticInfo] = of_members("critic_update", 0, None, None, 0, 0, 0, 0)(
            *inputs
        )
        return made

    def generator_update(
        state: GANState,
        latent: Tensor,
        condition: Tensor | None = None,
        real: Tensor | None = None,
        extra: Extra | None = None,
    ) -> tuple[GANState, GeneratorInfo]:
        inputs = state, latent, condition, real, extra
        made: tuple[GANState, GeneratorInfo] = of_members("generator_update", 0, 0, None, None, 0)(
            *inputs
        )
        return made

    def fakes(state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        made: Tensor = part_of_members("fakes", 0, 0, None)(state, latent, condition)
        return made

    def generate(state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        check_state(members, values, state)
        made: Tensor = of_members("generate", 0, None, None)(state, latent, condition)
        return made

    def score(state: GANState, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        check_state(members, values, state)
        made: Tensor = of_members("score", 0, None, None)(state, samples, condition)
        return made

    def check(state: GANState, batch: Batch, noise: Noise) -> None:
        lead = check_state(members, values, state)
        check_members(lead, batch, noise, single.latent_dim, single.parts.uses_real)

    def step(state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
        """One `vmap` of the whole round: a part by itself would build the algorithms once more."""
        check(state, batch, noise)
        axes: Any = Noise(1, 0, 1, _extra_axes(noise.extra))  # type: ignore[arg-type]
        made: tuple[GANState, GANInfo] = of_members("step", 0, None, axes)(state, batch, noise)
        return made

    data: Any = Data(*(None, 0, None, 0, 0, 0))  # type: ignore[arg-type]
    return single._replace(
        init=cast(InitFunction, init),  # of seeds, one a member
        step=step,
        noise=cast(NoiseFunction, noise),
        generate=generate,
        score=score,
        critic_update=critic_update,
        generator_update=generator_update,
        parts=single.parts._replace(
            fakes=fakes,
            critic_gradient=part_of_members("critic_gradient", 0, data),
            apply_critic=part_of_members("apply_critic", 0, 0),
            generator_gradient=part_of_members("generator_gradient", 0, 0, data),
            apply_generator=part_of_members("apply_generator", 0, 0),
            check=check,
        ),
        members=members,
    )


def _axes(value: Any, axis: Any) -> Any:
    """The axes of an input's members, None where there is no input."""
    if isinstance(value, Data):
        return Data(*(_axes(field, of_field) for field, of_field in zip(value, axis, strict=True)))
    return None if value is None else axis


def _extra_axes(extra: Extra) -> Extra:
    """The members' axes of `noise.extra`: behind the updates of a critic, first elsewhere."""
    return {name: 1 if name == "critic" else 0 for name in extra}


def _algorithms(recipe: Callable[[Any], Algorithm], values: Any) -> list[Algorithm]:
    """Those of the single values, once it is clear that the recipe runs within `vmap` too."""
    leaves = tree.leaves(values)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise ValueError(
            f"a function of hyper-parameters needs their values, tensors [members], not {values!r}"
        )
    members = tree.unstack(values)
    if not members:
        raise ValueError("a population has at least one member, and there is no value")
    runs = [recipe(value) for value in members]
    for run in runs:
        if not isinstance(run, Algorithm):
            raise ValueError(
                f"the function of hyper-parameters makes an algorithm of its values, not {run!r}"
            )

    def built(value: Any) -> Tensor:
        recipe(value)
        return torch.zeros(())

    try:
        vmap(built)(values)
    except RuntimeError as error:
        raise ValueError(
            "the function of hyper-parameters does not run within vmap: build networks outside of "
            f"it, and compute with the values alone, without branches ({error})"
        ) from error
    return runs
