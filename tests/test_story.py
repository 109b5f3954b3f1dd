"""The scripts of the story: each is run with `--quick`, and its claim checked on what it measured.

The tests judge the measured figures by themselves, with their own margins: a script that asserted
nothing would not pass.
"""

import importlib
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

pytest.importorskip("matplotlib", reason="the figures need the extra `plots`")


@pytest.fixture
def told(monkeypatch, tmp_path):
    """Run a script by its name, as `python examples/NAME.py --quick --figure F` does."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(name):
        script, common = importlib.import_module(name), importlib.import_module("common")
        figure = tmp_path / f"{name}.png"
        monkeypatch.setattr(sys, "argv", [name, "--quick", "--figure", str(figure)])
        found = common.main(script.measure, script.draw, script.check)
        common.plt.close("all")
        assert figure.stat().st_size > 5_000
        return found

    return run
