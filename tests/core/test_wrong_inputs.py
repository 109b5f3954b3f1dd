"""Wrong inputs that could compute a number that nobody asked for: each is refused, by name."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from helpers import (
    LATENT,
    RECIPES,
    Critic,
    Generator,
    assert_close,
    assert_identical,
    make,
    make_round,
    pair,
)
from torch import nn

import fgan
from fgan import losses, measures, penalties
from fgan.objectives import Penalty, adversarial, adversarial_generator
from fgan.optim import clip_by_norm
from fgan.penalties import SAMPLE_AT, fingerprints, partners

PLAYERS = ("generator", "critic")


def algorithm_and_state(name="wgan_gp", conditional=False, **options):
    algorithm = RECIPES[name](*pair((2,), conditional), **options)
    return algorithm, algorithm.init(0)


def with_params(state, player, change):
    """The state with a function of one player's parameters in their place."""
    old = getattr(state, player)
    return state._replace(**{player: old._replace(params=change(dict(old.params)))})


def without(params):
    del params["first.weight"]
    return params


def misspelt(params):
    params["first.wieght"] = params.pop("first.weight")
    return params


def additional(params):
    return params | {"third.weight": torch.zeros(3)}


def broadcast_bias(params):
    return params | {"first.bias": params["first.bias"][:1]}


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without, "'first.weight', and neither params nor buffers do"),
        (misspelt, "'first.weight', and neither params nor buffers do"),
        (additional, "no tensor 'third.weight'"),
        (broadcast_bias, r"\[[67]\] for 'first.bias', and \[1\]"),
    ],
)
def test_a_state_with_other_parameters_is_refused_wherever_it_goes(player, change, message):
    """A missing parameter was read from uninitialised memory, another bias was broadcast."""
    algorithm, state = algorithm_and_state()
    bad = with_params(state, player, change)
    batch, noise = make_round(algorithm)
    calls = [lambda: algorithm.step(bad, batch, noise)]
    if player == "generator":
        latent = noise.generator_latent
        calls += [lambda: algorithm.generate(bad, latent), lambda: algorithm.fakes(bad, latent)]
        calls += [lambda: algorithm.generator_update(bad, latent)]
    else:
        calls += [lambda: algorithm.score(bad, batch.real[0])]
        inputs = batch.real[0], None, noise.critic_latent[0], noise.mix[0]
        calls += [lambda: algorithm.critic_update(bad, *inputs)]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_apply_takes_a_frozen_parameter_among_the_buffers_and_no_name_twice():
    """Which of the two holds a tensor is free, and both at once is an error."""
    network = fgan.make_functional(make(Critic))
    x = torch.randn(3, 2, dtype=torch.float64)
    frozen = {"first.weight": network.params["first.weight"]}
    rest = {name: value for name, value in network.params.items() if name not in frozen}
    assert torch.equal(network.apply(rest, frozen, x)[0], network.apply(network.params, {}, x)[0])
    with pytest.raises(ValueError, match=r"both have 'first.weight'"):
        network.apply(network.params, frozen, x)
    with pytest.raises(ValueError, match=r"'first.weight', and 'heavy' was given"):
        network.apply(network.params | {"first.weight": "heavy"}, {}, x)


def test_a_population_with_other_parameters_is_refused():
    """Under vmap too."""
    algorithm = fgan.population(RECIPES["gan"](*pair()))
    state = with_params(algorithm.init([0, 1]), "generator", without)
    with pytest.raises(ValueError, match=r"'first\.weight', and neither"):
        algorithm.generate(state, torch.randn(4, LATENT, dtype=torch.float64))


def test_compiled_rounds_refuse_a_state_with_other_parameters():
    """Also after a round with the right ones."""
    algorithm, state = algorithm_and_state()
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    inputs = make_round(algorithm)
    compiled.step(state, *inputs)
    for player in PLAYERS:
        for change in (without, misspelt, additional, broadcast_bias):
            with pytest.raises(ValueError, match=r"first\.|third\."):
                compiled.step(with_params(state, player, change), *inputs)


@pytest.mark.parametrize("player", PLAYERS)
def test_a_state_of_another_optimiser_is_refused(player):
    """RMSprop's moments under Adam, and Adam's without a mean under one with it."""
    algorithm, state = algorithm_and_state()
    old = getattr(state, player)
    inputs = make_round(algorithm)
    for optimizer, message in [
        (fgan.rmsprop(0.1), "keeps a AdamState"),
        (fgan.adam(0.1, betas=(0.9, 0.9)), "mean have 'first.bias'"),
        (fgan.sgd(0.1), "keeps a AdamState"),
    ]:
        other = old._replace(opt_state=optimizer.init(old.params))
        with pytest.raises(ValueError, match=message):
            algorithm.step(state._replace(**{player: other}), *inputs)


def test_moments_and_gradients_of_another_shape_are_refused():
    """[4, 1] for a parameter [4] would broadcast to [4, 4]."""
    params = {"w": torch.ones(4)}
    optimizers = [fgan.sgd(0.1), fgan.sgd(0.1, momentum=0.5), fgan.rmsprop(0.1), fgan.adam(0.1)]
    optimizers += [fgan.adamw(0.1), clip_by_norm(fgan.adam(0.1), 1.0)]
    for optimizer in optimizers:
        state = optimizer.init(params)
        with pytest.raises(ValueError, match=r"gradients have \[4, 1\] for 'w'"):
            optimizer.update({"w": torch.ones(4, 1)}, state, params)
        with pytest.raises(ValueError, match="for 'w' none"):
            optimizer.update({"v": torch.ones(4)}, state, params)
        with pytest.raises(ValueError, match="have 'v', and the parameters do not"):
            optimizer.update({"w": torch.ones(4), "v": torch.ones(4)}, state, params)
    state = fgan.adam(0.1).init({"w": torch.ones(4, 1)})
    with pytest.raises(ValueError, match=r"mean have \[4, 1\] for 'w'"):
        fgan.adam(0.1).update({"w": torch.ones(4)}, state, params)


def test_states_with_and_without_an_average_are_told_apart():
    """A stale average was used for samples, or a missing one was not noticed."""
    with_ema, state = algorithm_and_state(ema_decay=0.9)
    plain, bare = algorithm_and_state()
    latent = torch.randn(4, LATENT, dtype=torch.float64)
    for algorithm, other, message in [
        (with_ema, bare, "keeps an EMA.*the state has none"),
        (plain, state, "keeps no EMA.*the state has one"),
    ]:
        with pytest.raises(ValueError, match=message):
            algorithm.step(other, *make_round(algorithm))
        with pytest.raises(ValueError, match=message):
            algorithm.generate(other, latent)


def test_one_epsilon_for_the_batch_is_refused():
    """In `interpolate`, at every place of a penalty, and in an update."""
    real, fake = torch.randn(2, 5, 3)
    for mix in (torch.rand(1), torch.rand(()), torch.rand(5, 1), torch.rand(4)):
        with pytest.raises(ValueError, match=r"mix has one number a sample, \[5\]"):
            penalties.interpolate(real, fake, mix)
        for place in SAMPLE_AT.values():
            with pytest.raises(ValueError, match=r"mix has one number a sample, \[5\]"):
                place(real, fake, mix, ())
    algorithm, state = algorithm_and_state()
    batch, noise = make_round(algorithm)
    with pytest.raises(ValueError, match=r"mix has one number a sample, \[4\], and \[1\]"):
        algorithm.critic_update(
            state, batch.real[0], None, noise.critic_latent[0], noise.mix[0][:1]
        )


def test_a_single_sample_beside_a_batch_is_refused():
    """Real or fake of one row was broadcast."""
    real, fake, mix = torch.randn(5, 3), torch.randn(1, 3), torch.rand(5)
    for place in (penalties.interpolate, *SAMPLE_AT.values()):
        for pair_of in ((real, fake), (fake, real)):
            with pytest.raises(ValueError, match=r"one shape \[B, ...\].*\[1, 3\]"):
                place(*pair_of, mix)
    label = torch.zeros(1, dtype=torch.int64)
    for place in SAMPLE_AT.values():
        with pytest.raises(ValueError, match=r"a condition has one row a sample, \[5, ...\]"):
            place(real, real, mix, (label,))


@pytest.mark.parametrize(
    "loss", [getattr(losses, name) for name in dir(losses) if name.endswith("_loss")]
)
def test_losses_of_two_shapes_are_refused(loss):
    """[B] beside [B, 1] gives [B, B]."""
    with pytest.raises(ValueError, match=r"one shape, \[B\], and \[4\] and \[4, 1\]"):
        loss(torch.zeros(4), torch.zeros(4, 1))
    with pytest.raises(ValueError, match="fake_scores is a tensor"):
        loss(torch.zeros(4), 0.0)


def test_a_loss_that_is_not_one_value_a_sample_is_refused():
    """A loss of one's own may broadcast inside, or reduce too early."""
    for wrong in (lambda real, fake: fake[:, None] - real, lambda real, fake: fake.mean()):
        objective = adversarial(wrong)
        algorithm = fgan.make_algorithm(
            *pair(),
            objective,
            adversarial_generator(losses.wasserstein_generator_loss),
            generator_optimizer=fgan.sgd(0.1),
            critic_optimizer=fgan.sgd(0.1),
        )
        with pytest.raises(ValueError, match=r"one value a sample, \[4\], and '<lambda>' gave"):
            algorithm.step(algorithm.init(0), *make_round(algorithm))


def two_scores(x):
    return x @ torch.ones(2, 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: penalties.gradient_penalty(two_scores, x),
        lambda x: penalties.w_divergence_penalty(two_scores, x),
        lambda x: penalties.zero_centered_penalty(two_scores, x),
        lambda x: penalties.input_gradients(two_scores, x),
        lambda x: penalties.batched_input_gradients(two_scores, x),
        lambda x: measures.wasserstein_estimate(two_scores, x, x),
        lambda x: measures.w_divergence(two_scores, x, x),
        lambda x: measures.jensen_shannon_estimate(two_scores, x, x),
    ],
)
def test_a_critic_with_two_scores_a_sample_is_refused(call):
    """Their sum, or their mean, was taken for the score."""
    with pytest.raises(ValueError, match=r"one score a sample.*gave \[[14], 2\]"):
        call(torch.randn(4, 2))


def test_penalties_and_measures_take_scores_with_an_axis_of_one():
    """[B, 1] is what `nn.Linear(n, 1)` gives, and recipes take it too."""
    x, y = torch.randn(2, 4, 2)
    weight = torch.randn(2)
    flat, wide = (lambda x: torch.tanh(x) @ weight), (lambda x: torch.tanh(x) @ weight[:, None])
    for name in ("gradient_penalty", "w_divergence_penalty", "zero_centered_penalty"):
        function = getattr(penalties, name)
        assert_close(function(wide, x), function(flat, x), 1e-6)
        both = partial(function, gradients=penalties.batched_input_gradients)
        assert_close(both(wide, x), function(flat, x), 1e-6)
    for name in ("wasserstein_estimate", "w_divergence", "jensen_shannon_estimate"):
        function = getattr(measures, name)
        assert_close(function(wide, x, y), function(flat, x, y), 1e-6)


def test_one_label_for_a_batch_is_refused_everywhere():
    """`torch.cat` and `+` would broadcast it, or fail far away."""
    algorithm, state = algorithm_and_state(conditional=True)
    batch, noise = make_round(algorithm, conditional=True)
    one = torch.zeros(1, dtype=torch.int64)
    latent, real, mix = noise.generator_latent, batch.real[0], noise.mix[0]
    for condition in (one, one[0], torch.zeros(3, dtype=torch.int64)):
        for call in (
            lambda c: algorithm.generate(state, latent, c),
            lambda c: algorithm.fakes(state, latent, c),
            lambda c: algorithm.score(state, real, c),
            lambda c: algorithm.generator_update(state, latent, c),
            lambda c: algorithm.critic_update(state, real, c, latent, mix),
        ):
            with pytest.raises(ValueError, match=r"condition has one row a sample, \[4, ...\]"):
                call(condition)
    with pytest.raises(ValueError, match=r"one tensor.*concatenate"):
        algorithm.generate(state, latent, (one, one))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, x: penalties.gradient_penalty(c, x, target=-1.0), "target.*-1"),
        (lambda c, x: penalties.gradient_penalty(c, x, target=math.nan), "target.*nan"),
        (lambda c, x: penalties.gradient_penalty(c, x, target=torch.ones(4)), r"one number.*\[4\]"),
        (lambda c, x: penalties.gradient_penalty(c, x, one_sided="no"), "one_sided.*'no'"),
        (lambda c, x: penalties.w_divergence_penalty(c, x, k=-2.0), "k is.*-2"),
        (lambda c, x: penalties.w_divergence_penalty(c, x, p=-6.0), "p is.*-6"),
        (lambda c, x: measures.w_divergence(c, x, x, k=-2.0), "k is.*-2"),
        (lambda c, x: measures.w_divergence(c, x, x, p=0.0), "p is.*0"),
        (lambda c, x: penalties.gradient_penalty(c, x.long()), "floating point.*int64"),
    ],
)
def test_numbers_of_penalties_and_measures_are_checked(call, message):
    """Negative, infinite, of several values, or no number at all."""
    with pytest.raises(ValueError, match=message):
        call(lambda x: x.sum(dim=1), torch.randn(4, 2))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1e-3", None, {}, True, 1j])
def test_hyper_parameters_are_finite_numbers(bad):
    """An infinite rate passed, and so did a dictionary in the place of an optimiser."""
    for build in (fgan.sgd, fgan.rmsprop, fgan.adam, fgan.adamw):
        with pytest.raises(ValueError, match="learning rate"):
            build(bad)
    with pytest.raises(ValueError, match="penalty_weight"):
        fgan.wgan_gp(*pair(), penalty_weight=bad)
    with pytest.raises(ValueError, match="clip"):
        fgan.wgan(*pair(), clip=bad)
    if bad is not None:
        with pytest.raises(ValueError, match="critic_optimizer"):
            fgan.gan(*pair(), critic_optimizer=bad)


@pytest.mark.parametrize("flag", ["False", "no", 0, None])
def test_flags_are_true_or_false(flag):
    """A string that is not empty counts as true."""
    with pytest.raises(ValueError, match="one_sided is True or False"):
        fgan.wgan_gp(*pair(), one_sided=flag)
    with pytest.raises(ValueError, match="one_pass is True or False"):
        adversarial(losses.hinge_critic_loss, one_pass=flag)
    with pytest.raises(ValueError, match="uses_real is True or False"):
        adversarial_generator(losses.hinge_generator_loss, uses_real=flag)


def test_numbers_and_seeds_of_numpy_and_torch_are_taken():
    """They come out of configurations and sweeps, and mean what they say."""
    rate = np.float32(0.01)
    build = partial(RECIPES["wgan_gp"], *pair(), n_critic=np.int64(2), penalty_weight=np.float64(3))
    algorithm = build(critic_optimizer=fgan.adam(rate), ema_decay=np.float32(0.5))
    expected = RECIPES["wgan_gp"](
        *pair(),
        n_critic=2,
        penalty_weight=3.0,
        critic_optimizer=fgan.adam(float(rate)),
        ema_decay=0.5,
    )
    for seed in (np.int64(7), np.uint8(7), torch.tensor(7)):
        state, noise = algorithm.init(seed), algorithm.noise(seed, np.int32(3), np.int64(4))
        assert_identical(state, expected.init(7))
        assert_identical(noise, expected.noise(7, 3, 4))
        batch, _ = make_round(algorithm)
        assert_identical(algorithm.step(state, batch, noise), expected.step(state, batch, noise))
    for seed in (0.5, "7", torch.tensor(0.5), torch.tensor([7]), None, True):
        with pytest.raises(ValueError, match="a seed or a round's index is an integer"):
            algorithm.noise(seed, 0, 4)


def test_dtypes_are_dtypes_of_floating_point():
    """For the noise, for autocast, and in a network."""
    algorithm, _ = algorithm_and_state()
    for bad in (torch.int64, "float32", np.float32):
        with pytest.raises(ValueError, match="dtype is floating point"):
            algorithm.noise(0, 0, 4, dtype=bad)
        with pytest.raises(ValueError, match="autocast"):
            fgan.gan(*pair(), autocast=bad)
        with pytest.raises(ValueError, match="autocast is a dtype of floating point"):
            fgan.make_functional(make(Critic), autocast=bad)


class Deviation(nn.Module):
    """Minibatch standard deviation (Karras et al. 2018), under a name that nobody knows."""

    def forward(self, x):
        return torch.cat([x, x.std(dim=0).mean().expand(len(x), 1)], dim=1)


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_critic_that_mixes_samples_scores_real_and_fake_apart(name):
    """Under a penalty too: both in one pass would give another deviation, and another loss."""
    critic = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), Deviation(), nn.Linear(6, 1)).double()
    algorithm = RECIPES[name](make(Generator), critic, n_critic=1)
    state = algorithm.init()
    batch, noise = make_round(algorithm)
    _, info = algorithm.step(state, batch, noise)
    fake = algorithm.fakes(state, noise.critic_latent[0])
    with torch.no_grad():
        real_score, fake_score = critic(batch.real[0]).mean(), critic(fake).mean()
    assert_close(info.real_score, real_score)
    assert_close(info.fake_score, fake_score)


def test_optimisers_of_complex_parameters_are_those_of_torch():
    """The square of a complex gradient is no square of its size."""
    start = torch.randn(3, 2, dtype=torch.complex128)
    for build, reference in [
        (partial(fgan.sgd, 0.1, momentum=0.9), partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
        (partial(fgan.rmsprop, 0.1), partial(torch.optim.RMSprop, lr=0.1)),
        (partial(fgan.adam, 0.1), partial(torch.optim.Adam, lr=0.1)),
        (partial(fgan.adamw, 0.1), partial(torch.optim.AdamW, lr=0.1)),
    ]:
        optimizer, params, own = build(), {"w": start}, nn.Parameter(start.clone())
        state, twin = optimizer.init(params), reference([own])
        for _ in range(5):
            own.grad = torch.randn_like(own)
            params, state = optimizer.update({"w": own.grad}, state, params)
            twin.step()
        assert_close(params["w"], own.detach(), 1e-12)


def test_layers_in_evaluation_mode_stay_in_it():
    """A frozen BatchNorm keeps its statistics, and a critic with one has a penalty."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)).double()
    backbone(torch.randn(50, 2, dtype=torch.float64))
    backbone.eval().requires_grad_(False)
    critic = nn.Sequential(backbone, nn.Tanh(), nn.Linear(4, 1)).double()
    algorithm = fgan.wgan_gp(make(Generator), critic, n_critic=1)
    state = algorithm.init()
    batch, noise = make_round(algorithm)
    only = batch._replace(real=batch.real[:1])
    new, info = algorithm.step(state, only, noise)
    assert_identical(new.critic.buffers, state.critic.buffers)
    with torch.no_grad():
        assert_close(info.real_score, critic(batch.real[0]).mean())
    # The mode of the whole module is an argument, and says nothing about its layers.
    whole = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)).double().eval()
    moved = fgan.gan(make(Generator), whole)
    state = moved.init()
    new, _ = moved.step(state, only, noise)
    assert not torch.equal(
        new.critic.buffers["0.running_mean"], state.critic.buffers["0.running_mean"]
    )


class Writing(nn.Module):
    """Clamps its weight in the forward pass, as clipping in many scripts does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 1), 3.0, dtype=torch.float64))

    def reset_parameters(self):
        """Nothing to draw."""

    def forward(self, x):
        self.weight.data.clamp_(-1, 1)
        return x @ self.weight


def test_modules_that_write_into_their_parameters_are_refused():
    """The state that was passed in would change."""
    with pytest.raises(ValueError, match=r"'0' \(Embedding\) has max_norm"):
        fgan.make_functional(nn.Sequential(nn.Embedding(4, 2, max_norm=1.0)))
    with pytest.raises(ValueError, match=r"'' \(EmbeddingBag\) has max_norm"):
        fgan.make_functional(nn.EmbeddingBag(4, 2, max_norm=1.0))
    with pytest.raises(ValueError, match=r"'0' \(Embedding\) has sparse gradients"):
        fgan.make_functional(nn.Sequential(nn.Embedding(4, 2, sparse=True)))
    with pytest.raises(ValueError, match=r"critic \(Writing\) writes into its parameter 'weight'"):
        fgan.gan(make(Generator), Writing())


class Caching(nn.Module):
    """Keeps a constant from its first call, its last features, and a table by size."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1, dtype=torch.float64)
        self.table, self.constant, self.features = {}, None, None
        self.last, self.all = {}, []

    def forward(self, x):
        if self.constant is None:
            self.constant = torch.arange(2, device=x.device) + x.new_zeros(2)
        if len(x) not in self.table:
            self.table[len(x)] = torch.full_like(x, 0.5)
        self.features = x * self.table[len(x)] + self.constant
        self.last["features"] = self.features
        self.all.clear()
        self.all.append(self.features)
        return self.linear(self.features)


def test_a_module_may_cache_tensors():
    """Nothing of a trace or a transform is left in it: later rounds, compiled or not, are right."""
    critic = Caching()
    critic(torch.randn(3, 2, dtype=torch.float64))  # a trial pass leaves results of autograd
    algorithm = fgan.wgan_gp(make(Generator), critic, n_critic=2)
    state = algorithm.init(0)
    rounds = [make_round(algorithm, index=i) for i in range(2)]
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    expected = [algorithm.step(state, *each)[1] for each in rounds]
    for each, eager in zip(rounds * 2, expected * 2, strict=True):
        assert_close(compiled.step(state, *each)[1], eager, 1e-9)
        assert_identical(algorithm.step(state, *each)[1], eager)


class OneHot(nn.Module):
    """A conditional critic as people write it."""

    def __init__(self, inner, last_axis):
        super().__init__()
        self.inner, self.last_axis = inner, last_axis

    def forward(self, x, label):
        code = nn.functional.one_hot(label, num_classes=3).to(x.dtype)
        return self.inner(torch.cat([x, code], dim=1))


def test_one_hot_compiles():
    """Its look at the largest label has no place in a traced program."""
    generator = OneHot(nn.Linear(LATENT + 3, 2), 2).double()
    critic = OneHot(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), 2).double()
    algorithm = fgan.wgan_gp(generator, critic, latent_dim=LATENT, n_critic=2)
    state, inputs = algorithm.init(0), make_round(algorithm, conditional=True)
    compiled = fgan.compile(algorithm, donate=False, backend="interpreter")
    assert_close(compiled.step(state, *inputs), algorithm.step(state, *inputs), 1e-9)


class OneHotOfAll(OneHot):
    """The number of classes is the largest label's."""

    def forward(self, x, label):
        code = nn.functional.one_hot(label).to(x.dtype)
        return self.inner(torch.cat([x, code], dim=1))


def test_one_hot_without_a_number_of_classes_does_not_compile():
    """The shape would follow from the labels' values; the error names the line."""
    critic = OneHotOfAll(nn.Sequential(nn.Linear(5, 1)), 2).double()
    algorithm = fgan.gan(make(Generator, conditional=True), critic)
    inputs = make_round(algorithm, conditional=True)
    compiled = fgan.compile(algorithm, backend="interpreter")
    with pytest.raises(ValueError, match=r"cannot read the value.*test_wrong_inputs.py.*one_hot"):
        compiled.step(algorithm.init(0), *inputs)


class Branching(nn.Module):
    """Reads a value, so it is no straight line of operations."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1, dtype=torch.float64)

    def forward(self, x):
        y = self.linear(x)
        return y if y.sum().item() > 0 else 2 * y


def test_a_program_that_reads_a_value_names_the_line():
    """torch's own message speaks of symbols."""
    algorithm = fgan.gan(make(Generator), Branching())
    compiled = fgan.compile(algorithm, backend="interpreter")
    with pytest.raises(ValueError, match=r"cannot read the value.*test_wrong_inputs.py.*item"):
        compiled.step(algorithm.init(0), *make_round(algorithm))


class Squashing(nn.Module):
    """Ends in a sigmoid that is no layer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1, dtype=torch.float64)

    def forward(self, x):
        return torch.sigmoid(self.linear(x)).squeeze(1)


@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()),
        lambda: nn.Sequential(nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), nn.Flatten(0)),
        Squashing,
    ],
)
def test_a_critic_that_ends_in_a_sigmoid_is_refused(name, build):
    """The losses apply the sigmoid themselves."""
    with pytest.raises(ValueError, match=r"(?i)critic ends in sigmoid"):
        RECIPES[name](make(Generator), build().double())
    inside = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid(), nn.Linear(1, 1)).double()
    RECIPES[name](make(Generator), inside)


@pytest.mark.parametrize("updates", [1, 5, 8, 9, 11, 100])
def test_fakes_of_many_updates_are_drawn_in_portions(updates):
    """Compiled rounds draw at most eight at once, and give what eager ones give."""
    algorithm = fgan.wgan(*pair(dtype=torch.float64), n_critic=updates)
    state = algorithm.init(0)
    sizes = []

    def all_fakes(state, latents, conditions):
        sizes.append(len(latents))
        return torch.stack([algorithm.fakes(state, latent) for latent in latents])

    batch, noise = make_round(algorithm)
    got = fgan.game.step(algorithm.parts, state, batch, noise, all_fakes=all_fakes)
    assert_identical(got, algorithm.step(state, batch, noise))
    assert sum(sizes) == updates
    assert max(sizes) <= 8
    assert len(set(sizes)) == 1 or updates in (9, 11)


def test_wide_conditions_are_compared_in_memory_of_their_own_size():
    """The partners are those that a comparison of all pairs finds, for every dtype."""
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8):
        kinds = torch.randint(0, 255, (4, 3, 40), generator=generator).to(dtype)
        kinds[1] = kinds[0]
        kinds[1, 2, 39] = kinds[0, 2, 39] + 1  # differs in one number
        if dtype.is_floating_point:
            kinds[0, 0, 0], kinds[2, 0, 0] = 0.0, -0.0
        choice = torch.randint(0, 4, (24,), generator=generator)
        images = kinds[choice].clone()
        if dtype.is_floating_point:
            images[::2, 0, 0] = images[::2, 0, 0] * 1.0 + 0.0  # one zero of two signs
        expected = partners((choice,), 24, images.device)
        assert torch.equal(partners((images,), 24, images.device), expected)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):  # such as masks
        binary = torch.randint(0, 2, (20_000, 256), generator=generator).to(dtype)
        assert len(fingerprints(binary).unique(dim=0)) == len(binary.unique(dim=0))
    rows = torch.zeros(2, 100, dtype=torch.float64)
    rows[1, 7] = 1e-300
    assert not torch.equal(*fingerprints(rows))


def test_float64_data_before_float32_networks_are_named():
    """NumPy's default dtype is not torch's."""
    algorithm = fgan.wgan_gp(*pair(dtype=torch.float32), n_critic=2)
    state = algorithm.init(0)
    batch, noise = make_round(algorithm)
    assert batch.real.dtype is torch.float64
    with pytest.raises(ValueError, match=r"real is torch.float64, .*real\.to\(torch.float32"):
        algorithm.step(state, batch, noise)
    with pytest.raises(ValueError, match=r"parameters of Critic are float32.*float64"):
        algorithm.score(state, batch.real[0])
    with pytest.raises(ValueError, match=r"parameters of Generator are float32.*float64"):
        algorithm.generate(state, torch.randn(4, LATENT, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, b, n: (tuple(s), b, n), "the state is a GANState"),
        (lambda s, b, n: (s, tuple(b), n), "the batch is a Batch"),
        (lambda s, b, n: (s, b.real, n), "the batch is a Batch"),
        (lambda s, b, n: (s, b, tuple(n)), "the noise is a Noise"),
        (lambda s, b, n: (b, s, n), "the state is a GANState"),
        (lambda s, b, n: (s, b._replace(real=[b.real]), n), "real is a Tensor, and a list"),
        (lambda s, b, n: (s, b._replace(real=b.real[0, 0]), n), r"batch.real"),
        (lambda s, b, n: (s, b._replace(condition=(b.real, b.real)), n), "the condition is one"),
    ],
)
def test_a_round_of_other_things_is_refused(change, message):
    """Tuples, swapped arguments, lists."""
    algorithm, state = algorithm_and_state("gan")
    with pytest.raises(ValueError, match=message):
        algorithm.step(*change(state, *make_round(algorithm)))


def test_networks_are_modules():
    """A class, or a function, is none."""
    for bad in (Generator, lambda z: z, None):
        for recipe in RECIPES.values():
            with pytest.raises(ValueError, match=r"is an nn\.Module"):
                recipe(bad, make(Critic))
            with pytest.raises(ValueError, match=r"is an nn\.Module"):
                recipe(make(Generator), bad)


def test_objectives_are_made_of_functions():
    """Numbers in the place of losses and penalties."""
    with pytest.raises(ValueError, match="critic_loss is a function"):
        adversarial(0.5)
    with pytest.raises(ValueError, match="generator_loss is a function"):
        adversarial_generator("hinge")
    with pytest.raises(ValueError, match="a penalty's function"):
        adversarial(losses.hinge_critic_loss, Penalty(10.0))


class Scaled(nn.Linear):
    """A layer of one's own, so that it is tried when the algorithm is made."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_networks_of_ones_own_are_made_in_inference_mode():
    """Autograd is off there, and `torch.func` is not."""
    with torch.inference_mode():
        players = Scaled(LATENT, 2).double(), Scaled(2, 1).double()
        algorithm = fgan.gan(*players, latent_dim=LATENT)
        assert algorithm.latent_dim == LATENT
