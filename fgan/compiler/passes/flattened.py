"""Images that a linear layer takes flat.

On the CPU the compiler has convolutions lie with their channels last, and a flattened image has
them first. A loop over the flat one finds its pixels by divisions, one by one. A loop over the
image that stores it in the order it will be read in turns tiles of it over in registers.
"""

import torch
from torch.fx import Graph

from fgan.compiler.passes.nodes import RESHAPING, store


def store_in_order(graph: Graph) -> None:
    """Have the compiler store what is computed image by image before it is read as one row each."""
    for node in graph.nodes:
        if node.target not in RESHAPING:
            continue
        source = node.args[0]
        computed = torch.Tag.pointwise in getattr(source.target, "tags", ())
        have, want = source.meta["val"], node.meta["val"]
        flat = have.ndim > want.ndim == 2 and have.shape[0] == want.shape[0]
        if computed and flat and have.device.type == "cpu":
            store(source)
