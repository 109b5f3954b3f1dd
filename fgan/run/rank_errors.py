"""Errors that end all processes of a run. One process prints the error."""

from __future__ import annotations

import pickle
from typing import TypeVar

E = TypeVar("E", bound=Exception)


class RankError(RuntimeError):
    """Another process of the run has ended, does not answer, or has another state."""


def shared_error(error: E, reported: bool | None = None) -> E:
    """The error, marked as one that ends all ranks.

    reported: whether another rank tells of it; by default, rank 0 does.
    """
    error.fgan_reported = reported  # type: ignore[attr-defined]
    return error


def is_shared_error(error: BaseException) -> bool:
    """Whether all ranks raise an error, or their own form of it."""
    return hasattr(error, "fgan_reported")


def is_reported_elsewhere(error: BaseException, rank: int) -> bool:
    """Whether another rank than this tells of an error that has ended both."""
    if not is_shared_error(error):
        return False
    reported: bool | None = error.fgan_reported  # type: ignore[attr-defined]
    return rank > 0 if reported is None else reported


def packed(error: Exception) -> bytes:
    """An error as bytes; one that cannot be read back as a RuntimeError with its text."""
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
        return content
    except Exception:  # whatever an error of a user's own raises
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
