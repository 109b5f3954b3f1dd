"""The breaks of `breaks.py` fit the code, and the check that says so finds what is stale."""

import textwrap

import pytest
from breaks import Break
from mutants import StaleError, broken, check, find, pattern

CODE = """
LIMIT = 2


def outer(x):
    def inner(y):
        return scale(
            y,
            LIMIT,
        )

    if x:
        y = inner(x)
        y = y + 1
    return y


class Box:
    def inner(self):
        return 3


def alone(): return Box
"""


@pytest.fixture
def package(tmp_path):
    """A package of `shelf.py`, `deep/shelf.py`, and a module of a function's name."""
    root = tmp_path / "fgan"
    (root / "deep").mkdir(parents=True)
    (root / "shelf.py").write_text(textwrap.dedent(CODE))
    (root / "deep" / "shelf.py").write_text("def other():\n    return LIMIT\n")
    (root / "deep" / "other.py").write_text("FEW = 3\n")
    return root


def test_every_break_fits_the_code():
    assert check() == []


@pytest.mark.parametrize(
    ("where", "begins"),
    [
        ("outer", "def outer(x):"),
        ("outer.inner", "    def inner(y):"),
        ("shelf.outer.inner", "    def inner(y):"),
        ("Box.inner", "    def inner(self):"),
        ("Box", "class Box:"),
        ("fgan.shelf", ""),
        ("deep.shelf", "def other():"),
        ("deep.other", "def other():"),
        ("fgan.deep.other", "FEW = 3"),
    ],
)
def test_a_place_is_found_by_as_much_of_its_name_as_tells_it_apart(package, where, begins):
    place = find(where, package)
    assert place.path.read_text().splitlines()[place.first] == begins


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("inner", "the name of several: fgan.shelf.outer.inner, fgan.shelf.Box.inner"),
        ("shelf", "the name of several: fgan.deep.shelf, fgan.shelf"),
        ("missing", "no module, class or function is named 'missing'"),
        ("uter", "no module, class or function is named 'uter'"),
        ("Box.other", "no module, class or function"),
    ],
)
def test_other_names_are_refused(package, where, said):
    with pytest.raises(StaleError, match=said):
        find(where, package)


@pytest.mark.parametrize("text", ["scale(y, LIMIT)", "return scale( y,LIMIT,)", "y,\n LIMIT"])
def test_text_is_found_however_it_is_laid_out(package, text):
    _, changed = broken("one", Break("outer.inner", text, "0", ""), package)
    assert "LIMIT,\n        )" not in changed
    assert changed.count("LIMIT") == 1


def test_words_are_compared_whole():
    assert not pattern("if x").search("elif x")
    assert not pattern("if x").search("if xs")
    assert not pattern("not x").search("notx")
    assert pattern("-x").search("y-x")


def test_lines_that_are_put_in_are_indented(package):
    change = Break("outer", "y = inner(x) y = y + 1", "y = 1\nfor z in x:\n    y = z", "")
    _, changed = broken("one", change, package)
    assert (
        "    if x:\n        y = 1\n        for z in x:\n            y = z\n    return y" in changed
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Break("outer", "return x", "", "one"), "'mine' is stale: outer holds this 0 times"),
        (Break("shelf.outer", "y", "z", "one"), "'mine' is stale: shelf.outer holds this 6 times"),
        (Break("Box.inner", "return y", "", "one"), "'mine' is stale: Box.inner holds this 0"),
        (Break("nowhere", "y", "z", "one"), "'mine' is stale: no module, class or function"),
        (Break("alone", "return Box", "return (", "one"), "'mine' is no Python"),
        (Break("alone", "return Box", "return 1", "two"), "'mine' has no tests/**/test_two.py"),
        (Break("alone", "return Box", "return Box", "one"), "'mine' changes nothing"),
    ],
)
def test_what_is_stale_is_said(package, change, said):
    tests = package.parent / "tests" / "deep"
    tests.mkdir(parents=True)
    (tests / "test_one.py").touch()
    (wrong,) = check({"mine": change}, package.parent)
    assert said in wrong
