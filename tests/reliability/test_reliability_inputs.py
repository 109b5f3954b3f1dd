"""The drills with damaged inputs, in their short form."""

import hostile_files
import pictures


def test_mutated_pictures_are_read_or_refused_by_name():
    """A few of each kind of damage; `python tests/reliability pictures` runs thousands."""
    for label, held, tried, remark in pictures.run(100):
        assert (held, tried) == (20, 20), f"{label}: {remark}"


def test_hostile_files_are_refused_in_one_line():
    """A few of each kind; `python tests/reliability hostile_files` runs them all."""
    for label, held, tried, remark in hostile_files.run(40):
        assert held == tried > 3, f"{label}: {remark}"
