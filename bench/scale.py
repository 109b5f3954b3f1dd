"""Rounds per second of several processes with a thread each, against one process with all threads.

    python bench/scale.py                       # two processes, the compiled convolutional pair
    python bench/scale.py --processes 4
    python bench/scale.py --estimate            # 8, 64 and 1,024 GPUs: bench/scale_estimate.py
    python bench/scale.py --workload tiny --rounds 2 --backend interpreter   # does it run?

All processes are there from the beginning and play in turn: a block of rounds by the one process on
the whole batch, a block by the others on their parts of it, and again. Whoever does not play waits
for a message and takes no time of a processor. First all play the same two rounds, and their critic
losses must agree. The share of the all-reduce is the time of a round's sums alone, without anything
between them, over the time of a round; waiting for the slower process is not in it.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from rounds import machine
from scale_estimate import show
from workloads import RECIPES, WORKLOADS, Workload

import fgan
from fgan import tree
from fgan.collectives import group_of, total


def serve(
    connection: Connection, options: argparse.Namespace, rank: int, size: int, store: str
) -> None:
    """One process: answers each (name, count) with what the function of that name returns.

    rank: -1 for the one process that plays the whole batch with all threads.
    """
    is_alone = rank < 0
    torch.set_num_threads(size if is_alone else 1)
    work = WORKLOADS[options.workload]
    torch.manual_seed(0)
    algorithm = RECIPES[options.recipe](work.generator(), work.critic(), n_critic=work.n_critic)
    if not is_alone:
        of_file = dist.FileStore(store, size)
        dist.init_process_group("gloo", store=of_file, rank=rank, world_size=size)
        algorithm = fgan.data_parallel(algorithm)
    player = Player(algorithm, work, options.batch_size or work.batch_size, options.backend)
    while (message := connection.recv()) is not None:
        name, count = message
        connection.send(getattr(player, name)(count))
    if not is_alone:
        dist.destroy_process_group()


class Player:
    """The rounds of one process, and the sums that it sends."""

    def __init__(
        self, algorithm: fgan.Algorithm, work: Workload, batch_size: int, backend: str
    ) -> None:
        self.algorithm = fgan.compile(algorithm, backend=backend)
        self.state = self.algorithm.init(0)
        of_generator, of_critic = (
            sum(leaf.numel() for leaf in tree.leaves((player.params, player.buffers)))
            for player in (self.state.generator, self.state.critic)
        )
        self.sent = [of_critic] * work.n_critic + [of_generator]
        rank, ranks = algorithm.share or (0, 1)
        shape = (work.n_critic, batch_size, *work.sample_shape)
        real = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        part = slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)
        self.batch = fgan.Batch(real[:, part].contiguous())
        self.noises = [self.algorithm.noise(0, index, batch_size) for index in range(4)]

    def losses(self, count: int) -> list[float]:
        """The critic's losses of the first rounds."""
        found = []
        for index in range(count):
            self.state, info = self.algorithm.step(self.state, self.batch, self.noises[index % 4])
            found.append(float(info.critic_loss))
        return found

    def play(self, count: int) -> float:
        """Seconds of a round, the mean over `count`, after one that is not counted."""
        self.losses(1)
        begin = time.perf_counter()
        self.losses(count)
        return (time.perf_counter() - begin) / count

    def send(self, count: int) -> float:
        """Seconds of the sums of a round, alone."""
        group, rows = group_of(), [torch.ones(size) for size in self.sent]
        for row in rows:
            total(row, group)
        begin = time.perf_counter()
        for _ in range(count):
            for row in rows:
                total(row, group)
        return (time.perf_counter() - begin) / count

    def bytes(self, count: int) -> int:
        """Of the tensors that are summed in `count` rounds, gradients and buffers."""
        return 4 * sum(self.sent) * count


def ask(connections: list[Connection], name: str, count: int) -> list[Any]:
    """The answers of all, who work at the same time."""
    for connection in connections:
        connection.send((name, count))
    return [connection.recv() for connection in connections]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of all turns."""
    size, context = options.processes, multiprocessing.get_context("spawn")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        ends, processes = [], []
        for rank in range(-1, size):
            here, there = context.Pipe()
            given = there, options, rank, size, str(Path(folder) / "store")
            processes.append(context.Process(target=serve, args=given, daemon=True))
            processes[-1].start()
            ends.append(here)
        one, several = ends[:1], ends[1:]
        ask(ends, "bytes", 1)  # wait until all are there
        expected, *found = [torch.tensor(each) for each in ask(ends, "losses", 2)]
        for losses in found:
            torch.testing.assert_close(losses, expected, rtol=2e-3, atol=2e-4)
        seconds: dict[str, list[float]] = {"one": [], "several": [], "all-reduce": []}
        for _ in range(options.turns):
            seconds["one"] += ask(one, "play", options.rounds)
            seconds["several"].append(max(ask(several, "play", options.rounds)))
            seconds["all-reduce"].append(max(ask(several, "send", options.rounds)))
        count = ask(several, "bytes", 1)[0]
        for end in ends:
            end.send(None)
        for process in processes:
            process.join()
    return {"seconds": seconds, "bytes_summed": count}


def main() -> None:
    """Measure, print a table, and write it to bench/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", choices=WORKLOADS, default="conv")
    parser.add_argument("--recipe", choices=RECIPES, default="wgan-gp")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch-size", type=int, help="whole batch (default: the workload's own)")
    parser.add_argument("--rounds", type=int, default=10, help="of a turn")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--backend", choices=["inductor", "interpreter"], default="inductor")
    parser.add_argument("--out", type=Path, help="default: bench/results/scale-cpu.json")
    parser.add_argument(
        "--estimate", action="store_true", help="measure nothing: print a formula's"
    )
    parser.add_argument("--share", type=float, default=0.4, help="of the bf16 rate, in an estimate")
    options = parser.parse_args()
    console = Console(width=110)
    if options.estimate:
        show(console, ["toy", "mlp", "conv", "residual"], options.recipe, options.share)
        return
    found = measure(options)
    one, several, sums = (statistics.median(turns) for turns in found["seconds"].values())
    size = options.processes
    # A ring sends every number twice, but for the part that a process has itself.
    sent = 2 * (size - 1) / size * found["bytes_summed"]
    picture = Table(title=f"{options.recipe} on {options.workload}, {size} processes against one")
    picture.add_column("figure")
    picture.add_column("value", justify="right")
    for name, value in {
        f"rounds per second, one process with {size} threads": f"{1 / one:.1f}",
        f"rounds per second, {size} processes with one thread": f"{1 / several:.1f}",
        "speed-up": f"{one / several:.2f}",
        "MB that a process sends in a round": f"{sent / 1e6:.2f}",
        "ms of a round's all-reduces alone": f"{1e3 * sums:.2f}",
        "their share of a round": f"{100 * sums / several:.1f} %",
    }.items():
        picture.add_row(name, value)
    console.print(picture)
    out = options.out or Path(__file__).parent / "results" / "scale-cpu.json"
    out.parent.mkdir(exist_ok=True, parents=True)
    settings = {name: str(value) for name, value in vars(options).items() if name != "out"}
    result = {"machine": machine("cpu"), "settings": settings, "bytes_sent": sent, **found}
    out.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"written to {out}")


if __name__ == "__main__":
    main()
