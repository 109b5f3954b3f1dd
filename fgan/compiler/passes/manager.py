"""What runs graph passes within Inductor, and says in a log what they changed."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.fx import Graph

from fgan.compiler import _torch
from fgan.compiler.passes import PASSES, GraphPass, onednn_linear

LOG = logging.getLogger("fgan.compiler")


def passes_of(stage: str, device: str, disabled: Sequence[str] = ()) -> tuple[GraphPass, ...]:
    """The passes of a stage for programs on a device, in order, without the disabled ones."""
    skipped = set(disabled) if onednn_linear.is_faster() else {"onednn_linear", *disabled}
    return tuple(
        each
        for each in PASSES
        if each.stage == stage and each.device in ("any", device) and each.name not in skipped
    )


class PassManager(_torch.CustomGraphPass):
    """Passes in a row, as Inductor takes them for its options `…_custom_…_pass`.

    Inductor's graphs write nothing in place but, at their end, into donated inputs; a graph of
    another origin has to be functionalised first (`torch.func.functionalize`).

    The logger "fgan.compiler" gets one debug record per run: how many times each pass changed the
    graph. A program that Inductor finds in its cache runs no pass of its own.
    """

    def __init__(
        self, passes: Sequence[GraphPass], stage: str = "joint", program: str = "graph"
    ) -> None:
        self._passes, self._stage, self._program = tuple(passes), stage, program

    def __call__(self, graph: Graph) -> None:
        changes = {}
        for each in self._passes:
            changes[each.name] = each.function(graph)
            graph.eliminate_dead_code()
        fired = ", ".join(f"{name} {count}" for name, count in changes.items() if count)
        LOG.debug("%s, %s passes: %s", self._program, self._stage, fired or "no change")

    def uuid(self) -> Any:
        """The key under which Inductor caches compiled graphs: the passes and their source."""
        return [each.name for each in self._passes], _source_hash()


def _source_hash() -> bytes:
    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), here.parent / "_torch.py"])
    digest: bytes = _torch.get_hash_for_files(tuple(map(str, files)))
    return digest
