"""The loop as a function, its display, its pictures, and a run on real images."""

import io
import json
import signal
from pathlib import Path

import pytest
import torch
from helpers import Critic, Generator, assert_identical
from PIL import Image
from rich.console import Console

import fgan
from fgan.data import DataSet, real
from fgan.run import pictures
from fgan.run.loop import DivergenceError
from fgan.run.progress import Display


def points(count=64):
    """Points on a line, of one class."""
    samples = torch.linspace(-1, 1, count).repeat(2, 1).T.contiguous()
    return DataSet("line", samples, torch.zeros(count, dtype=torch.int64), ("all",))


def game(**options):
    """A small unconditional WGAN-GP on points, in float32."""
    settings = {"n_critic": 1} | options
    return fgan.wgan_gp(Generator().float(), Critic().float(), **settings)


def test_train_is_the_loop_that_a_script_would_write(tmp_path):
    """The final state has the bits of a plain loop over batches and noise."""
    algorithm = game()
    got = fgan.train(
        algorithm, points(), rounds=3, out=tmp_path, batch_size=8, seed=4, conditional=False
    )
    state = algorithm.init(4)
    stream = fgan.data.batches(points(), 8, 1, rounds=3, seed=4, conditional=False)
    for index, batch in enumerate(stream):
        state, _ = algorithm.step(state, batch, algorithm.noise(4, index, 8))
    assert_identical(got, state)


def test_a_schedule_of_critic_updates_resumes_where_it_was(tmp_path):
    """With a varying n_critic, two rounds and two more still equal four."""
    schedule = fgan.recipes.critic_warmup(n_critic=1, warm=3, first=1, every=3)
    algorithm = game(n_critic=schedule)
    settings = {"batch_size": 8, "conditional": False}
    whole = fgan.train(algorithm, points(), rounds=4, out=tmp_path / "a", **settings)
    fgan.train(algorithm, points(), rounds=2, out=tmp_path / "b", **settings)
    resumed = fgan.train(algorithm, points(), rounds=4, out=tmp_path / "b", resume=True, **settings)
    assert_identical(resumed, whole)


def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(tmp_path):
    """A loss that is not finite ends the run by name, and what was saved before stays usable."""
    wild = game(generator_optimizer=fgan.sgd(1e38), critic_optimizer=fgan.sgd(1e38))
    settings = {"out": tmp_path, "batch_size": 8, "conditional": False, "log_every": 1}
    good = fgan.train(
        game(generator_optimizer=fgan.sgd(1e-3), critic_optimizer=fgan.sgd(1e-3)),
        points(),
        rounds=2,
        **settings,
    )
    with pytest.raises(DivergenceError, match=r"round \d+: \w+ is (nan|-?inf)"):
        fgan.train(wild, points(), rounds=9, resume=True, **settings)
    kept = fgan.run.checkpoints.load(tmp_path / "checkpoint.pt", like=wild.init(0))
    assert_identical(kept, good)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert torch.tensor(list(json.loads(line).values())).isfinite().all()


def test_a_run_that_ends_before_its_first_checkpoint_leaves_the_folder_free(tmp_path):
    """Nothing is lost by beginning again there, with better settings."""
    wild = game(generator_optimizer=fgan.sgd(1e38), critic_optimizer=fgan.sgd(1e38))
    settings = {"rounds": 9, "batch_size": 8, "conditional": False, "sample_every": 9}
    with pytest.raises(DivergenceError):
        fgan.train(wild, points(), out=tmp_path, log_every=1, **settings)
    again = fgan.train(game(), points(), out=tmp_path, **settings)
    assert again.round.item() == 9
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rounds = [json.loads(line)["round"] for line in lines]
    assert rounds == sorted(set(rounds))


@pytest.mark.parametrize(
    ("size", "classes", "message"),
    [(3, 4, r"samples \[B, 3\], got \[2000, 2\]"), (2, 3, "label 3 is outside the model's 3")],
)
def test_a_critic_that_does_not_fit_is_refused_before_anything_is_written(
    size, classes, message, tmp_path
):
    """It is asked about generated samples of every class first."""
    critic = fgan.models.mlp_critic((size,), classes, hidden=(4,))
    generator = fgan.models.mlp_generator((2,), 3, num_classes=4, hidden=(4,), norm="none")
    data = DataSet("line", points().samples, torch.arange(64) % 4, tuple("abcd"))
    misfit, out = fgan.gan(generator, critic), tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        fgan.train(misfit, data, rounds=2, out=out, batch_size=8)
    assert not out.exists()


class InterruptedLate(Display):
    """A Ctrl-C after round 2 has begun to be written down as one of many."""

    def advance(self, done):
        super().advance(done)
        if done == 2:
            signal.raise_signal(signal.SIGINT)


def test_a_late_interrupt_loses_nothing(tmp_path):
    """The run ends with the state of its last round on the disk, also if that is the next one."""
    state = fgan.train(
        game(),
        points(),
        rounds=100,
        out=tmp_path,
        batch_size=8,
        conditional=False,
        display=InterruptedLate(100),
    )
    assert state.round.item() == 3
    assert_identical(fgan.run.checkpoints.load(tmp_path / "checkpoint.pt", like=state), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds is a whole number from 1"),
        ({"log_every": 0}, "log_every is a whole number from 1"),
        ({"sample_every": 0}, "sample_every is a whole number from 1"),
        ({"batch_size": 0}, "batch_size is a whole number from 1"),
        ({"data": "glyphs"}, r"shape \[2\], and those of glyphs are \[1, 28, 28\]"),
        ({"conditional": True}, "takes 1 input"),
        ({"resume": True}, "no checkpoint"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(options, message, tmp_path):
    """Settings, data and networks are checked before the first round and the first file."""
    out = tmp_path / "run"
    settings = {"data": points(), "rounds": 2, "out": out, "batch_size": 4, "conditional": False}
    strict = Generator().float()
    strict.forward = lambda z: Generator.forward(strict, z)
    algorithm = fgan.gan(strict, Critic().float())
    with pytest.raises(ValueError, match=message):
        fgan.train(algorithm, **settings | options)
    assert not out.exists()


def test_the_display_is_plain_without_a_terminal():
    """A line per figure at most every two seconds, and always the last; no control codes."""
    sink = io.StringIO()
    figures = dict.fromkeys(("critic_loss", "generator_loss", "distance", "penalty"), 1.5)
    with Display(10, console=Console(file=sink)) as display:
        for done in range(1, 11):
            display.advance(done)
            display.show(done, figures)
    lines = sink.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("round 10/10  ")
    assert "rounds/s" in lines[0]
    assert "critic 1.500" in lines[0]
    assert "\x1b" not in sink.getvalue()


def test_the_display_is_live_on_a_terminal():
    """On a terminal, the count, the speed and the losses are redrawn, all within 80 columns."""
    sink = io.StringIO()
    figures = dict.fromkeys(("critic_loss", "generator_loss", "distance", "penalty"), -12.5)
    console = Console(file=sink, force_terminal=True, width=80)
    with Display(10_000, start=1, console=console) as display:
        display.advance(3000)
        display.show(3000, figures)
    for piece in (" 3000/10000", "rounds/s", "critic -12.500", "penalty -12.500", "\x1b"):
        assert piece in sink.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_image_grids_show_the_pixels(channels, tmp_path):
    """The corners of the grid hold the values that were asked for, in any number of channels."""
    images = torch.full((3, channels, 64, 64), -1.0)
    images[1] = 1.0
    pictures.save_images(tmp_path / "grid.png", images, columns=2)
    with Image.open(tmp_path / "grid.png") as picture:
        caption = 0 if channels in (1, 3) else 16  # "channel 1 of 4"
        assert picture.size == (2 * 68, 2 * 68 + caption)
        first, second, blank = (picture.getpixel(at) for at in ((30, 30), (98, 30), (98, 98)))
    assert first == (0, 0, 0)
    assert second == (255, 255, 255)
    assert blank == (255, 255, 255)  # the fourth place is empty


def test_points_are_drawn_where_they_are(tmp_path):
    """The first axis points right, the second one up."""
    pictures.save_points(
        tmp_path / "p.png", torch.tensor([[1.0, 1.0]]), torch.tensor([0]), real=-torch.ones(1, 2)
    )
    with Image.open(tmp_path / "p.png") as picture:
        place = round(512 * (1 + 1 / 1.2) / 2)
        assert picture.getpixel((place, 512 - place)) == (204, 31, 31)
        assert picture.getpixel((512 - place, place)) == (200, 200, 200)
        assert picture.getpixel((256, 256)) == (255, 255, 255)


@pytest.mark.skipif(
    not real.DEBIAN_FASHION_MNIST.exists(), reason="dataset-fashion-mnist is not installed"
)
def test_a_few_rounds_on_fashion_mnist(tmp_path):
    """The convolutional pair learns from real images: the critic tells them from fakes at once."""
    generator = fgan.models.conv_generator((1, 28, 28), 16, num_classes=10, width=8)
    critic = fgan.models.conv_critic((1, 28, 28), num_classes=10, width=8)
    algorithm = fgan.wgan_gp(
        generator, critic, n_critic=3, critic_optimizer=fgan.adam(1e-3, betas=(0.0, 0.9))
    )
    state = fgan.train(
        algorithm, "fashion-mnist", rounds=6, out=tmp_path, batch_size=32, log_every=1
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["distance"] > 4 * abs(lines[0]["distance"])
    batch = next(fgan.data.batches("fashion-mnist", 32, seed=1))
    latent = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    fakes = algorithm.generate(state, latent, batch.condition[0])
    gap = algorithm.score(state, batch.real[0], batch.condition[0]).mean()
    gap -= algorithm.score(state, fakes, batch.condition[0]).mean()
    assert gap > 1
    assert Path(tmp_path / "samples" / "round-000006.png").exists()
