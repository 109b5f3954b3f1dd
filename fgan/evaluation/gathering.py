"""Samples measured by several processes: each takes a part of them, and all get the whole."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from fgan.evaluation.inputs import NotFiniteError
from fgan.shares import Share, check_share

_KINDS: tuple[type[Exception], ...] = (RuntimeError, ValueError, NotFiniteError)
_MESSAGE = 1000
"""Bytes of an error's message that are sent to the other processes."""


def gathered(
    function: Callable[[slice], Sequence[Tensor]],
    count: int,
    share: Share | None,
    device: torch.device,
) -> Sequence[Tensor]:
    """`function(rows)` of the rows 0 to count - 1: tensors [rows, ...], one after another.

    share: (rank, size) of this process in the default process group. All its processes call this
        together, and each calls the function on its part of the rows. Where there are fewer rows
        than processes, each calls it on all rows. None: there is one process.
    device: one that the process group can send from.

    Raises in every process what the function raises in the first process that fails, and ValueError
    for a share that is not that of the default process group.
    """
    if share is None:
        return function(slice(0, count))
    rank, size = check_share(share)
    if (rank, size) != (dist.get_rank(), dist.get_world_size()):
        raise ValueError(
            f"share is {share}, and this is process {dist.get_rank()} of {dist.get_world_size()}: "
            "all processes of the default group evaluate together"
        )
    has_parts = count >= size
    bounds = [count * r // size for r in range(size + 1)]
    rows = slice(bounds[rank], bounds[rank + 1]) if has_parts else slice(0, count)
    parts, error = [], None
    try:
        parts = list(function(rows))
    except Exception as raised:
        error = raised
    _raise_in_all(error, rank, size, device)
    return [_whole(part, bounds, device) for part in parts] if has_parts else parts


def _raise_in_all(error: Exception | None, rank: int, size: int, device: torch.device) -> None:
    """Raise the error of the first rank that has one, in all ranks."""
    sent = bytearray(1 + _MESSAGE)
    if error is not None:
        sent[0] = 1 + max(i for i, kind in enumerate(_KINDS) if i == 0 or isinstance(error, kind))
        message = str(error).encode()[:_MESSAGE]
        sent[1 : 1 + len(message)] = message
    mine = torch.frombuffer(sent, dtype=torch.uint8).to(device)
    received = [torch.empty_like(mine) for _ in range(size)]
    dist.all_gather(received, mine)
    for sender, content in enumerate(received):
        kind, *message_bytes = content.tolist()
        if kind and error is not None and sender == rank:
            raise error
        if kind:
            text = bytes(message_bytes).rstrip(b"\0").decode(errors="ignore")
            raise _KINDS[kind - 1](text)


def _whole(part: Tensor, bounds: list[int], device: torch.device) -> Tensor:
    """The parts of all ranks, one after another; rank r has the rows bounds[r] to bounds[r + 1]."""
    counts = [end - begin for begin, end in pairwise(bounds)]
    # A collective takes tensors of one size.
    padded = torch.zeros(max(counts), *part.shape[1:], dtype=part.dtype, device=device)
    if not padded.numel():
        return part.new_zeros(bounds[-1], *part.shape[1:])
    padded[: len(part)] = part
    received = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(received, padded)
    return torch.cat([x[:n] for x, n in zip(received, counts, strict=True)]).to(part.device)
