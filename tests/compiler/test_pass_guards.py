"""Cases that the passes' own tests reach only through a compiler without a filled cache."""

import torch
from torch.fx import Graph, GraphModule

from fgan.compiler.passes.copy_before_overwrite import copy_before_overwrite
from fgan.compiler.passes.linear_of_interpolation import _is_repeated, _weights

aten = torch.ops.aten


def inputs(graph, *shapes):
    """Placeholders with values of these shapes."""
    nodes = [graph.placeholder(f"x{i}") for i in range(len(shapes))]
    for node, shape in zip(nodes, shapes, strict=True):
        node.meta["val"] = torch.empty(shape)
    return nodes


def called(graph, target, *args):
    """A call with the value that it has for the arguments' values."""
    node = graph.call_function(target, args)
    values = torch.fx.node.map_arg(args, lambda argument: argument.meta["val"])
    node.meta["val"] = target(*values)
    return node


def test_a_view_of_an_input_is_copied_before_that_input_is_overwritten():
    """Two inputs exchange their values through views, and each gets the other's old value."""
    graph = Graph()
    a, b = inputs(graph, (2, 2), (2, 2))
    views = [called(graph, aten.view.default, node, [2, 2]) for node in (a, b)]
    for target, view in ((b, views[0]), (a, views[1])):
        graph.call_function(aten.copy_.default, (target, view))
    graph.output(())
    assert copy_before_overwrite(graph) == 2
    one, other = torch.ones(2, 2), torch.zeros(2, 2)
    GraphModule(torch.nn.Module(), graph)(one, other)
    assert (one == 0).all()
    assert (other == 1).all()


def test_what_is_not_overwritten_is_not_copied():
    """A computed value, an input that nothing is written into, and an input written to itself."""
    graph = Graph()
    a, b, c = inputs(graph, (2, 2), (2, 2), (2, 2))
    double = called(graph, aten.mul.Tensor, a, a)
    for target, value in ((a, double), (b, c)):
        graph.call_function(aten.copy_.default, (target, value))
    graph.call_function(aten.copy_.default, (a, a))
    graph.output(())
    assert copy_before_overwrite(graph) == 0


def test_rows_of_another_number_are_no_repetition():
    """Three rows are not two rows twice, and a condition less is no condition held."""
    graph = Graph()
    once, twice, label = inputs(graph, (2, 3), (3, 3), (2, 1))
    assert not _is_repeated(once, twice)
    rows = called(graph, aten.cat.default, [once, label], 1)
    pair = called(graph, aten.cat.default, [twice], 1)
    assert _weights(rows, pair) is None
