"""Short forms of the divergence and determinism tables."""

import math
from pathlib import Path

import determinism
import divergence
import pytest
import torch


def test_runs_that_diverge_end_by_name_and_show_their_place():
    """One variant of each kind and of each recipe, at least."""
    rows = divergence.run(24)
    assert sum(total for _, _, total, _ in rows) == 24 + 3
    for kind, passed, total, remark in rows:
        assert passed == total, f"{kind}: {remark}"
    kinds = {variant.kind for variant in divergence.variants()}
    assert {kind for kind, *_ in rows} == kinds | {"bad sample"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"phase": "update"}, "replay names the phase 'forward'"),
        ({"player": "generator"}, "replay names the critic update 1"),
        ({"broken": None}, "the run did not end"),
    ],
)
def test_the_table_sees_what_does_not_hold(change, fault, tmp_path):
    """A variant with a wrong expectation, and one that does not diverge."""
    variant = next(v for v in divergence.variants() if "logarithm of zero in the critic" in v.label)
    if "broken" in change:
        change = {"broken": variant.good}
    said = divergence.fault(variant._replace(**change), tmp_path)
    assert said == fault


def test_the_same_seed_gives_the_same_bits():
    """Eager, twice in one process; another seed's bits would differ by more than rounding."""
    first, second = (determinism.final(False, torch.float32, "cpu", 2) for _ in range(2))
    assert determinism.same("eager", first, second)[1:] == (1, 1, "same bits")
    moved = first | {".round": first[".round"] + 1}
    assert determinism.same("eager", moved, second)[1] == 0
    lost = first | {".round": torch.tensor(math.nan)}
    assert determinism.same("eager", lost, second)[1] == 0
    assert determinism.measured("eager", {"float64": (moved, second)})[1] == 0


def test_each_table_is_a_module_with_a_name():
    """What the command that prints all tables reads of a module."""
    for module in (divergence, determinism):
        assert module.NAME
        assert callable(module.run)
        assert Path(module.__file__).parent == Path(__file__).parent
