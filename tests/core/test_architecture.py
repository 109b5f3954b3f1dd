"""The house: imports run downwards, and what touches the world lives on the upper floors."""

import ast
import re
from pathlib import Path

import pytest

import fgan

# Every module has its floor. A package's own `__init__` stands on the floor of its modules, except
# fgan's, which is above all: nothing inside may import it.
FLOORS = {
    1: "tree seeds scalars shares scores types collectives losses optim models",
    2: "networks penalties augment",
    3: "checks terms objectives augmented noisy measures",
    4: "game noise algorithm",
    5: "recipes population accumulation nonfinite distributed compiler evaluation data testing",
    6: "run",
    7: "cli __main__",
    8: "",
}
"""As CONTRIBUTING.md draws it."""
EDGE = 6
"""The lowest floor that may print, read clocks and open files."""

FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()} | {"": 8}
"""Of the first part of a module's name below fgan; "" is fgan itself."""

BANNED_MODULES = {"time", "datetime", "sys", "logging", "rich", "tqdm"}
BANNED_NAMES = {"print", "open", "input", "breakpoint"}
BANNED_METHODS = {"open", "read_text", "write_text", "read_bytes", "write_bytes"}


def read(folder):
    """Module name below the package -> its tree; a package goes by its own name, the root by ""."""
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        modules[".".join(parts)] = ast.parse(path.read_text())
    return modules


def floor_of(module):
    """The floor that a module stands on; KeyError where nobody gave it one."""
    return FLOOR_OF[module.partition(".")[0]]


def imported(module, modules):
    """The names that a module imports, wherever it does: "x.y" below fgan as ("fgan", "x.y")."""
    packages = {name for name in modules if any(m.startswith(f"{name}.") for m in modules)} | {""}
    for node in ast.walk(modules[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield split(alias.name)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:  # relative: from the package that the module is in
                here = f"fgan.{module}".split(".") if module else ["fgan"]
                up = node.level - (module in packages)
                source = ".".join([*here[: len(here) - up], *([source] if source else [])])
            for alias in node.names:
                top, rest = split(source)
                deeper = f"{rest}.{alias.name}" if rest else alias.name
                yield (top, deeper) if top == "fgan" and deeper in modules else (top, rest)


def split(name):
    """The top package, and what stands below it."""
    top, _, rest = name.partition(".")
    return top, rest


def arrows(modules):
    """module -> the modules of fgan that it imports."""
    return {
        module: {rest for top, rest in imported(module, modules) if top == "fgan"}
        for module in modules
    }


def upward(modules):
    """Imports that lead to a higher floor, and modules without one, as sentences."""
    for module in modules:
        if module.partition(".")[0] not in FLOOR_OF:
            yield f"fgan.{module} has no floor: give it one in tests/test_architecture.py"
    for module, targets in arrows(modules).items():
        for target in sorted(targets):
            known = all(name.partition(".")[0] in FLOOR_OF for name in (module, target))
            if known and floor_of(target) > floor_of(module):
                yield f"fgan.{module} (floor {floor_of(module)}) imports fgan.{target}, above it"


def cycle(graph):
    """Some circle of imports, as the list of its modules; empty if there is none."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return path[path.index(module) :]
        if module in done or module not in graph:
            return []
        path.append(module)
        found = next((c for target in sorted(graph[module]) if (c := visit(target))), [])
        path.pop()
        done.add(module)
        return found

    return next((found for module in sorted(graph) if (found := visit(module))), [])


def foreign(modules):
    """Imports of what fgan does without, as sentences."""
    for module in modules:
        tests = module.partition(".")[0] == "testing"
        for top, _ in imported(module, modules):
            if top == "jax" or (top == "hypothesis" and not tests):
                yield f"fgan.{module} imports {top}"


def worldly(modules):
    """Printing, clocks and files below the edge, as sentences; only fgan.data may open files."""
    for module, tree in modules.items():
        if floor_of(module) >= EDGE:
            continue
        files = module.partition(".")[0] == "data"
        for top, _ in imported(module, modules):
            # The compiler logs for its developers, through a logger that is silent by default.
            if top == "logging" and module.partition(".")[0] == "compiler":
                continue
            # Pillow's log of a damaged file is turned off while the error says the same.
            if (module, top) == ("data.picture_files", "logging"):
                continue
            # NumPy's generator is looked at where somebody else has imported NumPy.
            if (module, top) == ("networks.randomness", "sys"):
                continue
            if top in BANNED_MODULES:
                yield f"fgan.{module} imports {top}"
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Name) and called.id in BANNED_NAMES:
                if not (files and called.id == "open"):
                    yield f"fgan.{module} calls {called.id}()"
            elif isinstance(called, ast.Attribute) and not files:
                of_torch = isinstance(called.value, ast.Name) and called.value.id == "torch"
                if called.attr in BANNED_METHODS or (of_torch and called.attr in ("load", "save")):
                    yield f"fgan.{module} calls .{called.attr}()"


@pytest.fixture(scope="module")
def house():
    """The package as it is."""
    return read(Path(fgan.__file__).parent)


def test_every_module_has_a_floor_and_imports_run_downwards(house):
    """No module imports one above it, nor the package itself."""
    assert list(upward(house)) == []


def test_imports_have_no_circle(house):
    """Modules of one floor may use each other, but never in a circle."""
    assert cycle(arrows(house)) == []


def test_only_testing_imports_hypothesis_and_nothing_imports_jax(house):
    """What fgan is tested with is not what it runs on."""
    assert list(foreign(house)) == []


def test_only_the_edge_touches_the_world(house):
    """Printing, clocks and files live on floors 6 and 7; data sets may read files."""
    assert list(worldly(house)) == []


def test_the_parser_sees_the_house(house):
    """Modules and arrows that are known to be there are found, those of packages too."""
    assert {"", "tree", "networks", "game", "recipes", "data.real"} <= set(house)
    assert arrows(house)["algorithm"] >= {"tree", "checks", "networks", "objectives", "types"}
    assert "losses" in arrows(house)["recipes"]


def parsed(**sources):
    """A synthetic package; `init` is the root's own file, and __ a dot."""
    named = {name.replace("__", "."): ast.parse(text) for name, text in sources.items()}
    return {("" if name == "init" else name): tree for name, tree in named.items()}


@pytest.mark.parametrize(
    ("sources", "culprit"),
    [
        (
            dict(tree="from fgan.networks import x", networks=""),
            "fgan.tree .* fgan.networks",
        ),
        (dict(tree="import fgan.recipes", recipes=""), "fgan.tree .* imports fgan.recipes"),
        (dict(tree="from fgan import cli", cli=""), "fgan.tree .* imports fgan.cli"),
        (dict(tree="from . import cli", cli=""), "fgan.tree .* imports fgan.cli"),
        (dict(tree="from .cli import main", cli=""), "fgan.tree .* imports fgan.cli"),
        (dict(data="", data__real="from ..cli import main", cli=""), "fgan.data.real .* fgan.cli"),
        (dict(tree="def f():\n    from fgan import cli", cli=""), "fgan.tree .* imports fgan.cli"),
        (dict(cli="import fgan", init=""), r"fgan.cli .* imports fgan\., above it"),
        (dict(cli="from fgan import wgan", init=""), r"fgan.cli .* imports fgan\., above it"),
        (dict(novelty=""), "fgan.novelty has no floor"),
    ],
)
def test_the_checker_sees_upward_arrows(sources, culprit):
    """Absolute, relative and late imports upwards are all found, and so are unknown modules."""
    (found,) = upward(parsed(**sources))
    assert re.match(culprit, found), found


def test_the_checker_sees_circles_within_a_floor():
    """A circle of three on one floor has no upward arrow, and is found all the same."""
    house = parsed(
        checks="from fgan import measures",
        measures="from fgan import objectives",
        objectives="from fgan.checks import x",
        tree="",
    )
    assert list(upward(house)) == []
    assert sorted(cycle(arrows(house))) == ["checks", "measures", "objectives"]
    assert cycle(arrows(parsed(checks="from fgan import tree", tree=""))) == []


def test_the_checker_sees_what_is_banned():
    """Printing, clocks, files and foreign imports are found where they are banned, only there."""
    text = "import time\nprint(1)\nopen('x')\npath.read_text()\ntorch.save(x)"
    assert len(list(worldly(parsed(networks=text)))) == 5
    assert list(worldly(parsed(run=text))) == []
    assert len(list(worldly(parsed(data__real=text)))) == 2
    text = "import jax.numpy\nfrom hypothesis import given"
    assert len(list(foreign(parsed(tree=text)))) == 2
    assert list(foreign(parsed(testing="", testing__losses="import hypothesis"))) == []
