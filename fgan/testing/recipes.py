"""The battery for a recipe: everything that an `Algorithm` promises."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import vmap

from fgan import tree
from fgan.networks import parameters_and_buffers
from fgan.testing.engine import (
    InvariantError,
    demand,
    demand_close,
    demand_close_trees,
    hold,
    same_bits,
    untouched,
)
from fgan.testing.play import check_play
from fgan.testing.players import (
    CLASSES,
    LATENT,
    ExampleGenerator,
    ExamplePlayerCritic,
    LabelReader,
    LabelWriter,
)
from fgan.testing.strategies import make_batch
from fgan.types import Algorithm, Batch, GANInfo, GANState, Noise

Recipe = Callable[..., Algorithm]
SIZE = 4


def check_recipe(
    recipe: Recipe,
    *,
    conditional: bool = True,
    permutation_invariant: bool = False,
    compiled: bool = False,
    max_examples: int = 3,
) -> None:
    """Put a recipe `recipe(generator, critic, latent_dim=...) -> Algorithm` through the protocol.

    Of every recipe: parameters keyed as the modules name them; `init`, `noise` and `step` pure
    (inputs bit-identical afterwards, global generators untouched) and the same twice; tree, shapes
    and dtypes kept over several rounds; info finite, 0-d, with all its fields; a round made of as
    many critic updates as the batch holds and one generator update; neither player moved by the
    other's update, and both by their own; every sample, latent and ε heeded; samples shifted round
    the batch together with all that belongs to them change nothing; both players learning in the
    right direction; vmap over two runs equal to the two runs.

    conditional: check rounds with labels too: fakes are made under the labels of the real batch,
        and networks that ignore the label play the game without one.
    permutation_invariant: any reordering of the samples changes nothing, not just a shift by two
        (true unless the penalty pairs samples of one batch).
    compiled: `torch.compile(step, fullgraph=True)` equals the step, and does not compile again.
    max_examples: how many examples Hypothesis draws for each invariant.

    Raises AssertionError with the invariant's name and the smallest example. The networks are small
    float64 MLPs, the generator's with BatchNorm; the recipe's own defaults are used.
    """

    def game(shape: tuple[int, ...], labelled: bool = False) -> "Game":
        return Game.of(recipe, shape, labelled)

    def built(shape: tuple[int, ...], labelled: bool) -> None:
        """the recipe gives an Algorithm whose parameters are the modules', copied."""
        modules = ExampleGenerator(shape, labelled), ExamplePlayerCritic(shape, labelled)
        with untouched([list(m.state_dict().values()) for m in modules]):
            algorithm = recipe(*modules, latent_dim=LATENT)
            demand(isinstance(algorithm, Algorithm), f"it gave a {type(algorithm).__name__}")
            state = algorithm.init()
        for player, module in zip((state.generator, state.critic), modules, strict=True):
            held = parameters_and_buffers(module)
            demand(
                same_bits(player.params, held[0]) and same_bits(player.buffers, held[1]),
                f"{type(module).__name__} holds {list(held[0])}, and init() {list(player.params)}",
            )
        demand(int(state.round) == 0, f"init() begins at round {state.round}")

    def seeded(shape: tuple[int, ...], seed: int) -> None:
        """init and noise are functions of their arguments: equal again, different for others."""
        play = game(shape).algorithm
        with untouched():
            demand(same_bits(play.init(seed), play.init(seed)), "init(seed) is not the same twice")
            noise = play.noise(seed, 1, SIZE)
            demand(same_bits(noise, play.noise(seed, 1, SIZE)), "noise is not the same twice")
        demand(not same_bits(play.init(seed).critic, play.init(seed + 1).critic), "init(other)")
        for other in (play.noise(seed, 2, SIZE), play.noise(seed + 1, 1, SIZE)):
            for name, part in noise._asdict().items():
                demand(
                    not torch.isclose(part, getattr(other, name)).any(),
                    f"noise.{name} is the same in another round or under another seed",
                )

    def pure(shape: tuple[int, ...], seed: int, labelled: bool) -> None:
        """a round writes to nothing, draws no random numbers, and is the same twice."""
        play = game(shape, labelled)
        given = play.round(seed)
        with untouched(given):
            first, second = (play.algorithm.step(*given) for _ in range(2))
        demand(same_bits(first, second), "the same arguments gave two different rounds")

    def kept(shape: tuple[int, ...], seed: int, labelled: bool, dtype: torch.dtype) -> None:
        """structure, shapes and dtypes of the state are kept, and all figures are finite."""
        play = game(shape, labelled).to(dtype)
        state = play.algorithm.init(seed)
        before = _described(state)
        for index in range(3):
            _, batch, noise = play.round(seed, index)
            state, info = play.algorithm.step(state, batch, noise)
            after = _described(state)
            changed = [k for k in before | after if before.get(k) != after.get(k)]
            demand(not changed, f"after round {index + 1} these differ: {changed}")
            demand(isinstance(info, GANInfo), f"the info is a {type(info).__name__}")
            for name, leaf in tree.named_leaves((state, info)).items():
                demand(bool(leaf.isfinite().all()), f"{name} is not finite in round {index + 1}")
            for name, figure in info._asdict().items():
                demand(figure.shape == (), f"info.{name} has shape {list(figure.shape)}")
            demand(int(state.round) == index + 1, f"round {index + 1} counts as {state.round}")

    def shifted(shape: tuple[int, ...], seed: int, labelled: bool) -> None:
        """samples shifted round the batch, with their labels, latents and ε, change nothing."""
        order = torch.arange(SIZE).roll(2)
        _reordered(game(shape, labelled), seed, order)

    def permuted(shape: tuple[int, ...], seed: int, labelled: bool) -> None:
        """samples in another order, with their labels, latents and ε, change nothing."""
        source = torch.Generator().manual_seed(seed)
        _reordered(game(shape, labelled), seed, torch.randperm(SIZE, generator=source))

    def vmapped(shape: tuple[int, ...], seed: int) -> None:
        """vmap over two runs equals the two runs."""
        play = game(shape)
        rounds = [play.round(seed), play.round(seed + 1)]
        alone = [play.algorithm.step(*given) for given in rounds]
        together = vmap(lambda s, real, n: play.algorithm.step(s, Batch(real), n))(
            tree.stack([state for state, _, _ in rounds]),
            torch.stack([batch.real for _, batch, _ in rounds]),
            tree.stack([noise for _, _, noise in rounds]),
        )
        demand_close_trees(together, tree.stack(alone), "two runs under vmap, and alone")

    def shared_labels(seed: int) -> None:
        """fakes are made, and judged, under the labels of the real batch."""
        algorithm = recipe(LabelWriter(), LabelReader(), latent_dim=LATENT)
        batch = make_batch(seed, (CLASSES,), 1, 6, CLASSES)
        noise = algorithm.noise(seed, 0, 6)
        state, label = algorithm.init(), batch.condition
        assert label is not None
        arguments = batch.real[0], label[0], noise.critic_latent[0], noise.mix[0]
        _, info = algorithm.critic_update(state, *arguments)
        demand(
            info.fake_score == 0,
            "this generator writes its label into its samples, and this critic scores samples "
            f"with the label it is shown with 0; the mean fake score was {info.fake_score:.4g}",
        )
        losses = [
            algorithm.step(state, Batch(batch.real, y), _cut(noise))[1].fake_score
            for y in (label, torch.zeros_like(label))
        ]
        demand_close(losses[0], losses[1], "the round's fake score under labels, and under one")

    def ignored(shape: tuple[int, ...], seed: int) -> None:
        """networks that ignore a label, the same for all, play the game without one."""
        play = game(shape)
        state, batch, noise = play.round(seed)
        label = torch.ones(batch.real.shape[:2], dtype=torch.int64)
        plain = play.algorithm.step(state, batch, noise)
        labelled = play.algorithm.step(state, Batch(batch.real, label), noise)
        demand_close_trees(labelled, plain, "with a label that is ignored, and without")

    def compiles(shape: tuple[int, ...], seed: int) -> None:
        """the step compiles into one graph, once, and equals the eager step."""
        play = game(shape)
        torch.compiler.reset()
        step = torch.compile(play.algorithm.step, fullgraph=True, backend="aot_eager")
        state, batch, noise = play.round(seed)
        for index in range(2):
            if index == 1:
                batch, noise = play.round(seed, index)[1:]
            with torch.compiler.set_stance(
                "fail_on_recompile" if index else "default", skip_guard_eval_unsafe=False
            ):
                got = step(state, batch, noise)
            expected = play.algorithm.step(state, batch, noise)
            demand_close_trees(got, expected, f"round {index + 1} compiled, and eager")
            state = expected[0]

    shapes = st.sampled_from([(2,), (1,), (1, 2, 3)])
    seeds = st.integers(0, 999)
    # Few examples are drawn, so what has to be among them is not left to chance.
    plain, labels = st.just(False), [st.just(False), st.just(True)][: 1 + conditional]
    single, double = st.just(torch.float32), st.just(torch.float64)
    battery: list[tuple[Any, ...]] = [
        *[(True, "built as named", built, shapes, labelled) for labelled in labels],
        (True, "tree kept", kept, shapes, seeds, plain, single),
        *[(True, "tree kept", kept, shapes, seeds, labelled, double) for labelled in labels],
        (True, "seeded", seeded, shapes, seeds),
        *[(True, "pure", pure, shapes, seeds, labelled) for labelled in labels],
        *[(True, "samples shifted", shifted, shapes, seeds, labelled) for labelled in labels],
        *[
            (permutation_invariant, "samples permuted", permuted, shapes, seeds, labelled)
            for labelled in labels
        ],
        (True, "vmap", vmapped, shapes, seeds),
        (conditional, "labels shared", shared_labels, seeds),
        (conditional, "label ignored", ignored, shapes, seeds),
    ]
    for wanted, name, prop, *drawn in battery:
        if wanted:
            hold(name, prop, *drawn, max_examples=max_examples)
    check_play(game, shapes, seeds, max_examples)
    if compiled:
        hold("compiled", compiles, shapes, seeds, max_examples=1)


class Game(NamedTuple):
    """An algorithm and what it takes to play rounds of it."""

    algorithm: Algorithm
    shape: tuple[int, ...]
    labelled: bool
    recipe: Recipe

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        shape: tuple[int, ...],
        labelled: bool,
        dtype: torch.dtype = torch.float64,
    ) -> "Game":
        """The recipe's algorithm of two small networks."""
        modules: list[nn.Module] = [
            ExampleGenerator(shape, labelled).to(dtype),
            ExamplePlayerCritic(shape, labelled).to(dtype),
        ]
        return cls(recipe(*modules, latent_dim=LATENT), shape, labelled, recipe)

    def to(self, dtype: torch.dtype) -> "Game":
        """The same game in another dtype."""
        return Game.of(self.recipe, self.shape, self.labelled, dtype)

    def round(self, seed: int, index: int = 0) -> tuple[GANState, Batch, Noise]:
        """(state, batch, noise) for round `index`, with as many updates as `noise` is drawn for."""
        state, noise = self.algorithm.init(seed), self.algorithm.noise(seed, index, SIZE)
        updates = noise.mix.shape[0]
        classes = CLASSES if self.labelled else None
        batch = make_batch(1000 * seed + index, self.shape, updates, SIZE, classes, noise.mix.dtype)
        return state, batch, noise


def _reordered(play: Game, seed: int, order: Tensor) -> None:
    state, batch, noise = play.round(seed)
    label = batch.condition
    moved = Batch(batch.real[:, order], None if label is None else label[:, order])
    stirred = Noise(
        noise.critic_latent[:, order], noise.generator_latent[order], noise.mix[:, order]
    )
    got, expected = (
        play.algorithm.step(state, moved, stirred),
        play.algorithm.step(state, batch, noise),
    )
    demand_close_trees(got, expected, f"in the order {order.tolist()}, and as given", rtol=1e-6)


def _described(state: GANState) -> dict[str, tuple[torch.Size, torch.dtype]]:
    for name, leaf in tree.named_leaves(state).items():
        if not isinstance(leaf, Tensor):
            raise InvariantError(f"state{name} is a {type(leaf).__name__}, not a tensor")
    return {name: (leaf.shape, leaf.dtype) for name, leaf in tree.named_leaves(state).items()}


def _cut(noise: Noise) -> Noise:
    """The noise of a round with one critic update."""
    return noise._replace(critic_latent=noise.critic_latent[:1], mix=noise.mix[:1])
