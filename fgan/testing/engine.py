"""How a checker searches for a counterexample, and how it reports one."""

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fgan import tree


class InvariantError(AssertionError):
    """An invariant does not hold; the message says by how much."""


def hold(
    invariant: str,
    prop: Callable[..., None],
    *strategies: st.SearchStrategy[Any],
    max_examples: int,
) -> None:
    """Look for drawn values at which `prop` raises; raise AssertionError with the smallest.

    The docstring of `prop` states the invariant, and the names of its parameters name the drawn
    values in the report. No Hypothesis profile and no example database is used or changed.
    """
    last: tuple[Any, ...] = ()

    @settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*strategies))
    def search(drawn: tuple[Any, ...]) -> None:
        nonlocal last
        last = drawn
        prop(*drawn)

    # Hypothesis runs the smallest example last.
    try:
        search()
    except Exception as error:
        _report(invariant, prop, last, error)


def _report(
    invariant: str, prop: Callable[..., None], drawn: tuple[Any, ...], error: Exception
) -> NoReturn:
    what = (
        str(error)
        if isinstance(error, InvariantError)
        else f"it raised {type(error).__name__}: {error}"
    )
    names = inspect.signature(prop).parameters
    example = "\n".join(f"  {name} = {value!r}" for name, value in zip(names, drawn, strict=True))
    statement = inspect.getdoc(prop)
    raise AssertionError(
        f"the invariant '{invariant}' broke: {statement}\n{what}\nsmallest example:\n{example}"
    ) from (None if isinstance(error, InvariantError) else error)


def demand(condition: bool | Tensor, message: str) -> None:
    """Raise `InvariantError` unless `condition`."""
    if not condition:
        raise InvariantError(message)


def demand_close(got: Tensor, expected: Tensor, message: str, rtol: float = 1e-9) -> None:
    """Demand that two tensors agree to `rtol` of their size, or of 1 where they are smaller."""
    demand(got.shape == expected.shape, f"{message}: {list(got.shape)} vs {list(expected.shape)}")
    got, expected = got.detach().double(), expected.detach().double()
    scale = 1 + torch.maximum(got.abs(), expected.abs())
    apart = ((got - expected).abs() > rtol * scale) | (got.isnan() != expected.isnan())
    # Nothing is close to an infinity but the same one.
    apart = (apart | got.isinf() | expected.isinf()) & (got != expected)
    demand(not apart.any(), f"{message}: {show(got)} vs {show(expected)}")


def demand_close_trees(got: Any, expected: Any, message: str, rtol: float = 1e-7) -> None:
    """`demand_close` for every leaf of two trees of one structure."""
    demand(tree.same_structure(got, expected), f"{message}: the trees differ in structure")
    named, others = tree.named_leaves(got), tree.named_leaves(expected)
    for name, leaf in named.items():
        demand_close(leaf, others[name], f"{message}: {name}", rtol)


def same_bits(got: Any, expected: Any) -> bool:
    """Whether two trees agree in structure and in every bit."""
    return tree.same_structure(got, expected) and all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        for a, b in zip(tree.leaves(got), tree.leaves(expected), strict=True)
    )


@contextmanager
def untouched(*trees: Any) -> Iterator[None]:
    """Demand that the block writes to no tensor, flags none, and draws no global random number."""
    tensors = [leaf for leaf in tree.leaves(trees) if isinstance(leaf, Tensor)]
    before = [(t.detach().clone(), t._version, t.requires_grad, t.grad) for t in tensors]
    states = torch.get_rng_state(), random.getstate()
    yield
    demand(torch.equal(torch.get_rng_state(), states[0]), "it drew from torch's global generator")
    demand(random.getstate() == states[1], "it drew from Python's global generator")
    for tensor, (bits, version, requires_grad, gradient) in zip(tensors, before, strict=True):
        demand(
            tensor._version == version and torch.equal(tensor.detach(), bits),
            f"it wrote into a tensor it was given: {show(bits)} became {show(tensor)}",
        )
        demand(
            tensor.requires_grad == requires_grad and tensor.grad is gradient,
            "it changed requires_grad or .grad of a tensor it was given",
        )


def show(tensor: Tensor) -> str:
    """A tensor in a message: its numbers if there are few."""
    if tensor.numel() > 16:
        return f"a tensor {list(tensor.shape)} of norm {tensor.detach().double().norm():.6g}"
    return str(tensor.detach().tolist())


def name_of(function: Callable[..., Any], otherwise: str) -> str:
    """What to call a user's function in a message."""
    return getattr(function, "__name__", otherwise)


def slopes_of(
    loss: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(loss [B], (its derivative by the real scores [B], by the fake scores [B]))."""
    given = tuple(s.detach().clone().requires_grad_() for s in (real, fake))
    value = loss(*given)
    if not value.requires_grad:
        return value, tuple(torch.zeros_like(s) for s in given)
    found = torch.autograd.grad(value.sum(), given, allow_unused=True, materialize_grads=True)
    return value.detach(), found
