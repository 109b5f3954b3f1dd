"""Donation: a compiled step writes the new state into the memory of the old one.

The caller hands its state over. The old tensors raise from then on, and new tensors stand for the
same memory.
"""

from itertools import pairwise
from typing import Any

from torch import Tensor

from fgan import tree
from fgan.compiler import _torch
from fgan.compiler.trees import leaves, map_leaves
from fgan.types import GANState


class DonatedTensor(Tensor):
    """The class of a donated leaf: every use of it raises an error that says what happened."""

    @classmethod
    def __torch_function__(cls, *unused: Any, **also_unused: Any) -> Any:
        raise RuntimeError(
            "this state was donated to a compiled step, which overwrote it: go on with the state "
            "that the step returned, or use fgan.compile(algorithm, donate=False)"
        )


def donate(state: GANState, checked: bool = False) -> GANState:
    """New tensors over the memory of a state; the state's own tensors raise from now on.

    checked: whether it is known that no two leaves, and no two elements of a leaf, share memory.

    Raises ValueError where they do share memory.
    """
    tensors = leaves(state)
    if not checked:
        _check_memory(tensors)
    donated: GANState = map_leaves(Tensor.detach, state)
    for leaf in tensors:
        leaf.__class__ = DonatedTensor
    return donated


def undo_donation(state: GANState) -> None:
    """Make the tensors of a donated state usable again, where nothing has been written to them."""
    for leaf in tree.leaves(state):
        leaf.__class__ = Tensor


def write_in_place(new: Any, old: Any) -> None:
    """Within a program: copy a tree's new values into the memory of the old ones."""
    targets, values = tree.leaves(old), tree.leaves(new)
    overwritten = set(map(_torch.storage_id, targets))
    # A value that lies in overwritten memory, as where one leaf becomes another, is copied first.
    sources = [
        value.clone() if _torch.storage_id(value) in overwritten else value for value in values
    ]
    for target, value, source in zip(targets, values, sources, strict=True):
        if value is not target:
            target.copy_(source)


def _check_memory(tensors: list[Tensor]) -> None:
    # Only the leaves' ranges of addresses are compared. The ranges of interleaved leaves overlap
    # though their elements need not; an exact test would take too long for every round.
    ranges = sorted(_address_range(leaf) for leaf in tensors if leaf.numel())
    overlap = any(end > begin for (_, end), (begin, _) in pairwise(ranges))
    if overlap or any(map(_overlaps_itself, tensors)):
        raise ValueError(
            "two leaves of this state, or two elements of a leaf, share their memory, and a "
            "donated state is written into: donate a copy (fgan.tree.clone), or use "
            "fgan.compile(algorithm, donate=False)"
        )


def _address_range(leaf: Tensor) -> tuple[int, int]:
    """The addresses where a leaf begins and ends."""
    begin, size = leaf.data_ptr(), leaf.nbytes
    if not leaf.is_contiguous():
        size = leaf.element_size() * (1 + sum(stride * last for stride, last in _axes(leaf)))
    return begin, begin + size


def _overlaps_itself(leaf: Tensor) -> bool:
    """Whether two elements of a leaf may share memory, as those of an expanded axis do."""
    if leaf.is_contiguous():
        return False
    extent = 0
    for stride, last in sorted(_axes(leaf)):
        if stride <= extent:
            return True
        extent += stride * last
    return False


def _axes(leaf: Tensor) -> list[tuple[int, int]]:
    """The stride and the last index of each axis of more than one element."""
    sizes = zip(leaf.stride(), leaf.shape, strict=True)
    return [(stride, size - 1) for stride, size in sizes if size > 1]
