"""The parts of a round by public `torch.compile`, for a torch in which private names have moved."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fgan.compiler.tracing import Backend
from fgan.compiler.trees import entry_at, leading_size
from fgan.types import Algorithm, GANState


def warning(missing: list[str], donate: bool) -> str:
    """What `fgan.compile` says when it falls back."""
    lost = "the state is not donated, " if donate else ""
    return (
        f"torch {torch.__version__} has no {', '.join(missing)}, which fgan.compile is built on. "
        "The parts of the round are compiled by torch.compile(fullgraph=True) instead: rounds are "
        f"correct and slower, {lost}and no round becomes a CUDA graph"
    )


def torch_compiled_parts(
    algorithm: Algorithm, backend: str | Backend
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Tensor]]:
    """(critic update, generator update, the fakes of all critic updates)."""
    name = "eager" if backend == "interpreter" else backend
    compiled = partial(torch.compile, fullgraph=True, backend=name)
    fakes = compiled(algorithm.fakes)

    def all_fakes(state: GANState, *inputs: Any) -> Tensor:
        batches = (entry_at(inputs, i) for i in range(leading_size(inputs)))
        return torch.stack([fakes(state, *batch) for batch in batches])

    return compiled(algorithm.critic_update), compiled(algorithm.generator_update), all_fakes
