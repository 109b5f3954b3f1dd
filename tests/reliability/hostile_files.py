"""Configurations, metrics and idx files that hold something else: refused in one line, by name.

Each file is tried through the public function that reads it and through the command line. The
function raises ValueError with the path; the command ends with status 2 and one line on standard
error. Nothing in the run's folder is changed on the way.
"""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import fgan.data
from fgan.cli import main
from fgan.run.configuration import Config, Run

NAME = "hostile files"
COUNT = 600

SECONDS = 20
SETTINGS = [
    *("--data", "rings", "--width", "4", "--latent-dim", "2", "--batch-size", "4"),
    *("--n-critic", "1", "--log-every", "1", "--rounds", "4", "--device", "cpu"),
]

BYTES = (
    b"", b"\n", b"\0" * 64, b"\xff\xfe{}", b"\xc3\x28", b"null", b"[]", b"3", b'"text"', b"{",
    b"{}", b"}{", b"[" * 5000, b'{"a":' * 5000, b"1" * 5000, b"NaN", b'{"recipe": NaN}', b"\x80abc",
    b'{"recipe": "gan"}', b"<html>404</html>", b"PK\3\4", b"recipe: gan\n", b"{'recipe': 'gan'}",
)  # fmt: skip
"""What stands in place of a JSON object."""

VALUES = (
    None, True, False, -1, 0, 0.5, 2**70, -(2**70), 1e308, "", "text", "3", "\ud800",
    "[r]\n\x1b[2J", [], [1], {}, {"a": 1}, [[]], [None], ["a", 1],
)  # fmt: skip
"""What stands in place of a value; those that are right for a key are left out."""


class HangError(Exception):
    """A file that took too long."""


def stopped(*_):
    """The handler of the alarm."""
    raise HangError(f"more than {SECONDS} s")


def called(*arguments):
    """(exit status, standard error) of a command; the status is text where an exception escaped."""
    errors = io.StringIO()
    before = signal.signal(signal.SIGALRM, stopped)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            status = main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        status = leaving.code
    except BaseException as error:
        status = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return status, errors.getvalue()


def snapshot(folder):
    """Every file of a folder, but the lock that a refused run leaves."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith(".")
    }


def refusal(arguments, folder, named):
    """What is wrong with the refusal of a command; empty where nothing is."""
    before = snapshot(folder)
    status, errors = called(*arguments)
    if status != 2:
        return f"status {status}: {errors[:200]}"
    if len(errors.splitlines()) != 1 or not errors.startswith("fgan: "):
        return f"not one line: {errors[:300]!r}"
    if str(named) not in errors:
        return f"the file is not named: {errors[:300]!r}"
    if snapshot(folder) != before:
        return "a file was changed"
    return ""


def raised(function, named, *arguments):
    """What is wrong with the error of a function; empty where nothing is."""
    before = signal.signal(signal.SIGALRM, stopped)
    signal.alarm(SECONDS)
    try:
        function(*arguments)
    except ValueError as error:
        good = str(named) in str(error) and "\n" not in str(error)
        return "" if good else f"not named in one line: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return "accepted"


def configurations(whole):
    """Contents for config.json, none of which is a configuration, as (label, bytes)."""
    for content in BYTES:
        yield repr(content[:20]), content
    for cut in range(1, len(json.dumps(whole)), 97):
        yield f"cut at {cut}", json.dumps(whole).encode()[:cut]
    yield "a key twice", json.dumps(whole).encode()[:-1] + b', "seed": 1}'
    yield "another key", json.dumps(whole | {"colour": 1}).encode()
    yield "bytes that are no text", json.dumps(whole).encode().replace(b"rings", b"r\xffngs")
    for key in ("recipe", "sample_shape", "class_names"):
        yield f"no {key}", json.dumps({k: v for k, v in whole.items() if k != key}).encode()
    fingerprint = whole["data_fingerprint"]
    for key in fingerprint:
        for value in (None, 3, "x" if key != "contents" else [], [1, "a"], {}):
            changed = whole | {"data_fingerprint": fingerprint | {key: value}}
            yield f"data_fingerprint.{key} {value!r}", json.dumps(changed).encode()
    for key in whole:
        for value in VALUES:
            if not fits(key, value):
                changed = json.dumps(whole | {key: value}).replace("1e+308", "1e999")
                yield f"{key} {value!r}", changed.encode()


def fits(key, value):
    """Whether a value could be a setting, if perhaps another one."""
    if key == "data_fingerprint":
        return False
    if key in ("sample_shape", "class_names"):
        kind = int if key == "sample_shape" else str
        most = key == "sample_shape" or value != []  # samples may be numbers: of no axes
        return isinstance(value, list) and most and all(type(v) is kind for v in value)
    kinds = next(field.type for field in fields(Config) if field.name == key)
    names = {int: ("int", "float"), float: ("float",), bool: ("bool",), str: ("str",)}
    if value is None:
        return "None" in str(kinds)
    right = any(
        name in str(getattr(kinds, "__name__", kinds)) for name in names.get(type(value), ())
    )
    counts = {"rounds", "batch_size", "latent_dim", "width", "log_every", "sample_every"}
    if right and key in counts:
        return value > 0
    return right and key not in ("recipe", "model")


def try_configurations(run, count, chance):
    """What is wrong with each refusal of a configuration, through Run.load and two commands."""
    path = run / "config.json"
    whole = json.loads(path.read_text())
    every = list(configurations(whole))
    for label, content in chance.sample(every, min(count, len(every))):
        path.write_bytes(content)
        wrong = raised(Run.load, path, path)
        command = chance.choice(
            [
                ("train", "--resume", "--out", run, "--device", "cpu"),
                ("sample", run, "--num", 3, "--out", run.parent / "x.png", "--device", "cpu"),
            ]
        )
        wrong = wrong or refusal(command, run, path)
        yield label, wrong
    path.write_text(json.dumps(whole))


def metrics(lines):
    """Contents for metrics.jsonl as (label, bytes): damage before the last line that counts."""
    bad = [b"garbage", b"\xff\xfe", b"[]", b"3", b"null", b'{"round": "x"}', b'{"round": 1.5}',
           b'{"round": true}', b'{"round": null}', b"{}", b'{"round": 1', b"\0" * 30,
           b"[" * 3000, b'{"round": []}', b'"round"', b"NaN", b"", b"<a>", b"{}{}"]  # fmt: skip
    for at in range(len(lines) - 1):
        for line in bad:
            yield (
                f"line {at + 1}: {line[:20]!r}",
                b"\n".join([*lines[:at], line, *lines[at + 1 :], b""]),
            )


def try_metrics(run, count, chance):
    """What is wrong with each refusal of metrics at resume."""
    path = run / "metrics.jsonl"
    whole = path.read_bytes()
    every = list(metrics(whole.splitlines()))
    for label, content in chance.sample(every, min(count, len(every))):
        path.write_bytes(content)
        command = ("train", "--resume", "--rounds", 9, "--out", run, "--device", "cpu")
        yield label, refusal(command, run, path)
    path.write_bytes(whole)


def idx(chance):
    """An idx file that is none, as (label, name, bytes)."""
    images = chance.random() < 0.5
    ndim, shape = (3, (6, 5, 4)) if images else (1, (6,))
    name = "train-images-idx3-ubyte" if images else "train-labels-idx1-ubyte"
    size = 120 if images else 6
    header = struct.pack(f">HBB{ndim}I", 0, 8, ndim, *shape)
    body = bytes(chance.randrange(10) for _ in range(size))
    packed = chance.random() < 0.5
    kind = chance.choice(
        ["short", "long", "huge", "type", "axes", "garbage", "none", "damaged", "bomb", "labels"]
    )
    if kind == "short":
        content = (header + body)[: chance.randrange(len(header + body))]
    elif kind == "long":
        content = header + body + bytes(chance.randint(1, 50))
    elif kind == "huge":
        most = [chance.choice([2**32 - 1, 2**31, 2**20]) for _ in range(ndim)]
        content = struct.pack(f">HBB{ndim}I", 0, 8, ndim, *most) + body
    elif kind == "type":
        content = (
            struct.pack(f">HBB{ndim}I", 0, chance.choice([0, 9, 13, 255]), ndim, *shape) + body
        )
    elif kind == "axes":
        content = struct.pack(">HBB2I", 0, 8, chance.choice([0, 2, 4, 255]), 2, 3) + body
    elif kind == "garbage":
        content = bytes(chance.randrange(256) for _ in range(chance.randint(1, 300)))
    elif kind == "none":
        content = struct.pack(f">HBB{ndim}I", 0, 8, ndim, *[0] * ndim)
    elif kind == "labels":
        name, content = "train-labels-idx1-ubyte", b"\0\0\x08\1\0\0\0\6" + b"\0\1\2\3\4\xfa"
    else:
        content = header + body
    if kind == "bomb":
        packed, content = True, header + body + bytes(2**25)
    if not packed and kind != "damaged":
        return kind, name, content
    wrapped = bytearray(gzip.compress(content))
    if kind == "damaged":  # where it is sure to be noticed: the signature, the checksum, the length
        wrapped[chance.choice([0, 1, 2, -1, -4, -5, -8])] ^= chance.randint(1, 255)
    return f"{kind}, gzipped", f"{name}.gz", bytes(wrapped)


def try_idx(folder, count, chance):
    """What is wrong with each refusal of idx files, through load and the command line."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    whole = {
        "train-images-idx3-ubyte": struct.pack(">HBB3I", 0, 8, 3, 6, 5, 4) + bytes(120),
        "train-labels-idx1-ubyte": struct.pack(">HBBI", 0, 8, 1, 6) + bytes(6),
    }
    for _ in range(count):
        label, name, content = idx(chance)
        for other in raw.iterdir():
            other.unlink()
        for other, right in whole.items():
            if not name.startswith(other):
                (raw / other).write_bytes(right)
        (raw / name).write_bytes(content)
        wrong = raised(fgan.data.load, raw / name, "mnist", folder)
        command = (
            "train",
            *SETTINGS,
            "--data",
            "mnist",
            "--data-root",
            folder,
            "--out",
            folder / "o",
        )
        yield label, wrong or refusal(command, folder, raw / name)


def odd_places(run):
    """Things that are no files where files are expected, through the command line."""
    for name in ("config.json", "metrics.jsonl"):
        path, kept = run / name, (run / name).read_bytes()
        commands = [("train", "--resume", "--rounds", 9, "--out", run, "--device", "cpu")]
        if name == "config.json":
            commands.append(("sample", run, "--out", run.parent / "x.png", "--device", "cpu"))
        for label, make in (
            ("a folder", os.mkdir),
            ("a named pipe", os.mkfifo),
            ("a link in a circle", lambda p: os.symlink(p, p)),
            ("a device", lambda p: os.symlink("/dev/zero", p)),
        ):
            path.unlink()
            make(path)
            for command in commands:
                yield f"{name} is {label}", refusal(command, run, path)
            path.rmdir() if label == "a folder" else path.unlink()
            path.write_bytes(kept)


def run(count):
    """Rows (label, how many held, how many were tried, a remark)."""
    chance = random.Random(5)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        out = place / "a [run]"
        status, errors = called("train", *SETTINGS, "--out", out)
        assert status == 0, errors
        for label, results in (
            ("configurations", try_configurations(out, count * 2 // 3, chance)),
            ("metrics", try_metrics(out, max(4, count // 10), chance)),
            ("idx files", try_idx(place / "data", count // 4, chance)),
            ("no files where files are expected", odd_places(out)),
        ):
            tried = list(results)
            wrong = [(what, problem) for what, problem in tried if problem]
            for what, problem in wrong[:8]:
                print(f"{label}: {what}: {problem}", file=sys.stderr)
            remark = f"{wrong[0][0]}: {wrong[0][1]}" if wrong else "one line, status 2"
            rows.append((f"hostile {label}", len(tried) - len(wrong), len(tried), remark))
        shutil.rmtree(out)
    return rows
