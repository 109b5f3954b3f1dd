"""What a data-parallel round takes on 8, 64 and 1,024 GPUs, by a formula. Nothing is measured here.

    python bench/scale.py --estimate

A round on R GPUs, each with a batch of its own of the size that was measured, takes

    T(R) = T(1) + sum over the n_critic + 1 messages of t(bytes, R) + noise(R)

    t(bytes, R) = latency_host + 2 (g - 1)/g bytes / nvlink
                + [h > 1] (2 ceil(log2 h) latency_hop + 2 (h - 1)/h bytes / (g network))

with g = min(R, 8) GPUs in a host and h = R / g hosts. The sum is taken within the hosts first, so
that each GPU's network port carries 1/g of a message between hosts: twice, as in a ring, at the
latency of a tree (NCCL has both). Messages do not overlap with computation: a message is the mean
gradient, which the next update of the same round needs. noise(R): a process draws its own part of
the noise, and at most a block of 256 samples more at either end (`fgan.noise`).

The efficiency is T(1) / T(R): samples per second and GPU, against one GPU.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from limits import flops, products_of_round
from rich.console import Console
from rich.table import Table
from workloads import RECIPES, WORKLOADS, Workload

from fgan.noise import BLOCK

RESULTS = Path(__file__).parent / "results"


class Cluster(NamedTuple):
    """Latencies and rates: of data sheets, times 0.8, and of NCCL's usual small messages."""

    gpus_in_host: int = 8
    nvlink: float = 0.8 * 450e9
    """Bytes a second and direction of one GPU: NVLink 4 of an H100 or H200."""
    network: float = 0.8 * 50e9
    """Bytes a second of one GPU's port of 400 Gbit/s."""
    latency_host: float = 20e-6
    """Seconds of an all-reduce of nothing within a host, its launch included."""
    latency_hop: float = 5e-6
    """Seconds from host to host."""
    draws: float = 5e10
    """Random numbers a second of one GPU: a guess, a fifth of what its memory could take."""


def all_reduce_seconds(count: float, gpus: int, cluster: Cluster) -> float:
    """t(bytes, R) of the module's docstring."""
    if gpus == 1:
        return 0.0
    g = min(gpus, cluster.gpus_in_host)
    hosts = math.ceil(gpus / g)
    seconds = cluster.latency_host + 2 * (g - 1) / g * count / cluster.nvlink
    if hosts > 1:
        seconds += 2 * math.ceil(math.log2(hosts)) * cluster.latency_hop
        seconds += 2 * (hosts - 1) / hosts * count / g / cluster.network
    return seconds


def noise_seconds(work: Workload, gpus: int, cluster: Cluster) -> float:
    """What it takes at most to draw blocks of the whole batch's noise, beside one GPU's part."""
    latent = work.generator().latent_dim
    numbers = work.batch_size * ((work.n_critic + 1) * latent + work.n_critic)
    others = min((gpus - 1) * work.batch_size, 2 * (BLOCK - 1))
    return others / work.batch_size * numbers / cluster.draws


def round_seconds(work: Workload, one: float, gpus: int, wire: int, cluster: Cluster) -> float:
    """T(R): `one` are the seconds of a round on one GPU, `wire` the bytes of a sent number."""
    of_generator, of_critic = (
        sum(p.numel() for p in make().parameters()) for make in (work.generator, work.critic)
    )
    messages = [of_critic] * work.n_critic + [of_generator]
    sums = sum(all_reduce_seconds(wire * count, gpus, cluster) for count in messages)
    if wire == 2:  # buffers and figures go by themselves
        sums += len(messages) * all_reduce_seconds(0, gpus, cluster)
    return one + sums + noise_seconds(work, gpus, cluster)


def seconds_of_one_gpu(name: str, recipe: str, share: float) -> tuple[float, str]:
    """Seconds of a round, and where they are from: measured, or counted operations."""
    measured = json.loads((RESULTS / "rounds-cuda.json").read_text())
    machine: dict[str, Any] = measured["machine"]
    for result in measured["results"]:
        if (result["workload"], result["recipe"]) == (name, recipe):
            return result["rows"]["fgan.compile"]["median_ms"] / 1e3, f"measured, {machine['name']}"
    work, small = WORKLOADS[name], 4
    part = work._replace(batch_size=small)
    algorithm = RECIPES[recipe](work.generator(), work.critic(), n_critic=work.n_critic)
    operations = sum(map(flops, products_of_round(algorithm, part))) * work.batch_size / small
    seconds = operations / (share * machine["bf16_tflops"] * 1e12)
    return seconds, f"{operations / 1e12:.1f} TFLOP at {share:.0%} of the bf16 rate"


def show(console: Console, names: list[str], recipe: str, share: float) -> None:
    """Print the table of estimates."""
    cluster, counts = Cluster(), (8, 64, 1024)
    console.print(f"{cluster}")
    table = Table(title=f"{recipe}: efficiency by the formula in bench/scale_estimate.py")
    for heading in ("workload", "numbers sent as", "ms on one GPU", "of which", *map(str, counts)):
        table.add_column(heading, justify="left" if heading == "workload" else "right")
    for name in names:
        work = WORKLOADS[name]
        one, source = seconds_of_one_gpu(name, recipe, share)
        for wire, dtype in ((4, "float32"), (2, "bfloat16")):
            cells = [f"{one / round_seconds(work, one, r, wire, cluster):.0%}" for r in counts]
            table.add_row(name, dtype, f"{1e3 * one:.2f}", source, *cells)
    console.print(table)
