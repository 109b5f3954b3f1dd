"""A population of runs as one algorithm: every part of a round under `torch.func.vmap`.

What one run computes with a matrix, a population computes with a batch of them, so that networks
too small to keep a processor busy do so together. A population has the surface of an algorithm,
and `fgan.compile` takes it as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.func import vmap

from fgan import tree
from fgan.algorithm import Algorithm, Step
from fgan.checks import check_members, check_seeds
from fgan.types import Batch, CriticInfo, GANInfo, GANState, GeneratorInfo, Noise


def population(algorithm: Algorithm | Callable[[Any], Algorithm], values: Any = None) -> Algorithm:
    """Runs that differ in their seeds, or in hyper-parameters too, as one algorithm.

    With `values`, a tensor [members] or a tree of such tensors, the first argument is a function
    from the values of one member, 0-d tensors, to its algorithm:

        fgan.population(lambda rate: fgan.wgan(G, D, critic_optimizer=fgan.rmsprop(rate)), rates)

    Everything takes and gives what it does in a single run, with an axis for the members:

    - `init(seeds)`, one seed a member, gives a state with leaves [members, ...];
    - `noise(seeds, round_index, batch_size, ...)` gives `Noise([n_critic, members, B, Z],
      [members, B, Z], [n_critic, members, B])`;
    - `step(state, batch, noise)`, and the parts of a round, take one batch for all, [n_critic, B,
      ...]; their figures are [members];
    - `generate(state, latent, condition=None)` and `score(state, samples, condition=None)` take one
      latent [B, Z] or sample for all, and give [members, B, ...].

    Every member is the run that it would be alone. `fgan.tree.unstack` takes a state apart, and
    `fgan.tree.stack` makes one of the states of single runs. A population of populations, of values
    by seeds, say, has two such axes. Where members see batches of their own,
    `torch.func.vmap(algorithm.step)` is the way.

    Raises ValueError for values that are no tensors with a common axis; `init` and `noise` do for
    another number of seeds, and `step` for noise of another number of members.
    """
    if isinstance(algorithm, Algorithm):
        if values is not None:
            raise ValueError("values are given to a function that makes an algorithm of them")
        single, members = algorithm, None
    else:
        tensors = [leaf for leaf in tree.leaves(values) if isinstance(leaf, Tensor)]
        if not tensors or len(tensors) < len(tree.leaves(values)):
            raise ValueError(
                "a function of hyper-parameters needs their values, tensors [members], and "
                f"{values!r} was given"
            )
        each_value = tree.unstack(values)
        if not each_value:
            raise ValueError("a population has at least one member, and there is no value")
        single, members = algorithm(each_value[0]), len(each_value)

    def init(seeds: Sequence[int]) -> GANState:
        check_seeds(seeds, members)
        state: GANState = tree.stack([single.init(seed) for seed in seeds])
        return state

    def noise(seeds: Sequence[int], *given: Any, **options: Any) -> Noise:
        check_seeds(seeds, members)
        drawn: Noise = tree.stack([single.noise(seed, *given, **options) for seed in seeds])
        # The updates of a round come first, for they are what is counted off.
        latents, mix = (x.movedim(0, 1).contiguous() for x in (drawn.critic_latent, drawn.mix))
        return Noise(latents, drawn.generator_latent, mix)

    def each(part: str, state: GANState, *inputs: tuple[Tensor | None, int | None]) -> Any:
        """A part of the algorithm for every member; inputs with the axis of theirs, or shared."""
        axes = [None if given is None else axis for given, axis in inputs]
        tensors = [given for given, _ in inputs]
        if isinstance(algorithm, Algorithm):
            return vmap(getattr(algorithm, part), in_dims=(0, *axes))(state, *tensors)

        def of_one(value: Any, *given: Any) -> Any:
            return getattr(algorithm(value), part)(*given)

        return vmap(of_one, in_dims=(0, 0, *axes))(values, state, *tensors)

    def critic_update(
        state: GANState,
        real: Tensor,
        condition: Tensor | None,
        latent: Tensor | None,
        mix: Tensor,
        fake: Tensor | None = None,
    ) -> tuple[GANState, CriticInfo]:
        own = (latent, 0), (mix, 0), (fake, 0)
        made: tuple[GANState, CriticInfo] = each(
            "critic_update", state, (real, None), (condition, None), *own
        )
        return made

    def generator_update(
        state: GANState,
        latent: Tensor,
        condition: Tensor | None = None,
        real: Tensor | None = None,
    ) -> tuple[GANState, GeneratorInfo]:
        made: tuple[GANState, GeneratorInfo] = each(
            "generator_update", state, (latent, 0), (condition, None), (real, None)
        )
        return made

    def fakes(state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        made: Tensor = each("fakes", state, (latent, 0), (condition, None))
        return made

    def generate(state: GANState, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        made: Tensor = each("generate", state, (latent, None), (condition, None))
        return made

    def score(state: GANState, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        made: Tensor = each("score", state, (samples, None), (condition, None))
        return made

    def play(*parts: Any, check: bool = True) -> Step:
        rounds = single.play(*parts, check=False)

        def step(state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
            if check:
                check_members(state, batch, noise, single.latent_dim)
            return rounds(state, batch, noise)

        return step

    return Algorithm(
        init=init,
        step=play(critic_update, generator_update),
        noise=noise,
        generate=generate,
        score=score,
        critic_update=critic_update,
        generator_update=generator_update,
        fakes=fakes,
        play=play,
        n_critic=single.n_critic,
        latent_dim=single.latent_dim,
    )
