"""What README.md shows runs: its Python, its command lines, and the links of every page."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from test_architecture import FLOOR_OF

import fgan
from fgan import losses, penalties
from fgan.cli import main
from fgan.data import DataSet
from fgan.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "examples/coming_from.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/README.md")),
    *(path.name for path in sorted(ROOT.glob("*.md"))),
]

PAGE = (ROOT / "README.md").read_text()
OTHERS = (ROOT / "examples" / "coming_from.md").read_text()
"""The page for users of other libraries; what is theirs is in blocks of another language."""

SMALLER = {
    '"fashion-mnist", batch_size=64': '"glyphs", batch_size=8',  # nothing is downloaded
    '"fashion-mnist", rounds=1000': '"glyphs", rounds=2',
    "rounds=1000": "rounds=2",
    '64, condition="Sneaker"': '8, condition="7"',
    "rounds=2000": "rounds=1",
    "rounds=500": "rounds=1",
    "batch_size=64": "batch_size=8",
    "torch.randn(64, 64), condition=torch.full((64,), 6)": (
        "torch.randn(8, 64), condition=torch.full((8,), 6)"
    ),
}
"""What is made smaller, so that the blocks run in seconds."""

READERS = {
    "my_critic_loss": losses.hinge_critic_loss,
    "my_generator_loss": losses.hinge_generator_loss,
    "my_penalty": penalties.zero_centered_penalty,
    "rows": torch.linspace(-1, 1, 200).view(40, 5),
    "recordings": torch.linspace(-1, 1, 2048).view(8, 2, 128),
    "digits": DataSet(
        "digits", torch.zeros(10, 1, 28, 28), torch.arange(10), tuple(map(str, range(10)))
    ),
}
"""What the reader of the page brings."""


def blocks(page, language):
    """The code blocks of a page that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_python_runs(monkeypatch, tmp_path):
    """All blocks in order, in one namespace; the tests among them are called."""
    monkeypatch.chdir(tmp_path)  # where a run is written
    code = "\n".join(blocks(PAGE, "python"))
    for large, small in SMALLER.items():
        assert large in code, f"README.md no longer says {large!r}"
        code = code.replace(large, small)
    # Without a compiler: what is compiled is tested elsewhere.
    monkeypatch.setattr(fgan, "compile", partial(fgan.compile, backend="interpreter"))
    names = dict(READERS)
    torch.manual_seed(0)  # the latents of the last line
    exec(compile(code, "README.md", "exec"), names)
    assert names["shirts"].shape == names["sneakers"].shape == (8, 1, 28, 28)
    assert torch.isfinite(names["sneakers"]).all()
    assert names["state"].round == 2
    assert names["tuned"].round == 1
    assert names["states"].round.tolist() == [1, 1, 1]
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_what_is_ours_beside_other_libraries_runs(monkeypatch, tmp_path):
    """All Python blocks in order, in one namespace, with small networks and one round."""
    monkeypatch.chdir(tmp_path)
    code = re.sub(r"width=\d+", "width=4", "\n".join(blocks(OTHERS, "python")))
    code = re.sub(r"\brounds=[\d_]+", "rounds=1", code.replace("batch_size=64", "batch_size=4"))
    assert '"cifar10"' in code
    monkeypatch.setattr(fgan, "compile", lambda algorithm: algorithm)  # it is tested elsewhere
    loader = torch.utils.data.DataLoader(torch.linspace(-1, 1, 12544).view(16, 1, 28, 28), 8)
    names = {
        "fgan": fgan,
        "torch": torch,
        "generator": fgan.models.conv_generator((1, 28, 28), width=4),
        "critic": fgan.models.conv_critic((1, 28, 28), width=4),
        "loader": loader,
        "cifar": DataSet("cifar", torch.linspace(-1, 1, 24576).view(8, 3, 32, 32)),
    }
    exec(compile(code.replace('"cifar10"', "cifar"), "coming_from.md", "exec"), names)
    assert names["state"].round == 1
    assert names["params"].keys() == names["network"].params.keys()
    assert int(names["opt_state"].updates) == 1


def test_the_change_of_the_readme_fits_its_script(tmp_path, monkeypatch):
    """Each line of the diff that was there is in the script, and the changed script runs."""
    script, (change,) = blocks(PAGE, "python")[0], blocks(PAGE, "diff")
    lines = change.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] for line in lines if not line.startswith("-"))
    assert script.count(before) == 1
    script = script.replace(before, after)
    for large, small in [
        ('"fashion-mnist", 64', '"glyphs", 8'),
        ("rounds=1000", "rounds=1"),
        ("batch_size=64", "batch_size=8"),
    ]:
        assert large in script
        script = script.replace(large, small)
    store, names = dist.FileStore(str(tmp_path / "store"), 1), {}
    of_one = partial(dist.init_process_group, "gloo", store=store, rank=0, world_size=1)
    monkeypatch.setattr(dist, "init_process_group", of_one)  # without torchrun
    try:
        exec(compile(script, "README.md", "exec"), names)
    finally:
        dist.destroy_process_group()
    assert names["algorithm"].share == (0, 1)
    assert names["state"].round == 1


def test_the_command_lines_are_understood(monkeypatch):
    """Each `fgan ...` of the pages reaches its command with every option taken."""
    lines = [
        line[line.index("fgan ") :]
        for block in blocks(PAGE, "sh") + blocks(OTHERS, "sh")
        for line in block.splitlines()
        if re.search(r"(?:^|/)fgan ", line)
    ]
    reached = []
    for command in ("train", "sample", "export", "evaluate", "replay"):
        monkeypatch.setattr(
            f"fgan.cli.{command}_command",
            lambda console, *, name=command, **_: reached.append(name),
        )
    for line in lines:
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
    assert set(reached) == {"train", "sample", "export", "evaluate", "replay"}
    assert len(reached) == len(lines)


def test_the_table_of_recipes_is_the_registry():
    """Each recipe has a row, and the row has its learning rate and its critic updates."""
    rows = re.findall(r"^\| `fgan\.(\w+)` \|.*\| (.*?) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == [each.function.__name__ for each in RECIPES.values()]
    for (_, defaults), recipe in zip(rows, RECIPES.values(), strict=True):
        rate = f"{recipe.lr:.0e}".replace("e-0", "e-")
        assert f" {rate}" in defaults
        assert f"n_critic {recipe.n_critic}" in defaults


def test_the_layout_is_that_of_the_package():
    """CONTRIBUTING.md has every module and package, on the floor where imports are checked."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    drawn = {
        name.strip("/"): int(floor)
        for floor, names in re.findall(r"^\| (\d) \| (.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`(\w+/?)`", names)
    }
    there = {path.stem for path in (ROOT / "fgan").glob("[!_]*") if path.suffix in ("", ".py")}
    assert drawn == {name: FLOOR_OF[name] for name in there}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Links to files of the repository, and files that are named from its root."""
    path = ROOT / page
    for name in re.findall(r"`((?:fgan|tests|bench|examples)/[\w/]+\.\w+)`", path.read_text()):
        assert (ROOT / name).exists(), f"{page} names {name}"
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in link:
            assert (path.parent / link).exists(), f"{page} has a link to {link}"
