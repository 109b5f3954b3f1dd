"""`fgan.load`: what a run left behind, as networks and samples."""

import warnings

import pytest
import torch
from helpers import Labelled, Plain, pair
from torch import nn

import fgan
from fgan.cli import main
from fgan.run.latents import interpolated, truncated
from fgan.seeds import mix_seed

TINY = [
    *("--latent-dim", "4", "--width", "8", "--batch-size", "8", "--n-critic", "2"),
    *("--rounds", "3", "--device", "cpu"),
]
RUNS = {
    "images": ["wgan-gp", "--data", "glyphs", "--no-ema-warmup"],
    "images, unconditional": ["wgan-gp", "--data", "glyphs", "--unconditional"],
    "points": ["wgan-gp", "--data", "rings"],
    "points, unconditional": ["gan", "--data", "rings", "--unconditional"],
    "spectral norm": ["hinge-gan", "--data", "glyphs", "--critic-norm", "spectral"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run of three rounds of every kind."""
    root = tmp_path_factory.mktemp("runs")
    for name, options in RUNS.items():
        assert main(["train", *options, *TINY, "--out", str(root / name)]) == 0
    return root


def latents_of(num, latent_dim=4, seed=0):
    """The latents of `fgan sample`, written down once more."""
    source = torch.Generator().manual_seed(mix_seed(seed))
    return torch.randn(num, latent_dim, generator=source)


@pytest.mark.parametrize("name", list(RUNS))
def test_modules_and_samples_have_the_bits_of_the_algorithm(folders, name):
    """`sample`, the generator as a module and `algorithm.generate` agree to 0, the critic too."""
    trained = fgan.load(folders / name, "cpu")
    latent = latents_of(7, seed=5)
    labels = None
    if trained.config.conditional:
        labels = torch.arange(7) % len(trained.class_names)
    samples = trained.algorithm.generate(trained.state, latent, labels)
    conditions = () if labels is None else (labels,)
    assert torch.equal(trained.sample(7, seed=5), samples)
    with torch.no_grad():
        assert torch.equal(trained.generator(latent, *conditions), samples)
        scores = trained.critic(samples, *conditions).flatten()
    assert torch.equal(scores, trained.algorithm.score(trained.state, samples, labels))
    assert int(trained.state.round) == 3
    assert not any(layer.training for layer in trained.generator.modules())
    assert not any(layer.training for layer in trained.critic.modules())
    assert not trained.sample(2).requires_grad


def test_the_generator_has_the_average_where_one_is_kept(folders):
    """Its weights and BatchNorm's statistics are those of the EMA, and not the latest ones."""
    trained = fgan.load(folders / "images", "cpu")
    tensors = dict(trained.generator.named_parameters()) | dict(trained.generator.named_buffers())
    averages = trained.state.ema.params | trained.state.ema.buffers
    assert tensors.keys() == averages.keys()
    assert all(torch.equal(tensors[name], averages[name]) for name in tensors)
    assert any("running_mean" in name for name in tensors)
    latest = trained.state.generator.params
    assert not all(torch.equal(tensors[name], latest[name]) for name in latest)


def test_modules_are_copies(folders):
    """What is done to a module reaches neither the state nor the next samples."""
    trained = fgan.load(folders / "images", "cpu")
    before = trained.sample(3)
    with torch.no_grad():
        for tensor in (*trained.generator.parameters(), *trained.generator.buffers()):
            tensor.zero_()
    assert torch.equal(trained.sample(3), before)


def test_conditions_by_name_by_number_and_as_a_tensor(folders):
    """The four ways agree, and classes come in turn without one."""
    trained = fgan.load(folders / "points", "cpu")
    name = trained.class_names[2]
    third = trained.sample(4, name)
    for condition in (2, "2", torch.tensor(2), torch.full((4,), 2)):
        assert torch.equal(trained.sample(4, condition), third)
    in_turn = trained.sample(4)
    assert torch.equal(in_turn, trained.sample(4, torch.tensor([0, 1, 2, 0])))
    assert not torch.equal(in_turn, third)


@pytest.mark.parametrize("condition", ["radius 0.6", "9", 3, -1, 1.5, True, torch.tensor([0, 3])])
def test_a_class_that_is_none_is_an_error_with_all_names(folders, condition):
    """The message lists the classes; a slip of the pen is answered with the name that was meant."""
    trained = fgan.load(folders / "points", "cpu")
    with pytest.raises(ValueError, match=r"radius 0.5, radius 1.0, radius 1.5") as error:
        trained.sample(2, condition)
    if condition == "radius 0.6":
        assert "did you mean 'radius 0.5'?" in str(error.value)


def test_wrong_arguments_of_sample(folders):
    """A count of none, a condition that is not one a sample, and one where there are none."""
    trained = fgan.load(folders / "points", "cpu")
    with pytest.raises(ValueError, match="num is a whole number from 1"):
        trained.sample(0)
    with pytest.raises(ValueError, match="3 samples have 3 conditions"):
        trained.sample(3, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"truncation is a positive number such as 0.7, and -1"):
        trained.sample(3, truncation=-1)
    with pytest.raises(ValueError, match="unconditional: leave the condition out"):
        fgan.load(folders / "points, unconditional", "cpu").sample(3, 0)


def test_many_samples_have_the_first_ones_of_few(folders):
    """More than are generated at once: as many as asked for, the first ones the same."""
    trained = fgan.load(folders / "points", "cpu")
    many = trained.sample(2500, 1)
    assert many.shape == (2500, 2)
    torch.testing.assert_close(many[:900], trained.sample(2500, torch.ones(2500).long())[:900])
    expected = trained.algorithm.generate(trained.state, latents_of(2500), torch.full((2500,), 1))
    torch.testing.assert_close(many, expected)


def test_a_run_can_be_evaluated(folders):
    """`fgan.evaluation.evaluate` takes what `fgan.load` gives."""
    found = fgan.evaluation.evaluate(fgan.load(folders / "points", "cpu"), samples=60)
    assert {"frechet_distance", "modes"} & found.figures.keys()


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(folders, tmp_path):
    """The latest whole state is loaded, with a warning."""
    out = tmp_path / "run"
    options = ["gan", "--data", "rings", *TINY, "--sample-every", "2", "--out", str(out)]
    assert main(["train", *options]) == 0
    latest = out / "checkpoint.pt"
    latest.write_bytes(latest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"checkpoint.pt cannot be read.*round-000002.pt is used"):
        trained = fgan.load(out, "cpu")
    assert int(trained.state.round) == 2


@pytest.mark.parametrize("ema_decay", [None, 0.5])
@pytest.mark.parametrize("with_labels", [False, True])
def test_a_scripts_run_takes_its_networks(tmp_path, with_labels, ema_decay):
    """Its algorithm's samples and scores come back; of the networks handed in nothing changes."""
    built = pair(conditional=with_labels, norm=True, dtype=torch.float32)
    wrap = Labelled if with_labels else Plain
    generator, critic = (wrap(network) for network in built)
    algorithm = fgan.wgan_gp(generator, critic, ema_decay=ema_decay)
    state = fgan.train(
        algorithm,
        fgan.data.load("rings"),
        rounds=2,
        out=tmp_path / "run",
        batch_size=8,
        conditional=with_labels,
    )
    before = [tensor.clone() for tensor in generator.state_dict().values()]
    trained = fgan.load(tmp_path / "run", generator=generator, critic=critic)
    assert all(map(torch.equal, before, generator.state_dict().values()))
    assert trained.config.conditional == with_labels
    assert trained.class_names == ("radius 0.5", "radius 1.0", "radius 1.5")
    latent, labels = torch.randn(6, 3), torch.arange(6) % 3
    labels = labels if with_labels else None
    samples = algorithm.generate(state, latent, labels)
    assert torch.equal(trained.algorithm.generate(trained.state, latent, labels), samples)
    scores = trained.algorithm.score(trained.state, samples, labels)
    assert torch.equal(scores, algorithm.score(state, samples, labels))
    with torch.no_grad():
        assert torch.equal(trained.generator(latent, *[labels] * with_labels), samples)
    assert trained.sample(5).shape == (5, 2)
    with pytest.raises(ValueError, match="its recipe is not written down"):
        trained.algorithm.step(state, None, None)


def test_a_generator_that_needs_no_condition_is_sampled_without(tmp_path):
    """Whether a script's run is conditional is asked of the generator: here a condition may go."""

    class Either(nn.Module):
        latent_dim = 3

        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 2)

        def forward(self, z, condition=None):
            return self.net(z) + (0 if condition is None else condition[:, None])

    generator, critic = Either(), fgan.models.mlp_critic((2,), hidden=(8,))
    algorithm = fgan.gan(generator, critic)
    fgan.train(algorithm, "rings", rounds=1, out=tmp_path / "run", batch_size=8, conditional=False)
    trained = fgan.load(tmp_path / "run", generator=generator, critic=critic)
    assert not trained.config.conditional
    shifted = trained.sample(4, 2)
    torch.testing.assert_close(shifted, trained.sample(4) + 2)


def test_runs_that_cannot_be_loaded_say_why(folders, tmp_path):
    """No folder, a script's run without networks, one network of two, other networks."""
    with pytest.raises(ValueError, match=r"there is no run in .*nowhere"):
        fgan.load(tmp_path / "nowhere")
    generator = fgan.models.mlp_generator((2,), 4, hidden=(8,))
    critic = fgan.models.mlp_critic((2,), hidden=(8,))
    out = tmp_path / "script"
    algorithm = fgan.gan(generator, critic)
    fgan.train(algorithm, "rings", rounds=1, out=out, batch_size=8, conditional=False)
    with pytest.raises(ValueError, match=r"fgan.load\(folder, generator=..., critic=...\)"):
        fgan.load(out)
    with pytest.raises(ValueError, match="together, or neither"):
        fgan.load(out, generator=generator)
    with pytest.raises(ValueError, match=r"the generator is a torch.nn.Module, and .* was given"):
        fgan.load(out, generator="generator", critic=critic)
    with pytest.raises(ValueError, match=r"set the attribute generator.latent_dim"):
        fgan.load(out, generator=torch.nn.Linear(4, 2), critic=critic)
    wider = fgan.models.mlp_generator((2,), 4, hidden=(9,))
    with pytest.raises(ValueError, match="is of another model"):
        fgan.load(out, generator=wider, critic=critic)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (out / "checkpoint.pt").unlink()
        with pytest.raises(ValueError, match="there is no checkpoint"):
            fgan.load(out, generator=generator, critic=critic)


def test_truncated_latents_are_quantiles_of_the_truncated_normal():
    """Against SciPy's truncated normal; nothing lies beyond the limit, nothing changes its sign."""
    stats = pytest.importorskip("scipy.stats")
    latent = torch.cat([torch.randn(200, dtype=torch.float64), torch.tensor([-9.0, 0.0, 9.0])])
    for limit in (0.01, 0.7, 3.0):
        expected = stats.truncnorm(-limit, limit).ppf(stats.norm.cdf(latent.numpy()))
        moved = truncated(latent, limit)
        torch.testing.assert_close(moved, torch.from_numpy(expected), atol=1e-9, rtol=0)
        assert moved.abs().max() <= limit
    torch.testing.assert_close(truncated(latent, 50.0), latent, atol=1e-9, rtol=0)


def test_interpolation_keeps_ends_lengths_and_even_steps():
    """Between vectors of one length: every step has that length, and the same angle to the next."""
    ends = torch.nn.functional.normalize(torch.randn(2, 3, 8, dtype=torch.float64), dim=-1) * 2
    path = interpolated(*ends, 5)
    assert torch.equal(path[:, 0], ends[0])
    assert torch.equal(path[:, -1], ends[1])
    torch.testing.assert_close(path.norm(dim=-1), torch.full((3, 5), 2.0, dtype=torch.float64))
    angles = (path[:, 1:] * path[:, :-1]).sum(-1)
    torch.testing.assert_close(angles, angles[:, :1].expand(-1, 4))
    same = interpolated(ends[0], ends[0], 3)
    torch.testing.assert_close(same, ends[0][:, None].expand(-1, 3, -1))
    opposite = interpolated(ends[0], -ends[0], 3)
    assert opposite.isfinite().all()
    with pytest.raises(ValueError, match="whole number from 2"):
        interpolated(*ends, 1)


def test_loading_does_not_depend_on_the_default_device(folders):
    """Where new tensors have no numbers by default, the samples are the same ones."""
    expected = fgan.load(folders / "images", "cpu").sample(3, truncation=0.7)
    torch.set_default_device("meta")
    try:
        found = fgan.load(folders / "images", "cpu").sample(3, truncation=0.7)
    finally:
        torch.set_default_device(None)
    assert torch.equal(found, expected)
