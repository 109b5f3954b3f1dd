"""Which part of a batch belongs to which of several processes."""

from fgan.scalars import check_count

Share = tuple[int, int]
"""(rank, size): the rank of a process among `size` processes, from 0."""


def check_share(share: Share) -> Share:
    """(rank, size) as Python integers; ValueError unless they are a rank, and a number of ranks."""
    if not isinstance(share, tuple | list) or len(share) != 2:
        raise ValueError(f"share is (rank, size), two whole numbers, and {share!r} was given")
    rank = check_count("the rank of a share", share[0], 0)
    size = check_count("the size of a share", share[1])
    if rank >= size:
        raise ValueError(
            f"share is (rank, size) with a rank from 0 to size - 1, and {(rank, size)} was given"
        )
    return rank, size


def part_of(share: Share | None, name: str, batch_size: int) -> slice:
    """The samples of a batch that a process has; all of them without a share.

    The parts of all ranks, one after another, are the batch. Raises ValueError for a batch that has
    no equal parts; `name` is what the error calls its size.
    """
    if share is None:
        return slice(0, batch_size)
    rank, size = check_share(share)
    if batch_size % size:
        raise ValueError(
            f"{name} is that of the whole batch, and {batch_size} samples cannot be split into "
            f"{size} equal parts, one for each process: choose a multiple of {size}"
        )
    part = batch_size // size
    return slice(rank * part, (rank + 1) * part)


def check_no_whole_batch(whole_batch: tuple[str, ...], wrapper: str) -> None:
    """Raise ValueError where the points of a penalty depend on the whole batch."""
    if whole_batch:
        raise ValueError(
            f"the penalty {whole_batch[0]!r} takes its points from the whole batch, and {wrapper} "
            "takes the batch in parts: choose another sample_at, or another recipe (dragan, and "
            "sample_at interpolate_within and interpolate_mixed, take the whole batch)"
        )
