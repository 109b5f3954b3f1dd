"""Views become reshapes, except those that an operation writes into."""

import pytest
import torch
from graphs import aten, count, numbers
from torch.fx.experimental.proxy_tensor import make_fx

from fgan.compiler.passes.view_to_reshape import view_to_reshape

X = numbers(4, 6)
READ = {
    "read": lambda x: x.view(24) + 1,
    "source of a copy": lambda x: torch.zeros_like(x).view(24).clone().copy_(x.view(24)),
    "a result of the view is written into": lambda x: (x.view(24) * 2).add_(1),
}
WRITTEN = {
    "the view": lambda x: x.clone().view(24).add_(1),
    "a part of the view": lambda x: x.clone().view(2, 12)[0].mul_(3),
    "a transposed view of the view": lambda x: x.clone().view(3, 8).t()[1].zero_(),
    "as a keyword argument": lambda x: torch.add(x[0], 1, out=x.clone().view(24)[:6]),
    "in a list": lambda x: torch._foreach_add_([x.clone().view(24)], 1),
}


def views_and_reshapes(function):
    """(views, reshapes) of the traced function after the pass."""
    graph = make_fx(function, tracing_mode="fake")(X)
    view_to_reshape(graph.graph)
    graph.graph.lint()
    return count(graph, aten.view.default), count(graph, aten.reshape.default)


@pytest.mark.parametrize("name", list(READ))
def test_what_is_read_may_be_a_copy(name):
    """A view that is only read becomes a reshape."""
    views, reshapes = views_and_reshapes(READ[name])
    assert views == 0
    assert reshapes > 0


@pytest.mark.parametrize("name", list(WRITTEN))
def test_what_is_written_to_stays_a_view(name):
    """The write would go to a copy, and be lost."""
    assert views_and_reshapes(WRITTEN[name]) == (1, 0)
