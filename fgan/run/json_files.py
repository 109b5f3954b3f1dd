"""JSON that hands and crashes may have changed: every error names the file, and the key."""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgan.data.files import replacing


def write_object(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object to a file that is whole or not there."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_object(path: Path) -> dict[str, Any]:
    """The object in the file at `path`.

    Raises ValueError, in one line that begins with the path, where there is no file, or it cannot
    be read, is not UTF-8, or does not hold one JSON object.
    """
    if not path.is_file():  # a pipe would keep the reader waiting
        raise ValueError(f"{path} cannot be read: it is no file")
    try:
        return parse_object(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text: byte {error.start} is no part of it"
        ) from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that `text` is.

    Raises ValueError for anything else: other values, keys that stand there twice, NaN and
    infinities, which are no JSON, and numbers and depths that Python refuses.
    """
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON from line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("no JSON that can be read: it is too deep") from error
    if not isinstance(found, dict):
        raise ValueError(f"a JSON object is expected, and {shown(found)} stands there")
    return found


def shown(value: object) -> str:
    """The value for a message: on one line, and short."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = 60
    return brief.repr(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} stands there twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")
