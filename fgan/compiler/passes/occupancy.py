"""Whether a matmul leaves multiprocessors of a GPU idle."""

from math import ceil, prod

import torch
from torch.fx import Node

TILE = 128
"""Rows and columns of a result that one multiprocessor works on at a time."""


def leaves_gpu_idle(node: Node, rows: int) -> bool:
    """Whether a matmul with the node's columns and so many rows leaves multiprocessors idle."""
    value = node.meta["val"]
    tiles = prod(ceil(extent / TILE) for extent in (rows, value.shape[1]))
    return tiles <= multiprocessors(value.device)


def multiprocessors(device: torch.device) -> int:
    """How many multiprocessors a GPU has; 0 for another device."""
    if device.type != "cuda":
        return 0
    properties = torch.cuda.get_device_properties(device)  # pragma: no cover (needs a GPU)
    return int(properties.multi_processor_count)  # pragma: no cover (needs a GPU)
