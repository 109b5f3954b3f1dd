"""Images that a linear layer reads flattened.

On the CPU Inductor computes convolutions with their channels last, and a flattened image has them
first. A loop over the flattened image finds each pixel by divisions. So the loop over the image
stores the image in the order of the later read: that loop transposes tiles in registers.
"""

import torch
from torch.fx import Graph

from fgan.compiler.passes.nodes import RESHAPING, realize


def realize_before_flatten(graph: Graph) -> int:
    """Have Inductor store an image that is computed pointwise, and read as one row per sample."""
    changes = 0
    for node in graph.nodes:
        if node.target not in RESHAPING:
            continue
        source = node.args[0]
        computed = torch.Tag.pointwise in getattr(source.target, "tags", ())
        have, want = source.meta["val"], node.meta["val"]
        flat = have.ndim > want.ndim == 2 and have.shape[0] == want.shape[0]
        if computed and flat and have.device.type == "cpu":
            realize(source)
            changes += 1
    return changes
