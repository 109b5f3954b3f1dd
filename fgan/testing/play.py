"""What a round of any recipe is made of, and which way the players move."""

import inspect
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from fgan.testing.engine import InvariantError, demand, demand_close_trees, hold, same_bits
from fgan.types import Batch, GANState, Noise


def check_play(
    game: Callable[[tuple[int, ...]], Any],
    shapes: st.SearchStrategy[tuple[int, ...]],
    seeds: st.SearchStrategy[int],
    max_examples: int,
) -> None:
    """The part of `check_recipe` that takes rounds apart."""

    def made_of_parts(shape: tuple[int, ...], seed: int) -> None:
        """a round is one critic update per real batch, then one generator update."""
        algorithm = game(shape).algorithm
        state, whole, drawn = game(shape).round(seed)
        for updates in {1, len(drawn.mix)}:
            batch, noise = Batch(whole.real[:updates]), _first(drawn, updates)
            got, _ = algorithm.step(state, batch, noise)
            critic = state
            for i in range(updates):
                critic, _ = _critic(algorithm, critic, batch, noise, i)
            behind = _generator(algorithm, critic, batch, noise)
            ahead = _generator(algorithm, state, batch, noise)._replace(critic=critic.critic)
            try:
                demand_close_trees(got, behind, f"a round of {updates}, and its parts")
            except InvariantError:
                # In simultaneous play both players move from one state.
                if not _close(got, ahead):
                    raise

    def apart(shape: tuple[int, ...], seed: int) -> None:
        """each update moves its own player, every parameter of it, and leaves the other's alone."""
        play = game(shape)
        state, batch, noise = play.round(seed)
        after, _ = _critic(play.algorithm, state, batch, noise, 0)
        demand(
            same_bits(after._replace(critic=state.critic), state),
            "a critic update changed the generator, its mean, or the count of rounds",
        )
        demand(not same_bits(after.critic.params, state.critic.params), "the critic did not move")
        after = _generator(play.algorithm, state, batch, noise)
        demand(same_bits(after.critic, state.critic), "a generator update changed the critic")
        still = [k for k, p in after.generator.params.items() if p.equal(state.generator.params[k])]
        demand(not still, f"a generator update left {still} where they were")

    def heeded(shape: tuple[int, ...], seed: int) -> None:
        """a critic update heeds every sample and latent, and every sample's own ε if any at all."""
        play = game(shape)
        state, batch, noise = play.round(seed)
        base = _critic(play.algorithm, state, batch, noise, 0)

        def differs(name: str, j: int) -> bool:
            others: dict[str, Any] = {"real": batch.real, **noise._asdict()}
            changed = others[name].clone()
            changed[0, j] = 0.1 + 0.7 * changed[0, j]
            others[name] = changed
            other_batch, other_noise = Batch(others.pop("real")), Noise(**others)
            return not same_bits(_critic(play.algorithm, state, other_batch, other_noise, 0), base)

        size = batch.real.shape[1]
        for name in ("real", "critic_latent", "mix"):
            deaf = [j for j in range(size) if not differs(name, j)]
            none_at_all = name == "mix" and len(deaf) == size
            demand(not deaf or none_at_all, f"{name}: a change at samples {deaf} changed nothing")

    def uphill(shape: tuple[int, ...], seed: int) -> None:
        """the critic learns to score real samples high, the generator to raise its scores."""
        play = game(shape)
        algorithm = play.algorithm
        state, batch, noise = play.round(seed)
        fakes = algorithm.fakes(state, noise.generator_latent)
        after = _generator(algorithm, state, batch, noise)
        better = algorithm.fakes(after, noise.generator_latent)
        scores = [algorithm.score(state, samples).mean() for samples in (fakes, better)]
        demand(
            bool(scores[0] < scores[1]),
            f"a generator update took the fakes' mean score from {scores[0]} to {scores[1]}",
        )
        # Two critics of one start see the same fakes, and the real samples on opposite sides.
        fakes = algorithm.fakes(state, noise.critic_latent[0])
        sides = [fakes + shift for shift in (3.0, -3.0)]
        leaning = []
        for real in sides:
            critic = state
            for _ in range(6):
                data = Batch(real[None])
                critic, _ = _critic(algorithm, critic, data, _first(noise, 1), 0)
            right, left = (algorithm.score(critic, side).mean() for side in sides)
            leaning.append(right - left)
        demand(
            bool(leaning[0] > leaning[1]),
            "two critics saw real samples on opposite sides of the fakes; the difference of their "
            f"scores between the sides is {leaning[0]} and {leaning[1]}, the wrong way round",
        )

    for name, prop in [
        ("made of its parts", made_of_parts),
        ("players apart", apart),
        ("every sample heeded", heeded),
        ("high on real", uphill),
    ]:
        hold(name, prop, shapes, seeds, max_examples=max_examples)


def _critic(algorithm: Any, state: GANState, batch: Batch, noise: Noise, i: int) -> Any:
    return algorithm.critic_update(state, batch.real[i], None, noise.critic_latent[i], noise.mix[i])


def _generator(algorithm: Any, state: GANState, batch: Batch, noise: Noise) -> GANState:
    """The generator update as `step` makes it, with real samples for losses that look at them."""
    update = algorithm.generator_update
    more = {"real": batch.real[-1]} if "real" in inspect.signature(update).parameters else {}
    moved: GANState
    moved, _ = update(state, noise.generator_latent, **more)
    return moved


def _close(got: Any, expected: Any) -> bool:
    try:
        demand_close_trees(got, expected, "")
    except InvariantError:
        return False
    return True


def _first(noise: Noise, updates: int) -> Noise:
    """The noise of a round with fewer critic updates."""
    return noise._replace(critic_latent=noise.critic_latent[:updates], mix=noise.mix[:updates])
