"""Samples measured by several processes: each takes a part of them, and all get the whole."""

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fgan.evaluation.inputs import NotFiniteError
from fgan.shares import Share, check_share

Measured = TypeVar("Measured", bound=tuple[Tensor, ...])

_KINDS: tuple[type[ValueError], ...] = (ValueError, NotFiniteError)
_MESSAGE = 1000
"""Bytes of an error's message that are told to the other processes."""


def gathered(
    function: Callable[[slice], Measured], count: int, share: Share | None, device: torch.device
) -> Measured:
    """`function(rows)` of the rows 0 to count - 1: tensors [rows, ...], one after another.

    share: (rank, size) of this process among all of the default process group, which have to call
        this together. Each calls the function on its part of the rows. None: there is one process.
    device: one that the process group can send from.

    Raises a ValueError that the function raises in any process in all of them, and ValueError for
    fewer rows than processes.
    """
    if share is None:
        return function(slice(0, count))
    rank, size = check_share(share)
    if count < size:
        raise ValueError(f"{count} samples cannot be measured by {size} processes: ask for more")
    bounds = [count * each // size for each in range(size + 1)]
    mine, error = None, None
    try:
        mine = function(slice(bounds[rank], bounds[rank + 1]))
    except ValueError as raised:
        error = raised
    _raise_in_all(error, device, size)
    assert mine is not None
    whole = tuple(_whole(part, bounds, device) for part in mine)
    return type(mine)._make(whole) if hasattr(mine, "_make") else whole  # type: ignore[return-value]


def _raise_in_all(error: ValueError | None, device: torch.device, size: int) -> None:
    """Raise the error of the first rank that has one; in that rank, as it is."""
    told = bytearray(1 + _MESSAGE)
    if error is not None:
        told[0] = 1 + isinstance(error, NotFiniteError)
        message = str(error).encode()[:_MESSAGE]
        told[1 : 1 + len(message)] = message
    mine = torch.frombuffer(told, dtype=torch.uint8).to(device)
    every = [torch.empty_like(mine) for _ in range(size)]
    dist.all_gather(every, mine)
    for each in every:
        kind, *content = each.tolist()
        if kind:
            text = bytes(content).rstrip(b"\0").decode(errors="ignore")
            raise error or _KINDS[kind - 1](text)


def _whole(part: Tensor, bounds: list[int], device: torch.device) -> Tensor:
    """The parts of all ranks, one after another; rank r has the rows bounds[r] to bounds[r + 1]."""
    counts = [end - begin for begin, end in pairwise(bounds)]
    # A collective takes tensors of one size.
    padded = torch.zeros(max(counts), *part.shape[1:], dtype=part.dtype, device=device)
    padded[: len(part)] = part
    if not padded.numel():
        return part.new_zeros(bounds[-1], *part.shape[1:])
    every = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(every, padded)
    return torch.cat([each[:n] for each, n in zip(every, counts, strict=True)]).to(part.device)
