"""The properties of a recipe: what every `Algorithm` promises."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

from fgan import tree
from fgan.networks import parameters_and_buffers
from fgan.testing.engine import (
    InvariantError,
    check_property,
    require,
    require_close,
    require_close_trees,
    require_pure,
    same_bits,
)
from fgan.testing.example_networks import (
    CLASSES,
    LATENT_DIM,
    LabelReader,
    LabelWriter,
    SmallCritic,
    SmallGenerator,
)
from fgan.testing.rounds import Shape, check_rounds
from fgan.testing.setups import SIZE, Recipe, Setup, extra_of, first_updates, reordered
from fgan.testing.strategies import make_batch
from fgan.types import Algorithm, Batch, GANInfo, GANState


def check_recipe(
    recipe: Recipe,
    *,
    conditional: bool = True,
    permutation_invariant: bool = False,
    compiled: bool = False,
    max_examples: int = 3,
) -> None:
    """Check the invariants of a recipe `recipe(generator, critic, latent_dim=...) -> Algorithm`.

    Of every recipe: parameters keyed as the modules name them; `init`, `noise` and `step` pure
    (inputs bit-identical afterwards, global generators unchanged) and the same twice; structure,
    shapes and dtypes kept over several rounds; info finite, 0-d, with all its fields; a round
    composed of as many critic updates as the batch has and one generator update; each player
    changed by its own update alone; every sample, latent and ε used; the same result after a cyclic
    permutation of the samples with their labels, latents and ε; both players learning in the right
    direction; vmap over two runs equal to the two runs.

    conditional: check rounds with labels too: fakes are made under the labels of the real batch,
        and with networks that ignore the label a round is the one without labels.
    permutation_invariant: the same after every permutation (true unless the penalty pairs samples
        of one batch).
    compiled: `torch.compile(step, fullgraph=True)` equals the step, and does not compile again.
    max_examples: how many examples Hypothesis draws for each invariant.

    Raises AssertionError with the invariant's name and the smallest example. The networks are small
    float64 MLPs, the generator's with BatchNorm; the recipe's own defaults are used.

    Example:
        >>> from fgan.testing import check_recipe
        >>> check_recipe(fgan.wgan, conditional=False, max_examples=1)
    """
    shapes, seeds = st.sampled_from([(2,), (1,), (1, 2, 3)]), st.integers(0, 999)
    single, double = st.just(torch.float32), st.just(torch.float64)
    # Few examples are drawn, so the cases without and with labels are separate entries.
    plain = st.just(False)
    both = [plain, st.just(True)][: 1 + conditional]
    battery: list[tuple[Any, ...]] = [
        *[(True, "construction", _construction, shapes, labels) for labels in both],
        (True, "structure kept", _structure_kept, shapes, seeds, plain, single),
        *[(True, "structure kept", _structure_kept, shapes, seeds, y, double) for y in both],
        (True, "seeded", _seeded, shapes, seeds),
        *[(True, "pure", _pure, shapes, seeds, labels) for labels in both],
        *[
            (True, "cyclic permutation", _cyclic_permutation, shapes, seeds, labels)
            for labels in both
        ],
        *[
            (permutation_invariant, "permutation", _permutation, shapes, seeds, labels)
            for labels in both
        ],
        (True, "vmap", _vmap, shapes, seeds),
        (conditional, "labels shared", _labels_shared, seeds),
        (conditional, "label ignored", _label_ignored, shapes, seeds),
    ]
    for wanted, name, test, *strategies in battery:
        if wanted:
            check_property(name, test, (recipe,), *strategies, max_examples=max_examples)
    check_rounds(recipe, shapes, seeds, max_examples)
    if compiled:
        check_property("compiled", _compiled, (recipe,), shapes, seeds, max_examples=1)


def _construction(recipe: Recipe, shape: Shape, labels: bool) -> None:
    """the recipe gives an Algorithm whose parameters are copies of the modules' parameters."""
    modules = SmallGenerator(shape, labels), SmallCritic(shape, labels)
    with require_pure([list(m.state_dict().values()) for m in modules]):
        algorithm = recipe(*modules, latent_dim=LATENT_DIM)
        kind = type(algorithm).__name__
        require(isinstance(algorithm, Algorithm), f"it gave a {kind}, not an Algorithm")
        state = algorithm.init()
    for player, module in zip((state.generator, state.critic), modules, strict=True):
        params, buffers = parameters_and_buffers(module)
        require(
            same_bits(player.params, params) and same_bits(player.buffers, buffers),
            f"{type(module).__name__} has {list(params)}, and init() gave {list(player.params)}",
        )
    require(int(state.round) == 0, f"init() starts at round {state.round}, not 0")


def _seeded(recipe: Recipe, shape: Shape, seed: int) -> None:
    """init and noise are the same for the same arguments, and different for others."""
    algorithm = Setup.of(recipe, shape).algorithm
    with require_pure():
        init = algorithm.init
        require(same_bits(init(seed), init(seed)), "init(seed) is not the same twice")
        noise = algorithm.noise(seed, 1, SIZE)
        require(same_bits(noise, algorithm.noise(seed, 1, SIZE)), "noise is not the same twice")
    different = not same_bits(init(seed).critic, init(seed + 1).critic)
    require(different, "init gives the same critic for two seeds")
    for other in (algorithm.noise(seed, 2, SIZE), algorithm.noise(seed + 1, 1, SIZE)):
        others = tree.named_leaves(other)
        for name, part in tree.named_leaves(noise).items():
            same = part.shape == others[name].shape and torch.isclose(part, others[name]).any()
            require(not same, f"noise{name} is the same in another round or under another seed")


def _pure(recipe: Recipe, shape: Shape, seed: int, labels: bool) -> None:
    """a round changes none of its inputs, draws no random numbers, and is the same twice."""
    setup = Setup.of(recipe, shape, labels)
    inputs = setup.round(seed)
    with require_pure(inputs):
        first, second = (setup.algorithm.step(*inputs) for _ in range(2))
    require(same_bits(first, second), "the same arguments gave two different rounds")


def _structure_kept(
    recipe: Recipe, shape: Shape, seed: int, labels: bool, dtype: torch.dtype
) -> None:
    """structure, shapes and dtypes of the state are kept, and all figures are finite."""
    setup = Setup.of(recipe, shape, labels, dtype)
    state = setup.algorithm.init(seed)
    before = _shapes_and_dtypes(state)
    for index in range(3):
        _, batch, noise = setup.round(seed, index)
        state, info = setup.algorithm.step(state, batch, noise)
        after = _shapes_and_dtypes(state)
        changed = [k for k in before | after if before.get(k) != after.get(k)]
        require(not changed, f"after round {index + 1} these differ: {changed}")
        require(isinstance(info, GANInfo), f"the info is a {type(info).__name__}")
        for name, leaf in tree.named_leaves((state, info)).items():
            require(bool(leaf.isfinite().all()), f"{name} is not finite in round {index + 1}")
        for name, figure in tree.named_leaves(info).items():
            require(figure.shape == (), f"info{name} has shape {list(figure.shape)}")
        require(int(state.round) == index + 1, f"after round {index + 1}, round is {state.round}")


def _cyclic_permutation(recipe: Recipe, shape: Shape, seed: int, labels: bool) -> None:
    """a cyclic permutation of the samples, with labels, latents and ε, changes nothing."""
    _check_order(recipe, shape, seed, labels, torch.arange(SIZE).roll(2))


def _permutation(recipe: Recipe, shape: Shape, seed: int, labels: bool) -> None:
    """any permutation of the samples, with labels, latents and ε, changes nothing."""
    source = torch.Generator().manual_seed(seed)
    _check_order(recipe, shape, seed, labels, torch.randperm(SIZE, generator=source))


def _check_order(recipe: Recipe, shape: Shape, seed: int, labels: bool, order: Tensor) -> None:
    setup = Setup.of(recipe, shape, labels)
    state, batch, noise = setup.round(seed)
    label = batch.condition
    other = Batch(batch.real[:, order], None if label is None else label[:, order])
    got = setup.algorithm.step(state, other, reordered(noise, order))
    expected = setup.algorithm.step(state, batch, noise)
    message = f"in the order {order.tolist()}, and in the order of the batch"
    require_close_trees(got, expected, message, rtol=1e-6)


def _vmap(recipe: Recipe, shape: Shape, seed: int) -> None:
    """vmap over two runs equals the two runs."""
    setup = Setup.of(recipe, shape)
    rounds = [setup.round(seed), setup.round(seed + 1)]
    alone = [setup.algorithm.step(*inputs) for inputs in rounds]
    mapped = vmap(lambda s, real, n: setup.algorithm.step(s, Batch(real), n))(
        tree.stack([state for state, _, _ in rounds]),
        torch.stack([batch.real for _, batch, _ in rounds]),
        tree.stack([noise for _, _, noise in rounds]),
    )
    require_close_trees(mapped, tree.stack(alone), "two runs under vmap, and one by one")


def _labels_shared(recipe: Recipe, seed: int) -> None:
    """fakes are made and scored under the labels of the real batch."""
    algorithm = recipe(LabelWriter(), LabelReader(), latent_dim=LATENT_DIM)
    batch = make_batch(seed, (CLASSES,), 1, 6, CLASSES)
    noise = first_updates(algorithm.noise(seed, 0, 6), 1)
    state, label = algorithm.init(), batch.condition
    assert label is not None
    inputs = batch.real[0], label[0], noise.critic_latent[0], noise.mix[0]
    _, info = algorithm.critic_update(state, *inputs, **extra_of(noise, "critic", 0))
    require(
        info.fake_score == 0,
        "the samples of this generator are its labels, and this critic scores 0 where sample and "
        f"label agree; the mean fake score was {info.fake_score:.4g}",
    )
    scores = [
        algorithm.step(state, Batch(batch.real, y), noise)[1].fake_score
        for y in (label, torch.zeros_like(label))
    ]
    require_close(scores[0], scores[1], "the fake score under different labels, and under label 0")


def _label_ignored(recipe: Recipe, shape: Shape, seed: int) -> None:
    """with networks that ignore the label, a round is the same with and without labels."""
    setup = Setup.of(recipe, shape)
    state, batch, noise = setup.round(seed)
    label = torch.ones(batch.real.shape[:2], dtype=torch.int64)
    without = setup.algorithm.step(state, batch, noise)
    with_label = setup.algorithm.step(state, Batch(batch.real, label), noise)
    require_close_trees(with_label, without, "with a label that is ignored, and without")


def _compiled(recipe: Recipe, shape: Shape, seed: int) -> None:
    """the step compiles into one graph, once, and equals the eager step."""
    setup = Setup.of(recipe, shape)
    torch.compiler.reset()
    step = torch.compile(setup.algorithm.step, fullgraph=True, backend="aot_eager")
    state, batch, noise = setup.round(seed)
    for index in range(2):
        if index == 1:
            _, batch, noise = setup.round(seed, index)
        with torch.compiler.set_stance(
            "fail_on_recompile" if index else "default", skip_guard_eval_unsafe=False
        ):
            got = step(state, batch, noise)
        expected = setup.algorithm.step(state, batch, noise)
        require_close_trees(got, expected, f"round {index + 1} compiled, and eager")
        state = expected[0]


def _shapes_and_dtypes(state: GANState) -> dict[str, tuple[torch.Size, torch.dtype]]:
    for name, leaf in tree.named_leaves(state).items():
        if not isinstance(leaf, Tensor):
            raise InvariantError(f"state{name} is a {type(leaf).__name__}, not a tensor")
    return {name: (leaf.shape, leaf.dtype) for name, leaf in tree.named_leaves(state).items()}
