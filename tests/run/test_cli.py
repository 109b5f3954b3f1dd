"""The command line from end to end, as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from fgan.cli import main
from fgan.recipes import RECIPES
from fgan.run.configuration import Config, Run

TINY = [
    *("--model", "mlp", "--width", "16", "--latent-dim", "4"),
    *("--batch-size", "8", "--n-critic", "2", "--log-every", "1"),
]

HEADING = "all of them, as --config FILE.toml takes them:"


def run(*arguments: object) -> int:
    """Call the command line in this process; argparse leaves by SystemExit."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return int(leaving.code or 0)


def size_of(path):
    """Width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A conditional run of four rounds on glyphs."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert run("train", "wgan-gp", *TINY, "--rounds", 4, "--sample-every", 2, "--out", out) == 0
    return out


def test_a_run_leaves_its_settings_figures_pictures_and_state(trained):
    """DIR holds these files and folders, no temporary file, and no lock of a run that has ended."""
    assert sorted(path.name for path in trained.iterdir()) == [
        "checkpoint.pt",
        "checkpoints",
        "config.json",
        "curves.png",
        "metrics.jsonl",
        "samples",
    ]
    config = json.loads((trained / "config.json").read_text())
    assert (config["recipe"], config["rounds"], config["data"]) == ("wgan-gp", 4, "glyphs")
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3, 4]
    assert {"critic_loss", "generator_loss", "distance", "penalty"} <= lines[0].keys()
    assert [path.name for path in sorted((trained / "samples").iterdir())] == [
        "round-000002.png",
        "round-000004.png",
    ]
    assert [path.name for path in (trained / "checkpoints").iterdir()] == ["round-000002.pt"]


def test_the_grid_has_a_column_per_class(trained):
    """Ten classes and eight rows of 28 pixels, doubled, with a gap around each."""
    width, height = size_of(trained / "samples" / "round-000004.png")
    assert width == 10 * (2 * 28 + 4)
    assert height > 8 * (2 * 28 + 4)  # and the headings above


@pytest.mark.parametrize(
    "shape", [(5,), (2, 128), (1, 12, 20), (3, 27, 27), (1, 128, 128), (1, 8, 8, 8)]
)
def test_networks_suit_the_samples_shape(shape):
    """Samples of any number of axes and any size get networks of a few million parameters."""
    config = Config(latent_dim=4, width=4, conditional=False)
    algorithm = Run(config, shape, ()).build()
    state = algorithm.init(0)
    fakes = algorithm.generate(state, torch.zeros(2, 4))
    assert fakes.shape == (2, *shape)
    assert algorithm.score(state, fakes).shape == (2,)
    assert sum(p.numel() for p in state.generator.params.values()) < 1e6


@pytest.mark.parametrize("recipe", list(RECIPES))
@pytest.mark.parametrize("more", [(), ("--unconditional",)])
def test_every_recipe_trains_and_samples(recipe, more, tmp_path, capsys):
    """Each recipe runs, conditional and not, on points too, and draws a picture afterwards."""
    out = tmp_path / "run"
    assert run("train", recipe, *TINY, *more, "--data", "rings", "--rounds", 2, "--out", out) == 0
    assert "samples/round-000002.png" in capsys.readouterr().out
    assert run("sample", out, "--num", 7, "--out", tmp_path / "more.png") == 0
    assert size_of(tmp_path / "more.png") == (512, 512)


def test_sampling_is_seeded_and_takes_a_class_by_name_or_number(trained, tmp_path):
    """The same seed gives the same file; another seed or class another one."""
    for name, options in {
        "a": ["--condition", "3"],
        "b": ["--condition", "3"],
        "c": ["--condition", "4"],
        "d": ["--condition", "3", "--seed", "1"],
    }.items():
        assert run("sample", trained, "--num", 5, *options, "--out", tmp_path / f"{name}.png") == 0
    a, b, c, d = ((tmp_path / f"{name}.png").read_bytes() for name in "abcd")
    assert a == b
    assert a != c
    assert a != d


@pytest.mark.parametrize("recipe", ["gan", "wgan-gp"])
def test_a_resumed_run_equals_an_uninterrupted_one(recipe, tmp_path):
    """Two rounds and two more leave the bits of four, in the state, the figures and the picture."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run("train", recipe, *TINY, "--rounds", 4, "--out", whole) == 0
    assert run("train", recipe, *TINY, "--rounds", 2, "--out", parts) == 0
    assert run("train", "--resume", "--rounds", 4, "--log-every", 1, "--out", parts) == 0
    states = [torch.load(out / "checkpoint.pt", weights_only=True) for out in (whole, parts)]
    assert states[0]["leaves"].keys() == states[1]["leaves"].keys()
    for name, leaf in states[0]["leaves"].items():
        assert torch.equal(leaf, states[1]["leaves"][name]), name
    for file in ("metrics.jsonl", "samples/round-000004.png"):
        assert (whole / file).read_bytes() == (parts / file).read_bytes()


def test_a_folder_of_images_of_several_sizes(tmp_path, capsys):
    """The error names --image-size; with it the run trains, and a resumed one knows it."""
    for name, size in (("a/1.png", (30, 20)), ("b/2.png", (9, 12))):
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        Image.new("L", size, 200).save(tmp_path / "images" / name)
    data, out = f"folder:{tmp_path / 'images'}", tmp_path / "run"
    given = ("train", *TINY, "--data", data, "--rounds", 1, "--out", out)
    assert run(*given) == 2
    assert "--image-size" in capsys.readouterr().err
    assert run(*given, "--image-size", 8) == 0
    assert run("train", "--resume", "--rounds", 2, "--out", out) == 0
    assert json.loads((out / "config.json").read_text())["sample_shape"] == [1, 8, 8]


def test_figures_beyond_the_checkpoint_are_dropped_on_resume(tmp_path):
    """A crash after a checkpoint leaves no round in the log twice, nor half a line."""
    out = tmp_path / "run"
    assert run("train", *TINY, "--rounds", 2, "--out", out) == 0
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3, "critic_loss": 1.0}\n{"round": 4, "cri')
    assert run("train", "--resume", "--rounds", 3, "--log-every", 1, "--out", out) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert lines[2]["critic_loss"] != 1.0


def test_ctrl_c_saves_and_ends_cleanly(tmp_path):
    """After an interrupt the exit status is 0, the run says how to go on, and it can."""
    out = tmp_path / "run"
    arguments = ["train", *TINY, "--rounds", "100000", "--no-compile", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "fgan", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    log = out / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "--resume" in output
    assert errors == ""
    done = json.loads(log.read_text().splitlines()[-1])["round"]
    assert run("train", "--resume", "--rounds", done + 1, "--out", out) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "wgan-xy"], "unknown recipe 'wgan-xy'"),
        (["train", "--data", "nothing"], "unknown data set 'nothing'"),
        (["train", "--data", "folder:/nowhere"], "/nowhere"),
        (["train", "--image-size", "32"], "image_size is for folder:PATH alone"),
        (["train", "--batch-size", "0"], "batch_size is a whole number from 1"),
        (["train", "--n-critic", "0"], "n_critic"),
        (["train", "--rounds", "-1"], "rounds is a whole number from 1"),
        (["train", "--penalty-weight", "-1"], "penalty_weight is at least 0"),
        (["train", "gan", "--penalty-weight", "1"], "penalty_weight is a setting of wgan-gp"),
        (["train", "wgan", "--clip", "0"], "clip is above 0"),
        (["train", "--critic-norm", "batch"], "LayerNorm"),
        (["train", "--critic-norm", "nothing"], "nothing"),
        (["train", "--model", "tree"], "unknown model 'tree'"),
        (["train", "--model", "conv", "--data", "rings"], "conv networks make signals"),
        (["train", "--lr", "-1"], "learning rate is at least 0"),
        (["train", "--update", "never"], "'alternating' or 'simultaneous'"),
        (["train", "--sample-at", "home"], "sample_at is one of"),
        (["train", "--device", "warp"], "device 'warp'"),
        (["train", "--preset", "speed"], "unknown preset 'speed'; known are minutes, paper"),
        (["train", "--config", "nowhere.toml"], "nowhere.toml cannot be read: it is no file"),
        (["train", "--augment", "rain"], "unknown augmentation 'rain'"),
        (["train", "--accumulate", "5"], "batch_size 64 has no 5 equal parts"),
        (["train", "--dry-run", "--model", "mlp", "--attention"], "attention is no setting of"),
        (["train", "--dry-run", "--critic-norm", "batch"], "LayerNorm"),
        (["train", "--resume"], "--out DIR"),
        (["train", "--resume", "--out", "nowhere"], "no run in nowhere"),
        (["sample", "nowhere", "--out", "x.png"], "no run in nowhere"),
        (["train", "--rounds", "many"], "invalid int value"),
        ([], "COMMAND"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_clear_line(arguments, message, tmp_path, monkeypatch, capsys):
    """Bad input ends with status 2, its reason on stderr, no traceback and nothing written."""
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert list(Path().iterdir()) == []


def test_a_dry_run_shows_everything_and_writes_nothing(tmp_path, monkeypatch, capsys):
    """Networks with their sizes, and settings that a file of settings can hold as they stand."""
    monkeypatch.chdir(tmp_path)
    assert run("train", *TINY, "--dry-run", "--seed", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert list(Path().iterdir()) == []
    of_generator = 14 * 16 + 16 + 2 * (16 * 16 + 16 + 32) + 16 * 784 + 784
    of_critic = 794 * 16 + 16 + 2 * (16 * 16 + 16) + 17
    assert (
        f"networks   mlp: {of_generator:,} parameters in the generator, {of_critic:,} in the critic"
        in lines
    )
    shown = lines[lines.index(HEADING) + 1 : -1]
    assert "seed = 3" in shown
    assert lines[-1].startswith("dry run    one round was tried without an error")
    Path("again.toml").write_text("\n".join(shown))
    assert run("train", "--config", "again.toml", "--dry-run") == 0
    again = capsys.readouterr().out.splitlines()
    assert again[again.index(HEADING) + 1 : -1] == shown


def test_a_dry_run_names_the_first_error(trained, tmp_path, monkeypatch, capsys):
    """A folder with another run, and what only a round shows."""
    before = sorted(trained.rglob("*"))
    assert run("train", *TINY, "--dry-run", "--out", trained) == 2
    assert "holds another run" in capsys.readouterr().err
    assert run("train", "--resume", "--dry-run", "--out", trained) == 0
    assert sorted(trained.rglob("*")) == before
    monkeypatch.chdir(tmp_path)
    # Parts of one sample, which BatchNorm refuses.
    assert run("train", *TINY, "--accumulate", 8, "--dry-run") == 2
    assert "Expected more than 1 value" in capsys.readouterr().err


def test_a_file_of_settings_and_flags(tmp_path):
    """The flags win, the file comes next, and the preset last."""
    (tmp_path / "my.toml").write_text('recipe = "gan"\nbatch_size = 8\nrounds = 2\nwidth = 4\n')
    out = tmp_path / "run"
    assert run("train", "--config", tmp_path / "my.toml", "--rounds", 1, "--out", out) == 0
    config = json.loads((out / "config.json").read_text())
    chosen = [config[name] for name in ("recipe", "batch_size", "rounds", "width")]
    assert chosen == ["gan", 8, 1, 4]
    assert config["full_resolution"]
    again = ("--config", tmp_path / "my.toml", "--rounds", 2, "--resume")
    assert run("train", *again, "--out", out) == 0


def test_more_rounds_move_the_decay_and_say_so(tmp_path, capsys):
    """A run that was only interrupted keeps its bits; a longer one has other rates."""
    small = (*TINY, "--decay", "linear")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run("train", *small, "--rounds", 4, "--out", whole) == 0
    assert run("train", *small, "--rounds", 2, "--out", parts) == 0
    capsys.readouterr()
    assert run("train", "--resume", "--out", parts) == 0
    assert "rates " not in capsys.readouterr().out
    assert run("train", "--resume", "--rounds", 4, "--out", parts) == 0
    assert "they fall over 4 rounds from here on, and fell over 2 before" in capsys.readouterr().out


def test_a_run_compiles_by_itself_where_that_repays(tmp_path, monkeypatch, capsys):
    """By the number of updates; without a compiler the run goes on, and one line says so."""
    calls = []

    def without_compiler(algorithm):
        def step(state, batch, noise):
            calls.append(int(state.round))
            raise RuntimeError("compiling failed") from InvalidCxxCompiler("No g++ here")

        return algorithm._replace(step=step)

    class InvalidCxxCompiler(Exception):  # noqa: N818 (as torch has it)
        """No compiler."""

    monkeypatch.setattr("fgan.run.compiling.compiled", without_compiler)
    monkeypatch.setattr("fgan.run.compiling.REPAYING_UPDATES", 9)
    outs = [tmp_path / name for name in ("few", "many", "asked")]
    assert run("train", *TINY, "--rounds", 2, "--out", outs[0]) == 0
    assert "compiled   no: 6 updates" in capsys.readouterr().out
    assert run("train", *TINY, "--rounds", 3, "--out", outs[1]) == 0
    said = capsys.readouterr().out
    assert "compiled   yes: 9 updates repay" in said
    assert said.count("no C++ compiler works here") == 1
    assert calls == [0]
    assert run("train", *TINY, "--rounds", 3, "--no-compile", "--out", outs[2]) == 0
    assert calls == [0]
    states = [torch.load(out / "checkpoint.pt", weights_only=True)["leaves"] for out in outs[1:]]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    kept = [json.loads((out / "config.json").read_text())["compile"] for out in outs]
    assert kept == [False, True, False]


def test_another_error_of_a_compiled_round_ends_the_run(tmp_path, monkeypatch):
    """Only a missing compiler is passed over."""

    def broken(algorithm):
        def step(state, batch, noise):
            raise RuntimeError("shapes differ")

        return algorithm._replace(step=step)

    monkeypatch.setattr("fgan.run.compiling.compiled", broken)
    monkeypatch.setattr("fgan.run.compiling.REPAYING_UPDATES", 1)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run("train", *TINY, "--rounds", 1, "--out", tmp_path / "run")


def test_a_folder_with_another_run_is_left_alone(trained, capsys):
    """Training into it again is refused, and its checkpoint stays as it was."""
    before = (trained / "checkpoint.pt").read_bytes()
    assert run("train", *TINY, "--rounds", 1, "--out", trained) == 2
    assert "holds another run" in capsys.readouterr().err
    assert (trained / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "5"], "seed = 0, and 5 was given"),
        (["--rounds", "3"], "has 4 rounds already, and 3"),
        (["wgan"], "recipe = 'wgan-gp'"),
        (["--betas", "0", "0.5"], "betas = None, and (0.0, 0.5) was given"),
        (["--preset", "paper"], "leave --preset out"),
        (["--full-resolution"], "full_resolution = False, and True was given"),
    ],
)
def test_a_resumed_run_keeps_its_settings(trained, options, message, capsys):
    """What differs from the run's own settings is refused, as are fewer rounds than it has."""
    assert run("train", "--resume", "--out", trained, *options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--condition", "10"], "is no class of this run"),
        (["--condition", "dog"], "is no class of this run"),
        (["--num", "0"], "--num is a whole number from 1"),
    ],
)
def test_impossible_samples_are_refused(trained, tmp_path, options, message, capsys):
    """A class outside the run's and a count below one are named; no picture is written."""
    assert run("sample", trained, *options, "--out", tmp_path / "x.png") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_a_condition_for_an_unconditional_run_is_refused(tmp_path, capsys):
    """An unconditional generator cannot be asked for a class."""
    out = tmp_path / "run"
    assert run("train", *TINY, "--unconditional", "--rounds", 1, "--out", out) == 0
    assert run("sample", out, "--condition", 1, "--out", tmp_path / "x.png") == 2
    assert "unconditional" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "sample"])
def test_a_truncated_checkpoint_is_refused(command, tmp_path, capsys):
    """Half a file is named as such, whether training goes on from it or samples are drawn."""
    out = tmp_path / "run"
    assert run("train", *TINY, "--rounds", 1, "--out", out) == 0
    file = out / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if command == "train":
        assert run("train", "--resume", "--rounds", 2, "--out", out) == 2
    else:
        assert run("sample", out, "--out", tmp_path / "x.png") == 2
    assert "truncated" in capsys.readouterr().err
