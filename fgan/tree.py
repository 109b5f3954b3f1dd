"""Pytrees of tensors: the one file that touches torch's pytree module.

A tree is any nesting of dicts, tuples, named tuples and lists with tensors at its leaves. Empty
containers are trees without leaves, which is how fgan writes "absent".
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Tree = Any


def map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply `function` to every leaf of `tree`, together with the same leaves of `others`.

    Raises ValueError when the trees differ in structure.
    """
    return pytree.tree_map(function, tree, *others)


def leaves(tree: Tree) -> list[Any]:
    """The leaves, in a fixed order."""
    return pytree.tree_leaves(tree)


def flatten(tree: Tree) -> tuple[list[Any], Any]:
    """The leaves, and how they nest: a value that hashes and compares."""
    return pytree.tree_flatten(tree)


def named_leaves(tree: Tree) -> dict[str, Any]:
    """The leaves keyed by where they stand, such as `.critic.params['0.weight']`."""
    pairs, _ = pytree.tree_flatten_with_path(tree)
    return {pytree.keystr(path): leaf for path, leaf in pairs}


def unflatten(values: Sequence[Any], structure: Any) -> Tree:
    """The inverse of `flatten`."""
    return pytree.tree_unflatten(list(values), structure)


def same_structure(tree: Tree, other: Tree) -> bool:
    """Whether two trees nest in the same way."""
    return pytree.tree_structure(tree) == pytree.tree_structure(other)


def stack(trees: Sequence[Tree]) -> Tree:
    """Stack trees of one structure leaf by leaf: a population, ready for `torch.func.vmap`."""
    if not trees:
        raise ValueError("there is nothing to stack: the sequence of trees is empty")
    return map(lambda *parts: torch.stack(parts), trees[0], *trees[1:])


def unstack(tree: Tree) -> list[Tree]:
    """The inverse of `stack`."""
    members = {tuple(leaf.shape[:1]) for leaf in leaves(tree)}
    if len(members) != 1 or members == {()}:
        raise ValueError("the leaves do not share one leading axis, so this is no population")
    return [map(lambda leaf, i=i: leaf[i], tree) for i in range(*members.pop())]


def clone(tree: Tree) -> Tree:
    """A copy of every leaf, cut from any autograd graph."""
    return map(lambda leaf: leaf.detach().clone(), tree)


def norm(tree: Tree) -> Tensor:
    """The Euclidean norm of all leaves taken as one vector; a 0-d tensor."""
    return torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(leaf) for leaf in leaves(tree)])
    )


def like(scalar: float | Tensor, tensor: Tensor) -> float | Tensor:
    """A hyper-parameter in the dtype of the tensor it is about to meet.

    A 0-d float64 tensor would promote a 0-d float32 one, and any float32 one once it is vmapped.
    """
    return scalar.to(tensor.dtype) if isinstance(scalar, Tensor) else scalar


def lerp(start: Tree, end: Tree, weight: float | Tensor) -> Tree:
    """`start + weight * (end - start)`, leaf by leaf, with the weight in the leaf's dtype."""
    return map(lambda a, b: torch.lerp(a, b, like(weight, a)), start, end)
