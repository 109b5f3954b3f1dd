"""The version is written in one place, and everything that names it agrees."""

import re
import tomllib
from pathlib import Path

import pytest

import fgan
from fgan.cli import main

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_line_prints_the_version(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert not leaving.value.code
    assert capsys.readouterr().out == f"fgan {fgan.__version__}\n"


def test_the_build_reads_the_version_from_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    source = (ROOT / project["tool"]["hatch"]["version"]["path"]).read_text()
    # As hatch looks for it, without running the package.
    (found,) = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert found == fgan.__version__


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == fgan.__version__
