"""Settings, files and machines that cannot work: one line on standard error, and status 2."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import torch
from PIL import Image

import fgan
from fgan.cli import main
from fgan.run import pictures
from fgan.run.configuration import Config, Run
from fgan.run.json_files import read_object
from fgan.run.limits import no_compiler, too_much

TINY = [
    *("--model", "mlp", "--width", "4", "--latent-dim", "2", "--batch-size", "4"),
    *("--n-critic", "1", "--log-every", "1", "--device", "cpu", "--data", "rings"),
]


def refused(capsys, *arguments):
    """The one line that the command line ends with."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        status = leaving.code
    errors = capsys.readouterr().err
    assert status == 2, errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("fgan: ")
    return errors


# --- configurations ------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    """A configuration, and a function that writes another one into its place."""
    path = tmp_path / "run" / "config.json"
    path.parent.mkdir()
    Run(Config(data="rings"), (2,), ("a", "b")).save(path)
    whole = json.loads(path.read_text())

    def write(**changes):
        path.write_text(json.dumps(whole | changes))
        return path

    return write


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rounds", "many", "rounds is a whole number, and 'many' stands there"),
        ("rounds", 2.0, "rounds is a whole number, and 2.0 stands there"),
        ("rounds", True, "rounds is a whole number, and True stands there"),
        ("rounds", None, "rounds is a whole number, and None stands there"),
        ("rounds", -1, "rounds is a whole number from 1, and -1 was given"),
        ("conditional", "no", "conditional is true or false, and 'no' stands there"),
        ("conditional", 1, "conditional is true or false, and 1 stands there"),
        ("lr", "1e-3", "lr is a number or null, and '1e-3' stands there"),
        ("lr", 10**400, "lr is a number or null, and 1000"),
        ("image_size", [64], r"image_size is a whole number or null, and \[64\] stands there"),
        ("recipe", ["gan"], "recipe is a string, and"),
        ("recipe", "gun", "unknown recipe 'gun'"),
        ("colour", 1, "'colour' is no setting of this version of fgan; known are recipe, data"),
        ("class_names", "ab", "class_names is a list of strings, and 'ab' stands there"),
        ("class_names", ["a", 1], "class_names is a list of strings"),
        ("class_names", [], r"class_names cannot be \[\]"),
        ("sample_shape", [2.5], r"sample_shape is a list of whole numbers, and \[2.5\]"),
        ("sample_shape", [True], "sample_shape is a list of whole numbers"),
        ("sample_shape", [0], r"sample_shape cannot be \[0\]"),
        ("data_fingerprint", [], r"data_fingerprint is an object, and \[\] stands there"),
        ("data_fingerprint", {}, "class_counts is a list of whole numbers, and it is missing"),
    ],
)
def test_a_configuration_of_wrong_types_names_file_and_key(key, value, message, config, capsys):
    """A value of another type is not used, nor turned into one that fits."""
    path = config(**{key: value})
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {message}"):
        Run.load(path)
    for command in (["sample", path.parent, "--out", path.with_name("x.png")],
                    ["train", "--resume", "--out", path.parent]):  # fmt: skip
        assert str(path) in refused(capsys, *command)


def test_whole_numbers_stand_for_numbers(config):
    """JSON has one kind of number: 1 is a learning rate."""
    assert Run.load(config(lr=1)).config.lr == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON from line 1, column 1"),
        (b'{"a": 1,\n}', "no JSON from line [12]"),
        (b"\xff\xfe{}", "is not UTF-8 text: byte 0"),
        (b'{"a": "\xc3"}', "is not UTF-8 text: byte 7"),
        (b"[1, 2]", r"a JSON object is expected, and \[1, 2\] stands there"),
        (b"[" * 100_000, "too deep"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands there twice"),
        (b"1" * 5000, "limit"),
    ],
)
def test_what_is_no_json_object_is_named(content, message, tmp_path):
    """The place in the file, in one line."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_object(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_a_byte_order_mark_is_no_fault(config):
    """Some editors write one."""
    path = config()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Run.load(path).class_names == ("a", "b")


@pytest.mark.parametrize("place", [os.mkdir, os.mkfifo, lambda path: os.symlink(path, path)])
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_what_is_no_file_is_not_read(place, name, tmp_path, capsys):
    """A folder, a pipe that nobody writes to, and a link in a circle."""
    out = tmp_path / "run"
    assert main(["train", *TINY, "--rounds", "1", "--out", str(out)]) == 0
    (out / name).unlink()
    place(out / name)
    assert str(out / name) in refused(capsys, "train", "--resume", "--rounds", 2, "--out", out)


def test_names_of_any_letters_survive(tmp_path):
    """A folder's name may hold bytes that are no text, line breaks and quotes."""
    names = ("é", "\udcff", "a\nb", '"', "[red]")
    path = tmp_path / "config.json"
    Run(Config(), (2,), names).save(path)
    assert Run.load(path).class_names == names
    images = torch.zeros(5, 1, 8, 8)
    pictures.save_images(tmp_path / "x.png", images, columns=5, headings=names)
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size[0] == 5 * 68


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a[bold]b", "[/red]", "x :smile: 'y'", "$(id) & ;", "-o"])
def test_paths_are_no_markup_and_hints_are_quoted(name, tmp_path, monkeypatch, capsys):
    """What is printed for the shell names the folder again when the shell has read it."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TINY, "--rounds", "1", f"--out={name}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"output     {name}" in lines
    (hint,) = (line for line in lines if line.startswith("more"))
    words = shlex.split(hint)[1:]
    assert words[:2] == ["fgan", "sample"]
    assert main(words[1:]) == 0
    assert os.path.samefile(words[2], tmp_path / name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", *TINY, "--out", ""],
        ["train", "--resume", "--out", ""],
        ["train", *TINY, "--data-root", ""],
        ["sample", "", "--out", "x.png"],
        ["sample", "run", "--out", ""],
        ["sample", "run", "--out", "a\0b"],
    ],
)
def test_an_empty_path_is_not_the_current_folder(arguments, tmp_path, monkeypatch, capsys):
    """Nothing is written there."""
    monkeypatch.chdir(tmp_path)
    assert "a path is expected" in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_script_with_an_empty_path_is_refused(tmp_path, monkeypatch):
    """As on the command line."""
    monkeypatch.chdir(tmp_path)
    generator = fgan.models.mlp_generator((2,), 3, hidden=(4,), norm="none")
    algorithm = fgan.gan(generator, fgan.models.mlp_critic((2,), hidden=(4,)))
    with pytest.raises(ValueError, match="an empty string was given"):
        fgan.train(algorithm, "rings", rounds=1, out="", conditional=False)
    assert list(tmp_path.iterdir()) == []


# --- machines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--width", 10**9], "make them smaller"),
        (["--width", 10**40], "too large to be built"),
        (["--width", 10**5], "and this machine has"),
        (["--latent-dim", 10**12], "and this machine has"),
        (["--batch-size", 10**12], "make batch_size or n_critic smaller"),
        (["--n-critic", 10**12], "make batch_size or n_critic smaller"),
    ],
)
def test_what_does_not_fit_into_memory_is_refused(more, message, tmp_path, monkeypatch, capsys):
    """Before anything is written, and before the system ends the process."""
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "train", *TINY, *more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [10**12, 10**30])
def test_too_many_samples_are_refused(number, tmp_path, capsys):
    """What the allocator says is one line, with what to make smaller."""
    out = tmp_path / "run"
    assert main(["train", *TINY, "--rounds", "1", "--out", str(out)]) == 0
    said = refused(capsys, "sample", out, "--num", number, "--out", tmp_path / "x.png")
    assert "not enough memory" in said
    assert "--num" in said
    assert not (tmp_path / "x.png").exists()


def test_only_allocations_are_called_so():
    """Other errors of torch stay what they are, with their traceback."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    assert "not enough memory" in too_much(raised.value)
    wrapped = RuntimeError("a step failed")
    wrapped.__cause__ = MemoryError()
    assert "MemoryError" in too_much(wrapped)
    for error in (RuntimeError("mat1 and mat2 must have the same dtype"), TypeError("x")):
        assert too_much(error) is None
        assert no_compiler(error) is None


@pytest.mark.parametrize(
    "device", ["meta", "meta:1", "warp", "", "cpu:-1", "hpu", "vulkan", "mkldnn", "privateuseone"]
)
def test_a_device_without_numbers_is_refused(device, tmp_path, monkeypatch, capsys):
    """A device is used once before anything else is done with it."""
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "train", *TINY[:-4], "--data", "rings", "--device", device)
    assert f"device {device!r} cannot be used: " in said
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_one_line_says_so(tmp_path):
    """As in a slim container: no compiler on the path, and CXX names none."""
    empty = tmp_path / "bin"
    empty.mkdir()
    settings = {"PATH": str(empty), "CXX": "/nowhere/g++", "OMP_NUM_THREADS": "1"}
    out = tmp_path / "run"
    ended = subprocess.run(
        [sys.executable, "-m", "fgan", "train", *TINY, "--rounds", "1", "--compile", "--out", out],
        env=os.environ | settings | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("fgan: --compile needs a C++ compiler that works")
    assert "--no-compile" in line


def test_a_run_does_not_depend_on_the_default_device(tmp_path):
    """What the CPU's generators draw is made on the CPU, in training and in sampling."""
    out, other = tmp_path / "a", tmp_path / "b"
    assert main(["train", *TINY, "--rounds", "2", "--out", str(out)]) == 0
    assert main(["sample", str(out), "--num", "4", "--out", str(tmp_path / "a.png")]) == 0
    torch.set_default_device("meta")
    try:
        assert main(["train", *TINY, "--rounds", "2", "--out", str(other)]) == 0
        options = ("--num", "4", "--device", "cpu", "--out", str(tmp_path / "b.png"))
        assert main(["sample", str(out), *options]) == 0
    finally:
        torch.set_default_device(None)
    picture = "samples/round-000002.png"
    assert (out / picture).read_bytes() == (other / picture).read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
