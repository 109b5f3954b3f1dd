"""Errors that end all processes of a run: each raises one, and one of them tells it."""

from __future__ import annotations

import pickle
from typing import TypeVar

E = TypeVar("E", bound=Exception)


class RankError(RuntimeError):
    """Another process of the run has ended, does not answer, or has another state."""


def agreed(error: E, spoken: bool | None = None) -> E:
    """The error, marked as one that ends all ranks.

    spoken: whether another rank tells of it; by default, rank 0 does.
    """
    error.fgan_spoken = spoken  # type: ignore[attr-defined]
    return error


def is_agreed(error: BaseException) -> bool:
    """Whether all ranks raise an error, or their own form of it."""
    return hasattr(error, "fgan_spoken")


def is_spoken(error: BaseException, rank: int) -> bool:
    """Whether another rank than this tells of an error that has ended both."""
    if not is_agreed(error):
        return False
    spoken: bool | None = error.fgan_spoken  # type: ignore[attr-defined]
    return rank > 0 if spoken is None else spoken


def packed(error: Exception) -> bytes:
    """An error as bytes; one that cannot be read back as a RuntimeError with its text."""
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
        return content
    except Exception:  # whatever an error of a user's own raises
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
