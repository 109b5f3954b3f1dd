"""Pytrees of tensors: the one file that touches torch's pytree module.

A tree is any nesting of dicts, tuples, named tuples and lists with tensors at its leaves. Empty
containers are trees without leaves, which is how fgan writes "absent".
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = [
    "clone",
    "flatten",
    "leaves",
    "lerp",
    "like",
    "map",
    "named_leaves",
    "norm",
    "same_structure",
    "stack",
    "unflatten",
    "unstack",
]

Tree = Any


def map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply `function` to every leaf of `tree`, together with the same leaves of `others`.

    Raises ValueError when the trees differ in structure.

    Example:
        >>> fgan.tree.map(lambda x, y: x + y, {"a": 1, "b": (2,)}, {"a": 10, "b": (20,)})
        {'a': 11, 'b': (22,)}
    """
    return pytree.tree_map(function, tree, *others)


def leaves(tree: Tree) -> list[Any]:
    """The leaves, in a fixed order.

    Example:
        >>> fgan.tree.leaves({"a": 1, "b": (2, [3])})
        [1, 2, 3]
    """
    return pytree.tree_leaves(tree)


def flatten(tree: Tree) -> tuple[list[Any], Any]:
    """The leaves, and how they nest: a value that hashes and compares.

    Example:
        >>> leaves, structure = fgan.tree.flatten({"a": 1, "b": (2,)})
        >>> fgan.tree.unflatten([10, 20], structure)
        {'a': 10, 'b': (20,)}
    """
    return pytree.tree_flatten(tree)


def named_leaves(tree: Tree) -> dict[str, Any]:
    """The leaves keyed by where they stand, such as `.critic.params['0.weight']`.

    Example:
        >>> fgan.tree.named_leaves({"a": 1, "b": (2,)})
        {"['a']": 1, "['b'][0]": 2}
    """
    pairs, _ = pytree.tree_flatten_with_path(tree)
    return {pytree.keystr(path): leaf for path, leaf in pairs}


def unflatten(values: Sequence[Any], structure: Any) -> Tree:
    """The inverse of `flatten`.

    Example:
        >>> leaves, structure = fgan.tree.flatten((1, [2]))
        >>> fgan.tree.unflatten(leaves, structure)
        (1, [2])
    """
    return pytree.tree_unflatten(list(values), structure)


def same_structure(tree: Tree, other: Tree) -> bool:
    """Whether two trees nest in the same way.

    Example:
        >>> fgan.tree.same_structure((1, [2]), (3, [4])), fgan.tree.same_structure((1,), [1])
        (True, False)
    """
    return pytree.tree_structure(tree) == pytree.tree_structure(other)


def stack(trees: Sequence[Tree]) -> Tree:
    """Stack trees of one structure leaf by leaf: a population, ready for `torch.func.vmap`.

    Example:
        >>> fgan.tree.stack([{"w": torch.zeros(2)}, {"w": torch.ones(2)}])["w"].shape
        torch.Size([2, 2])
    """
    if not trees:
        raise ValueError("there is nothing to stack: the sequence of trees is empty")
    return map(lambda *parts: torch.stack(parts), trees[0], *trees[1:])


def unstack(tree: Tree) -> list[Tree]:
    """The inverse of `stack`.

    Example:
        >>> fgan.tree.unstack({"w": torch.tensor([1.0, 2.0])})
        [{'w': tensor(1.)}, {'w': tensor(2.)}]
    """
    members = {tuple(leaf.shape[:1]) for leaf in leaves(tree)}
    if len(members) != 1 or members == {()}:
        raise ValueError("the leaves do not share one leading axis, so this is no population")
    return [map(lambda leaf, i=i: leaf[i], tree) for i in range(*members.pop())]


def clone(tree: Tree) -> Tree:
    """A copy of every leaf, cut from any autograd graph.

    Example:
        >>> tree = {"w": torch.zeros(1)}
        >>> copy = fgan.tree.clone(tree)
        >>> copy["w"] += 1
        >>> tree
        {'w': tensor([0.])}
    """
    return map(lambda leaf: leaf.detach().clone(), tree)


def norm(tree: Tree) -> Tensor:
    """The Euclidean norm of all leaves taken as one vector; a 0-d tensor.

    Example:
        >>> fgan.tree.norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
        tensor(5.)
    """
    return torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(leaf) for leaf in leaves(tree)])
    )


def like(scalar: float | Tensor, tensor: Tensor) -> float | Tensor:
    """A hyper-parameter in the dtype of the tensor it is about to meet.

    A 0-d float64 tensor would promote a 0-d float32 one, and any float32 one once it is vmapped.

    Example:
        >>> fgan.tree.like(torch.tensor(0.5, dtype=torch.float64), torch.zeros(2))
        tensor(0.5000)
    """
    return scalar.to(tensor.dtype) if isinstance(scalar, Tensor) else scalar


def lerp(start: Tree, end: Tree, weight: float | Tensor) -> Tree:
    """`start + weight * (end - start)`, leaf by leaf, with the weight in the leaf's dtype.

    Example:
        >>> fgan.tree.lerp({"w": torch.zeros(1)}, {"w": torch.ones(1)}, 0.25)
        {'w': tensor([0.2500])}
    """
    return map(lambda a, b: torch.lerp(a, b, like(weight, a)), start, end)
