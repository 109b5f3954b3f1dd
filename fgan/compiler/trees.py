"""Functions of trees that run in every round, each in a fraction of the time of `fgan.tree`'s.

Leaves come in the order of `tree.leaves`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch import Tensor

from fgan import tree


def signature(inputs: Any) -> tuple[list[Tensor], Any]:
    """The tensors, and how they nest beside the shape, strides, dtype and device of each.

    Two trees of one signature can be inputs of one compiled program.
    """
    tensors: list[Tensor] = []
    key: list[Any] = []
    _append_signature(inputs, tensors, key)
    return tensors, tuple(key)


def _append_signature(node: Any, tensors: list[Tensor], key: list[Any]) -> None:
    if isinstance(node, Tensor):
        tensors.append(node)
        key += (node.shape, node.stride(), node.dtype, node.device)
    elif node is None:
        key.append(None)
    else:
        children, structure = _children(node)
        key += (type(node), structure)
        for child in children:
            _append_signature(child, tensors, key)


def leaves(node: Any) -> list[Tensor]:
    """The tensors of a tree."""
    if isinstance(node, Tensor):
        return [node]
    return [] if node is None else [leaf for each in _children(node)[0] for leaf in leaves(each)]


def _children(node: Any) -> tuple[Sequence[Any], Any]:
    """What a container holds, and what identifies its structure."""
    if isinstance(node, dict):
        return list(node.values()), tuple(node)
    if isinstance(node, tuple | list):
        return node, len(node)
    children, structure = tree.flatten(node)  # a container registered with torch's pytree
    if any(child is node for child in children):
        raise TypeError(f"a compiled step takes tensors, and its inputs hold {node!r}")
    return children, structure


def map_leaves(function: Callable[[Tensor], Tensor], node: Any) -> Any:
    """The tree with a function of each tensor in its place."""
    if isinstance(node, Tensor):
        return function(node)
    if type(node) is dict:
        return {name: map_leaves(function, child) for name, child in node.items()}
    if _is_named_tuple(node):
        return type(node)(*[map_leaves(function, child) for child in node])
    return tree.map(lambda leaf: None if leaf is None else function(leaf), node)


def unflattener(node: Any) -> Callable[[Iterator[Tensor]], Any]:
    """A function that takes the leaves of a tree like this one from an iterator, and nests them."""
    if node is None or isinstance(node, Tensor):
        return next
    if type(node) is dict:
        names, nest_values = list(node), _sequence(list, node.values())
        return lambda leaves: dict(zip(names, nest_values(leaves), strict=True))
    if type(node) in (tuple, list):
        return _sequence(type(node), node)
    if _is_named_tuple(node):
        return _sequence(type(node)._make, node)
    values, structure = tree.flatten(node)
    count = len(values)
    return lambda leaves: tree.unflatten(list(islice(leaves, count)), structure)


def _sequence(
    build: Callable[[Any], Any], children: Iterable[Any]
) -> Callable[[Iterator[Tensor]], Any]:
    nested = [unflattener(child) for child in children]
    if all(nest is next for nest in nested):
        count = len(nested)
        return lambda leaves: build(islice(leaves, count))
    return lambda leaves: build([nest(leaves) for nest in nested])


def _is_named_tuple(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(type(node), "_make")


def leading_size(inputs: Any) -> int:
    """The size of the leading axis."""
    size: int = next(leaf for leaf in tree.leaves(inputs) if leaf is not None).shape[0]
    return size


def entry_at(inputs: Any, i: int) -> Any:
    """Entry i along the leading axis of every leaf."""
    return tree.map(lambda leaf: None if leaf is None else leaf[i], inputs)
