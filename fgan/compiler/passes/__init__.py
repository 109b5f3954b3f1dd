"""Rewriting of the traced round, before the compiler lowers it.

What the tracer writes down is what autograd did, and autograd knows nothing of what comes before
and after. Each pass takes out, or puts in another form, what a person would not have written; a
module each, which says what and why.
"""

from collections.abc import Callable
from typing import Any

from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph

from fgan.compiler.passes.deconvolution import by_products
from fgan.compiler.passes.flattened import store_in_order
from fgan.compiler.passes.interpolates import mix_layers
from fgan.compiler.passes.nodes import written_in
from fgan.compiler.passes.products import join_batches, join_rows, join_sums
from fgan.compiler.passes.proportional import share_rows
from fgan.compiler.passes.repeats import share_repeats
from fgan.compiler.passes.scalars import keep_scalars
from fgan.compiler.passes.weight_gradients import name_weight_gradients
from fgan.compiler.passes.zeros import drop_zeros

PASSES = (
    share_repeats,
    drop_zeros,
    mix_layers,
    join_batches,
    share_rows,
    join_rows,
    join_sums,
    name_weight_gradients,
    by_products,
    store_in_order,
    keep_scalars,
)
"""In order: share_rows looks for what drop_zeros leaves, mix_layers for layers not yet joined,
join_sums for rows that are."""


class Rewrite(CustomGraphPass):
    """Passes in a row, for `torch.compile(..., options={"joint_custom_pre_pass": Rewrite()})`.

    The compiler's graphs write nothing in place but, at their end, into donated inputs; a graph of
    other origin has to be made so first (`torch.func.functionalize`).
    """

    def __init__(self, *passes: Callable[[Graph], None]) -> None:
        self._passes = passes or PASSES

    def __call__(self, graph: Graph) -> None:
        for rewrite in self._passes:
            rewrite(graph)
            graph.eliminate_dead_code()

    def uuid(self) -> Any:
        """The key under which compiled graphs are cached: the passes, and what they do."""
        return [rewrite.__name__ for rewrite in self._passes], written_in()
