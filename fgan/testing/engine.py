"""How a checker searches for a counterexample, and how it reports the counterexample."""

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fgan import tree


class InvariantError(AssertionError):
    """An invariant does not hold; the message says by how much."""


def check_property(
    invariant: str,
    test: Callable[..., None],
    subject: tuple[Any, ...],
    *strategies: st.SearchStrategy[Any],
    max_examples: int,
) -> None:
    """Search for values at which `test(*subject, *values)` raises; report the smallest.

    subject: what is tested, such as a user's loss; the same in every call.
    strategies: where the values are drawn from.

    The docstring of `test` states the invariant. The names of its parameters are the names of the
    values in the report. Hypothesis profiles and example databases are neither used nor changed.

    Raises AssertionError with the name of the invariant and the smallest values found.
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
    def search(values: tuple[Any, ...]) -> None:
        nonlocal last
        last = values
        test(*subject, *values)

    # Hypothesis runs the smallest example last.
    try:
        with torch.device("cpu"):  # whatever the default device is
            search()
    except Exception as error:
        names = list(inspect.signature(test).parameters)[len(subject) :]
        example = "\n".join(f"  {n} = {v!r}" for n, v in zip(names, last, strict=True))
        statement = inspect.getdoc(test)
        raise AssertionError(
            f"the invariant '{invariant}' broke: {statement}\n{describe(error)}\n"
            f"smallest example:\n{example}"
        ) from (None if isinstance(error, InvariantError) else error)


def describe(error: Exception) -> str:
    """An error in a report: the message of an invariant, or the type of any other error too."""
    if isinstance(error, InvariantError):
        return str(error)
    return f"it raised {type(error).__name__}: {error}"


def require(condition: bool | Tensor, message: str) -> None:
    """Raise `InvariantError` unless `condition`."""
    if not condition:
        raise InvariantError(message)


def require_close(got: Tensor, expected: Tensor, message: str, rtol: float = 1e-9) -> None:
    """Raise unless two tensors agree to `rtol` times the larger of 1 and their size."""
    require(got.shape == expected.shape, f"{message}: {list(got.shape)} vs {list(expected.shape)}")
    got, expected = got.detach().double(), expected.detach().double()
    scale = 1 + torch.maximum(got.abs(), expected.abs())
    apart = ((got - expected).abs() > rtol * scale) | (got.isnan() != expected.isnan())
    # Only an infinity of the same sign is close to an infinity.
    apart = (apart | got.isinf() | expected.isinf()) & (got != expected)
    require(not apart.any(), f"{message}: {show(got)} vs {show(expected)}")


def require_close_trees(got: Any, expected: Any, message: str, rtol: float = 1e-7) -> None:
    """`require_close` for every leaf of two trees of one structure."""
    require(tree.same_structure(got, expected), f"{message}: the trees differ in structure")
    named, others = tree.named_leaves(got), tree.named_leaves(expected)
    for name, leaf in named.items():
        require_close(leaf, others[name], f"{message}: {name}", rtol)


def same_bits(got: Any, expected: Any) -> bool:
    """Whether two trees agree in structure and in every bit."""
    return tree.same_structure(got, expected) and all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        for a, b in zip(tree.leaves(got), tree.leaves(expected), strict=True)
    )


@contextmanager
def require_pure(*trees: Any) -> Iterator[None]:
    """Raise if the block changes one of the tensors, or draws from a global generator."""
    tensors = [leaf for leaf in tree.leaves(trees) if isinstance(leaf, Tensor)]
    before = [(t.detach().clone(), t._version, t.requires_grad, t.grad) for t in tensors]
    states = torch.get_rng_state(), random.getstate()
    yield
    require(
        torch.equal(torch.get_rng_state(), states[0]),
        "it drew random numbers from torch's global generator",
    )
    require(random.getstate() == states[1], "it drew random numbers from Python's global generator")
    for tensor, (bits, version, requires_grad, gradient) in zip(tensors, before, strict=True):
        require(
            tensor._version == version and torch.equal(tensor.detach(), bits),
            f"it wrote into one of its input tensors: {show(bits)} became {show(tensor)}",
        )
        require(
            tensor.requires_grad == requires_grad and tensor.grad is gradient,
            "it changed requires_grad or .grad of one of its input tensors",
        )


def show(tensor: Tensor) -> str:
    """A tensor in a message: its numbers, or its shape and norm where there are many numbers."""
    if tensor.numel() > 16:
        return f"a tensor {list(tensor.shape)} of norm {tensor.detach().double().norm():.6g}"
    return str(tensor.detach().tolist())


def name_of(function: Callable[..., Any], otherwise: str) -> str:
    """The name of a user's function in a message."""
    return getattr(function, "__name__", otherwise)


def gradients_of(
    loss: Callable[[Tensor, Tensor], Tensor], real: Tensor, fake: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(loss [B], (its gradient by the real scores [B], by the fake scores [B]))."""
    scores = tuple(s.detach().clone().requires_grad_() for s in (real, fake))
    value = loss(*scores)
    if not value.requires_grad:
        return value, tuple(torch.zeros_like(s) for s in scores)
    gradients = torch.autograd.grad(value.sum(), scores, allow_unused=True, materialize_grads=True)
    return value.detach(), gradients
