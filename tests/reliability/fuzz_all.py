"""All targets with all mutations of their arguments."""

import inspect
from collections.abc import Iterator
from functools import cache

import fuzz_data
import fuzz_losses
import fuzz_optim
import fuzz_recipes
import fuzz_wrappers
from fuzz_core import ABSENT, REFUSED, Mutation, Target
from fuzz_games import GAMES
from fuzz_inputs import extras, nothing, seed_lists
from fuzz_objects import algorithms, devices, dtypes, functions, modules, optimizers
from fuzz_rounds import rounds_of
from fuzz_states import any_params, batches, noises, params, states
from fuzz_tensors import Maker, labels, no_labels, shown, tensors
from fuzz_values import booleans, choices, counts, scalars, seeds, shapes

MUTATIONS = {
    "tensor": tensors, "labels": labels, "no labels": no_labels, "scalar": scalars,
    "count": counts, "seed": seeds, "seeds": seed_lists, "boolean": booleans, "choice": choices,
    "dtype": dtypes, "device": devices, "state": states, "batch": batches, "noise": noises,
    "nothing": nothing, "extra": extras, "module": modules, "optimizer": optimizers,
    "algorithm": algorithms, "function": functions, "params": params, "any_params": any_params,
    "shape": shapes, **fuzz_data.MUTATIONS, **fuzz_losses.MUTATIONS, **fuzz_optim.MUTATIONS,
    **fuzz_recipes.MUTATIONS, **fuzz_wrappers.MUTATIONS,
}  # fmt: skip
"""The mutations of each kind of argument."""


@cache
def targets() -> list[Target]:
    """All targets."""
    rounds = [target for name in GAMES for target in rounds_of(name)]
    return [
        *rounds, *fuzz_losses.losses_and_measures(), *fuzz_optim.optimizers_and_schedules(),
        *fuzz_recipes.recipes(), *fuzz_wrappers.wrappers(), *fuzz_data.data_and_train(),
    ]  # fmt: skip


def mutations(target: Target) -> Iterator[Mutation]:
    """All mutations of one target's arguments, and of the call as a whole."""
    for name, argument in target.arguments.items():
        yield from MUTATIONS[argument.kind](Maker(name, argument))
    yield from of_the_call(target)


def of_the_call(target: Target) -> Iterator[Mutation]:
    """Arguments that are missing, misspelt, or too many."""
    name, argument = next(iter(target.arguments.items()))
    if _is_required(target, name):
        names = (rf"\b{name}\b", *argument.names)
        yield Mutation(name, "missing", ABSENT, (), (), REFUSED, True, names)
    yield Mutation(f"{name}_", "a misspelt keyword", argument.value, (), (), REFUSED, True,
                   (f"{name}_",))  # fmt: skip
    yield Mutation("penalty", "an unknown keyword", 10.0, (), (), REFUSED, True, ("penalty",))
    last = list(target.arguments)[-1]
    first_value = argument.value
    of_last = target.arguments[last]
    if (
        last != name
        and not of_last.hints.get("unread")
        and not isinstance(first_value, type(target.arguments[last].value))
    ):
        yield Mutation(last, f"{name} in its place", first_value,
                       shown(first_value), (), REFUSED, True,
                       of_last.names)  # fmt: skip


def _is_required(target: Target, name: str) -> bool:
    known = inspect.signature(target.function).parameters
    return name in known and known[name].default is inspect.Parameter.empty
