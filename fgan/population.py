"""A population of runs as one algorithm: every part of a round under `torch.func.vmap`.

What one run computes with a matrix, a population computes with a batch of them, so that networks
too small to keep a processor busy do so together. A population has the surface of an algorithm,
and `fgan.compile` takes it as one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vmap

from fgan import tree
from fgan.checks import check_members, check_seeds, check_state, check_type
from fgan.recipes import check_algorithm
from fgan.scores import check_callable, describe
from fgan.types import (
    Algorithm,
    Batch,
    Data,
    Extra,
    GANInfo,
    GANState,
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

        axes = (0, fgan.Batch(0, None), fgan.Noise(1, 0, 1))  # Batch(0, 0) with conditions; with
        # random tensors of objectives, Noise(1, 0, 1, {"critic": 1, "generator": 0})
        state, info = torch.func.vmap(algorithm.step, axes)(state, batch, noise)

    Raises ValueError for values that are no tensors with a common axis, and for a function that
    does not make an algorithm or does not run within `vmap`; `init` and `noise` do for another
    number of seeds; `step`, `generate` and `score` for a state of other members, and for values on
    another device; `step` for noise of other members. Layers for which `vmap` has no rule, torch's
    own `spectral_norm` in training among them, raise RuntimeError at the first round, and so do
    losses and schedules that ask a value which way to go; `fgan.models` has a spectral norm that
    works.

    Example:
        >>> algorithm = fgan.wgan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> runs = fgan.population(algorithm)
        >>> states = runs.init([0, 1, 2])
        >>> noise = runs.noise([0, 1, 2], round_index=0, batch_size=8)
        >>> states, info = runs.step(states, fgan.Batch(torch.ones(5, 8, 2)), noise)
        >>> info.critic_loss.shape
        torch.Size([3])
    """
    if not callable(algorithm):
        check_algorithm(algorithm)
    if not isinstance(algorithm, Algorithm):
        return _Members(algorithm, values, _algorithms(algorithm, values)).algorithm()
    if values is not None:
        raise ValueError(
            "values are given to a function that makes an algorithm of them, and an algorithm was "
            "given"
        )
    return _Members(lambda value: algorithm, None, [algorithm]).algorithm()


class _Members:
    """The functions of an algorithm, each for all members of a population."""

    def __init__(
        self, build: Callable[[Any], Algorithm], values: Any, runs: list[Algorithm]
    ) -> None:
        self._build, self._values, self._runs, self._single = build, values, runs, runs[0]
        own = None if values is None else len(runs)
        self._axes = (own, *self._single.members)

    def algorithm(self) -> Algorithm:
        """The population as an algorithm."""
        each, part = self._each, self._each_part
        data: Any = Data(*(None, 0, None, 0, 0, 0))  # type: ignore[arg-type]
        return self._single._replace(
            init=cast(InitFunction, self.init),  # of seeds, one a member
            step=self.step,
            noise=cast(NoiseFunction, self.noise),
            generate=self.generate,
            score=self.score,
            critic_update=each("critic_update", 0, None, None, 0, 0, 0, 0),
            generator_update=each("generator_update", 0, 0, None, None, 0),
            parts=self._single.parts._replace(
                fakes=part("fakes", 0, 0, None),
                critic_gradient=part("critic_gradient", 0, data),
                apply_critic=part("apply_critic", 0, 0),
                generator_gradient=part("generator_gradient", 0, 0, data),
                apply_generator=part("apply_generator", 0, 0),
                check=self.check,
            ),
            members=self._axes,
        )

    def init(self, seeds: Sequence[Any]) -> GANState:
        """Every member's state from its own seed: leaves [members, ...]."""
        check_seeds(seeds, self._axes[0])
        runs = self._runs if self._values is not None else self._runs * len(seeds)
        pairs = zip(runs, seeds, strict=True)
        state: GANState = tree.stack([run.init(seed) for run, seed in pairs])
        return state

    def noise(self, seeds: Sequence[Any], *shape: Any, **options: Any) -> Noise:
        """Every member's noise from its own seed."""
        check_seeds(seeds, self._axes[0])
        drawn: Noise = tree.stack([self._single.noise(seed, *shape, **options) for seed in seeds])
        # The updates of a round come first: a round takes one after another.
        latents, mix = (x.movedim(0, 1).contiguous() for x in (drawn.critic_latent, drawn.mix))
        extra = dict(drawn.extra)
        if "critic" in extra:
            extra["critic"] = tree.map(lambda x: x.movedim(0, 1).contiguous(), extra["critic"])
        return Noise(latents, drawn.generator_latent, mix, extra)

    def check(self, state: GANState, batch: Batch, noise: Noise) -> None:
        """Raise ValueError for a state, a batch and noise that do not fit."""
        lead = self._checked(state)
        check_type("the noise", noise, Noise, "population.noise(seeds, ...) draws it")
        for name in ("critic_latent", "generator_latent", "mix"):
            if not isinstance(part := getattr(noise, name), Tensor):
                raise ValueError(f"noise.{name} is a tensor, and {describe(part)} was given")
        check_type("the batch", batch, Batch, "fgan.Batch(real [n_critic, B, ...], condition)")
        single = self._single
        check_members(lead, batch, noise, single.latent_dim, single.parts.uses_real)

    def _checked(self, state: GANState) -> tuple[int, ...]:
        """The members of a state, all of whose tensors have them."""
        lead = check_state(self._axes, self._values, state)
        for leaf in tree.leaves(state):
            if not isinstance(leaf, Tensor) or tuple(leaf.shape[: len(lead)]) != lead:
                name = next(
                    name for name, other in tree.named_leaves(state).items() if other is leaf
                )
                raise ValueError(
                    f"each tensor of a population's state begins with the members, {list(lead)}, "
                    f"and state{name} is {describe(leaf)}"
                )
        return lead

    def step(self, state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
        """One `vmap` of the whole round: a part by itself would build the algorithms once more."""
        self.check(state, batch, noise)
        axes: Any = Noise(1, 0, 1, _extra_axes(noise.extra))  # type: ignore[arg-type]
        made: tuple[GANState, GANInfo] = self._each("step", 0, None, axes)(state, batch, noise)
        return made

    def generate(self, state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """One latent [B, Z] for all -> [members, B, ...]."""
        self._checked(state)
        made: Tensor = self._each("generate", 0, None, None)(state, latent, condition)
        return made

    def score(self, state: GANState, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        """The same samples [B, ...] for all -> [members, B]."""
        self._checked(state)
        made: Tensor = self._each("score", 0, None, None)(state, samples, condition)
        return made

    def _check_inputs(self, inputs: dict[str, Any], axes: tuple[Any, ...]) -> None:
        """Raise ValueError unless the state and all tensors with an axis for members have it."""
        state = inputs["state"]
        if isinstance(state, GANState) and isinstance(state.round, dict):
            return  # a compiled step traces a part with those fields alone that the part reads
        lead = self._checked(state)
        for (name, value), axis in zip(inputs.items(), axes, strict=True):
            if name not in ("latent", "mix", "fake") or axis is None or value is None:
                continue
            if not isinstance(value, Tensor) or tuple(value.shape[: len(lead)]) != lead:
                raise ValueError(
                    f"{name} of a population is a tensor that begins with the members, "
                    f"{list(lead)}, and {describe(value)} was given"
                )
            if value.device != state.round.device:
                raise ValueError(
                    f"{name} is on {value.device}, and the state on {state.round.device}: move one "
                    "of them"
                )

    def _each(self, name: str, *axes: Any) -> Callable[..., Any]:
        """The function of that name in `Algorithm`; `axes` are those of its arguments' members."""
        return self._vmapped(lambda run: getattr(run, name), axes)

    def _each_part(self, name: str, *axes: Any) -> Callable[..., Any]:
        """The function of that name in `Parts`."""
        return self._vmapped(lambda run: getattr(run.parts, name), axes)

    def _vmapped(
        self, function_of: Callable[[Algorithm], Callable[..., Any]], axes: tuple[Any, ...]
    ) -> Callable[..., Any]:
        def of_one(value: Any, *inputs: Any) -> Any:
            return function_of(self._build(value))(*inputs)

        about: Any = function_of(self._single)
        signature = inspect.signature(about)

        def call(*inputs: Any, **named: Any) -> Any:
            bound = signature.bind(*inputs, **named)
            bound.apply_defaults()
            self._check_inputs(bound.arguments, axes)
            in_dims = [_axes(x, axis) for x, axis in zip(bound.args, axes, strict=True)]
            own = None if self._values is None else 0
            return vmap(of_one, (own, *in_dims))(self._values, *bound.args)

        public: Any = call
        public.__doc__, public.__signature__ = about.__doc__, signature
        return call


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
            "a function of hyper-parameters needs their values, tensors [members]: "
            f"population({describe(recipe)}, values={describe(values)}) was given"
        )
    shapes = [list(leaf.shape) for leaf in leaves]
    if not all(shape and shape[0] == shapes[0][0] for shape in shapes if shapes[0]):
        raise ValueError(
            "the values are tensors [members] with one axis for the members, and tensors "
            f"{', '.join(map(str, shapes))} were given: this is no population"
        )
    check_callable("the function of hyper-parameters", recipe, "values -> Algorithm", 1)
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
