"""`fgan sample`: grids, single files, arrays, contact sheets, interpolations and films."""

import numpy as np
import pytest
import torch
from PIL import Image

import fgan
from fgan.cli import main
from fgan.run import checkpoints, pictures, plots, samples
from fgan.run.configuration import Config, Run
from fgan.run.film import save_film
from fgan.run.sampling import folder_names
from fgan.run.trained import Trained

TINY = [
    *("--latent-dim", "4", "--width", "4", "--batch-size", "8", "--n-critic", "1"),
    *("--rounds", "3", "--sample-every", "1", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A conditional and an unconditional run of digits, and one of points."""
    root = tmp_path_factory.mktemp("runs")
    for name, options in {
        "digits": ["--data", "glyphs"],
        "plain": ["--data", "glyphs", "--unconditional"],
        "points": ["--data", "rings"],
    }.items():
        assert main(["train", "gan", *options, *TINY, "--out", str(root / name)]) == 0
    return root


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Runs on tables, signals, images, volumes and more, whose weights are the first ones."""
    root = tmp_path_factory.mktemp("shapes")
    for name, shape in {
        "table": (5,),
        "signals": (2, 16),
        "two-channels": (2, 6, 9),
        "volumes": (1, 4, 4, 4),
        "more": (1, 2, 2, 2, 2),
    }.items():
        config = Config(model="mlp", width=4, latent_dim=3, recipe="gan")
        run = Run(config, shape, ("a", "b", "c"))
        (root / name).mkdir()
        run.save(root / name / "config.json")
        checkpoints.save(root / name / "checkpoint.pt", run.build().init(0))
    return root


def sample(folder, *options):
    """`fgan sample` on the CPU."""
    return main(["sample", str(folder), "--device", "cpu", *map(str, options)])


def test_a_grid_has_the_bits_of_load_and_sample(runs, tmp_path):
    """The picture that the command writes is the grid of `fgan.load(...).sample(...)`."""
    assert sample(runs / "digits", "--num", 12, "--seed", 3, "--out", tmp_path / "a.png") == 0
    trained = fgan.load(runs / "digits", "cpu")
    digits = trained.sample(12, seed=3)
    pictures.save_images(tmp_path / "b.png", digits, 10, trained.class_names)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_arrays_are_the_samples(runs, tmp_path):
    """`.npz` holds what `sample` gives, labels and the names of the classes; no pickle."""
    path = tmp_path / "x.npz"
    assert sample(runs / "points", "--num", 5, "--truncation", 0.7, "--out", path) == 0
    trained = fgan.load(runs / "points", "cpu")
    with np.load(path, allow_pickle=False) as arrays:
        expected = trained.sample(5, truncation=0.7)
        assert torch.equal(torch.from_numpy(arrays["samples"]), expected)
        assert arrays["labels"].tolist() == [0, 1, 2, 0, 1]
        assert tuple(arrays["class_names"]) == trained.class_names
    assert sample(runs / "plain", "--num", 2, "--out", path) == 0
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["samples"]
        assert arrays["samples"].shape == (2, 1, 28, 28)


def test_single_files_can_be_read_as_data(runs, tmp_path):
    """A sub-folder for each class: `folder:PATH` finds the same pixels and labels."""
    assert sample(runs / "digits", "--num", 20, "--files", tmp_path / "all") == 0
    data = fgan.data.load(f"folder:{tmp_path / 'all'}")
    trained = fgan.load(runs / "digits", "cpu")
    assert data.class_names == trained.class_names
    expected = fgan.data.to_uint8(trained.sample(20))
    order = torch.arange(20).view(2, 10).T.flatten()  # class by class, two of each
    assert data.labels.tolist() == (order % 10).tolist()
    assert torch.equal(data.samples[:, :1], expected[order])
    assert sample(runs / "plain", "--num", 3, "--files", tmp_path / "plain") == 0
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        "000000.png",
        "000001.png",
        "000002.png",
    ]
    assert sample(runs / "digits", "--num", 2, "--condition", 7, "--files", tmp_path / "7") == 0
    assert [path.name for path in (tmp_path / "7").iterdir()] == [trained.class_names[7]]


def test_a_contact_sheet_for_each_class(runs, tmp_path):
    """One picture a class, with the samples of that class alone."""
    assert sample(runs / "points", "--num", 6, "--sheets", tmp_path / "sheets") == 0
    trained = fgan.load(runs / "points", "cpu")
    names = sorted(path.stem for path in (tmp_path / "sheets").iterdir())
    assert names == sorted(trained.class_names)
    points, labels = trained.sample(6, "radius 1.0"), torch.ones(6).long()
    pictures.save_points(tmp_path / "one.png", points, labels)
    sheet = tmp_path / "sheets" / "radius 1.0.png"
    assert sheet.read_bytes() == (tmp_path / "one.png").read_bytes()


def test_rows_of_an_interpolation_go_from_latent_to_latent(runs, tmp_path):
    """The ends of each row are samples of the seed; each row is of one class."""
    path = tmp_path / "x.npz"
    options = ["--num", 3, "--interpolate", 5, "--seed", 2]
    assert sample(runs / "digits", *options, "--out", path) == 0
    trained = fgan.load(runs / "digits", "cpu")
    with np.load(path) as arrays:
        rows = torch.from_numpy(arrays["samples"]).view(3, 5, 1, 28, 28)
        assert arrays["labels"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    ends = trained.sample(6, torch.tensor([0, 1, 2, 0, 1, 2]), seed=2)
    torch.testing.assert_close(rows[:, 0], ends[:3])
    torch.testing.assert_close(rows[:, -1], ends[3:])
    assert sample(runs / "digits", *options, "--out", tmp_path / "x.png") == 0
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (5 * 60, 3 * 60)


def test_a_film_has_a_frame_for_each_picture_in_order(runs, tmp_path):
    """Frame i is the i-th picture, under a line that says the round."""
    assert sample(runs / "digits", "--film", tmp_path / "film.gif") == 0
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3
        for index in range(3):
            film.seek(index)
            frame = film.convert("L")
            with Image.open(runs / "digits" / "samples" / f"round-{index + 1:06d}.png") as picture:
                assert film.size == (picture.width, picture.height + 18)
                below = np.asarray(frame, dtype=int)[18:]
                assert abs(below - np.asarray(picture.convert("L"), dtype=int)).mean() < 2


def test_a_film_sorts_rounds_as_numbers(tmp_path):
    """Round 1000000 comes after round 999999, and other files are left out."""
    for done, grey in ((1_000_000, 250), (999_999, 5)):
        Image.new("L", (8, 8), grey).save(tmp_path / f"round-{done:06d}.png")
    (tmp_path / "round-x.png").write_text("no picture")
    assert save_film(tmp_path, tmp_path / "film.gif") == 2
    with Image.open(tmp_path / "film.gif") as film:
        assert film.convert("L").getpixel((4, 24)) < 20


def test_pictures_of_any_shape_are_those_of_training(shapes, tmp_path):
    """Line plots with a column per class, histograms, and slices with the names of the classes."""
    drawn = {
        "signals": lambda path, x, names: plots.save_lines(path, x, 3, names),
        "table": lambda path, x, names: plots.save_histograms(path, x),
        "two-channels": lambda path, x, names: pictures.save_images(path, x, 3, names),
        "volumes": lambda path, x, names: samples.save_slices(path, x, names * 3),
    }
    for name, draw in drawn.items():
        assert sample(shapes / name, "--num", 9, "--out", tmp_path / "a.png") == 0
        trained = fgan.load(shapes / name, "cpu")
        draw(tmp_path / "b.png", trained.sample(9), trained.class_names)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes(), name
        assert sample(shapes / name, "--num", 2, "--sheets", tmp_path / name) == 0
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["a.png", "b.png", "c.png"]


def test_single_signals_and_volumes_have_a_file_each(shapes, tmp_path):
    """A plot of one signal, and the slices of one volume."""
    for name in ("signals", "volumes"):
        assert sample(shapes / name, "--num", 4, "--files", tmp_path / name) == 0
        one = fgan.load(shapes / name, "cpu").sample(4)[3:]
        if name == "signals":
            plots.save_lines(tmp_path / "one.png", one, 1)
        else:
            samples.save_slices(tmp_path / "one.png", one)
        made = tmp_path / name / "a" / "000003.png"
        assert made.read_bytes() == (tmp_path / "one.png").read_bytes()


def test_arrays_are_written_of_any_shape(shapes, tmp_path):
    """Also where there is no picture."""
    assert sample(shapes / "more", "--num", 3, "--out", tmp_path / "x.npz") == 0
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["samples"].shape == (3, 1, 2, 2, 2, 2)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("more", ["--out", "x.png"], "samples [1, 2, 2, 2, 2] have no picture: --out FILE.npz"),
        ("more", ["--files", "x"], "samples [1, 2, 2, 2, 2] have no picture: --out FILE.npz"),
        ("more", ["--out", "x.npz", "--sheets", "x"], "samples [1, 2, 2, 2, 2] have no picture"),
        ("table", ["--files", "x"], "samples [5] are no images, and one of them has no picture"),
        ("two-channels", ["--files", "x"], "[2, 6, 9] are no images of one or three channels"),
    ],
)
def test_pictures_that_there_are_none_of_are_refused_before_sampling(
    shapes, tmp_path, monkeypatch, capsys, name, options, reason
):
    """Status 2 and one line; nothing is generated, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trained, "generate", None)
    assert sample(shapes / name, *options) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("digits", [], "give --out FILE.png"),
        ("digits", ["--out", "nowhere/x.png"], "there is no folder nowhere"),
        ("digits", ["--num", 0, "--out", "x.png"], "--num is a whole number from 1"),
        ("digits", ["--interpolate", 1, "--out", "x.png"], "--interpolate is a whole number from"),
        ("digits", ["--condition", "eleven", "--out", "x.png"], "is no class of this run"),
        ("digits", ["--truncation", 0, "--out", "x.png"], "truncation is a positive number"),
        ("plain", ["--condition", 1, "--out", "x.png"], "unconditional: leave the condition out"),
        ("plain", ["--sheets", "x"], "it has no sheets of classes"),
        ("plain", ["--out", "x.npz", "--sheets", "x"], "it has no sheets of classes"),
        ("points", ["--files", "x"], "samples [2] are no images"),
        ("nowhere", ["--out", "x.png"], "there is no run in"),
        ("nowhere", ["--film", "x.gif"], "there are no pictures"),
    ],
)
def test_what_cannot_be_drawn_is_said(runs, tmp_path, monkeypatch, capsys, name, options, reason):
    """Status 2, one line, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert sample(runs / name, *options) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_picture_is_named_in_place_of_a_film(tmp_path):
    """The error has the file's path."""
    (tmp_path / "round-000001.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ValueError, match=r"round-000001.png cannot be read as a picture"):
        save_film(tmp_path, tmp_path / "film.gif")


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("T-shirt/top", "Ankle boot"), ["T-shirt_top", "Ankle boot"]),
        (("a/b", "a:b"), ["0-a_b", "1-a_b"]),
        (("..", ""), ["0-class", "1-class"]),
        (("A", "a"), ["0-A", "1-a"]),
        (("é", ".hidden"), ["é", "hidden"]),
    ],
)
def test_names_of_classes_as_names_of_files(names, files):
    """No path leaves the folder, and no two classes share one."""
    assert folder_names(names) == files
