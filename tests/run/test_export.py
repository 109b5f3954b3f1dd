"""`fgan export`: files that other programs read, checked before they are kept."""

import json
import re

import numpy as np
import pytest
import torch
from helpers import assert_identical
from torch import nn

import fgan
from fgan.cli import main
from fgan.data.files import replacing
from fgan.run import evaluating
from fgan.run import export as exporting
from fgan.run.export import FORMATS, export


def load_file(path):
    """The tensors of a safetensors file."""
    return pytest.importorskip("safetensors.torch").load_file(path)


TINY = [
    *("--latent-dim", "4", "--width", "4", "--batch-size", "8", "--n-critic", "1"),
    *("--rounds", "2", "--device", "cpu"),
]
RUNS = {
    "digits": ["wgan-gp", "--data", "glyphs"],
    "plain": ["gan", "--data", "glyphs", "--unconditional"],
    "points": ["wgan-gp", "--data", "rings"],
    "spectral": ["hinge-gan", "--data", "glyphs", "--critic-norm", "spectral"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of two rounds of every kind."""
    root = tmp_path_factory.mktemp("runs")
    for name, options in RUNS.items():
        assert main(["train", *options, *TINY, "--out", str(root / name)]) == 0
    return root


def inputs_of(trained, size, seed=9):
    """A batch of latents, and of labels where the run has them."""
    latent = torch.randn(size, 4, generator=torch.Generator().manual_seed(seed))
    if not trained.config.conditional:
        return (latent,)
    return latent, (3 + torch.arange(size)) % len(trained.class_names)


def samples_of(trained, inputs):
    """What the algorithm itself generates."""
    with torch.no_grad():
        return trained.algorithm.generate(trained.state, *inputs)


@pytest.mark.parametrize("name", list(RUNS))
def test_safetensors_have_the_modules_names_and_are_read_back(runs, tmp_path, name):
    """The library reads names and bits; `fgan.load` reads the folder, without the run's own."""
    out = tmp_path / "export"
    command = ["export", str(runs / name), "--to", "safetensors", "--out", str(out)]
    assert main(command) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "critic.safetensors",
        "generator.safetensors",
        "model-card.md",
    ]
    trained = fgan.load(runs / name, "cpu")
    for player in ("generator", "critic"):
        read = load_file(out / f"{player}.safetensors")
        module = getattr(trained, player)
        assert read.keys() == module.state_dict().keys()
        assert all(torch.equal(read[key], x) for key, x in module.state_dict().items())
        module.load_state_dict(read)  # strictly
    again = fgan.load(out, "cpu")
    assert again.config == trained.config
    assert again.class_names == trained.class_names
    assert int(again.state.round) == 2
    assert torch.equal(again.sample(5, seed=1), trained.sample(5, seed=1))
    samples = trained.sample(5)
    conditions = inputs_of(trained, 5)[1:]
    with torch.no_grad():
        assert torch.equal(again.critic(samples, *conditions), trained.critic(samples, *conditions))
    batch = next(fgan.data.batches(trained.config.data, 8, conditional=trained.config.conditional))
    state, _ = again.algorithm.step(again.state, batch, again.algorithm.noise(0, 2, 8))
    assert int(state.round) == 3  # a first state to go on from


@pytest.mark.parametrize("name", ["digits", "plain", "points"])
def test_onnx_runs_in_onnxruntime_for_any_batch(runs, tmp_path, name):
    """Other latents and sizes than those of the check; the weights have the module's names."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    out = tmp_path / "export"
    assert main(["export", str(runs / name), "--to", "onnx", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["generator.onnx", "model-card.md"]
    trained = fgan.load(runs / name, "cpu")
    session = onnxruntime.InferenceSession(out / "generator.onnx")
    conditional = trained.config.conditional
    named = ["latent", "condition"][: 1 + conditional]
    assert [each.name for each in session.get_inputs()] == named
    for size in (1, 3, 17):
        inputs = inputs_of(trained, size)
        fed = {key: x.numpy() for key, x in zip(named, inputs, strict=True)}
        (samples,) = session.run(["samples"], fed)
        expected = samples_of(trained, inputs)
        torch.testing.assert_close(torch.from_numpy(samples), expected, atol=1e-5, rtol=0)
    kept = {each.name for each in onnx.load(out / "generator.onnx").graph.initializer}
    assert len(kept & set(dict(trained.generator.named_parameters()))) >= 3


@pytest.mark.parametrize("name", ["digits", "points"])
def test_torch_export_has_the_bits_of_the_module(runs, tmp_path, name):
    """The program that torch loads agrees to 0 for any batch, and keeps the parameters' names."""
    out = tmp_path / "export"
    assert main(["export", str(runs / name), "--to", "torch-export", "--out", str(out)]) == 0
    trained = fgan.load(runs / name, "cpu")
    program = torch.export.load(out / "generator.pt2")
    assert set(program.state_dict) == set(trained.generator.state_dict())
    for size in (1, 3, 17):
        inputs = inputs_of(trained, size)
        with torch.no_grad():
            assert torch.equal(program.module()(*inputs), samples_of(trained, inputs))


def test_the_card_tells_settings_figures_and_use(runs, tmp_path):
    """What the run's files say, and a snippet for each file that runs in the folder."""
    pytest.importorskip("onnxruntime")
    run = runs / "digits"
    for to in FORMATS:
        assert main(["export", str(run), "--to", to]) == 0
    text = (run / "export" / "model-card.md").read_text()
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"| critic_loss | {last['critic_loss']:.6g} |" in text
    for line in ("| recipe | wgan-gp |", "| latent_dim | 4 |", "for 2 rounds", "[B, 1, 28, 28]"):
        assert line in text
    assert "int64: 0 0, 1 1" in text
    trained = fgan.load(run, "cpu")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 4
    for snippet in snippets:
        names = {"module": trained.generator}
        code = snippet.replace("FOLDER", str(run / "export"))
        code = re.sub(r'"(generator\.\w+)"', rf'"{run}/export/\1"', code)
        exec(compile(code, "model-card.md", "exec"), names)
        if "samples" in names:
            assert tuple(names["samples"].shape[1:]) == (1, 28, 28)
    assert "## Evaluation" not in text


def test_the_card_has_the_evaluation_of_the_same_round(runs, tmp_path):
    """Figures of `fgan evaluate` are told, and those of another round are not."""
    assert main(["evaluate", str(runs / "points"), "--samples", "60", "--device", "cpu"]) == 0
    command = ["export", str(runs / "points"), "--to", "safetensors", "--out", str(tmp_path / "a")]
    assert main(command) == 0
    path = runs / "points" / "evaluation.json"
    found = json.loads(path.read_text())
    text = (tmp_path / "a" / "model-card.md").read_text()
    value = found["generated"]["frechet_distance"]["value"]
    assert f"| frechet_distance | {value:.6g} |" in text
    path.write_text(json.dumps(found | {"round": 1}))
    assert main([*command[:-1], str(tmp_path / "b")]) == 0
    assert "## Evaluation" not in (tmp_path / "b" / "model-card.md").read_text()


class Worse:
    """Finds every round worse than the one before."""

    best_by = "score"

    def __call__(self, algorithm, state, conditional=True):
        return {"score": float(state.round)}


def test_the_best_checkpoint_is_exported(tmp_path, monkeypatch):
    """Into a folder of its own, with a card of its round and its evaluation."""
    monkeypatch.setattr(evaluating, "evaluator_of", lambda parts, say: Worse())
    out, rings = tmp_path / "run", [*RUNS["points"], *TINY, "--evaluate-every", "1"]
    assert main(["train", *rings, "--out", str(out)]) == 0
    assert main(["evaluate", str(out), "--best", "--samples", "60", "--device", "cpu"]) == 0
    assert main(["export", str(out), "--best", "--to", "safetensors"]) == 0
    read, expected = fgan.load(out / "export-best", "cpu"), fgan.load(out, "cpu", best=True)
    assert read.state.round == expected.state.round == 1
    assert_identical(read.generator.state_dict(), expected.generator.state_dict())
    card = (out / "export-best" / "model-card.md").read_text()
    assert "(wgan-gp) for 1 rounds" in card
    assert "## Evaluation" in card
    assert not (out / "export").exists()


class Fixed(nn.Module):
    """A generator for batches of five alone."""

    latent_dim = 4

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)

    def forward(self, z):
        return self.net(z) + (0 if len(z) == 5 else 1)


def script(folder, generator, **options):
    """A script's run of one round on points, loaded again."""
    critic = fgan.models.mlp_critic((2,), hidden=(8,))
    algorithm = fgan.gan(generator, critic)
    options = dict(rounds=1, batch_size=8, conditional=False) | options
    fgan.train(algorithm, "rings", out=folder, **options)
    return fgan.load(folder, generator=generator, critic=critic)


@pytest.mark.parametrize("to", ["torch-export", "onnx"])
def test_a_graph_for_one_size_is_refused(tmp_path, to):
    """Nothing is left in the folder of a module whose graph holds for one batch size alone."""
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    trained = script(tmp_path / "run", Fixed())
    with pytest.raises(ValueError, match=r"generator\.\w+ (cannot be made of|was not kept)"):
        export(trained, to, tmp_path / "run")
    assert list((tmp_path / "run" / "export").iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_a_file_with_other_outputs_is_not_kept(runs, tmp_path, monkeypatch, to):
    """Where what is written computes something else, the old file stays as it was."""
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    if to == "safetensors":
        pytest.importorskip("safetensors")
    trained = fgan.load(runs / "points", "cpu")
    suffix = {"safetensors": "safetensors", "torch-export": "pt2", "onnx": "onnx"}[to]
    path = tmp_path / f"generator.{suffix}"
    path.write_text("old")
    moved = fgan.load(runs / "points", "cpu")
    with torch.no_grad():
        next(moved.generator.parameters()).add_(0.01)
    pack, in_graph, in_onnx = exporting.pack, torch.export.export, torch.onnx.export
    monkeypatch.setattr(exporting, "pack", lambda _, done: pack(moved.generator, done))
    monkeypatch.setattr(
        torch.export, "export", lambda _, *x, **y: in_graph(moved.generator, *x, **y)
    )
    monkeypatch.setattr(torch.onnx, "export", lambda _, *x, **y: in_onnx(moved.generator, *x, **y))
    with pytest.raises(ValueError, match="was not kept: for a batch of 1 its outputs"):
        export(trained, to, runs / "points", tmp_path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_scripts_run_is_exported_and_read_back(tmp_path):
    """Layers that share a weight are written under both names; the networks are handed in."""

    class Tied(nn.Module):
        latent_dim = 4

        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = (nn.Linear(4, n) for n in (4, 4, 2))
            self.second.weight = self.first.weight

        def forward(self, z):
            return self.last(torch.tanh(self.second(torch.tanh(self.first(z)))))

    trained = script(tmp_path / "run", Tied())
    export(trained, "safetensors", tmp_path / "run")
    names = load_file(tmp_path / "run" / "export" / "generator.safetensors")
    assert {"first.weight", "second.weight"} <= names.keys()
    critic = fgan.models.mlp_critic((2,), hidden=(8,))
    again = fgan.load(tmp_path / "run" / "export", generator=Tied(), critic=critic)
    assert torch.equal(again.sample(4), trained.sample(4))
    assert again.generator.second.weight is again.generator.first.weight


def test_conditions_that_are_no_classes_need_an_example(tmp_path):
    """A generator of a vector and a condition [B, 3] is exported with an example of it."""
    onnxruntime = pytest.importorskip("onnxruntime")

    class Either(nn.Module):
        latent_dim = 4

        def __init__(self):
            super().__init__()
            self.net, self.other = nn.Linear(4, 2), nn.Linear(3, 2)

        def forward(self, z, condition=None):
            return self.net(z) + (0 if condition is None else self.other(condition))

    trained = script(tmp_path / "run", Either())
    paths = export(trained, "onnx", tmp_path / "run", condition=torch.randn(2, 3))
    z, y = torch.randn(7, 4), torch.randn(7, 3)
    session = onnxruntime.InferenceSession(paths[0])
    (samples,) = session.run(None, {"latent": z.numpy(), "condition": y.numpy()})
    with torch.no_grad():
        expected = trained.generator(z, y).numpy()
    np.testing.assert_allclose(samples, expected, atol=1e-5)


def test_what_cannot_be_exported_is_said(runs, tmp_path, capsys):
    """An unknown format, no run, a folder of another run, and weights of another model."""
    assert main(["export", str(runs / "points"), "--to", "onxx"]) == 2
    assert "unknown format 'onxx'; known are safetensors, torch-export, onnx" in (
        capsys.readouterr().err
    )
    assert main(["export", str(tmp_path / "nowhere"), "--to", "onnx"]) == 2
    assert "there is no run in" in capsys.readouterr().err
    command = ["export", str(runs / "points"), "--to", "safetensors", "--out", str(tmp_path)]
    assert main(command) == 0
    command[1] = str(runs / "digits")
    assert main(command) == 2
    assert "belongs to another run" in capsys.readouterr().err
    generator = fgan.models.mlp_generator((2,), 4, 3, hidden=(9,))
    critic = fgan.models.mlp_critic((2,), 3, hidden=(9,))
    with pytest.raises(ValueError, match=r"generator.safetensors is of another model"):
        fgan.load(tmp_path, "cpu", generator=generator, critic=critic)
    path = tmp_path / "generator.safetensors"
    with replacing(path) as temporary:
        temporary.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"generator.safetensors cannot be read as safetensors"):
        fgan.load(tmp_path, "cpu")


def test_a_package_that_is_missing_is_named(runs, tmp_path, monkeypatch, capsys):
    """The error says which package, and the extra that brings it."""
    for name, to in (("safetensors.torch", "safetensors"), ("onnxruntime", "onnx")):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, name, None)
            command = ["export", str(runs / "points"), "--to", to, "--out", str(tmp_path / to)]
            assert main(command) == 2
        assert "is not installed: pip install 'fgan[export]'" in capsys.readouterr().err
