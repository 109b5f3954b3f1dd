"""What the hardware allows: the work of a round against rates measured on the spot.

The limit of a round is the time of its multiplications at the rate of one large matrix product,
plus the time of the optimisers' traffic at the rate of one large copy. Activations, norms and
everything else are taken to cost nothing, so no implementation reaches it.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch._inductor.decomposition import select_decomp_table
from torch.func import functionalize
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import flop_registry
from workloads import Workload

import fgan
from fgan.passes import Rewrite


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
    if device == "cpu" and torch.backends.mkldnn.is_available():
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    return Rates(
        2 * size**3 / min(seconds(way, device) for way in ways),
        2 * copied / seconds(lambda: target.copy_(source), device),
    )


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


def flops_of_round(algorithm: fgan.Algorithm, work: Workload) -> int:
    """Multiplications and additions of all matrix products and convolutions of a round.

    Counted in the traced parts, without products by explicit zeros: what has to be done. The
    algorithm's networks are on the CPU, whatever the device that the round is played on.
    """
    state, size = algorithm.init(), work.batch_size
    updates = work.n_critic
    real, fake = torch.empty(2, size, *work.sample_shape)
    one_latent, mix = torch.empty(size, algorithm.latent_dim), torch.empty(size)
    # The state is an input, for a captured tensor would get another name at each of its uses, and
    # what is the same would not look the same.
    parts = [
        (updates, lambda s, z: algorithm.fakes(s, z, None), (one_latent,)),
        (
            updates,
            lambda s, x, y, m: algorithm.critic_update(s, x, None, y, m, y)[0].critic.params,
            (real, fake, mix),
        ),
        (
            1,
            lambda s, z: algorithm.generator_update(s, z)[0].generator.params,
            (one_latent,),
        ),
    ]
    return sum(times * _flops(_traced(part, state, *inputs)) for times, part, inputs in parts)


def _traced(function: Callable[..., Any], *inputs: Any) -> GraphModule:
    # In small operations, none of them in place, as the compiler sees it.
    options: dict[str, Any] = dict(tracing_mode="fake", _allow_non_fake_inputs=True)
    small = make_fx(function, select_decomp_table(), **options)(*inputs)
    traced = make_fx(functionalize(small), **options)(*inputs)
    Rewrite()(traced.graph)
    return traced


def _flops(traced: GraphModule) -> int:
    total = 0
    for node in traced.graph.nodes:
        count = flop_registry.get(getattr(node.target, "overloadpacket", None))
        if count is not None:
            args = torch.fx.node.map_arg(node.args, lambda n: n.meta["val"])
            kwargs = torch.fx.node.map_arg(node.kwargs, lambda n: n.meta["val"])
            total += count(*args, **kwargs, out_val=node.meta["val"])
    return total


def optimizer_bytes_of_round(algorithm: fgan.Algorithm, updates: int) -> int:
    """Bytes that the optimisers move: each parameter, its gradient and state read, all but the
    gradient written."""
    state = algorithm.init()

    def once(player: Any) -> int:
        kept = fgan.tree.leaves((player.params, player.opt_state))
        gradient = fgan.tree.leaves(player.params)
        return sum(2 * leaf.nbytes for leaf in kept) + sum(leaf.nbytes for leaf in gradient)

    return updates * once(state.critic) + once(state.generator)
