"""A few hundred fuzzed calls and plausible mistakes: none is silent, and few messages are poor."""

import calls
import fuzz_all
import mistakes
import pytest
import torch
from fuzz_core import NAMED, OBSCURE, RIGHT, SILENT, Argument, Mutation, Target, first_line
from fuzz_core import outcome_of as outcome_of_call

import fgan


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shown(rows, kind):
    """The outcomes of one kind, a line each."""
    return "\n".join(f"{row[0]}: {first_line(row[-1])}" for row in rows if row[-1].kind == kind)


def test_right_calls_are_right():
    """Every target has its independently expected value."""
    quick = [target for target in fuzz_all.targets() if not target.slow]
    found = [(target.name, outcome_of_call(target, [])) for target in quick]
    assert {outcome.kind for _, outcome in found} == {RIGHT}, shown(found, SILENT)


def test_no_fuzzed_call_is_silently_wrong():
    """Of the first few hundred calls."""
    found = [(label, outcome) for _, label, outcome in calls.outcomes(range(400))]
    assert not shown(found, SILENT)


def test_messages_for_plausible_mistakes():
    """Under five per cent are poor, and no mistake is computed."""
    found = [row for row in mistakes.outcomes(mistakes.mistakes(500)) if row[1].kind != RIGHT]
    assert not shown(found, SILENT)
    poor = [row for row in found if row[1].kind != NAMED]
    assert len(poor) < 0.05 * len(found), shown(found, OBSCURE)


def double(x, scale=2.0):
    """2x, with the mistakes that the judge has to see."""
    if isinstance(scale, str):
        raise TypeError("deep inside")  # not by a raise statement of fgan
    if scale == 3:
        x.add_(1)
    if scale == 4:
        return x * torch.rand(())
    if scale == 6:
        return fgan.Batch(1, 2, 3)  # Batch.__new__() takes fewer arguments
    return x * scale


@pytest.mark.parametrize(
    ("scale", "meaning", "kind"),
    [
        (5.0, fuzz_all.REFUSED, SILENT),  # computed
        (3, 3, SILENT),  # writes into its input
        (4, 4, SILENT),  # draws from the global generator
        (torch.tensor(2.0), 2.0, RIGHT),
        (torch.tensor(2.5), 2.0, SILENT),
        ("2", fuzz_all.REFUSED, OBSCURE),
        (6, fuzz_all.REFUSED, OBSCURE),  # a wrong call inside of the function
    ],
)
def test_the_judge(scale, meaning, kind):
    """Each outcome is told from the others."""
    arguments = {"x": Argument(torch.ones(3), "tensor"), "scale": Argument(2.0, "scalar")}
    target = Target("double", double, arguments, lambda got: None)
    mutation = Mutation("scale", "another", scale, ("2",), ("number",), meaning)
    assert outcome_of_call(target, [mutation]).kind == kind


@pytest.mark.parametrize(
    ("given", "expected", "kind"),
    [(("-1",), ("at least",), NAMED), (("-7",), ("at least",), OBSCURE),
     (("-1",), ("tensor",), OBSCURE)],
)  # fmt: skip
def test_a_good_message_has_three_parts(given, expected, kind):
    """It names the argument, what was given, and what is expected."""
    target = Target("sgd", fgan.sgd, {"lr": Argument(0.1, "scalar", ("rate",))}, lambda got: None)
    mutation = Mutation("lr", "negative", -1.0, given, expected)
    assert outcome_of_call(target, [mutation]).kind == kind


def test_calls_are_the_same_by_number():
    """A call follows from its number alone."""
    first, again = (calls.label_of(*calls.call(1234)) for _ in range(2))
    assert first == again
