"""Break the code on purpose, one way at a time, and see each break fail a test.

    python tests/mutants.py            # all of them, some minutes each core
    python tests/mutants.py ema clip   # those whose names contain one of the words
    python tests/mutants.py --check    # only check that every break still fits the code

Works on a temporary copy; the tree it is run from is only read. Prints a markdown table and exits
with 1 if a break survives. Not collected by pytest: nothing here is named test_*.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from breaks import BREAKS, Break

ROOT = Path(__file__).resolve().parent.parent


class Place(NamedTuple):
    """The lines of a module, a class or a function: those from `first` up to `last` of `path`."""

    path: Path
    first: int
    last: int
    is_module: bool = False


class StaleError(ValueError):
    """A break that does not fit the code."""


@cache
def places(package: Path) -> dict[str, list[Place]]:
    """Every module, class and function of a package by its full name, such as
    "fgan.optim.adam.update" for a function within `adam`."""
    found: dict[str, list[Place]] = {}

    def visit(node: ast.AST, name: str, path: Path) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}"
                assert child.end_lineno is not None
                place = Place(path, child.lineno - 1, child.end_lineno)
                found.setdefault(inner, []).append(place)
            visit(child, inner, path)

    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text()
        found.setdefault(name, []).append(Place(path, 0, len(text.splitlines()), True))
        visit(ast.parse(text), name, path)
    return found


def find(where: str, package: Path) -> Place:
    """The one place that `where` names.

    That is a full name, or the last part of one with as much before it as tells it apart: all parts
    of `where` stand in the full name, in this order, and the last of them at its end. A function
    comes before a module of its name; the module then goes by its full name.
    """
    known = places(package)
    names = [where] if where in known else [name for name in known if _names(where, name)]
    names = [name for name in names if not known[name][0].is_module] or names
    if not names:
        raise StaleError(f"no module, class or function is named {where!r}")
    if len(names) > 1 or len(known[names[0]]) > 1:
        raise StaleError(f"{where!r} is the name of several: {', '.join(names)}")
    return known[names[0]][0]


def _names(where: str, name: str) -> bool:
    parts = iter(reversed(name.split(".")))
    last, *others = reversed(where.split("."))
    return next(parts) == last and all(part in parts for part in others)


def pattern(text: str) -> re.Pattern[str]:
    """Matches `text` however it is laid out: other spaces and lines, a comma before a bracket."""
    tokens = re.findall(r"\w+|[^\w\s]", text)
    joined = r"\b" if _is_word(tokens[0]) else ""
    for before, token in pairwise(["", *tokens]):
        if before:
            joined += r"\s+" if _is_word(before) and _is_word(token) else r"\s*"
        if token in list(")]}") and before != ",":
            joined += r"(?:,\s*)?"
        joined += re.escape(token)
    return re.compile(joined + (r"\b" if _is_word(tokens[-1]) else ""))


def _is_word(token: str) -> bool:
    return re.match(r"\w", token) is not None


def broken(name: str, change: Break, package: Path) -> tuple[Path, str]:
    """(the file, its text with the break in it). A `new` of several lines is indented to fit.

    Raises StaleError if the place is not to be found, or does not hold `old` exactly once.
    """
    try:
        path, first, last, _ = find(change.where, package)
        lines = path.read_text().splitlines(keepends=True)
        text = "".join(lines[first:last])
        matches = list(pattern(change.old).finditer(text))
        if len(matches) != 1:
            raise StaleError(
                f"{change.where} holds this {len(matches)} times, not once: {change.old!r}"
            )
    except StaleError as error:
        raise StaleError(f"the break {name!r} is stale: {error}") from None
    start, end = matches[0].span()
    line = text[text.rfind("\n", 0, start) + 1 :]
    indent = line[: len(line) - len(line.lstrip())]
    new = change.new.strip().replace("\n", "\n" + indent)
    return path, "".join([*lines[:first], text[:start], new, text[end:], *lines[last:]])


def check(breaks: dict[str, Break] = BREAKS, root: Path = ROOT) -> list[str]:
    """What is wrong with breaks: no such place, no such text, no such test, code that is none."""
    wrong = []
    for name, change in breaks.items():
        try:
            path, text = broken(name, change, root / "fgan")
            if ast.dump(ast.parse(text)) == ast.dump(ast.parse(path.read_text())):
                wrong.append(f"the break {name!r} changes nothing")
        except StaleError as error:
            wrong.append(str(error))
        except SyntaxError as error:
            wrong.append(f"the break {name!r} is no Python: {error}")
        for test in change.tests.split():
            if not test_files(root, test):
                wrong.append(f"the break {name!r} has no tests/**/test_{test}.py")
    return wrong


def test_files(root: Path, tests: str) -> list[str]:
    """The test files of these names, whatever folder they are in."""
    return [str(p) for name in tests.split() for p in sorted(root.glob(f"tests/**/test_{name}.py"))]


def first_failure(output: str) -> str:
    """The id of the first test that failed, or "" if none did."""
    found = re.search(r"^(?:FAILED|ERROR) (?:tests/\w+/)?(.+?)(?: - .*)?$", output, re.MULTILINE)
    return found.group(1) if found else ""


def run(copy: Path, tests: str) -> tuple[int, str]:
    """(exit status, output) of pytest on some test files of the copy."""
    places = os.pathsep.join(filter(None, [str(copy), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": places, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *test_files(copy, tests)],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def try_all(words):
    """Yield (name, what killed it or "") for every break that is asked for."""
    chosen = {k: v for k, v in BREAKS.items() if not words or any(w in k for w in words)}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("fgan", "tests"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, copy / part, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", copy)
        # The copy is what is broken: the tree may be edited meanwhile.
        wrong = check(chosen, copy)
        if wrong:
            raise SystemExit("\n".join(wrong))
        # A test that fails anyway would seem to kill everything.
        files = sorted({test for change in chosen.values() for test in change.tests.split()})
        status, output = run(copy, " ".join(files))
        if status:
            raise SystemExit(f"the unbroken code fails: {first_failure(output)}\n{output[-2000:]}")
        for name, change in chosen.items():
            path, text = broken(name, change, copy / "fgan")
            whole = path.read_text()
            path.write_text(text)
            status, output = run(copy, change.tests)
            path.write_text(whole)
            # 1: a test failed. 2 is an interrupted collection: a break must not be a typing error.
            if status not in (0, 1):
                raise SystemExit(f"{name}: pytest exited with {status}\n{output[-2000:]}")
            yield name, first_failure(output) if status else ""


def main(arguments):
    """Print the table as it grows, or what is stale."""
    if arguments == ["--check"]:
        wrong = check()
        print("\n".join(wrong) or f"all {len(BREAKS)} breaks fit the code")
        return min(len(wrong), 1)
    print("| break | killed by |\n|---|---|", flush=True)
    survivors = 0
    for name, killer in try_all(arguments):
        survivors += not killer
        print(f"| {name} | {f'`{killer}`' if killer else '**survived**'} |", flush=True)
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
