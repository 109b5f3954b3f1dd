"""How much memory the machine has, so that what cannot fit is refused and not tried."""

import os


def machine_memory() -> float:
    """Bytes of main memory; infinite where the system does not say.

    Linux gives out memory that it does not have, and ends the process when it is written to.
    """
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def gib(count: float) -> str:
    """A number of bytes for a message."""
    return f"{count / 2**30:.1f} GiB"
