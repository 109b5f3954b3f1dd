"""The data of a run: noted in its configuration, and compared when the run is resumed."""

import os
import warnings
from pathlib import Path
from typing import Any

from fgan.data import GENERATED, Fingerprint
from fgan.run.json_files import read_object, shown, write_object

KEY = "data_fingerprint"
"""Where the configuration has the counts and hashes; the form of the data stands beside it."""


class OtherDataError(ValueError):
    """The data at hand are not those that a run was trained on."""


def as_json(data: Fingerprint) -> dict[str, Any]:
    """The entries of a configuration that say which data the run has."""
    counted = {
        "class_counts": data.class_counts,
        "class_hashes": data.class_hashes,
        "contents": data.contents,
    }
    return {"sample_shape": data.sample_shape, "class_names": data.class_names, KEY: counted}


def save(path: Path, data: Fingerprint, keep: bool) -> None:
    """Write the configuration of a run whose networks a script made: its data alone.

    keep: leave a configuration that is there as it is, as for a run that a script resumes.
    """
    if keep and os.path.lexists(path):
        return
    write_object(path, {"data": data.name} | as_json(data))


def of_json(content: dict[str, Any], path: Path) -> Fingerprint:
    """What `as_json` made; without counts and hashes in a configuration of version 0.1.

    Raises ValueError naming the file and the key for what cannot be one.
    """
    shape = _list(content, "sample_shape", int, path)
    names = _list(content, "class_names", str, path)
    counted = content.get(KEY, {})
    has_classes = not isinstance(counted, dict) or counted.get("class_counts") != []
    if (not names and has_classes) or min(shape, default=1) < 1:
        key = "class_names" if not names and has_classes else "sample_shape"
        raise ValueError(f"{path}: {key} cannot be {shown(content[key])}")
    if KEY not in content:
        return Fingerprint(str(content.get("data")), tuple(shape), tuple(names), (), (), "")
    if not isinstance(counted, dict):
        raise ValueError(f"{path}: {KEY} is an object, and {shown(counted)} stands there")
    counts = _list(counted, "class_counts", int, path)
    hashes = _list(counted, "class_hashes", str, path)
    contents = counted.get("contents")
    if not isinstance(contents, str) or {len(counts), len(hashes)} != {len(names)}:
        raise ValueError(f"{path}: {KEY} has a count and a hash for each class, and one of all")
    return Fingerprint(
        str(content.get("data")), tuple(shape), tuple(names), tuple(counts), tuple(hashes), contents
    )


def check_form(
    path: Path, known: Fingerprint, shape: tuple[int, ...], names: tuple[str, ...]
) -> None:
    """Raise OtherDataError where samples have another shape or classes other names or places."""
    start = f"the run in {path.parent} has other data: "
    if names != known.class_names:
        count = max(len(names), len(known.class_names))
        pairs = [(_at(known.class_names, i), _at(names, i)) for i in range(count)]
        first, (before, now) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise OtherDataError(
            f"{start}its classes are {_listed(known.class_names)}, and those of the data at hand "
            f"{_listed(names)} (class {first} is {before} there and {now} here)"
        )
    if shape != known.sample_shape:
        raise OtherDataError(
            f"{start}its samples have the shape {list(known.sample_shape)}, and those of the data "
            f"at hand {list(shape)}"
        )


def check(path: Path, data: Fingerprint) -> None:
    """Compare `data` with what the configuration at `path` says; nothing is written.

    A folder without a configuration, and one of version 0.1, which has no hashes, say nothing of
    the contents. Raises OtherDataError naming both sides, ValueError for a damaged file.
    """
    if not os.path.lexists(path):
        return
    known = of_json(read_object(path), path)
    check_form(path, known, data.sample_shape, data.class_names)
    if not known.contents or not data.contents or known.contents == data.contents:
        return
    start = f"the run in {path.parent} has other data: "
    keep = f'to go on with the data at hand, set "contents" of {KEY} to "" in {path}'
    for name, before, now in zip(
        data.class_names, known.class_counts, data.class_counts, strict=True
    ):
        if before != now:
            raise OtherDataError(
                f"{start}{before} samples of class {name!r}, and the data at hand have {now}; "
                f"{keep}"
            )
    changed = [
        name
        for name, before, now in zip(
            data.class_names, known.class_hashes, data.class_hashes, strict=True
        )
        if before != now
    ]
    what = "the order of the samples" if data.class_names else "the samples or their labels"
    what = f"the samples of class {_listed(changed)}" if changed else what
    sides = f"the hash is {known.contents} there and {data.contents} here"
    if data.name in GENERATED:
        warnings.warn(
            f"{data.name} was made anew and differs from the data of the run in {path.parent}: "
            f"{what}, {sides}. The run goes on, and not in the bits of an uninterrupted one",
            stacklevel=3,
        )
        return
    raise OtherDataError(
        f"{start}{what} differ from the data at hand ({sides}). Another version of Pillow can "
        f"decode JPEG files to other numbers; {keep}"
    )


def _list(content: dict[str, Any], key: str, kind: type, path: Path) -> list[Any]:
    found = content.get(key)
    if isinstance(found, list) and all(type(entry) is kind for entry in found):
        return found
    what = {int: "whole numbers", str: "strings"}[kind]
    there = f"{shown(found)} stands there" if key in content else "it is missing"
    raise ValueError(f"{path}: {key} is a list of {what}, and {there}")


def _at(names: tuple[str, ...], index: int) -> str:
    return repr(names[index]) if index < len(names) else "missing"


def _listed(names: list[str] | tuple[str, ...], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
