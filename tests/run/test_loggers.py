"""Loggers of a run, and the picture of its curves."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import assert_identical
from PIL import Image
from torch import nn

import fgan
from fgan.run.curves import save_curves
from fgan.run.loggers import TensorBoard, WandB
from fgan.run.metrics import MetricsFile


class Kept:
    """A logger that writes everything down."""

    def __init__(self):
        self.rounds, self.samples, self.ends = [], [], []

    def on_round(self, done, figures):
        self.rounds.append((done, dict(figures)))
        figures.clear()  # its own copy

    def on_samples(self, done, samples, labels, picture):
        assert picture is None or picture.exists()
        self.samples.append((done, samples.clone(), labels, picture))

    def on_end(self, done):
        self.ends.append(done)


def algorithm(width=8):
    generator = fgan.models.mlp_generator((2,), 4, 3, hidden=(width,), norm="none")
    return fgan.gan(generator, fgan.models.mlp_critic((2,), 3, hidden=(width,)))


def train(out, *loggers, **options):
    """Six rounds on points, a checkpoint every three of them."""
    options = dict(rounds=6, batch_size=8, log_every=2, sample_every=3) | options
    return fgan.train(algorithm(), "rings", out=out, loggers=loggers, **options)


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_loggers_are_told_what_the_files_have(tmp_path):
    """Figures as in the JSON lines, samples as in the pictures; the state is that without them."""
    first, second = Kept(), Kept()
    state = train(tmp_path / "run", first, second)
    rows = lines(tmp_path / "run")
    assert [(row.pop("round"), row) for row in rows] == first.rounds == second.rounds
    assert [done for done, _ in first.rounds] == [2, 4, 6]
    assert [done for done, *_ in first.samples] == [3, 6]
    done, samples, labels, picture = first.samples[-1]
    assert samples.shape == (2000, 2)
    assert not samples.requires_grad
    assert labels[:4].tolist() == [0, 1, 2, 0]
    assert picture == tmp_path / "run" / "samples" / f"round-{done:06d}.png"
    assert first.ends == second.ends == [6]
    assert_identical(state, train(tmp_path / "other"))


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    """A logger of the second half is told of the second half alone."""
    train(tmp_path, rounds=3)
    later = Kept()
    train(tmp_path, later, resume=True)
    assert [done for done, _ in later.rounds] == [4, 6]
    assert later.ends == [6]
    nothing = Kept()
    train(tmp_path, nothing, resume=True)
    assert (nothing.rounds, nothing.samples, nothing.ends) == ([], [], [6])


def test_every_logger_hears_of_the_end_whatever_ends_the_run(tmp_path):
    """What one logger raises ends the run with its last checkpoint; all loggers are told."""

    class Broken(Kept):
        def on_round(self, done, figures):
            if done == 4:
                raise RuntimeError("the tracker is away")

        def on_end(self, done):
            super().on_end(done)
            raise RuntimeError("and still away")

    first, broken, last = Kept(), Broken(), Kept()
    with pytest.raises(RuntimeError, match="still away"):
        train(tmp_path, first, broken, last)
    assert first.ends == broken.ends == last.ends == [4]
    assert (tmp_path / "curves.png").exists()
    whole = train(tmp_path, resume=True)
    assert int(whole.round) == 6
    assert [row["round"] for row in lines(tmp_path)] == [2, 4, 6]


@pytest.mark.parametrize(
    ("loggers", "reason"),
    [
        (Kept(), "loggers is a sequence of loggers, and .* was given"),
        ([Kept(), print], "has no on_round"),
        ([MetricsFile, nn.Linear(1, 1)], "Linear has no on_round"),
    ],
)
def test_what_is_no_logger_is_refused_before_anything_is_written(tmp_path, loggers, reason):
    """The message names the method that is missing."""
    with pytest.raises(ValueError, match=reason):
        fgan.train(algorithm(), "rings", rounds=1, out=tmp_path / "run", loggers=loggers)
    assert not (tmp_path / "run").exists()


def test_a_look_alike_of_wandb_gets_dicts_and_steps(tmp_path):
    """Steps never fall; pictures are logged where a maker of images is given."""

    class Run:
        def __init__(self):
            self.calls = []

        def log(self, values, step):
            assert type(values) is dict
            self.calls.append((step, values))

    run, plain = Run(), Run()
    train(tmp_path, WandB(run, image=lambda path: ("picture", path)), WandB(plain))
    steps = [step for step, _ in run.calls]
    assert steps == sorted(steps) == [2, 3, 4, 6, 6]
    assert run.calls[1][1] == {"samples": ("picture", str(tmp_path / "samples/round-000003.png"))}
    rows = [(row.pop("round"), row) for row in lines(tmp_path)]
    assert plain.calls == rows
    with pytest.raises(ValueError, match="run has a method log"):
        WandB(print)


def test_scalars_and_pictures_go_to_tensorboard(tmp_path, monkeypatch):
    """Every figure once, and the picture's pixels; a resumed run hides what was beyond it."""
    writers = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.folder, self.purge_step = folder, purge_step
            self.scalars, self.images, self.closed = {}, {}, 0
            writers.append(self)

        def add_scalar(self, name, value, step):
            self.scalars[name, step] = value

        def add_image(self, name, pixels, step, dataformats):
            assert dataformats == "HWC"
            self.images[name, step] = pixels

        def flush(self):
            assert not self.closed

        def close(self):
            self.closed += 1

    stand_in = ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    monkeypatch.setattr(torch.utils, "tensorboard", stand_in, raising=False)
    train(tmp_path / "run", TensorBoard(tmp_path / "events"), rounds=3)
    train(tmp_path / "run", TensorBoard(tmp_path / "events"), resume=True)
    assert [writer.purge_step for writer in writers] == [2, 4]
    assert [writer.closed for writer in writers] == [1, 1]
    scalars = writers[0].scalars | writers[1].scalars
    for row in lines(tmp_path / "run"):
        done = row.pop("round")
        for name, value in row.items():
            assert scalars.pop((name, done)) == value
    assert not scalars
    with Image.open(tmp_path / "run" / "samples" / "round-000006.png") as picture:
        np.testing.assert_array_equal(writers[1].images["samples", 6], np.asarray(picture))


def test_tensorboard_itself_reads_the_events(tmp_path):
    """Its own reader finds the figures of the JSON lines, to float32."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / "run", TensorBoard(tmp_path / "events"))
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    found = {event.step: event.value for event in events.Scalars("critic_loss")}
    assert found == pytest.approx(
        {row["round"]: row["critic_loss"] for row in lines(tmp_path / "run")}
    )
    assert [event.step for event in events.Images("samples")] == [3, 6]


def test_tensorboard_that_is_not_installed_is_named(monkeypatch, tmp_path):
    """The error says which extra brings it, before the run begins."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    with pytest.raises(ValueError, match=r"TensorBoard is not installed: pip install"):
        TensorBoard(tmp_path)


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=int)


def is_line(image):
    """Where a picture has the colour of the curve."""
    return (image == (31, 95, 191)).all(-1)


def test_a_curve_goes_through_its_points(tmp_path):
    """A figure that grows evenly is a straight line from the lower left to the upper right."""
    save_curves(tmp_path / "x.png", {"loss": [(done, float(done)) for done in range(1, 101)]})
    image = pixels(tmp_path / "x.png")
    assert image.shape == (200, 360, 3)
    down, across = np.nonzero(is_line(image))
    assert (across.min(), across.max()) == (56, 348)
    slope, start = np.polyfit(across, down, 1)
    assert np.abs(down - (slope * across + start)).max() < 2
    assert slope < -0.4


def test_many_rounds_keep_their_peak(tmp_path):
    """One outlier among 10,000 rounds is seen: the band goes up to it, where it was."""
    pairs = [(done, 1.0 if done == 5000 else 0.0) for done in range(10_001)]
    save_curves(tmp_path / "x.png", {"loss": pairs})
    down, across = np.nonzero((pixels(tmp_path / "x.png") == (176, 200, 232)).all(-1))
    assert set(across) <= {201, 202}  # round 5000 lies at 201.98
    assert down.max() - down.min() > 120


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [1e300, -1e300], [1e-30, 2e-30], [-5, -5]])
def test_any_figures_can_be_drawn(tmp_path, values):
    """One round, no change, and numbers of any size."""
    save_curves(tmp_path / "x.png", {"x": list(enumerate(values, 1))})
    assert is_line(pixels(tmp_path / "x.png")).any()


def test_every_run_has_its_curves_also_resumed(tmp_path):
    """The picture of a resumed run is that of a run that nothing interrupted."""
    train(tmp_path / "whole")
    train(tmp_path / "parts", rounds=3, log_every=1)
    train(tmp_path / "parts", resume=True, log_every=1)
    train(tmp_path / "once", log_every=1)
    resumed = (tmp_path / "parts" / "curves.png").read_bytes()
    assert resumed == (tmp_path / "once" / "curves.png").read_bytes()
    assert resumed != (tmp_path / "whole" / "curves.png").read_bytes()
    rows = len(lines(tmp_path / "whole")[0]) - 1
    assert pixels(tmp_path / "whole" / "curves.png").shape == (-(-rows // 3) * 200, 1080, 3)
