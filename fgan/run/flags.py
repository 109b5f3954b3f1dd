"""The settings as flags of a command line, and as keys of a TOML file."""

import argparse
import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, get_origin

from fgan.run.settings import Config, as_values, check_types, kinds_of


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting; one that is not given is None."""
    groups: dict[str, Any] = {}
    for each in fields(Config):
        about = each.metadata
        title = about["group"]
        group = groups.setdefault(title, None) or parser.add_argument_group(title)
        groups[title] = group
        flag = f"--{each.name.replace('_', '-')}"
        (kind,) = (k for k in kinds_of(each.name) if k is not NoneType)
        more: dict[str, Any] = {"default": None, "help": about["help"]}
        if each.name == "recipe":
            group.add_argument("recipe", nargs="?", metavar=about["metavar"], **more)
        elif kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **more)
        elif get_origin(kind) is tuple:
            group.add_argument(flag, nargs=2, type=float, metavar=about["metavar"], **more)
        else:
            group.add_argument(flag, type=kind, metavar=about["metavar"], **more)
        if about["off"]:
            same = f"--no-{each.name}"
            group.add_argument(
                about["off"], dest=each.name, action="store_const", const=False, help=same
            )


def merged(flags: dict[str, Any], file: Path | None) -> dict[str, Any]:
    """The settings of a TOML file and of the flags, which win.

    A flag for both learning rates wins over those of the players in the file. Raises ValueError as
    `read_toml` does.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    content = {} if file is None else read_toml(file)
    if "lr" in given:
        content = _without(content, ("lr_generator", "lr_critic"))
    return as_values(content | given)


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, as `rounds = 1000`, under the names in `config.json`.

    Raises ValueError, in a line that begins with the path, where it cannot be read or is no TOML,
    for a key that is no setting, and for a value of another type.
    """
    if not path.is_file():  # a pipe would keep the reader waiting
        raise ValueError(f"{path} cannot be read: it is no file")
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: no TOML that can be read: it is too deep") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text: byte {error.start} is no part of it"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: no TOML: {error}") from error
    check_types(content, path, null=False)
    return content


def as_toml(config: Config) -> Iterable[str]:
    """The lines of a TOML file with all settings that are not None."""
    for each in fields(config):
        value = getattr(config, each.name)
        if value is not None:
            yield f"{each.name} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        escaped = "".join(f"\\U{ord(c):08x}" if ord(c) < 32 or c in '"\\\x7f' else c for c in value)
        return f'"{escaped}"'
    return repr(value)


def _without(content: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}
