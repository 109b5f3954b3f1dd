"""What a pure round is good for: populations, sweeps, and derivatives of training itself."""

import shutil

import pytest
import torch
from helpers import Counting, assert_close, make_batch, make_round, pair
from torch.func import vmap

import fgan
from fgan import objectives, tree


def test_vmap_over_seeds_equals_separate_runs(recipe, conditional):
    """A population of runs steps, round after round, as its members do alone."""
    players = pair(conditional=conditional, norm=True)
    algorithm = recipe(*players, n_critic=2, ema_decay=0.9)
    states = [algorithm.init(seed) for seed in range(3)]
    population = tree.stack(states)
    axes = (0, fgan.Batch(0, 0 if conditional else None), 0)
    for index in range(2):
        rounds = [make_round(algorithm, (2,), conditional, index=index, seed=i) for i in range(3)]
        alone = [algorithm.step(s, *r) for s, r in zip(states, rounds, strict=True)]
        states = [state for state, _ in alone]
        batches = fgan.Batch(*(torch.stack(p) if p[0] is not None else None
                               for p in zip(*(b for b, _ in rounds), strict=True)))  # fmt: skip
        noises = tree.stack([noise for _, noise in rounds])
        population, infos = vmap(algorithm.step, in_dims=axes)(population, batches, noises)
        assert_close((population, infos), tree.stack(alone))


SEEDS = [3, 1, 4]


def play(population, step, conditional=False, rounds=2):
    """States and figures of a population's rounds; each state is copied before it is handed on."""
    state, path = population.init(SEEDS), []
    for index in range(rounds):
        batch, _ = make_round(fgan.gan(*pair(), n_critic=2), (2,), conditional, index=index)
        state, info = step(state, batch, population.noise(SEEDS, index, 4))
        path.append((tree.clone(state), info))
    return path


def play_alone(algorithms, conditional=False, rounds=2):
    """The same, stacked from runs of their own."""
    states = [a.init(seed) for a, seed in zip(algorithms, SEEDS, strict=True)]
    path = []
    for index in range(rounds):
        batch, _ = make_round(fgan.gan(*pair(), n_critic=2), (2,), conditional, index=index)
        members = zip(algorithms, states, SEEDS, strict=True)
        made = [a.step(s, batch, a.noise(seed, index, 4)) for a, s, seed in members]
        states = [state for state, _ in made]
        path.append(tuple(tree.stack(made)))
    return path


@pytest.mark.parametrize(
    ("conditional", "way"),
    [(False, "eager"), (True, "eager"), (False, "pure"), (True, "donated")],
)
def test_a_population_is_an_algorithm(recipe, conditional, way):
    """Each member is the run that it is alone, compiled in three programs or not at all."""
    algorithm = recipe(*pair(conditional=conditional, norm=True), n_critic=2, ema_decay=0.9)
    population, backend = fgan.population(algorithm), Counting()
    step = population.step
    if way != "eager":
        step = fgan.compile(population, donate=way == "donated", backend=backend).step
    assert_close(play(population, step, conditional), play_alone([algorithm] * 3, conditional))
    assert backend.graphs == (0 if way == "eager" else 3)


def test_torch_compile_takes_a_population_of_seeds():
    """The whole round of all members in one graph."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    population = fgan.population(algorithm)
    step = torch.compile(population.step, fullgraph=True, backend="aot_eager")
    assert_close(play(population, step), play_alone([algorithm] * 3))


def test_a_population_in_simultaneous_play():
    """Both players of every member move from the same state."""
    algorithm = fgan.gan(*pair(norm=True), update="simultaneous")
    population = fgan.population(algorithm)
    batch, _ = make_round(algorithm)
    noise = population.noise(SEEDS, 0, 4)
    got = fgan.compile(population, backend="interpreter").step(population.init(SEEDS), batch, noise)
    alone = [algorithm.step(algorithm.init(s), batch, algorithm.noise(s, 0, 4)) for s in SEEDS]
    assert_close(got, tree.stack(alone))


def test_members_with_a_loss_that_sees_real_samples():
    """They see those of the last batch, as a run alone does."""
    losses, adam = fgan.losses, fgan.adam(0.01)
    algorithm = fgan.make_algorithm(
        *pair(norm=True),
        objectives.adversarial(losses.relativistic_critic_loss),
        objectives.adversarial_generator(losses.relativistic_generator_loss, uses_real=True),
        generator_optimizer=adam,
        critic_optimizer=adam,
        n_critic=2,
    )
    population = fgan.population(algorithm)
    for step in (population.step, fgan.compile(population, backend="interpreter").step):
        assert_close(play(population, step), play_alone([algorithm] * 3))


def test_networks_of_a_population_are_usable_alone(conditional):
    """`generate` and `score` give what each member's own do, for the same inputs."""
    algorithm = fgan.wgan_gp(*pair(conditional=conditional, norm=True), n_critic=2, ema_decay=0.5)
    population = fgan.population(algorithm)
    state = play(population, population.step, conditional)[-1][0]
    latent = algorithm.noise(0, 0, 5).generator_latent
    given = dict(condition=torch.tensor([0, 2, 1, 1, 0])) if conditional else {}
    samples = population.generate(state, latent, **given)
    scores = population.score(state, samples[0], **given)
    members = tree.unstack(state)
    assert_close(samples, torch.stack([algorithm.generate(m, latent, **given) for m in members]))
    assert_close(scores, torch.stack([algorithm.score(m, samples[0], **given) for m in members]))


def test_a_population_knows_its_own_states():
    """Those of other members are refused by the round, eager and compiled, and by the networks."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    population = fgan.population(algorithm)
    pairs, grid = fgan.population(lambda v: algorithm, torch.ones(2)), fgan.population(population)
    batch, _ = make_round(algorithm)
    noise = population.noise(SEEDS, 0, 4)
    latent, samples = noise.generator_latent[0], batch.real[0]
    for owner, state, members in (
        (grid, population.init(SEEDS), "any number, any number"),
        (pairs, population.init(SEEDS), "2"),
        (population, algorithm.init(), "any number"),
        (population, grid.init([SEEDS]), "any number"),
    ):
        for use, given in (
            (owner.step, (batch, noise)),
            (fgan.compile(owner, backend="interpreter").step, (batch, noise)),
            (owner.generate, (latent,)),
            (owner.score, (samples,)),
        ):
            message = rf"one seed a member: its members are \[{members}\]"
            with pytest.raises(ValueError, match=message):
                use(state, *given)


def test_a_population_says_what_it_was_given():
    """Members of state and noise agree, and shapes are checked as one member sees them."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    population = fgan.population(algorithm)
    batch, alone = make_round(algorithm)
    state, noise = population.init(SEEDS), population.noise(SEEDS, 0, 4)
    nested = fgan.population(population).noise([SEEDS], 0, 4)
    for step in (population.step, fgan.compile(population, backend="interpreter").step):
        for other in (population.noise([1, 2], 0, 4), alone, nested):
            with pytest.raises(ValueError, match=r"one seed a member: the state has members \[3\]"):
                step(state, batch, other)
        with pytest.raises(ValueError, match=r"\[n_critic, B\] = \[2, 3\].*\[2, 4\]"):
            step(state, fgan.Batch(batch.real[:, :3]), noise)
        assert_close(state, population.init(SEEDS))


def test_every_tensor_of_a_population_has_its_members():
    """A state's tensor, latents and ε of one run are refused by name."""
    population = fgan.population(fgan.gan(*pair()))
    state, noise = population.init([1, 2]), population.noise([1, 2], 0, 4)
    batch = make_batch(n_critic=1)
    single = {**state.critic.params, "last.bias": state.critic.params["last.bias"][0]}
    wrong = state._replace(critic=state.critic._replace(params=single))
    inputs = batch.real[0], None, noise.critic_latent[0], noise.mix[0]
    with pytest.raises(ValueError, match=r"members, \[2\].*critic.params.'last.bias'. is .*\[1\]"):
        population.step(wrong, batch, noise)
    with pytest.raises(ValueError, match=r"latent of a population .* members"):
        population.critic_update(state, *inputs[:2], noise.critic_latent[0, 0], inputs[3])
    with pytest.raises(ValueError, match=r"mix of a population .* members"):
        population.critic_update(state, *inputs[:3], noise.mix[0, 0])
    with pytest.raises(ValueError, match="the state is a GANState"):
        population.generate((state, None), noise.generator_latent[0])


def test_a_population_has_members():
    """As many seeds as there are, and as many values, as tensors."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    population = fgan.population(algorithm)
    swept = fgan.population(lambda value: algorithm, torch.tensor([1.0, 2.0]))
    for draw in (lambda p, seeds: p.init(seeds), lambda p, seeds: p.noise(seeds, 0, 4)):
        with pytest.raises(ValueError, match="sequence of seeds, one a member, not 3"):
            draw(population, 3)
        with pytest.raises(ValueError, match="at least one seed, and 0 were"):
            draw(population, [])
        with pytest.raises(ValueError, match="as many seeds as members, 2, and 3 were"):
            draw(swept, SEEDS)
    with pytest.raises(ValueError, match="given to a function"):
        fgan.population(algorithm, torch.tensor([1.0]))
    for values, message in [
        (None, r"tensors \[members\]: .*values=None"),
        ([1.0, 2.0], r"tensors \[members\]: .*a list of 2"),
        (torch.tensor(1.0), "this is no population"),
        ({"rate": torch.ones(2), "weight": torch.ones(3)}, "this is no population"),
        (torch.tensor([]), "at least one member"),
    ]:
        with pytest.raises(ValueError, match=message):
            fgan.population(lambda value: algorithm, values)


def test_each_member_begins_with_its_own_value():
    """An optimiser that keeps its rate in its state has another one in each member."""

    def stored(rate):
        def update(gradients, opt_state, params):
            moved = tree.map(lambda p, g: p - opt_state["rate"] * g, params, gradients)
            return moved, opt_state

        return fgan.optim.Optimizer(lambda params: {"rate": rate.clone()}, update)

    players, rates = pair(), torch.tensor([0.01, 0.02, 0.04], dtype=torch.float64)

    def recipe(rate):
        return fgan.wgan_gp(*players, n_critic=2, critic_optimizer=stored(rate))

    population = fgan.population(recipe, rates)
    assert population.init(SEEDS).critic.opt_state["rate"].tolist() == rates.tolist()
    assert_close(play(population, population.step), play_alone([recipe(rate) for rate in rates]))


def test_a_recipe_that_does_not_run_within_vmap_is_refused_at_once():
    """It draws parameters for each member, or asks a value which way to go."""
    generator, critic = pair()

    def drawing(weight):
        return fgan.wgan_gp(generator, torch.nn.Linear(2, 1).double(), penalty_weight=weight)

    def branching(weight):
        return fgan.wgan_gp(generator, critic, penalty_weight=weight if weight > 1 else 1.0)

    for recipe in (drawing, branching):
        with pytest.raises(ValueError, match="does not run within vmap: build networks outside"):
            fgan.population(recipe, torch.tensor([0.5, 2.0]))


def test_a_population_is_not_one_run(tmp_path):
    """`fgan.train` says so before it writes anything."""
    population = fgan.population(fgan.wgan_gp(*pair()))
    with pytest.raises(ValueError, match="trains one run"):
        fgan.train(population, "rings", rounds=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_makes_an_algorithm():
    """One that returns something else for any value is told so, and not at the first round."""
    algorithm = fgan.wgan_gp(*pair())
    with pytest.raises(ValueError, match="makes an algorithm of its values, not None"):
        fgan.population(lambda value: algorithm if value > 0 else None, torch.tensor([1.0, -1.0]))


def test_an_eager_round_builds_the_algorithms_once():
    """One `vmap` of the round, not one for each of its updates."""
    players, built = pair(), []

    def recipe(weight):
        built.append(weight)
        return fgan.wgan_gp(*players, penalty_weight=weight, n_critic=3)

    population = fgan.population(recipe, torch.tensor([0.3, 1.0, 3.0]))
    batch, _ = make_round(recipe(1.0))
    state, noise = population.init(SEEDS), population.noise(SEEDS, 0, 4)
    built.clear()
    population.step(state, batch, noise)
    assert len(built) == 1


def test_values_are_on_the_device_of_the_state():
    """Others are refused in words by all that computes with them."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    far = fgan.population(lambda value: algorithm, torch.ones(3, device="meta"))
    batch, noise = make_round(algorithm)[0], far.noise(SEEDS, 0, 4)
    state = far.init(SEEDS)
    for use, given in (
        (far.step, (batch, noise)),
        (fgan.compile(far, backend="interpreter").step, (batch, noise)),
        (far.generate, (noise.generator_latent[0],)),
        (far.score, (batch.real[0],)),
    ):
        with pytest.raises(ValueError, match="on the device of the networks"):
            use(state, *given)


def test_members_with_batches_of_their_own():
    """As the docstring has it, with as many members as critic updates, not to be mixed up."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=3)
    population, axes = fgan.population(algorithm), (0, fgan.Batch(0, None), fgan.Noise(1, 0, 1))
    rounds = [make_round(algorithm, index=index)[0] for index in range(3)]
    batch = fgan.Batch(torch.stack([own.real for own in rounds]))
    noise = population.noise(SEEDS, 0, 4)
    got = vmap(algorithm.step, axes)(population.init(SEEDS), batch, noise)
    alone = [
        algorithm.step(algorithm.init(seed), own, algorithm.noise(seed, 0, 4))
        for seed, own in zip(SEEDS, rounds, strict=True)
    ]
    assert_close(got, tree.stack(alone))


@pytest.mark.gpu
def test_values_are_where_the_networks_are():
    """Values on the CPU are refused in words, and those on the device sweep there."""
    generator, critic = (module.cuda() for module in pair())

    def recipe(rate):
        return fgan.wgan_gp(generator, critic, n_critic=2, critic_optimizer=fgan.adam(rate))

    rates = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    batch = fgan.Batch(make_round(recipe(0.1))[0].real.cuda())
    near, far = (fgan.population(recipe, values) for values in (rates.cuda(), rates))
    given = batch, near.noise(SEEDS, 0, 4)
    with pytest.raises(ValueError, match="on the device of the networks"):
        far.step(far.init(SEEDS), *given)
    expected = near.step(near.init(SEEDS), *given)
    assert_close(fgan.compile(near).step(near.init(SEEDS), *given), expected)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_values_by_seeds(compiled):
    """A population of populations has both axes, and each of its runs is the run alone."""
    players, values = pair(norm=True), torch.tensor([0.3, 3.0], dtype=torch.float64)

    def recipe(weight):
        return fgan.wgan_gp(*players, penalty_weight=weight, n_critic=2)

    grid = fgan.population(lambda weight: fgan.population(recipe(weight)), values)
    step = fgan.compile(grid, backend="interpreter").step if compiled else grid.step
    batch, _ = make_round(recipe(1.0))
    seeds = [SEEDS, [5, 9, 2]]
    got = step(grid.init(seeds), batch, grid.noise(seeds, 0, 4))
    alone = []
    for weight, row in zip(values.tolist(), seeds, strict=True):
        run = recipe(weight)
        alone.append(tree.stack([run.step(run.init(s), batch, run.noise(s, 0, 4)) for s in row]))
    assert_close(got, tree.stack(alone))


@pytest.mark.parametrize("transform", ["vmap", "grad", "grad of something else"])
@pytest.mark.parametrize("donate", [True, False], ids=["donated", "pure"])
def test_a_compiled_step_is_not_transformed(transform, donate):
    """Neither taken for constant nor run on wrappers; the message says what to do instead."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    step = fgan.compile(algorithm, donate=donate, backend="interpreter").step
    state, given = algorithm.init(), make_round(algorithm)

    def loss(params):
        generator = state.generator._replace(params=params)
        return step(state._replace(generator=generator), *given)[1].generator_loss

    transformed = {
        "vmap": lambda: vmap(step, in_dims=(0, None, None))(tree.stack([state, state]), *given),
        "grad": lambda: torch.func.grad(loss)(state.generator.params),
        "grad of something else": lambda: torch.func.grad(
            lambda x: (x**2, step(state, *given)), has_aux=True
        )(torch.tensor(3.0)),
    }
    with pytest.raises(ValueError, match=r"fgan\.compile\(fgan\.population\(algorithm\)\)"):
        transformed[transform]()
    assert_close(state, algorithm.init())


@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="no C++ compiler")
def test_inductor_runs_a_population():
    """Generated code, rewritten and donated to, with BatchNorm and a weight for each member.

    In float32, for which the graph is rewritten most.
    """
    players, weights = pair(norm=True, dtype=torch.float32), torch.tensor([0.3, 1.0, 3.0])

    def recipe(weight):
        return fgan.wgan_gp(
            *players, penalty_weight=weight, n_critic=2,
            generator_optimizer=fgan.sgd(0.1), critic_optimizer=fgan.sgd(0.1),
        )  # fmt: skip

    population, runs = fgan.population(recipe, weights), [recipe(w.item()) for w in weights]
    state = population.init(SEEDS)
    alone = [run.init(seed) for run, seed in zip(runs, SEEDS, strict=True)]
    step = fgan.compile(population).step
    for index in range(2):
        # Of a size from which narrow products are turned round.
        batch, _ = make_round(runs[0], index=index, size=2048, dtype=torch.float32)
        state, info = step(state, batch, population.noise(SEEDS, index, 2048))
        made = [
            run.step(before, batch, run.noise(seed, index, 2048))
            for run, before, seed in zip(runs, alone, SEEDS, strict=True)
        ]
        alone = [after for after, _ in made]
        assert_close((tree.clone(state), info), tree.stack(made), atol=1e-5)


SWEEPS = {
    "penalty_weight": lambda value: (fgan.wgan_gp, dict(penalty_weight=value)),
    "target": lambda value: (fgan.wgan_gp, dict(target=value)),
    "k": lambda value: (fgan.wgan_div, dict(k=value)),
    "p": lambda value: (fgan.wgan_div, dict(p=2 + value)),
    "clip": lambda value: (fgan.wgan, dict(clip=value)),
    "adam": lambda value: (fgan.wgan_gp, dict(critic_optimizer=fgan.adam(value))),
    "rmsprop": lambda value: (fgan.wgan, dict(generator_optimizer=fgan.rmsprop(value))),
    "sgd": lambda value: (fgan.gan, dict(generator_optimizer=fgan.sgd(value, 0.5))),
}


def sweeping(name, dtype):
    """`run(value)`: one round from the same start, with the hyper-parameter `name` at `value`."""
    players = pair(norm=True, dtype=dtype)
    given = make_round(fgan.gan(*players, n_critic=2), dtype=dtype)

    def run(value):
        recipe, options = SWEEPS[name](value)
        algorithm = recipe(*players, n_critic=2, **options)
        return algorithm.step(algorithm.init(), *given)

    return run


@pytest.mark.parametrize("name", list(SWEEPS))
def test_vmapped_sweep_equals_separate_runs(name):
    """Hyper-parameters as 0-d tensors sweep in one vmapped step, and matter."""
    run = sweeping(name, torch.float64)
    values = torch.tensor([0.03, 0.3, 0.5], dtype=torch.float64)
    alone = [run(value.item()) for value in values]
    assert_close(vmap(run)(values), tree.stack(alone))
    assert any((a != b).any() for a, b in zip(*map(tree.leaves, alone[:2]), strict=True))


@pytest.mark.parametrize("name", list(SWEEPS))
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_population_sweeps_hyper_parameters(name, compiled):
    """Each member is the run with its own value, also in programs where values are constants."""
    players = pair(norm=True)

    def build(value):
        recipe, options = SWEEPS[name](value)
        return recipe(*players, n_critic=2, **options)

    values = torch.tensor([0.03, 0.3, 0.5], dtype=torch.float64)
    population = fgan.population(build, values)
    step = population.step
    if compiled:
        step = fgan.compile(population, backend="interpreter").step
    assert_close(play(population, step), play_alone([build(value.item()) for value in values]))


@pytest.mark.parametrize("name", list(SWEEPS))
@pytest.mark.parametrize("swept", [False, True], ids=["alone", "vmapped"])
def test_hyper_parameters_of_another_dtype_keep_the_run_in_its_own(name, swept):
    """A float64 tensor as hyper-parameter leaves a float32 run in float32, figures included."""
    run = sweeping(name, torch.float32)
    values = torch.tensor([0.3, 0.5], dtype=torch.float64)
    outcome = vmap(run)(values) if swept else run(values[0])
    assert {leaf.dtype for leaf in tree.leaves(outcome)} == {torch.float32, torch.int64}


def test_a_round_is_differentiable():
    """The derivative of the generator's loss by the critic's rate equals a central difference."""
    players = pair(norm=True)
    given = make_round(fgan.gan(*players, n_critic=2))

    def loss(rate):
        algorithm = fgan.wgan_gp(*players, n_critic=2, critic_optimizer=fgan.sgd(rate))
        return algorithm.step(algorithm.init(), *given)[1].generator_loss

    rate, h = torch.tensor(0.1, dtype=torch.float64), 1e-6
    difference = (loss(rate + h) - loss(rate - h)) / (2 * h)
    assert torch.func.grad(loss)(rate).item() == pytest.approx(difference.item(), rel=1e-5)


def test_the_parts_of_a_population_are_its_updates():
    """A gradient and its application, each vmapped, give what the vmapped update gives."""
    algorithm = fgan.wgan_gp(*pair(norm=True), n_critic=1, ema_decay=0.9)
    population = fgan.population(algorithm)
    parts, state = population.parts, population.init(SEEDS)
    batch, noise = make_batch(n_critic=1), population.noise(SEEDS, 0, 4)
    expected, _ = population.critic_update(
        state, batch.real[0], None, noise.critic_latent[0], noise.mix[0]
    )
    fake = parts.fakes(state, noise.critic_latent[0])
    data = fgan.types.Data(batch.real[0], fake, None, noise.mix[0], {}, state.round)
    got = parts.apply_critic(state, parts.critic_gradient(state, data))
    assert_close(got, expected)
    expected, _ = population.generator_update(got, noise.generator_latent)
    data = fgan.types.Data(None, None, None, None, {}, got.round)
    gradient = parts.generator_gradient(got, noise.generator_latent, data)
    assert_close(parts.apply_generator(got, gradient), expected)
