"""What the hardware allows: the work of a round against rates measured on the spot.

The limit of a round is the time of its multiplications at the rate of one large matrix product,
plus the time of the optimisers' traffic at the rate of one large copy. Activations, norms and
everything else are taken to cost nothing, so no implementation reaches it. Small products do not
run at that rate either: on the CPU each one is timed alone too, at its own size.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._inductor.decomposition import select_decomp_table
from torch.func import functionalize
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.utils.flop_counter import flop_registry
from workloads import Workload

import fgan
from fgan.compiler.passes.manager import PassManager, passes_of


class Rates(NamedTuple):
    """What a second is good for."""

    flops: float
    bytes: float


def measured_rates(device: str, dtype: torch.dtype = torch.float32) -> Rates:
    """The rates of a product of two square matrices and of a copy of 256 MB.

    The matrices are of 2048 rows, or 8192 on a GPU, which needs that much to be busy. On the CPU
    the product is that of the faster library, MKL or oneDNN.
    """
    size = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    product, copied = torch.empty_like(a), source.nbytes
    ways: list[Callable[[], object]] = [lambda: torch.mm(a, b, out=product)]
    if device == "cpu":
        ways += by_onednn(a, b)
    return Rates(
        2 * size**3 / min(seconds(way, device) for way in ways),
        2 * copied / seconds(lambda: target.copy_(source), device),
    )


def by_onednn(a: Tensor, b: Tensor) -> list[Callable[[], object]]:
    """A way to make the product of two matrices, where torch was built with oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return []
    return [lambda: torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")]


def seconds(work: Callable[[], object], device: str, runs: int = 9) -> float:
    """The median time of some work."""
    times = []
    for _ in range(runs):
        if device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def products_of_round(algorithm: fgan.Algorithm, work: Workload) -> list[Node]:
    """The matrix products and convolutions of a compiled round, each as often as it is made.

    Without products by explicit zeros and repeats: what has to be done. The algorithm's networks
    are on the CPU, whatever the device that the round is played on.
    """
    programs: list[list[Node]] = []

    def keep(graph: GraphModule, inputs: list[Tensor]) -> Callable[..., list[Tensor]]:
        number = len(programs)
        programs.append(_products(graph, inputs))
        results = [node.meta["val"] for node in graph.graph.output_node().args[0]]
        made = [torch.zeros(value.shape, dtype=value.dtype) for value in results]

        def run(*inputs: Tensor) -> list[Tensor]:
            runs.append(number)
            return made

        return run

    runs: list[int] = []
    size = work.batch_size
    batch = fgan.Batch(torch.zeros(work.n_critic, size, *work.sample_shape))
    step = fgan.compile(algorithm, donate=False, backend=keep).step
    step(algorithm.init(), batch, algorithm.noise(0, 0, size))
    return [node for number in runs for node in programs[number]]


def _products(graph: GraphModule, inputs: list[Tensor]) -> list[Node]:
    # In small operations, none of them in place, as the compiler sees it.
    options: dict[str, Any] = dict(tracing_mode="fake", _allow_non_fake_inputs=True)
    small = make_fx(graph, select_decomp_table(), **options)(*inputs)
    traced = make_fx(functionalize(small), **options)(*inputs)
    PassManager(passes_of("joint", "cpu"))(traced.graph)
    return [node for node in traced.graph.nodes if _counted(node) is not None]


def _counted(node: Node) -> Callable[..., int] | None:
    return flop_registry.get(getattr(node.target, "overloadpacket", None))


def flops(product: Node) -> int:
    """Multiplications and additions."""
    args, kwargs = _map_values(product, lambda value: value)
    return _counted(product)(*args, **kwargs, out_val=product.meta["val"])


def seconds_alone(product: Node) -> float:
    """On the CPU, by the faster library, with nothing else to do and its operands at hand."""
    args, kwargs = _map_values(product, _numbers)
    ways = [lambda: product.target(*args, **kwargs)]
    if product.target in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
        ways += by_onednn(*args[-2:])
    return min(seconds(way, "cpu", runs=15) for way in ways)


def _map_values(product: Node, change: Callable[[Tensor], Tensor]) -> tuple[Any, Any]:
    """The arguments, with what a change makes of each tensor without data."""
    return map_arg((product.args, product.kwargs), lambda node: change(node.meta["val"]))


def _numbers(value: Tensor) -> Tensor:
    extent = sum((size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True))
    numbers = torch.randn(extent + 1, dtype=value.dtype)
    return numbers.as_strided(value.shape, value.stride())


def optimizer_bytes_of_round(algorithm: fgan.Algorithm, updates: int) -> int:
    """Bytes that the optimisers move: each parameter, its gradient and state read, all but the
    gradient written."""
    state = algorithm.init()

    def once(player: Any) -> int:
        kept = fgan.tree.leaves((player.params, player.opt_state))
        gradient = fgan.tree.leaves(player.params)
        return sum(2 * leaf.nbytes for leaf in kept) + sum(leaf.nbytes for leaf in gradient)

    return updates * once(state.critic) + once(state.generator)
