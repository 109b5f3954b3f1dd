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


def check_unpaired(pairs: tuple[str, ...], wrapper: str) -> None:
    """Raise ValueError where penalties pair the samples of a batch, which would be taken apart."""
    if pairs:
        raise ValueError(
            f"the penalty {pairs[0]!r} pairs the samples of a batch (interpolate_within or "
            f"interpolate_mixed), and {wrapper} takes the batch in parts, with other pairs: choose "
            "another sample_at"
        )
