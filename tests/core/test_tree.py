"""Pytrees: mapping, stacking and the arithmetic that states are carried with."""

from typing import NamedTuple

import pytest
import torch
from helpers import assert_identical, unchanged

from fgan import tree


class Pair(NamedTuple):
    """A named tuple, as states are."""

    left: object
    right: object


def example(offset=0.0):
    """Every kind of nesting, empty containers among them."""
    return Pair(
        {"a": torch.tensor([3.0, 4.0]) + offset, "b": torch.tensor(12.0) + offset},
        [(torch.zeros(2, 2) + offset,), {}, ()],
    )


def test_map_keeps_the_structure_and_meets_every_leaf():
    """A mapped tree nests as before, named tuples and empty containers included."""
    doubled = tree.map(lambda leaf: 2 * leaf, example(1.0))
    assert isinstance(doubled, Pair)
    assert doubled.right[1:] == [{}, ()]
    assert torch.equal(doubled.left["a"], torch.tensor([8.0, 10.0]))
    assert torch.equal(doubled.right[0][0], torch.full((2, 2), 2.0))


def test_map_pairs_dict_entries_by_key():
    """Gradients in another order than the parameters still meet their own parameter."""
    out = tree.map(lambda a, b: a - b, {"x": 10, "y": 20}, {"y": 2, "x": 1})
    assert out == {"x": 9, "y": 18}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([1], (1,)),
        ([1], [1, 2]),
        (Pair(1, {}), Pair(1, [])),
        ((1, 2), Pair(1, 2)),
    ],
)
def test_map_refuses_trees_of_different_structure(first, second):
    """A missing key, another length and another container are all errors, never a truncation."""
    with pytest.raises(ValueError, match="mismatch"):
        tree.map(lambda a, b: a, first, second)
    assert not tree.same_structure(first, second)


def test_same_structure_looks_at_nesting_alone():
    """Shapes and values of the leaves do not matter."""
    assert tree.same_structure(example(), tree.map(lambda leaf: leaf.sum(), example()))


def test_leaves_and_unflatten_are_inverse():
    """The leaves, put back, are the tree; their order is the one `unflatten` wants."""
    original = example(1.0)
    assert_identical(tree.unflatten(*tree.flatten(original)), original)


def test_named_leaves_say_where_each_stands():
    """Names read like the expression that reaches the leaf, in the order of `leaves`."""
    original = example()
    named = tree.named_leaves(original)
    assert list(named) == [".left['a']", ".left['b']", ".right[0][0]"]
    assert all(a is b for a, b in zip(named.values(), tree.leaves(original), strict=True))


def test_unstack_undoes_stack():
    """A population's members come back in order, 0-d leaves as 0-d."""
    members = [example(float(i)) for i in range(3)]
    population = tree.stack(members)
    assert population.left["a"].shape == (3, 2)
    assert population.left["b"].shape == (3,)
    for got, member in zip(tree.unstack(population), members, strict=True):
        assert_identical(got, member)


def test_stack_of_nothing_and_of_unequal_trees_are_refused():
    """There is no population of nobody, nor of states that do not match."""
    with pytest.raises(ValueError, match="empty"):
        tree.stack([])
    with pytest.raises(ValueError, match="mismatch"):
        tree.stack([{"a": torch.ones(1)}, {"b": torch.ones(1)}])


@pytest.mark.parametrize(
    "population",
    [{"a": torch.ones(2, 3), "b": torch.ones(3, 3)}, {}, {"a": torch.tensor(1.0)}],
    ids=["unequal", "no leaves", "0-d"],
)
def test_unstack_needs_one_leading_axis(population):
    """Leaves without a shared leading axis are no population."""
    with pytest.raises(ValueError, match="leading axis"):
        tree.unstack(population)


def test_clone_shares_nothing_and_is_cut_from_the_graph():
    """A clone survives writes to the original and carries no gradient."""
    weight = torch.ones(2, requires_grad=True)
    original = {"w": weight * 3, "b": torch.ones(2)}
    copied = tree.clone(original)
    original["b"].zero_()
    assert torch.equal(copied["b"], torch.ones(2))
    assert not copied["w"].requires_grad
    assert copied["w"].untyped_storage().data_ptr() != original["w"].untyped_storage().data_ptr()


def test_norm_is_that_of_all_leaves_as_one_vector():
    """3, 4 and 12 have norm 13; the gradient at zero is finite, where sqrt(sum) has NaN."""
    norm = tree.norm(example())
    assert norm.shape == ()
    assert norm.item() == 13.0
    slope = torch.func.grad(tree.norm)({"a": torch.zeros(2), "b": torch.zeros(())})
    assert all(leaf.isfinite().all() for leaf in tree.leaves(slope))


def test_lerp_runs_from_start_to_end():
    """Exact at both ends and a quarter of the way, and neither tree is written to."""
    start, end = example(0.0), example(8.0)
    with unchanged(start, end):
        assert_identical(tree.lerp(start, end, 0.0), start)
        assert_identical(tree.lerp(start, end, 1.0), end)
        assert_identical(tree.lerp(start, end, 0.25), example(2.0))
        assert_identical(tree.lerp(start, end, torch.tensor(0.25)), example(2.0))
