"""Errors of torch that say what a machine lacks: memory, or a compiler."""

import re
from collections.abc import Iterator

import torch

_MEMORY = re.compile(
    r"can't allocate|cannot allocate|not enough memory|out of memory|invalid buffer size"
    r"|size calculation overflow|integer multiplication overflow|[Oo]verflow when unpacking"
    r"|int too (large|big) to convert|bad_alloc"
)
"""In what torch's allocators and shape arithmetic say of sizes that cannot be had."""

_COMPILER = re.compile(r"No working C\+\+ compiler|Failed to find C compiler")
_COMPILER_ERRORS = {"InvalidCxxCompiler", "CppCompileError"}


def too_much(error: BaseException) -> str | None:
    """One line on what could not be allocated; None where the error is of another kind."""
    for link in _chain(error):
        if isinstance(link, MemoryError | torch.OutOfMemoryError) or _MEMORY.search(str(link)):
            said = _first_line(link)
            return f"not enough memory ({said}): make --width, --batch-size or --num smaller"
    return None


def no_compiler(error: BaseException) -> str | None:
    """One line on the compiler that is missing or fails; None for an error of another kind."""
    for link in _chain(error):
        if type(link).__name__ in _COMPILER_ERRORS or _COMPILER.search(str(link)):
            return (
                f"--compile needs a C++ compiler that works ({_first_line(link)}): install g++ "
                "or clang, name one in the variables CXX and CC, or give --no-compile"
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those that led to it."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
