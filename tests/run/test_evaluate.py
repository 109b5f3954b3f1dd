"""`fgan evaluate` from end to end, and the feature networks that it keeps or finds on disk."""

import json
import pickle
import sys
from functools import partial
from types import ModuleType

import pytest
import torch
from PIL import Image

from fgan import cli, data, tree
from fgan.data import DataSet
from fgan.run import checkpoints, evaluate, features
from fgan.run.configuration import Run
from fgan.run.evaluate import evaluate_run
from fgan.run.features import cached_classifier, inception

TINY = [
    *("--model", "mlp", "--width", "16", "--latent-dim", "4", "--rounds", "1"),
    *("--batch-size", "8", "--n-critic", "1"),
]


def run(*arguments):
    """Call the command line in this process."""
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a classifier that is trained in a second."""
    monkeypatch.setenv("FGAN_DATA", str(tmp_path / "cache"))
    quick = partial(cached_classifier, updates=20)
    monkeypatch.setattr(evaluate, "cached_classifier", quick)
    return tmp_path / "cache" / "classifiers"


@pytest.fixture(scope="module")
def glyph_run(tmp_path_factory):
    """A conditional run of one round on glyphs."""
    out = tmp_path_factory.mktemp("runs") / "glyphs"
    assert run("train", "gan", *TINY, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def point_run(tmp_path_factory):
    """An unconditional run of one round on the grid."""
    out = tmp_path_factory.mktemp("runs") / "grid"
    assert run("train", "gan", *TINY, "--data", "grid", "--unconditional", "--out", out) == 0
    return out


def test_a_run_on_images(glyph_run, cache, capsys):
    """A table, and evaluation.json with the same figures; the second time the classifier is kept,
    and the file has the same bytes."""
    assert run("evaluate", glyph_run, "--samples", 300) == 0
    shown = capsys.readouterr().out
    content = (glyph_run / "evaluation.json").read_text()
    found = json.loads(content)
    assert found["features"] == "classifier"
    assert (found["round"], found["generated_samples"], found["real_samples"]) == (1, 300, 300)
    generated, real = found["generated"], found["real"]
    assert generated["frechet_distance"]["value"] > 10 * real["frechet_distance"]["value"]
    assert real["coverage"]["value"] > 0.8
    assert generated["critic_distance"]["low"] is None
    assert "intra_class_frechet_distance" not in generated
    assert "intra_class_frechet_distance is left out: a class has" in shown
    assert f"{generated['frechet_distance']['value']:.4g}" in shown
    assert f"test accuracy {found['classifier_accuracy']:.3f}" in shown
    assert "FID" not in shown
    (file,) = cache.iterdir()
    before = file.read_bytes()
    assert run("evaluate", glyph_run, "--samples", 300) == 0
    assert f"classifier {file}" in capsys.readouterr().out
    assert (glyph_run / "evaluation.json").read_text() == content
    assert file.read_bytes() == before


def test_a_run_on_points(point_run, capsys):
    """No network is trained; modes and W1 are in the table, figures by class are not."""
    assert run("evaluate", point_run, "--samples", 200, "--seed", 1) == 0
    found = json.loads((point_run / "evaluation.json").read_text())
    assert (found["features"], found["classifier_accuracy"], found["seed"]) == ("samples", None, 1)
    assert found["real"]["modes_covered"]["value"] == 25
    assert "label_accuracy" not in found["generated"]
    shown = capsys.readouterr().out
    assert "modes covered" in shown
    assert "classifier" not in shown


def test_a_classifier_is_kept_by_what_it_depends_on(cache):
    """The same data find it again; other labels, images and lengths do not."""
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=source).to(torch.uint8)
    first = DataSet("a", images[:30], torch.arange(30) % 2, ("x", "y"))
    second = DataSet("b", images[30:], torch.arange(10) % 2, ("x", "y"))
    said = []
    fresh = cached_classifier(first, second, updates=2, say=said.append)
    again = cached_classifier(first, second, updates=2, say=said.append)
    assert "once for all runs" in said[0]
    assert said[1] == f"classifier {next(cache.iterdir())}"
    assert again.accuracy == fresh.accuracy
    assert not again.module.training
    given = data.normalise(images)
    assert torch.equal(again.module(given), fresh.module(given))
    swapped = DataSet("a", first.samples, 1 - first.labels, first.class_names)
    cached_classifier(swapped, second, updates=2)
    cached_classifier(first, DataSet("b", 255 - second.samples, *_rest(second)), updates=2)
    cached_classifier(first, second, updates=3)
    assert len(list(cache.iterdir())) == 4


def _rest(data_set):
    return data_set.labels, data_set.class_names


@pytest.mark.parametrize("content", [b"", b"half a file", pickle.dumps({"weights": {}}, 2)])
def test_a_damaged_classifier_is_trained_again(content, cache):
    """A file that is truncated or something else is replaced by a whole one."""
    parts = data.load("glyphs")
    small = DataSet("small", parts.samples[:20], parts.labels[:20], parts.class_names)
    cached_classifier(small, small, updates=1)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    said = []
    cached_classifier(small, small, updates=1, say=said.append)
    assert "is trained" in said[0]
    assert file.stat().st_size > 10_000


def test_a_folder_that_cannot_be_written_to(tmp_path):
    """The classifier is trained all the same, and the reason is said."""
    (tmp_path / "file").write_text("")
    glyphs = data.load("glyphs")
    small = DataSet("small", glyphs.samples[:20], glyphs.labels[:20], glyphs.class_names)
    said = []
    found = cached_classifier(small, small, tmp_path / "file" / "x", updates=1, say=said.append)
    assert 0 <= found.accuracy <= 1
    assert said[-1].startswith("classifier is not kept: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", 5], "--samples is a whole number from 6"),
        (["--samples", 64], "there are 64 samples, and the features 'classifier' have 64"),
        (
            ["--features", "vgg"],
            "features are one of classifier, inception, patches, and 'vgg' was given",
        ),
        (["--inception-weights", "x.pth"], "for --features inception alone"),
        (["--device", "warp"], "device 'warp'"),
    ],
)
def test_bad_input_gets_one_clear_line(glyph_run, options, message, capsys):
    """Status 2 and the reason."""
    assert run("evaluate", glyph_run, *options) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


def test_folders_that_hold_no_run(tmp_path, point_run, capsys):
    """No folder, no checkpoint, and features for points."""
    assert run("evaluate", tmp_path / "nowhere") == 2
    assert "there is no run in" in capsys.readouterr().err
    (tmp_path / "config.json").write_bytes((point_run / "config.json").read_bytes())
    assert run("evaluate", tmp_path) == 2
    assert "there is no checkpoint in" in capsys.readouterr().err
    assert run("evaluate", point_run, "--features", "classifier") == 2
    assert "--features is for images, and grid has samples [2]" in capsys.readouterr().err


def test_a_diverged_run_says_so(point_run, tmp_path, capsys):
    """A checkpoint whose weights are NaN."""
    (tmp_path / "config.json").write_bytes((point_run / "config.json").read_bytes())
    like = Run.load(point_run / "config.json").build().init()
    state = checkpoints.load(point_run / "checkpoint.pt", like)
    broken = tree.map(lambda v: v * float("nan") if v.is_floating_point() else v, state)
    checkpoints.save(tmp_path / "checkpoint.pt", broken)
    assert run("evaluate", tmp_path, "--samples", 50) == 2
    assert "50 of 50 generated samples hold NaN" in capsys.readouterr().err


def test_data_that_have_changed(tmp_path, capsys):
    """A folder of images with another class since the run was trained."""
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 200).save(tmp_path / "images" / name / "1.png")
    place, out = f"folder:{tmp_path / 'images'}", tmp_path / "run"
    assert run("train", "gan", *TINY, "--data", place, "--out", out) == 0
    (tmp_path / "images" / "b").rename(tmp_path / "images" / "c")
    assert run("evaluate", out) == 2
    assert "has changed since the run was trained" in capsys.readouterr().err


def fake_torch_fidelity(monkeypatch, network):
    """Put a module in the place of torch-fidelity's."""
    name = "torch_fidelity.feature_extractor_inceptionv3"
    module = ModuleType(name)
    module.FeatureExtractorInceptionV3 = network
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, name, module)


class Pixels(torch.nn.Module):
    """In Inception's place: three features, the means of the colours of uint8 images."""

    def __init__(self, name, features, path):
        super().__init__()
        assert features == ["2048"]
        self.path = path

    def forward(self, images):
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        return (images.float().mean(dim=(2, 3)),)


def test_a_run_in_inception_features(glyph_run, monkeypatch, capsys):
    """FID and KID, under these names in the file and in the table."""
    fake_torch_fidelity(monkeypatch, Pixels)
    assert run("evaluate", glyph_run, "--samples", 2048, "--features", "inception") == 2
    assert "the features 'inception' have 2048" in capsys.readouterr().err
    assert run("evaluate", glyph_run, "--samples", 2049, "--features", "inception") == 0
    found = json.loads((glyph_run / "evaluation.json").read_text())
    assert found["features"] == "inception"
    assert {"fid", "kid"} <= found["generated"].keys()
    assert not {"frechet_distance", "kernel_distance", "label_accuracy"} & found["generated"].keys()
    assert "FID" in capsys.readouterr().out


def test_inception_features_of_images(monkeypatch, tmp_path):
    """One channel is repeated to three; two are refused; the path is handed on."""
    fake_torch_fidelity(monkeypatch, Pixels)
    found = inception()
    assert found.is_inception
    grey = torch.full((2, 1, 5, 5), -0.2)
    assert found.extract(grey).tolist() == [[102.0] * 3] * 2
    with pytest.raises(ValueError, match=r"1 or 3 channels, got \[2, 5, 5\]"):
        found.extract(torch.zeros(1, 2, 5, 5))
    torch.save({}, tmp_path / "weights.pth")
    network = features._inception_network(tmp_path / "weights.pth")
    assert network.path == str(tmp_path / "weights.pth")


class Unreachable:
    """What torch-fidelity does without a network."""

    def __init__(self, name, features, path):
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")


def test_inception_says_what_it_lacks(monkeypatch, tmp_path, glyph_run, capsys):
    """The package, the network, or the file; and a file that would run code is not opened."""
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    assert run("evaluate", glyph_run, "--features", "inception") == 2
    assert "pip install 'fgan[metrics]'" in capsys.readouterr().err
    fake_torch_fidelity(monkeypatch, Unreachable)
    assert run("evaluate", glyph_run, "--features", "inception") == 2
    errors = capsys.readouterr().err
    assert "could not be downloaded: <urlopen error" in errors
    assert "--inception-weights PATH" in errors
    with pytest.raises(ValueError, match="there is no file"):
        inception(tmp_path / "absent.pth")
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"weights": print}))
    with pytest.raises(ValueError, match="holds more than tensors"):
        inception(tmp_path / "code.pth")


def test_the_inception_network_of_torch_fidelity(monkeypatch, tmp_path):
    """With random weights from a file: 2048 features; other weights are refused."""
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    network = library.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:
        patch.setattr(library, "load_state_dict_from_url", lambda url, progress: None)
        patch.setattr(network, "load_state_dict", lambda self, weights: None)
        weights = network("inception", ["2048"]).state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    found = inception(tmp_path / "weights.pth")
    images = torch.rand(2, 1, 28, 28) * 2 - 1
    assert found.extract(images).shape == (2, 2048)
    expected = network("inception", ["2048"], str(tmp_path / "weights.pth"))
    pixels = data.to_uint8(images).repeat(1, 3, 1, 1)
    torch.testing.assert_close(found.extract(images), expected(pixels)[0])
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold the weights of torch-fidelity"):
        inception(tmp_path / "other.pth")


def test_a_report_is_what_the_file_holds(glyph_run):
    """From Python: the figures, those of real images, and the content of the file."""
    report = evaluate_run(glyph_run, samples=100, seed=3)
    assert json.loads((glyph_run / "evaluation.json").read_text()) == report.content
    assert (
        report.content["generated"]["recall"]["value"] == report.evaluation.figures["recall"].value
    )
    assert report.real.figures.keys() <= report.evaluation.figures.keys()


def test_real_samples_beside_the_generated_ones(tmp_path, capsys):
    """As many as are left of the part that is held out; no column where those are too few."""
    source = torch.Generator().manual_seed(0)
    for i in range(400):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (8, 8), generator=source, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    out = tmp_path / "run"
    place = f"folder:{tmp_path / 'images'}"
    assert run("train", "gan", *TINY, "--data", place, "--out", out) == 0
    assert run("evaluate", out, "--samples", 120) == 0
    assert "real       80 samples: fewer make" in capsys.readouterr().out
    assert json.loads((out / "evaluation.json").read_text())["other_real_samples"] == 80
    assert run("evaluate", out, "--samples", 150) == 0
    found = json.loads((out / "evaluation.json").read_text())
    assert (found["other_real_samples"], found["real"]) == (0, {})
