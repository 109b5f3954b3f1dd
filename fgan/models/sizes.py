"""Checks of what the example networks are built with: shapes, widths, classes."""

from collections.abc import Iterable, Mapping, Set

from fgan.scalars import check_count
from fgan.scores import describe


def check_sizes(name: str, sizes: object) -> tuple[int, ...]:
    """`sizes` as a tuple of integers; ValueError unless they are whole numbers from 1."""
    if isinstance(sizes, str | bytes | Mapping | Set) or not isinstance(sizes, Iterable):
        raise ValueError(
            f"{name} is a sequence of whole numbers from 1, such as (1, 28, 28), and "
            f"{describe(sizes)} was given"
        )
    return tuple(check_count(f"{name}[{i}]", size) for i, size in enumerate(sizes))


def check_classes(num_classes: object) -> int | None:
    """`num_classes` as an integer, or None; ValueError unless it is a whole number from 1."""
    return None if num_classes is None else check_count("num_classes", num_classes)
