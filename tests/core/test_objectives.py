"""Objectives: several penalties, lazy ones, heads, random tensors, beside plain autograd."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import (
    CLASSES,
    Counting,
    assert_close,
    assert_identical,
    make,
    make_batch,
    pair,
)
from torch import nn

import fgan
from fgan import losses, tree
from fgan.algorithm import make_algorithm
from fgan.objectives import (
    CriticObjective,
    Draw,
    GeneratorObjective,
    Head,
    Penalty,
    adversarial,
    adversarial_generator,
)
from fgan.penalties import Points, gradient_penalty, input_gradients, zero_centered_penalty
from fgan.testing import check_penalty

RATE = dict(generator_optimizer=fgan.sgd(0.1), critic_optimizer=fgan.sgd(0.1))
GENERATOR = adversarial_generator(losses.wasserstein_generator_loss)


def game(*terms, modules=None, **options):
    """A Wasserstein game with these terms."""
    objective = adversarial(losses.wasserstein_critic_loss, *terms)
    return make_algorithm(*(modules or pair()), objective, GENERATOR, **RATE | options)


def rounds(algorithm, count, step=None, conditional=False):
    """(final state, infos) of some rounds from seed 0."""
    state, infos = algorithm.init(0), []
    for index in range(count):
        noise = algorithm.noise(0, index, 4)
        batch = make_batch(conditional=conditional, n_critic=noise.mix.shape[0], seed=index)
        state, info = (step or algorithm.step)(state, batch, noise)
        infos.append(info)
    return tree.clone(state), infos


# --- penalties -----------------------------------------------------------------------------------


def test_two_penalties_equal_their_sum_by_autograd():
    """R1 and a gradient penalty, each with a weight and a place of its own."""
    terms = Penalty(zero_centered_penalty, 0.5, "real", name="r1"), Penalty(gradient_penalty, 3.0)
    algorithm = game(*terms)
    state, batch, noise = algorithm.init(), make_batch(n_critic=1), algorithm.noise(0, 0, 4)
    _, info = algorithm.step(state, batch, noise)
    generator, critic = pair()
    real, fake = batch.real[0], generator(noise.critic_latent[0]).detach()

    def norms(x):
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x).sum(), x)
        return gradient.flatten(1).norm(dim=1)

    mix = noise.mix[0][:, None]
    r1 = norms(real).square().mean()
    gp = (norms(mix * real + (1 - mix) * fake) - 1).square().mean()
    distance = (critic(real) - critic(fake)).mean()
    expected = {
        "critic_loss": -distance + 0.5 * r1 + 3.0 * gp,
        "distance": distance,
        "penalty": 0.5 * r1 + 3.0 * gp,
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(info, name), value.detach(), atol=1e-12, rtol=1e-12)
    assert_close(info.terms, {"r1": r1.detach(), "gradient_penalty": gp.detach()}, atol=1e-12)


def test_one_penalty_is_reported_before_its_weight():
    """`info.penalty` of a single penalty is its mean, as `info.terms` has it."""
    (_, infos) = rounds(game(Penalty(gradient_penalty, 7.0)), 1)
    assert torch.equal(infos[0].penalty, infos[0].terms["gradient_penalty"])
    torch.testing.assert_close(
        infos[0].critic_loss, -infos[0].distance + 7.0 * infos[0].penalty, atol=1e-12, rtol=0.0
    )


LAZY = Penalty(zero_centered_penalty, 0.5, "real", every=3)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_lazy_penalty_is_taken_in_every_third_round_with_three_times_its_weight(compiled):
    """Rounds 0 and 3 are those with weight 3 · 0.5; all others those without a penalty."""
    lazy, plain = game(LAZY), game()
    heavy = game(LAZY._replace(weight=1.5, every=1))
    step = fgan.compile(lazy, donate=False, backend="interpreter").step if compiled else lazy.step
    state = lazy.init(0)
    for index in range(5):
        batch, noise = make_batch(n_critic=1, seed=index), lazy.noise(0, index, 4)
        other = heavy if index % 3 == 0 else plain
        expected, info = other.step(state, batch, noise._replace(extra={}))
        state, got = step(state, batch, noise)
        assert_close(state, expected, atol=1e-12)
        penalty = info.penalty if index % 3 == 0 else torch.zeros((), dtype=torch.float64)
        torch.testing.assert_close(got.penalty, penalty, atol=1e-12, rtol=0.0)
        assert got.terms.keys() == {"zero_centered_penalty"}


def test_a_lazy_penalty_costs_nothing_in_rounds_without_it():
    """Two programs of the critic's update are traced; that without the penalty is the plain one."""
    sizes = []

    def backend(graph, inputs):
        sizes.append(len(graph.graph.nodes))
        return graph

    rounds(game(), 1, fgan.compile(game(), donate=False, backend=backend).step)
    plain = sizes[:]
    sizes.clear()
    algorithm = game(LAZY)
    rounds(algorithm, 7, fgan.compile(algorithm, donate=False, backend=backend).step)
    assert len(sizes) == len(plain) + 1
    # A zero for the figure of the penalty, and nothing else, is added.
    assert min(abs(size - plain[1]) for size in sizes) <= 2


def test_a_lazy_run_resumes_where_it_was():
    """Which rounds take the penalty follows from the round's index alone."""
    algorithm = game(LAZY)
    whole, _ = rounds(algorithm, 6)
    state, _ = rounds(algorithm, 2)
    for index in range(2, 6):
        batch, noise = make_batch(n_critic=1, seed=index), algorithm.noise(0, index, 4)
        state, _ = algorithm.step(state, batch, noise)
    assert_identical(state, whole)


def test_a_penalty_without_conditions_is_refused_in_a_conditional_round():
    """It would hold one sample's gradient at another sample's condition."""
    algorithm = game(
        Penalty(lambda critic, x: critic(x).square(), 1.0, name="mine"),
        modules=pair(conditional=True),
    )
    with pytest.raises(ValueError, match="'mine' takes no conditions"):
        rounds(algorithm, 1, conditional=True)


def test_what_check_penalty_accepts_runs_in_a_round():
    """A penalty of (critic, x) alone runs where there are no conditions."""

    def mine(critic, x):
        return torch.func.grad(lambda y: critic(y).sum())(x).flatten(1).square().sum(dim=1)

    check_penalty(mine, max_examples=2)
    got, _ = rounds(game(Penalty(mine, 0.5, "real")), 2)
    expected, _ = rounds(game(Penalty(zero_centered_penalty, 0.5, "real")), 2)
    assert_close(got, expected, atol=1e-12)


def test_a_penalty_gives_one_value_a_sample():
    """A mean taken inside would be weighted wrongly, unnoticed."""
    with pytest.raises(ValueError, match=r"one value a sample, \[4\], and 'inside' gave \[\]"):
        rounds(game(Penalty(lambda critic, x: critic(x).mean(), name="inside")), 1)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ((Penalty(gradient_penalty, -1.0),), "penalty_weight is at least 0 and finite, and -1.0"),
        (
            (Penalty(gradient_penalty, float("nan")),),
            "penalty_weight is at least 0 .*, and nan",
        ),
        ((Penalty(gradient_penalty, torch.ones(2)),), r"one number, and a tensor \[2\]"),
        ((Penalty(gradient_penalty, "ten"),), "a 0-d tensor or a schedule, and 'ten'"),
        ((Penalty(gradient_penalty, at="nowhere"),), "sample_at is one of real, .*'nowhere'"),
        ((Penalty(gradient_penalty, every=0),), "every is a whole number from 1, and 0"),
        ((Penalty(gradient_penalty, every=True),), "every is a whole number from 1, and True"),
        ((Penalty(gradient_penalty), Penalty(gradient_penalty)), "two figures .*gradient_penalty"),
        ((Head("distance", F.cross_entropy),), "two figures .*'distance'"),
        ((Head("loss", F.cross_entropy),), "two figures .*'loss'"),
        ((Head("critic_grad_norm", F.cross_entropy),), "two figures .*'critic_grad_norm'"),
        ((gradient_penalty,), "terms are Penalty and Head, and <function"),
        ((Head("class", F.cross_entropy, -2.0),), "weight of head 'class' is at least 0"),
    ],
)
def test_terms_out_of_range_are_refused_when_the_objective_is_built(terms, message):
    """Before any network is."""
    with pytest.raises(ValueError, match=message):
        adversarial(losses.hinge_critic_loss, *terms)


def test_a_schedule_weighs_a_penalty_by_the_round():
    """The weight of round t is the schedule's at t; a tensor is its value."""
    algorithm = game(Penalty(gradient_penalty, lambda count: 1.0 + count))
    state = algorithm.init(0)
    for index in range(3):
        batch, noise = make_batch(n_critic=1, seed=index), algorithm.noise(0, index, 4)
        expected = game(Penalty(gradient_penalty, 1.0 + index)).step(state, batch, noise)
        tensor = torch.tensor(1.0 + index)
        assert_close(game(Penalty(gradient_penalty, tensor)).step(state, batch, noise), expected)
        state, info = algorithm.step(state, batch, noise)
        assert_close((state, info), expected, atol=1e-12)


# --- heads ---------------------------------------------------------------------------------------


class Classifying(nn.Module):
    """A critic that gives (scores, class logits)."""

    def __init__(self):
        super().__init__()
        self.body, self.score = nn.Linear(2, 7), nn.Linear(7, 1)
        self.classes = nn.Linear(7, CLASSES)

    def forward(self, x, *condition):
        h = torch.tanh(self.body(x))
        return self.score(h), self.classes(h)


def cross_entropy(logits, label):
    """One value a sample."""
    return F.cross_entropy(logits, label, reduction="none")


def classifying(*more, one_pass=True, **options):
    """An auxiliary classifier GAN with these further terms."""
    head = Head("class", cross_entropy, 0.5)
    return make_algorithm(
        make(lambda: pair(conditional=True)[0]),
        make(Classifying),
        adversarial(losses.hinge_critic_loss, head, *more, one_pass=one_pass),
        adversarial_generator(losses.wasserstein_generator_loss, head),
        **RATE | options,
    )


def test_an_auxiliary_classifier_equals_the_loop_with_modules():
    """Both players' losses and steps are those of modules, cross entropy and autograd."""
    algorithm = classifying()
    state, batch = algorithm.init(), make_batch(conditional=True, n_critic=1)
    noise = algorithm.noise(0, 0, 4)
    got, info = algorithm.step(state, batch, noise)
    generator, critic = make(lambda: pair(conditional=True)[0]), make(Classifying)
    real, label = batch.real[0], batch.condition[0]
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in (generator, critic)]
    fake = generator(noise.critic_latent[0], label).detach()
    (on_real, real_logits), (on_fake, fake_logits) = critic(real), critic(fake)
    classes = F.cross_entropy(real_logits, label) + F.cross_entropy(fake_logits, label)
    loss = (torch.relu(1 - on_real) + torch.relu(1 + on_fake)).mean() + 0.5 * classes
    loss.backward()
    optimizers[1].step()
    scores, logits = critic(generator(noise.generator_latent, label))
    generator_loss = -scores.mean() + 0.5 * F.cross_entropy(logits, label)
    optimizers[0].zero_grad()
    generator_loss.backward()
    optimizers[0].step()
    expected = [{n: p.detach() for n, p in m.named_parameters()} for m in (generator, critic)]
    assert_close([got.generator.params, got.critic.params], expected, atol=1e-12)
    assert_close(info.critic_loss, loss.detach(), atol=1e-12)
    assert_close(info.generator_loss, generator_loss.detach(), atol=1e-12)
    assert_close(info.terms["class"], classes.detach(), atol=1e-12)
    assert info.terms.keys() == {"class", "generator_class"}
    assert algorithm.score(state, real, label).shape == (4,)


def test_a_classifier_may_have_a_penalty_and_passes_apart():
    """Penalties see the scores alone; passes apart give what one pass gives."""
    batch = make_batch(conditional=True, n_critic=1)
    made = []
    for one_pass in (True, False):
        algorithm = classifying(Penalty(gradient_penalty), one_pass=one_pass)
        made.append(algorithm.step(algorithm.init(), batch, algorithm.noise(0, 0, 4)))
    assert_close(*made, atol=1e-12)
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    got = compiled.step(algorithm.init(), batch, algorithm.noise(0, 0, 4))
    assert_close(got, made[0], atol=1e-12)


def test_outputs_and_heads_have_to_match():
    """A critic with several outputs is refused by a recipe, and one with too few by heads."""
    modules = pair()[0], make(Classifying)
    algorithm = fgan.wgan_gp(*modules, n_critic=1)
    given = make_batch(n_critic=1), algorithm.noise(0, 0, 4)
    with pytest.raises(ValueError, match=r"gave a tuple of 2: .*Head for each further output"):
        algorithm.step(algorithm.init(), *given)
    algorithm = game(Head("class", cross_entropy), modules=pair(conditional=True))
    given = make_batch(conditional=True, n_critic=1), algorithm.noise(0, 0, 4)
    with pytest.raises(ValueError, match=r"1 head, .*\(scores, output\), .*one output"):
        algorithm.step(algorithm.init(), *given)
    algorithm = game(Head("class", cross_entropy), modules=modules)
    with pytest.raises(ValueError, match="head 'class' needs conditions"):
        algorithm.step(algorithm.init(), make_batch(n_critic=1), algorithm.noise(0, 0, 4))


# --- random tensors ------------------------------------------------------------------------------


def perturbed(data):
    """Points around real samples (Kodali et al. 2017, arXiv 1705.07215)."""
    return Points(data.real + 0.5 * data.extra["delta"], ())


def drawing(draws, lazy=None):
    """A game whose critic's penalty is taken at points moved by a random tensor."""
    objective = adversarial(losses.minimax_critic_loss, Penalty(gradient_penalty, 10.0, perturbed))
    objective = objective._replace(draws=draws)

    def noisy(critic, fake, data):
        moved = fake + 0.1 * data.extra["shift"][:, None]
        return -critic(moved)[0].mean(), {}

    of_generator = GeneratorObjective(noisy, draws={"shift": Draw("uniform")})
    options = dict(sample_shape=(2,), n_critic=2)
    return make_algorithm(*pair(), objective, of_generator, **RATE | options)


def test_random_tensors_are_a_function_of_seed_and_round():
    """They have the declared shapes, come after the noise of other runs, and replay."""
    algorithm = drawing({"delta": Draw("normal", None)})
    noise = algorithm.noise(3, 1, 5)
    assert noise.extra["critic"]["delta"].shape == (2, 5, 2)
    assert noise.extra["generator"]["shift"].shape == (5,)
    assert_identical(noise, algorithm.noise(3, 1, 5))
    assert_identical(tuple(noise[:3]), tuple(game(n_critic=2).noise(3, 1, 5)[:3]))
    other = algorithm.noise(3, 2, 5).extra
    assert not torch.isclose(other["critic"]["delta"], noise.extra["critic"]["delta"]).any()
    assert (noise.extra["generator"]["shift"] >= 0).all()


@pytest.mark.parametrize("way", ["compiled", "population", "vmap", "accumulated"])
def test_random_tensors_reach_every_kind_of_round(way):
    """A round that draws compiles, vmaps, and can be taken in parts."""
    algorithm = drawing({"delta": Draw("normal", None)})
    batch, noise = make_batch(), algorithm.noise(0, 0, 4)
    expected = algorithm.step(algorithm.init(0), batch, noise)
    if way == "compiled":
        step = fgan.compile(algorithm, donate=False, backend="interpreter").step
        got = step(algorithm.init(0), batch, noise)
    elif way == "accumulated":
        got = fgan.accumulate(algorithm, 2).step(algorithm.init(0), batch, noise)
    else:
        population = fgan.population(algorithm)
        alone = [algorithm.step(algorithm.init(s), batch, algorithm.noise(s, 0, 4)) for s in (0, 1)]
        expected = tree.stack(alone)
        compiled = fgan.compile(population, donate=False, backend="interpreter")
        step = population.step if way == "vmap" else compiled.step
        got = step(population.init([0, 1]), batch, population.noise([0, 1], 0, 4))
    skipped = {"critic_grad_norm", "generator_grad_norm"} if way == "accumulated" else set()
    assert_close(got[0], expected[0], atol=1e-10)
    for name in set(fgan.GANInfo._fields) - skipped:
        assert_close(getattr(got[1], name), getattr(expected[1], name), atol=1e-10)


def test_declared_tensors_have_to_be_given():
    """An update by itself says that the objective draws."""
    algorithm = drawing({"delta": Draw("normal", None)})
    state, batch, noise = algorithm.init(), make_batch(), algorithm.noise(0, 0, 4)
    inputs = batch.real[0], None, noise.critic_latent[0], noise.mix[0]
    with pytest.raises(ValueError, match="has declared random tensors"):
        algorithm.critic_update(state, *inputs)
    extra = {"delta": noise.extra["critic"]["delta"][0]}
    assert algorithm.critic_update(state, *inputs, extra=extra)[1].critic_loss.isfinite()


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (
            CriticObjective(print, {"a": Draw("poisson")}),
            {},
            "'normal' or 'uniform', and 'poisson'",
        ),
        (CriticObjective(print, {"a": Draw("normal", None)}), {}, "no attribute sample_shape"),
        (losses.minimax_critic_loss, {}, "critic_objective is a CriticObjective"),
        (
            CriticObjective(print, {"a": Draw()}, {"a": 4}),
            {},
            "random tensor and a lazy penalty are both called 'a'",
        ),
    ],
)
def test_objectives_that_cannot_be_are_refused(objective, options, message):
    """When the algorithm is built."""
    generator, critic = pair()
    del generator.sample_shape
    with pytest.raises(ValueError, match=message):
        make_algorithm(generator, critic, objective, GENERATOR, **RATE | options)


# --- batches of two sizes ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 6])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_the_generator_may_have_a_batch_of_another_size(size, compiled):
    """Its update is that of as many latents, under the last conditions of all updates."""
    algorithm = fgan.wgan_gp(*pair(conditional=True), n_critic=2, **RATE)
    batch = make_batch(conditional=True)
    noise = algorithm.noise(0, 0, 4, generator_batch_size=size)
    assert noise.generator_latent.shape == (size, 3)
    same = algorithm.noise(0, 0, 4)
    assert torch.equal(same.critic_latent, noise.critic_latent)
    step = algorithm.step
    if compiled:
        step = fgan.compile(algorithm, donate=False, backend="interpreter").step
    got, info = step(algorithm.init(0), batch, noise)
    state = algorithm.init(0)
    for i in range(2):
        inputs = batch.real[i], batch.condition[i], noise.critic_latent[i], noise.mix[i]
        state, _ = algorithm.critic_update(state, *inputs)
    labels = batch.condition.flatten()[-size:]
    expected, of_generator = algorithm.generator_update(state, noise.generator_latent, labels)
    assert_close(got, expected, atol=1e-12)
    assert_close(info.generator_loss, of_generator.generator_loss, atol=1e-12)


def test_a_step_with_terms_compiles_once():
    """The dict of terms is part of the output tree, and no reason to trace again."""
    algorithm, backend = game(Penalty(gradient_penalty)), Counting()
    compiled = fgan.compile(algorithm, donate=False, backend=backend)
    rounds(algorithm, 3, compiled.step)
    assert backend.graphs == 3


def test_torch_compile_takes_several_terms():
    """In one graph, equal to the eager round."""
    algorithm = classifying(Penalty(gradient_penalty), Penalty(zero_centered_penalty, at="real"))
    step = torch.compile(algorithm.step, fullgraph=True, backend="aot_eager")
    batch, noise = make_batch(conditional=True, n_critic=1), algorithm.noise(0, 0, 4)
    expected = algorithm.step(algorithm.init(0), batch, noise)
    assert_close(step(algorithm.init(0), batch, noise), expected, atol=1e-12)


def test_help_has_something_to_say():
    """The functions of an algorithm carry docstrings and the signatures of what is left to give."""
    import inspect

    algorithm = game()
    for name in ("init", "step", "noise", "generate", "score", "critic_update", "generator_update"):
        assert len(getattr(algorithm, name).__doc__) > 60
    assert list(inspect.signature(algorithm.step).parameters) == ["state", "batch", "noise"]
    assert list(inspect.signature(algorithm.init).parameters) == ["seed"]


def noisy_loss(real, fake):
    """Draws instance noise."""
    return losses.wasserstein_critic_loss(real + torch.randn_like(real), fake)


def noisy_gradients(critic, x, *conditions):
    """Draws a direction within fgan's own penalty."""
    return input_gradients(critic, x + torch.rand_like(x), *conditions)


def noisy_penalty(critic, x, conditions=()):
    """Draws a direction."""
    return gradient_penalty(critic, x + torch.rand_like(x), conditions=conditions)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(
    ("objective", "of_generator"),
    [
        (adversarial(noisy_loss), GENERATOR),
        (adversarial(losses.hinge_critic_loss, Penalty(noisy_penalty)), GENERATOR),
        (
            adversarial(
                losses.hinge_critic_loss,
                Penalty(partial(gradient_penalty, gradients=noisy_gradients)),
            ),
            GENERATOR,
        ),
        (
            adversarial(losses.hinge_critic_loss, distance=lambda loss: loss + torch.rand(())),
            GENERATOR,
        ),
        (
            adversarial(losses.hinge_critic_loss),
            GeneratorObjective(lambda critic, fake, data: (torch.randn(()) - fake.mean(), {})),
        ),
    ],
)
def test_objectives_that_draw_are_refused(objective, of_generator, conditional):
    """When the algorithm is built, whatever draws; the global generator stays where it was."""
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"an objective draws random numbers .*Draw"):
        make_algorithm(*pair(conditional=conditional), objective, of_generator, **RATE)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_objective_that_no_trial_fits_is_left_to_the_first_round():
    """A loss that wants a batch of its own kind is not refused, nor is one within vmap."""

    def wants_three(real, fake):
        return losses.wasserstein_critic_loss(real.reshape(3), fake.reshape(3))

    objective = adversarial(wants_three)
    algorithm = make_algorithm(*pair(), objective, GENERATOR, **RATE)
    _, info = algorithm.step(
        algorithm.init(), make_batch(n_critic=1, size=3), algorithm.noise(0, 0, 3)
    )
    assert info.critic_loss.isfinite()
    modules = pair()
    population = fgan.population(
        lambda rate: make_algorithm(
            *modules, objective, GENERATOR, critic_optimizer=fgan.sgd(rate),
            generator_optimizer=fgan.sgd(0.1),
        ),
        torch.tensor([0.1, 0.2]).double(),
    )  # fmt: skip
    assert population.init([0, 1]).round.shape == (2,)


def test_a_critic_s_objective_needs_both_kinds_of_samples():
    """Its gradient by itself says so."""
    algorithm = game()
    data = fgan.types.Data(torch.zeros(2, 2).double(), None, None, None, {}, torch.tensor(0))
    with pytest.raises(ValueError, match="needs real samples and fakes"):
        algorithm.parts.critic_gradient(algorithm.init(), data)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_noise_without_the_declared_tensors_is_refused(compiled):
    """A lazy penalty would never be taken, unnoticed."""
    for algorithm in (game(LAZY, n_critic=2), drawing({"delta": Draw("normal", None)})):
        step = algorithm.step
        if compiled:
            step = fgan.compile(algorithm, donate=False, backend="interpreter").step
        noise = algorithm.noise(0, 0, 4)._replace(extra={})
        with pytest.raises(ValueError, match="has declared random tensors"):
            step(algorithm.init(), make_batch(), noise)


def test_heads_and_autocast_go_together():
    """All outputs of a critic are float32 again, and near those of full precision."""
    modules = [m.float() for m in (make(lambda: pair(conditional=True)[0]), make(Classifying))]
    head = Head("class", cross_entropy, 0.5)
    batch = make_batch(conditional=True, n_critic=1, dtype=torch.float32)
    infos = []
    for autocast in (None, torch.bfloat16):
        algorithm = make_algorithm(
            *modules,
            adversarial(losses.hinge_critic_loss, head),
            adversarial_generator(losses.wasserstein_generator_loss, head),
            autocast=autocast,
            **RATE,
        )
        infos.append(algorithm.step(algorithm.init(), batch, algorithm.noise(0, 0, 4))[1])
    assert infos[1].terms["class"].dtype == torch.float32
    torch.testing.assert_close(*(info.terms["class"] for info in infos), rtol=0.05, atol=0.05)


def test_a_scheduled_running_average_in_a_population():
    """The schedule is float64, and the parameters are float32, also under vmap."""
    modules = [module.float() for module in pair()]
    decay = fgan.optim.warmup(0.9, 4)
    algorithm = fgan.gan(*modules, ema_decay=decay)
    population = fgan.population(algorithm)
    batch = make_batch(n_critic=1, dtype=torch.float32)
    state, states = algorithm.init(0), population.init([0, 1])
    for index in range(3):
        before = state.ema.params
        state, _ = algorithm.step(state, batch, algorithm.noise(0, index, 4))
        states, _ = population.step(states, batch, population.noise([0, 1], index, 4))
        weight = 1 - 0.9 * (index + 1) / 4
        expected = {n: torch.lerp(before[n], p, weight) for n, p in state.generator.params.items()}
        assert_close(state.ema.params, expected, atol=1e-6)
        assert_close(tree.unstack(states.ema.params)[0], state.ema.params, atol=1e-6)


def test_r1_of_the_gan_is_swept_and_scheduled():
    """γ as a number, a tensor or a function of the rounds is one penalty; 0 is none at all."""

    def first(**options):
        algorithm = fgan.gan(*pair(), **options)
        batch, noise = make_batch(n_critic=1), algorithm.noise(0, 0, 4)
        return algorithm.step(algorithm.init(0), batch, noise)[1]

    expected, without = first(gamma=0.6), first()
    for gamma in (torch.tensor(0.6, dtype=torch.float64), lambda count: 0.6 + 0 * count.double()):
        assert_close(first(gamma=gamma), expected)
    assert without.terms == {}
    assert_close(expected.critic_loss, without.critic_loss + 0.3 * expected.penalty)
    fgan.gan(*pair(critic_norm="batch"))  # refused with R1 alone
    with pytest.raises(ValueError, match="BatchNorm"):
        fgan.gan(*pair(critic_norm="batch"), gamma=0.1)
