"""One seed out of several numbers, for generators that must not resemble each other."""

import operator
from typing import SupportsIndex

_MASK = 2**64 - 1


def as_integer(value: object) -> int | None:
    """A whole number as a Python integer, NumPy's and 0-d integer tensors too; None for others."""
    dtype = getattr(value, "dtype", None)
    if isinstance(value, bool) or str(dtype) in ("torch.bool", "bool"):
        return None
    if not isinstance(value, SupportsIndex) or getattr(value, "shape", ()) != ():
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError, ValueError):
        return None


def mix_seed(*parts: SupportsIndex) -> int:
    """A seed in [0, 2**63) that depends on every part and on their order.

    `mix_seed(seed, round_index)` seeds unrelated streams, which `seed + round_index` would not: run
    0 at round 1 would repeat run 1 at round 0. Each part goes through the finaliser of splitmix64
    (Steele, Lea and Flood, OOPSLA 2014), so that all bits are well mixed: a CPU `torch.Generator`
    keeps only the low 32.

    Any integers will do, NumPy's and 0-d integer tensors too; they count modulo 2**64, so negative
    ones too. Raises ValueError for anything else.
    """
    state = 0
    for given in parts:
        part = as_integer(given)
        if part is None:
            raise ValueError(f"a seed or a round's index is an integer, and {given!r} was given")
        # The golden-ratio step keeps a run of zeros from staying at the finaliser's fixed point 0.
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1  # 63 bits: what an int64 tensor and `manual_seed` both take
