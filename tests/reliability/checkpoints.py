"""Checkpoints that were damaged, or made by somebody else: refused by name, or harmless."""

import gzip
import io
import os
import pickle
import random
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from runs import Fork, Row, row

import fgan
from fgan import tree
from fgan.run import checkpoints

NAME, COUNT = "checkpoints", 300

Case = tuple[str, bytes]


def small() -> Any:
    """The state of a small game on points, EMA included."""
    generator = fgan.models.mlp_generator((2,), 2, hidden=(4,), norm="none")
    critic = fgan.models.mlp_critic((2,), hidden=(4,))
    return fgan.gan(generator, critic, ema_decay=0.9).init(0)


def written(content: object, **options: Any) -> bytes:
    """What torch.save writes."""
    target = io.BytesIO()
    torch.save(content, target, **options)
    return target.getvalue()


class Trap:
    """Unpickled, it would make a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return (open, (str(self.place), "w"))


def _values(leaf: torch.Tensor, trap: Path) -> Iterator[tuple[str, object]]:
    """Things that may stand in a tensor's place."""
    yield from {
        "None": None,
        "a number": 1.5,
        "a string": "weights",
        "bytes": b"\0" * 8,
        "a list": leaf.reshape(-1).tolist(),
        "an empty list": [],
        "a dict": {"data": leaf},
        "a tuple": (leaf,),
        "an OrderedDict": OrderedDict(a=leaf),
        "code": Trap(trap),
        "a meta tensor": leaf.to("meta"),
        "a sparse tensor": leaf.reshape(-1, 1).float().to_sparse(),
        "one axis more": leaf[None],
        "one value more": torch.cat([leaf.reshape(-1), leaf.reshape(-1)[:1]]),
        "no values": leaf.reshape(-1)[:0],
        "a complex tensor": torch.complex(leaf.float(), leaf.float()),
        "bools": leaf.bool(),
        "bfloat16": leaf.to(torch.bfloat16),
        "int8": leaf.to(torch.int8),
        "10^12 values in one": torch.zeros(1).expand(10**12),
        "a parameter of another shape": torch.nn.Parameter(torch.zeros(3, 3, 3)),
        "a nested tensor": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "a quantised tensor": torch.quantize_per_tensor(leaf.float(), 0.1, 0, torch.quint8),
        "a device": torch.device("cpu"),
        "a size": torch.Size([1, 2]),
        "a dtype": torch.float32,
    }.items()


def _contents(state: Any, trap: Path) -> Iterator[tuple[str, object]]:
    """Objects that are no checkpoint of this state."""
    leaves = tree.named_leaves(state)
    good = {"format": "fgan state 2", "leaves": leaves}
    first = next(iter(leaves.values()))
    for label, value in _values(first, trap):
        yield f"the content is {label}", value
        yield f"the leaves are {label}", good | {"leaves": value}
        yield f"the format is {label}", good | {"format": value}
    for text in ("", "fgan state 1", "fgan state 3", "fgan", "fgan state 2 ", "FGAN STATE 2"):
        yield f"format {text!r}", good | {"format": text}
    yield "no format", {"leaves": leaves}
    yield "no leaves", {"format": "fgan state 2"}
    yield "nothing", {}
    yield "a list of leaves", good | {"leaves": list(leaves.values())}
    for key in (None, 0, 1.5, True, b".round", ("a",), "", ".", ".round ", "\0"):
        yield f"a leaf named {key!r}", good | {"leaves": leaves | {key: first}}
    for name in leaves:
        rest = {key: value for key, value in leaves.items() if key != name}
        yield f"without {name}", good | {"leaves": rest}
        yield f"{name} by another name", good | {"leaves": rest | {name + "_": leaves[name]}}
        for label, value in _values(leaves[name], trap):
            yield f"{name} is {label}", good | {"leaves": leaves | {name: value}}


def _repacked(whole: bytes, **options: Any) -> bytes:
    """The same archive, written by zipfile."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(target, "w", **options) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    return target.getvalue()


def _without(whole: bytes, missing: str) -> bytes:
    """The same archive without one record."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.infolist():
            if record.filename != missing:
                new.writestr(record.filename, old.read(record))
    return target.getvalue()


def _files(whole: bytes, state: Any, trap: Path) -> Iterator[Case]:
    """Files that are no whole checkpoint."""
    yield "an empty file", b""
    yield "a compressed archive", _repacked(whole, compression=zipfile.ZIP_DEFLATED)
    yield "an archive in bzip2", _repacked(whole, compression=zipfile.ZIP_BZIP2)
    yield "a gzip file", gzip.compress(whole)
    yield "a bare pickle", pickle.dumps({"format": "fgan state 2"})
    yield "a bare pickle of code", pickle.dumps(Trap(trap))
    yield (
        "torch's old format",
        written(
            {"format": "fgan state 2", "leaves": tree.named_leaves(state)},
            _use_new_zipfile_serialization=False,
        ),
    )
    yield "an empty archive", zipfile_of({})
    yield "another archive", zipfile_of({"readme": b"hello"})
    yield "a bomb", _repacked(zipfile_of({"archive/data.pkl": b"\0" * 10**7}), compression=8)
    yield "twice the bytes", whole + whole
    yield "text", b"hello"
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        names = archive.namelist()
    for name in names:
        yield f"without the record {name}", _without(whole, name)
    for part in range(1, 40):
        yield f"{part} of 40 parts", whole[: len(whole) * part // 40]
        yield f"{part} of 40 parts missing at the start", whole[len(whole) * part // 40 :]
    chance = random.Random(5)
    for part in range(20):
        at = chance.randrange(len(whole) - 600)
        yield f"zeros, {part}", whole[:at] + b"\0" * 512 + whole[at + 512 :]
        yield f"other bytes, {part}", whole[:at] + chance.randbytes(512) + whole[at + 512 :]
        yield f"512 bytes missing, {part}", whole[:at] + whole[at + 512 :]


def zipfile_of(records: dict[str, bytes]) -> bytes:
    """An archive of these records."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return target.getvalue()


def hostile(state: Any, whole: bytes, trap: Path) -> Iterator[Case]:
    """All cases, by a name that says what they are."""
    yield from _files(whole, state, trap)
    for label, content in _contents(state, trap):
        try:
            yield label, written(content)
        except Exception:
            continue  # torch cannot write it, so it is in no file


def flipped(whole: bytes, count: int, low: int = 0) -> Iterator[Case]:
    """The file with one bit changed, from byte `low` on."""
    chance = random.Random(6)
    for _ in range(count):
        at, bit = chance.randrange(low, len(whole)), chance.randrange(8)
        changed = bytearray(whole)
        changed[at] ^= 1 << bit
        yield f"bit {bit} of byte {at}", bytes(changed)


def outcome(path: Path, content: bytes, state: Any) -> str:
    """What is wrong with loading this content: empty where it is refused by name, or harmless."""
    path.write_bytes(content)
    try:
        loaded = checkpoints.load(path, like=state)
    except checkpoints.CheckpointError as error:
        return "" if str(path) in str(error) else f"the message names no file: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    expected, found = tree.named_leaves(state), tree.named_leaves(loaded)
    same = all(torch.equal(leaf, found[name]) for name, leaf in expected.items())
    return "" if same else "another state was loaded"


def _judge(cases: Iterator[Case], state: Any, trap: Path, report: Path) -> int:
    """The outcome of every case, a line each, written at once: a crash loses no line."""
    place = report.with_suffix(".pt")
    with report.open("w") as file:
        for label, content in cases:
            problem = outcome(place, content, state)
            if trap.exists():
                trap.unlink()
                problem = "code was run"
            file.write(f"{label}: {problem}".replace("\n", " ") + "\n" if problem else "\n")
            file.flush()
    return 0


def run(count: int) -> list[Row]:
    """`count` flipped bits anywhere, as many in the archive's directory, and hostile files."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    state = small()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        trap, report = Path(temporary) / "trap", Path(temporary) / "report"
        checkpoints.save(Path(temporary) / "whole", state)
        whole = (Path(temporary) / "whole").read_bytes()
        directory = whole.index(b"PK\x01\x02")
        cases = list(hostile(state, whole, trap))
        if count < COUNT:
            cases = random.Random(7).sample(cases, min(count, len(cases)))
        for label, chosen in (
            ("flipped bits, refused or harmless", list(flipped(whole, count))),
            ("flipped bits in the directory", list(flipped(whole, count, directory))),
            ("hostile and damaged files, refused by name", cases),
        ):
            ended = Fork(lambda c=chosen: _judge(iter(c), state, trap, report)).wait(300)
            problems = report.read_text().split("\n")[:-1]
            lost = [f"{ended}"] * (len(chosen) - len(problems))
            rows.append(row(label, problems + lost))
    return rows


if __name__ == "__main__":
    print(os.linesep.join(map(str, run(COUNT))))
