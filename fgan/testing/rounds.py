"""The properties of a round: what it is composed of, and what each update changes."""

from typing import Any

from hypothesis import strategies as st
from torch import Tensor

from fgan.testing.engine import (
    InvariantError,
    check_property,
    require,
    require_close_trees,
    same_bits,
)
from fgan.testing.setups import Recipe, Setup, extra_of, first_updates
from fgan.types import Batch, GANState, Noise

Shape = tuple[int, ...]


def check_rounds(
    recipe: Recipe,
    shapes: st.SearchStrategy[Shape],
    seeds: st.SearchStrategy[int],
    max_examples: int,
) -> None:
    """The part of `check_recipe` that compares rounds with their updates."""
    for name, test in [
        ("composition", _composition),
        ("one player an update", _one_player_an_update),
        ("every sample used", _every_sample_used),
        ("high on real", _high_on_real),
    ]:
        check_property(name, test, (recipe,), shapes, seeds, max_examples=max_examples)


def _composition(recipe: Recipe, shape: Shape, seed: int) -> None:
    """a round is one critic update for each real batch, then one generator update."""
    setup = Setup.of(recipe, shape)
    algorithm = setup.algorithm
    state, whole, drawn = setup.round(seed)
    for updates in {1, len(drawn.mix)}:
        batch, noise = Batch(whole.real[:updates]), first_updates(drawn, updates)
        got, _ = algorithm.step(state, batch, noise)
        after_critic = state
        for i in range(updates):
            after_critic = _critic_update(algorithm, after_critic, batch.real[i], noise, i)
        alternating = _generator_update(algorithm, after_critic, batch, noise)
        generator_first = _generator_update(algorithm, state, batch, noise)
        simultaneous = generator_first._replace(critic=after_critic.critic)
        try:
            require_close_trees(got, alternating, f"a round of {updates}, and its updates")
        except InvariantError:
            if not _close(got, simultaneous):
                raise


def _one_player_an_update(recipe: Recipe, shape: Shape, seed: int) -> None:
    """each update changes every parameter of its own player, and nothing of the other player."""
    setup = Setup.of(recipe, shape)
    state, batch, noise = setup.round(seed)
    after = _critic_update(setup.algorithm, state, batch.real[0], noise, 0)
    require(
        same_bits(after._replace(critic=state.critic), state),
        "a critic update changed the generator, its moving average, or the count of rounds",
    )
    changed = not same_bits(after.critic.params, state.critic.params)
    require(changed, "a critic update did not change the critic")
    after = _generator_update(setup.algorithm, state, batch, noise)
    require(same_bits(after.critic, state.critic), "a generator update changed the critic")
    before = state.generator.params
    same = [name for name, p in after.generator.params.items() if p.equal(before[name])]
    require(not same, f"a generator update did not change {same}")


def _every_sample_used(recipe: Recipe, shape: Shape, seed: int) -> None:
    """a critic update depends on every sample and latent, and on every ε or on none."""
    setup = Setup.of(recipe, shape)
    state, batch, noise = setup.round(seed)
    base = _critic_update(setup.algorithm, state, batch.real[0], noise, 0)
    inputs = {"real": batch.real, "critic_latent": noise.critic_latent, "mix": noise.mix}
    for name, tensor in inputs.items():
        unused = []
        for j in range(batch.real.shape[1]):
            changed = tensor.clone()
            changed[0, j] = 0.1 + 0.7 * changed[0, j]
            replaced: dict[str, Any] = {name: changed}
            real = replaced.pop("real", batch.real)
            other = noise._replace(**replaced)
            if same_bits(_critic_update(setup.algorithm, state, real[0], other, 0), base):
                unused.append(j)
        without_mix = name == "mix" and len(unused) == batch.real.shape[1]
        require(not unused or without_mix, f"{name}: a change at samples {unused} changed nothing")


def _high_on_real(recipe: Recipe, shape: Shape, seed: int) -> None:
    """the critic learns to score real samples high, the generator to raise its fakes' scores."""
    setup = Setup.of(recipe, shape)
    algorithm = setup.algorithm
    state, batch, noise = setup.round(seed)
    after = _generator_update(algorithm, state, batch, noise)
    old, new = (
        algorithm.score(s, algorithm.fakes(other, noise.generator_latent)).mean()
        for s, other in ((state, state), (state, after))
    )
    require(
        bool(old < new), f"a generator update changed the fakes' mean score from {old} to {new}"
    )
    # Two critics start from one state and see the same fakes; their real samples lie on opposite
    # sides of the fakes.
    fakes = algorithm.fakes(state, noise.critic_latent[0])
    sides = [fakes + shift for shift in (3.0, -3.0)]
    differences = []
    for real in sides:
        critic = state
        for _ in range(6):
            critic = _critic_update(algorithm, critic, real, noise, 0)
        right, left = (algorithm.score(critic, side).mean() for side in sides)
        differences.append(right - left)
    require(
        bool(differences[0] > differences[1]),
        "two critics saw real samples on opposite sides of the fakes; the differences of their "
        f"mean scores between the sides are {differences[0]} and {differences[1]}, and the first "
        "one should be higher",
    )


def _critic_update(algorithm: Any, state: GANState, real: Tensor, noise: Noise, i: int) -> GANState:
    """The critic after update `i` of a round, on real samples [B, ...]."""
    inputs = noise.critic_latent[i], noise.mix[i]
    after: GANState
    after, _ = algorithm.critic_update(state, real, None, *inputs, **extra_of(noise, "critic", i))
    return after


def _generator_update(algorithm: Any, state: GANState, batch: Batch, noise: Noise) -> GANState:
    """The generator update of `step`, with real samples where its loss takes them."""
    keywords = extra_of(noise, "generator") | {"real": batch.real[-1]}
    after: GANState
    after, _ = algorithm.generator_update(state, noise.generator_latent, **keywords)
    return after


def _close(got: Any, expected: Any) -> bool:
    try:
        require_close_trees(got, expected, "")
    except InvariantError:
        return False
    return True
