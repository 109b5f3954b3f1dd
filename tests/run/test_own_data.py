"""Runs on data of one's own: any shape, any source, any condition, and from a state."""

import io
import json

import pytest
import torch
from helpers import Critic, Generator, assert_identical
from PIL import Image
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fgan
from fgan.cli import main
from fgan.data import DataSet
from fgan.run import pictures, plots
from fgan.run.progress import Display
from fgan.run.replay import replay
from fgan.run.samples import save_samples

SETTINGS = {"rounds": 4, "log_every": 1, "sample_every": 2}


def quiet(rounds=4):
    """A display that nobody sees."""
    return Display(rounds, console=Console(file=io.StringIO()))


def game(shape=(2,), classes=False, **options):
    """A small GAN of samples of any shape."""
    networks = Generator(shape, classes).float(), Critic(shape, classes).float()
    return fgan.wgan_gp(*networks, **{"n_critic": 2} | options)


class Conditional(nn.Module):
    """A network that takes a condition of any shape, a vector or an image, as numbers."""

    def __init__(self, inputs, numbers, outputs, embed=0):
        super().__init__()
        self.latent_dim = inputs
        self.embed = nn.Embedding(embed, 4) if embed else None
        size = torch.Size(outputs).numel()
        self.layers = nn.Sequential(nn.Linear(inputs + numbers, 8), nn.Tanh(), nn.Linear(8, size))
        self.outputs = outputs

    def forward(self, x, condition):
        given = condition.flatten(1) if self.embed is None else self.embed(condition).flatten(1)
        return self.layers(torch.cat([x.flatten(1), given], 1)).reshape(-1, *self.outputs)


def losses(folder):
    """The figures of a run, line by line."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["float", "uint8"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((5,), (4 * 204, 2 * 122)),
        ((1,), (204, 122)),
        ((2, 128), (6 * 204, 4 * 108)),
        ((1, 12, 20), (8 * (20 * 3 + 4), 8 * (12 * 3 + 4))),
        ((1, 8, 8, 8), (8 * 68, 8 * 68)),
        ((2, 2, 2, 2, 2), None),
    ],
)
def test_samples_of_any_shape_are_trained_with_pictures(shape, size, kind, tmp_path):
    """Tables, signals, images, volumes; and what has no picture is trained all the same."""
    source = torch.Generator().manual_seed(1)
    samples = torch.rand(40, *shape, generator=source) * 2 - 1
    samples = ((samples + 1) * 127).to(torch.uint8) if kind == "uint8" else samples
    state = fgan.train(game(shape), DataSet("own", samples), out=tmp_path, batch_size=8, **SETTINGS)
    assert int(state.round) == 4
    drawn = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert drawn == ([] if size is None else ["round-000002.png", "round-000004.png"])
    for name in drawn:
        with Image.open(tmp_path / "samples" / name) as picture:
            words = picture.height - size[1]  # headings of the slices, a line below plots
            assert (picture.width, words in (0, 16, 20)) == (size[0], True)
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 2


def test_line_plots_show_the_signal(tmp_path):
    """A step from low to high is drawn low on its left half and high on its right half."""
    step = torch.cat([-torch.ones(1, 1, 32), torch.ones(1, 1, 32)], dim=2)
    plots.save_lines(tmp_path / "step.png", step, columns=1)
    with Image.open(tmp_path / "step.png") as picture:
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        pixels = pixels.view(picture.height, picture.width, 3)
    coloured = (pixels[..., 0].int() - pixels[..., 2]).abs() > 60
    rows = coloured.nonzero()
    left, right = rows[rows[:, 1] < 80], rows[rows[:, 1] > 120]
    assert left[:, 0].min() > 90
    assert right[:, 0].max() < 20


def test_histograms_show_where_the_numbers_are(tmp_path):
    """All numbers of one column in the last tenth of the real range: the line is high there."""
    real = torch.linspace(0, 1, 500)[:, None]
    plots.save_histograms(tmp_path / "own.png", torch.full((100, 1), 0.95), real)
    with Image.open(tmp_path / "own.png") as picture:
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        pixels = pixels.view(picture.height, picture.width, 3)
    blue = ((pixels[..., 2].int() - pixels[..., 0]) > 100).nonzero()
    top = blue[blue[:, 0] == blue[:, 0].min()]
    assert top[:, 1].min() > 6 + 0.9 * 192
    assert (pixels == 200).all(-1).any(), "the real column is drawn in grey"


def test_the_scale_of_real_bytes_is_that_of_the_samples(tmp_path):
    """uint8 columns are trained on in [-1, 1], and drawn so: equal columns give equal outlines."""
    bytes_ = torch.arange(256, dtype=torch.uint8)[:, None].repeat(2, 1)
    samples = fgan.data.normalise(bytes_)[::2]
    for name, column in (("bytes", bytes_), ("floats", fgan.data.normalise(bytes_))):
        save_samples(tmp_path / f"{name}.png", samples, None, DataSet("own", column))
    drawn = [(tmp_path / f"{name}.png").read_bytes() for name in ("bytes", "floats")]
    assert drawn[0] == drawn[1]


@pytest.fixture
def words(monkeypatch):
    """All small type of the pictures, as it is written."""
    written = []
    draw = pictures.text
    monkeypatch.setattr(
        pictures, "text", lambda d, at, word: (written.append(word), draw(d, at, word))
    )
    return written


def test_a_line_below_says_what_is_drawn(tmp_path, words):
    """Which colour is what, the scale, and how many channels and columns are left out."""
    line = torch.linspace(-1, 1, 16).expand(2, 9, 16)
    plots.save_lines(tmp_path / "a.png", line[:, :8], columns=2)
    plots.save_lines(tmp_path / "b.png", line, columns=2, real=2 * line)
    plots.save_histograms(tmp_path / "c.png", torch.randn(20, 1), torch.randn(20, 1))
    plots.save_histograms(tmp_path / "d.png", torch.randn(20, 40))
    assert [word for word in words if not word.startswith("column ")] == [
        "scale: -1 to 1",
        "grey: real; scale: -2 to 2; channels 1 to 8 of 9",
        "blue: generated, grey: real",
        "columns 1 to 16 of 40",
    ]


def test_channels_of_other_units_are_not_flat(tmp_path, words):
    """A channel whose numbers are a thousand times as large gives the same picture."""
    wave = torch.randn(1, 2, 32)
    wave[:, 1] = wave[:, 0].flip(-1)
    factor = torch.tensor([1.0, 1000.0])[:, None]
    plots.save_lines(tmp_path / "a.png", wave, columns=1)
    plots.save_lines(tmp_path / "b.png", wave * factor, columns=1)
    assert words[1] == "every channel on a scale of its own"
    alike = []
    for name in "ab":
        with Image.open(tmp_path / f"{name}.png") as picture:
            alike.append(picture.crop((0, 0, 204, 108)).tobytes())
    assert alike[0] == alike[1]


def test_volumes_have_the_names_of_their_classes(tmp_path):
    """Before each row of slices; a name that is too long is cut, and so are headings."""
    volumes, plain = torch.rand(3, 1, 4, 8, 8) * 2 - 1, torch.zeros(6).long()
    data = DataSet("own", volumes.repeat(2, 1, 1, 1, 1), plain, ("a", "b" * 500))
    save_samples(tmp_path / "a.png", volumes, None, DataSet("own", volumes))
    save_samples(tmp_path / "b.png", volumes, torch.tensor([0, 0, 0]), data)
    save_samples(tmp_path / "c.png", volumes, torch.tensor([0, 1, 0]), data)
    widths, slices = [], set()
    for name in "abc":
        with Image.open(tmp_path / f"{name}.png") as picture:
            widths.append(picture.width)
            inner = picture.crop((picture.width - 4 * 68, 0, picture.width, picture.height))
            slices.add(inner.tobytes())
    assert len(slices) == 1
    assert widths[0] == 4 * 68
    assert widths[0] + 8 < widths[1] < widths[2] <= widths[0] + 128


def test_constant_and_single_numbers_are_drawn(tmp_path):
    """No range, one value a signal, one sample."""
    for i, shape in enumerate([(3, 1, 1), (1, 2, 7), (1, 3), (4,), (1, 1, 1, 5, 5)]):
        data = DataSet("flat", torch.ones(shape))
        save_samples(tmp_path / f"{i}.png", torch.ones(shape), None, data)
        assert (tmp_path / f"{i}.png").exists()


def test_a_loader_and_a_data_set_give_the_same_run(tmp_path):
    """The same samples in the same order: every bit of the state, and every figure."""
    data = DataSet("line", torch.randn(24, 2), torch.arange(24) % 3, ("a", "b", "c"))
    rows = torch.arange(24)
    numbered = DataSet("rows", rows[:, None].float())
    order = [
        batch.flatten().int().tolist()
        for whole in fgan.data.batches(numbered, 8, 2, rounds=4, seed=5)
        for batch in whole.real
    ]
    held = TensorDataset(data.samples, data.labels)
    settings = SETTINGS | {"seed": 5}
    want = fgan.train(game(classes=True), data, out=tmp_path / "a", batch_size=8, **settings)
    for name, other, options in [
        ("b", DataLoader(held, batch_sampler=order), {}),
        ("c", held, {"batch_size": 8}),
    ]:
        out = tmp_path / name
        got = fgan.train(game(classes=True), other, out=out, **options, **settings)
        assert_identical(got, want)
        assert losses(out) == losses(tmp_path / "a")


def test_a_loader_and_a_name_give_the_same_run(tmp_path):
    """Points called by their name, and a DataLoader of the same points in the same order."""
    data = fgan.data.load("rings")
    numbered = DataSet("rows", torch.arange(len(data))[:, None].float())
    rounds = fgan.data.batches(numbered, 8, 2, rounds=2, seed=3)
    order = [batch.flatten().int().tolist() for whole in rounds for batch in whole.real]
    loader = DataLoader(TensorDataset(data.samples, data.labels), batch_sampler=order)
    settings = {"rounds": 2, "log_every": 1, "seed": 3}
    algorithm = game(classes=True)
    want = fgan.train(algorithm, "rings", out=tmp_path / "a", batch_size=8, **settings)
    assert_identical(fgan.train(algorithm, loader, out=tmp_path / "b", **settings), want)
    assert losses(tmp_path / "b") == losses(tmp_path / "a")


@pytest.mark.filterwarnings("ignore:DataLoader. batches shorter")
def test_a_run_on_a_loader_is_resumed_where_it_was(tmp_path):
    """Without shuffling, and with rows by number: the bits of a run that nothing interrupted."""
    held = TensorDataset(torch.randn(22, 2))
    for name, data, options in [
        ("loader", DataLoader(held, batch_size=4), {}),
        ("rows", held, {"batch_size": 4}),
    ]:
        whole = fgan.train(game(), data, out=tmp_path / name, **SETTINGS, **options)
        parts = {"out": tmp_path / f"{name}-parts", "log_every": 1, "sample_every": 2, **options}
        fgan.train(game(), data, rounds=3, **parts)
        assert_identical(fgan.train(game(), data, rounds=4, resume=True, **parts), whole)
        assert losses(parts["out"]) == losses(tmp_path / name)


class Stateful:
    """A loader whose position is a number, in an endless order of its own."""

    def __init__(self, samples):
        self.samples, self.at = samples, 0

    def __iter__(self):
        while True:
            source = torch.Generator().manual_seed(self.at)
            self.at += 1
            yield self.samples[torch.randint(len(self.samples), (4,), generator=source)]

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def test_a_loader_that_says_its_position_is_resumed_there(tmp_path):
    """The position is kept beside the checkpoint, also of checkpoints before the latest."""
    samples = torch.randn(22, 2)
    whole = fgan.train(game(), Stateful(samples), out=tmp_path / "a", **SETTINGS)
    settings = {"out": tmp_path / "b", "log_every": 1, "sample_every": 1}
    fgan.train(game(), Stateful(samples), rounds=3, **settings)
    (tmp_path / "b" / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="the state after round 2"):
        got = fgan.train(game(), Stateful(samples), rounds=4, resume=True, **settings)
    assert_identical(got, whole)
    (tmp_path / "b" / "positions.pt").unlink()
    with pytest.warns(UserWarning, match="the order of Stateful is not resumed"):
        fgan.train(game(), Stateful(samples), rounds=5, resume=True, **settings)


@pytest.mark.parametrize(
    ("log_every", "sample_every", "logged"),
    [(10, 4, [2]), (2, 4, [2]), (1, 4, [1, 2]), (1, 2, [1, 2]), (1, 1, [1, 2]), (10, 1, [2])],
)
def test_a_run_ends_with_its_iterator(log_every, sample_every, logged, tmp_path):
    """The last round is saved and logged once, and the warning says what to do."""
    parts = iter(torch.randn(20, 2).split(4))
    every = {"log_every": log_every, "sample_every": sample_every}
    with pytest.warns(UserWarning, match="no more batches after round 2 of 4"):
        state = fgan.train(game(), parts, out=tmp_path, rounds=4, **every)
    assert int(state.round) == 2
    assert [line["round"] for line in losses(tmp_path)] == logged
    kept = fgan.run.checkpoints.load(tmp_path / "checkpoint.pt", like=state)
    assert_identical(kept, state)


def test_epochs_are_shown_beside_rounds(tmp_path):
    """Three rounds of two batches of four, of eight samples: three epochs."""
    sink = io.StringIO()
    display = Display(3, console=Console(file=sink, width=200))
    data = DataSet("own", torch.randn(8, 2))
    fgan.train(game(), data, rounds=3, out=tmp_path, batch_size=4, display=display, log_every=3)
    assert "round 3/3  epoch 3.0  " in sink.getvalue()


@pytest.mark.parametrize(
    ("labels", "numbers", "embed"),
    [
        (torch.randn(16, 3), 3, 0),
        (torch.arange(32).view(16, 2) % 4, 8, 4),
        (torch.arange(16) % 4, 4, 4),
        (torch.randint(256, (16, 1, 4, 4), dtype=torch.uint8), 16, 0),
    ],
    ids=["vectors", "several labels", "integers", "images"],
)
def test_conditions_of_any_kind_reach_both_networks(labels, numbers, embed, tmp_path):
    """Numbers, several labels, integers without names, and images, as in a translation."""
    shape = (1, 4, 4)
    generator = Conditional(3, numbers, shape, embed)
    critic = Conditional(16, numbers, (1,), embed)
    data = DataSet("own", torch.rand(16, *shape) * 2 - 1, labels)
    algorithm = fgan.wgan_gp(generator, critic, n_critic=1)
    fgan.train(algorithm, data, out=tmp_path, batch_size=4, display=quiet(), **SETTINGS)
    assert (tmp_path / "samples" / "round-000004.png").exists()


def test_conditional_follows_the_data_and_the_networks(tmp_path):
    """Labels that the networks do not take are left alone; what cannot go together is told."""
    data = DataSet("own", torch.randn(16, 2), torch.arange(16) % 3, ("a", "b", "c"))
    plain = DataSet("own", data.samples)

    def networks(classes):
        return (
            fgan.models.mlp_generator((2,), 3, num_classes=classes, hidden=(4,), norm="none"),
            fgan.models.mlp_critic((2,), num_classes=classes, hidden=(4,)),
        )

    with_classes, without = fgan.gan(*networks(3)), fgan.gan(*networks(None))
    settings = {"rounds": 1, "batch_size": 4}
    fgan.train(with_classes, data, out=tmp_path / "a", **settings)
    got = fgan.train(without, data, out=tmp_path / "b", **settings)
    want = fgan.train(without, plain, out=tmp_path / "c", **settings)
    assert_identical(got, want)
    for algorithm, given, conditional, message in [
        (with_classes, plain, None, "own has no labels, and the networks take a condition"),
        (with_classes, plain, True, "conditional is True, and own has no labels"),
        (with_classes, data, False, "has 3 classes and needs labels"),
        (without, data, True, "an unconditional generator takes no condition"),
        (fgan.gan(networks(3)[0], networks(None)[1]), data, None, "an unconditional critic takes"),
    ]:
        with pytest.raises(ValueError, match=message):
            fgan.train(algorithm, given, out=tmp_path / "d", conditional=conditional, **settings)
    assert not (tmp_path / "d").exists()


def test_a_module_of_ones_own_without_a_condition_is_followed_too(tmp_path):
    """What it takes is read off its signature."""
    data = DataSet("own", torch.randn(16, 2), torch.arange(16) % 3, ("a", "b", "c"))

    class One(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.layer, self.latent_dim = nn.Linear(2, size), 2

        def forward(self, x):
            return self.layer(x)

    algorithm = fgan.gan(One(2), One(1))
    fgan.train(algorithm, data, rounds=1, batch_size=4, out=tmp_path)


def test_a_run_starts_from_a_state(tmp_path):
    """The weights of the modules, or those of another run: with rates of 0 they stay."""
    data = DataSet("own", torch.randn(16, 2))
    algorithm = game(generator_optimizer=fgan.sgd(0.0), critic_optimizer=fgan.sgd(0.0))
    settings = SETTINGS | {"batch_size": 4}
    own = algorithm.init()
    drawn = fgan.train(algorithm, data, out=tmp_path / "a", **settings)
    kept = fgan.train(algorithm, data, out=tmp_path / "b", state=own, **settings)
    assert not torch.equal(drawn.generator.params["last.bias"], own.generator.params["last.bias"])
    assert_identical(kept.generator.params, own.generator.params)
    assert_identical(kept.critic.params, own.critic.params)
    assert int(own.round) == 0
    more = fgan.train(algorithm, data, out=tmp_path / "c", state=kept, **settings)
    assert int(more.round) == int(kept.round) == 4, "rounds are counted from 0 again"


def test_weights_that_nobody_can_draw_are_kept(tmp_path):
    """A bare parameter, such as a learned constant, has no `reset_parameters`: a state has it."""

    class Constant(nn.Module):
        latent_dim = 2

        def __init__(self):
            super().__init__()
            self.constant = nn.Parameter(torch.ones(2))

        def forward(self, z):
            return z + self.constant

    data, algorithm = DataSet("own", torch.randn(16, 2)), fgan.gan(Constant(), nn.Linear(2, 1))
    settings = SETTINGS | {"batch_size": 4, "out": tmp_path / "a"}
    with pytest.raises(ValueError, match=r"fgan.train\(..., state=algorithm.init\(\)\)"):
        fgan.train(algorithm, data, **settings)
    start = algorithm.init()
    whole = fgan.train(algorithm, data, state=start, **settings)
    parts = settings | {"out": tmp_path / "b"}
    fgan.train(algorithm, data, state=start, **parts | {"rounds": 3})
    assert_identical(fgan.train(algorithm, data, resume=True, **parts), whole)
    replayed = replay(algorithm, data, out=tmp_path / "b", round=3, batch_size=4, state=start)
    assert (replayed.start, replayed.place) == (2, None)


def test_a_run_from_a_state_is_the_loop_of_a_script_and_is_resumed(tmp_path):
    """The optimisers go on where they were, and the state that was given keeps its bits."""
    data, algorithm = DataSet("own", torch.randn(16, 2)), game()
    before = fgan.train(algorithm, data, out=tmp_path / "a", batch_size=4, **SETTINGS)
    given = fgan.tree.clone(before)
    settings = {"batch_size": 4, "seed": 7, "out": tmp_path / "b"}
    got = fgan.train(algorithm, data, rounds=3, state=given, **settings)
    assert_identical(given, before)
    state = before._replace(round=torch.zeros_like(before.round))
    for index, batch in enumerate(fgan.data.batches(data, 4, 2, rounds=5, seed=7)):
        if index == 3:
            assert_identical(got, state)
        state, _ = algorithm.step(state, batch, algorithm.noise(7, index, 4))
    resumed = fgan.train(algorithm, data, rounds=5, state=given, resume=True, **settings)
    assert_identical(resumed, state)


def test_a_state_of_another_algorithm_is_refused(tmp_path):
    """Before anything is written, with the first difference."""
    data, algorithm = DataSet("own", torch.randn(16, 2)), game()
    state = algorithm.init(0)
    flawed = fgan.tree.clone(state)
    flawed.critic.params["last.bias"].fill_(float("nan"))
    for wrong, message in [
        (state.generator, "state is a GANState"),
        ("runs/a", "state is a GANState, .* 'runs/a' was given"),
        (game(ema_decay=0.9).init(0), "it has an additional .ema"),
        (game((3,)).init(0), r"last.weight'\] is a tensor \[3, 6\] .* has a tensor \[2, 6\]"),
        (game(critic_optimizer=fgan.sgd(0.1)).init(0), r"it lacks \.critic\.opt_state"),
        (flawed, r"NaN or infinite values, the first in \.critic\.params\['last\.bias'\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            fgan.train(algorithm, data, rounds=1, batch_size=4, out=tmp_path / "a", state=wrong)
    assert not (tmp_path / "a").exists()


def test_a_folder_without_sub_folders_from_the_command_line(tmp_path):
    """Trained, sampled, resumed and replayed without conditions, and without a flag."""
    for shade in range(6):
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.new("L", (4, 4), 40 * shade).save(tmp_path / "data" / f"{shade}.png")
    out = str(tmp_path / "run")
    given = ["--model", "mlp", "--width", "4", "--latent-dim", "2", "--batch-size", "4"]
    given += ["--data", f"folder:{tmp_path / 'data'}", "--device", "cpu", "--out", out]
    assert main(["train", "gan", "--rounds", "2", *given]) == 0
    assert main(["train", "--resume", "--rounds", "3", "--out", out, "--device", "cpu"]) == 0
    picture = tmp_path / "more.png"
    assert main(["sample", out, "--num", "4", "--out", str(picture), "--device", "cpu"]) == 0
    assert picture.exists()
    assert main(["replay", out, "--device", "cpu", "--round", "3"]) == 0


def test_images_are_flipped_in_a_run(tmp_path):
    """The state is that of a loop over flipped batches."""
    data, algorithm = DataSet("own", torch.rand(16, 1, 4, 4)), game((1, 4, 4))
    got = fgan.train(algorithm, data, rounds=2, batch_size=4, out=tmp_path, flip=True)
    state = algorithm.init(0)
    for index, batch in enumerate(fgan.data.batches(data, 4, 2, rounds=2, flip=True)):
        state, _ = algorithm.step(state, batch, algorithm.noise(0, index, 4))
    assert_identical(got, state)


def test_a_donated_step_leaves_the_given_state_alone(tmp_path):
    """A step that writes into the memory of its state, as a compiled one does."""
    data, algorithm = DataSet("own", torch.randn(16, 2)), game()

    def step(state, batch, noise):
        new, info = algorithm.step(state, batch, noise)
        for old in fgan.tree.leaves(state):
            old.fill_(0)
        return new, info

    given = algorithm.init(0)
    kept = fgan.tree.clone(given)
    donating = algorithm._replace(step=step)
    fgan.train(donating, data, rounds=2, batch_size=4, out=tmp_path, state=given)
    assert_identical(given, kept)
