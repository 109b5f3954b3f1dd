"""The stages of `gpu.py`, each run in a process of its own, and what is compiled ahead of them."""

import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parent.parent


class Record:
    """A stage's results, on disk after every addition."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, json.loads(path.read_text()) if path.exists() else {}

    def __setitem__(self, name: str, value: Any) -> None:
        self.content[name] = value
        self.path.write_text(json.dumps(self.content, indent=1) + "\n")

    def append(self, name: str, value: Any) -> None:
        """To the list of this name."""
        self[name] = [*self.content.get(name, []), value]

    @contextmanager
    def attempt(self, what: dict[str, Any]) -> Iterator[None]:
        """Within, an error is printed and noted under `lost`, and the stage goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.append("lost", {**what, "error": f"{type(error).__name__}: {error}"[:2000]})


def end(record: Record) -> None:
    """Fail if something was lost."""
    if "lost" in record.content:
        raise SystemExit(1)


# --- right ---------------------------------------------------------------------------------------


def right(record: Record, dry: bool) -> None:
    """The tests marked `gpu`; they are skipped without a GPU."""
    report = record.path.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--tb=no", "-rfE", "tests"]
    # Another torch's warnings are shown, and say nothing of what is right.
    command += ["-W", "default::UserWarning"]
    # pytest-benchmark warns of xdist, and the tests take warnings for errors.
    command += ["-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "gpu_report", "--color=no"]
    if find_spec("xdist") and not dry:  # most of a test is compiling
        command += ["-n", str(min(10, os.cpu_count() or 1))]
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    command.append(f"--junit-xml={report}")
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    cases = [
        ({part.tag for part in case}, f"{case.get('classname')}::{case.get('name')}")
        for case in ET.parse(report).iter("testcase")
    ]
    report.unlink()
    failed = [name for tags, name in cases if tags & {"failure", "error"}]
    skipped = sum("skipped" in tags for tags, _ in cases)
    passed = len(cases) - len(failed) - skipped
    record["tests"] = {"passed": passed, "skipped": skipped, "failed": failed}
    if done.returncode:
        raise SystemExit(done.returncode)


# --- fast ----------------------------------------------------------------------------------------

FEW = {"imperative", "imperative-cuda-graph", "fgan.compile"}
WAYS = {
    "wgan-gp": {*FEW, "fgan.compile-no-cuda-graph", "jax"},
    "wgan-div": {*FEW, "jax"},
    "gan": FEW,
    "wgan": FEW,
}
"""By recipe, in this order; at last `torch.compile` on one workload, half a minute to trace."""
NAMES = ("mlp", "conv", "toy")


def fast(record: Record, dry: bool) -> None:
    """Milliseconds per round of every contestant, WGAN-GP first."""
    from limits import measured_rates
    from rich.console import Console
    from rounds import limit, machine, measure, table
    from workloads import WORKLOADS

    device = "cpu" if dry else "cuda"
    record["machine"] = machine(device) | hardware(device)
    print(json.dumps(record.content["machine"]))
    rates = measured_rates(device)
    names = ("tiny",) if dry else NAMES
    jobs = [(recipe, name, ways) for recipe, ways in WAYS.items() for name in names]
    jobs = jobs[:1] if dry else jobs
    jobs.append(("wgan-gp", names[0], {"torch.compile", "fgan.compile"}))
    for recipe, name, ways in jobs:
        torch.compiler.reset()
        work = WORKLOADS[name] if dry else WORKLOADS[name]._replace(batch_size=64)
        with record.attempt({"workload": name, "recipe": recipe}):
            result = measure(recipe, name, work, device, 2 if dry else 30, ways, None)
            record.append("results", result)
            times = {way: round(row["median_ms"], 3) for way, row in result["rows"].items()}
            print(recipe, name, json.dumps(times))
    results = record.content.pop("results", [])
    for result in results:  # not before: it takes seconds each
        work = WORKLOADS[result["workload"]]._replace(batch_size=result["batch_size"])
        record.append("results", result | limit(result["recipe"], work, device, rates, None))
        table(record.content["results"][-1], Console(width=110))
    end(record)


def hardware(device: str) -> dict[str, float]:
    """Rates of matrix products and of a large copy, and microseconds of one more small kernel."""
    from limits import measured_rates

    if device == "cpu":
        return {}
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    rates = measured_rates(device, torch.bfloat16)
    found: dict[str, float] = {"multiprocessors": processors}
    found |= {"bf16_tflops": rates.flops / 1e12, "copy_gb_per_s": rates.bytes / 1e9}
    found["float32_tflops"] = measured_rates(device).flops / 1e12
    with tf32():
        found["tf32_tflops"] = measured_rates(device).flops / 1e12
    x = torch.zeros(1, device=device)

    def thousand() -> None:
        for _ in range(1000):
            x.add_(1)

    found["launch_us"] = milliseconds(thousand)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        thousand()
    found["kernel_in_graph_us"] = milliseconds(graph.replay)
    return found


@contextmanager
def tf32() -> Iterator[None]:
    """Within, float32 matrix products may use TF32; cuDNN's convolutions do by default."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def milliseconds(work: Callable[[], object], runs: int = 5) -> float:
    """The median time of some work, the device synchronised, after one run that is not timed."""
    from rounds import synchronize

    device = "cuda" if torch.cuda.is_available() else "cpu"
    times = []
    for _ in range(runs + 1):
        synchronize(device)
        begin = time.perf_counter()
        work()
        synchronize(device)
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[1:])


# --- big -----------------------------------------------------------------------------------------

BIG = [(256, "bf16"), (64, "bf16"), (256, "tf32"), (64, "tf32")]


def big(record: Record, dry: bool) -> None:
    """The residual pair: milliseconds, share of the bf16 rate and peak memory, two ways."""
    from limits import measured_rates
    from rounds import limit
    from workloads import WORKLOADS

    device, work = ("cpu", WORKLOADS["tiny"]) if dry else ("cuda", WORKLOADS["residual"])
    rates = measured_rates(device, torch.float32 if dry else torch.bfloat16)
    record["bf16_tflops"] = rates.flops / 1e12
    for size, precision in [(4, "tf32")] if dry else BIG:
        name = {"batch_size": size, "precision": precision}
        with record.attempt(name):
            row = name | big_row(work._replace(batch_size=size), device, precision, 2 if dry else 8)
            record.append("rows", row)
            print(json.dumps(row))
    for row in record.content.get("rows", []):  # not before: it takes seconds
        work = work._replace(batch_size=row["batch_size"])
        row["gflop"] = limit("wgan-gp", work, device, rates, None)["gflop"]
        for way in ("imperative", "fgan.compile"):
            row[way]["share_of_bf16_rate"] = row["gflop"] * 1e12 / row[way]["ms"] / rates.flops
    record["rows"] = record.content.get("rows", [])
    end(record)


def big_row(work: Any, device: str, precision: str, rounds: int) -> dict[str, dict[str, float]]:
    """One batch size at one precision: peaks one after another, then times in turn."""
    from memory import peak
    from rounds import in_turn

    ways, batch, noises = two_ways(work, device, precision)
    with tf32():
        peaks = {way: peak(make, batch, noises[0], device) for way, make in ways.items()}
        plays = {way: play for way, (_, play) in peaks.items()}
        losses = [torch.as_tensor(play(batch, noises[1])[0]).cpu() for play in plays.values()]
        torch.testing.assert_close(*losses, rtol=5e-2, atol=5e-2)
        times = in_turn(plays, batch, noises, rounds, device, warm_up=2)
    return {
        way: {"ms": statistics.median(times[way]), "peak_mb": peaks[way][0] / 1e6} for way in ways
    }


def two_ways(
    work: Any, device: str, precision: str
) -> tuple[dict[str, Callable[[], Any]], Any, list[Any]]:
    """The imperative WGAN-GP round and the compiled one, to be made; a batch, and noises."""
    from imperative import imperative_step
    from rounds import functional
    from workloads import RECIPES

    import fgan

    torch.manual_seed(0)
    autocast = torch.bfloat16 if precision == "bf16" else None
    modules = work.generator().to(device), work.critic().to(device)
    algorithm = RECIPES["wgan-gp"](*modules, n_critic=work.n_critic, autocast=autocast)
    shape = (work.n_critic, work.batch_size, *work.sample_shape)
    batch = fgan.Batch(torch.rand(shape, device=device) * 2 - 1)
    noises = [algorithm.noise(0, index, work.batch_size) for index in range(4)]
    ways = {
        "imperative": lambda: imperative_step("wgan-gp", *copy.deepcopy(modules), autocast),
        "fgan.compile": lambda: functional(fgan.compile(algorithm)),
    }
    return ways, batch, noises


# --- many ----------------------------------------------------------------------------------------


MANY = ("imperative, one by one", "population, fgan.compile", "jax.jit(vmap)")


def many(record: Record, dry: bool) -> None:
    """A population of 64 small WGAN-GPs against one by one and `jax.vmap`."""
    from population import measure

    members, device = (2, "cpu") if dry else (64, "cuda")
    # The imperative rounds of 64 take seconds; torch.compile takes a minute to trace the round.
    row = measure(members, device, 3, MANY, warm_up=1)
    record["row"] = {"members": members, **row}
    for way, value in row.items():
        print(f"{way:32} {value:10.3f} ms")


# --- profile -------------------------------------------------------------------------------------


def profile(record: Record, dry: bool) -> None:
    """Kernels of one compiled WGAN-GP round: which, how many, how long, and the idle time."""
    from workloads import WORKLOADS

    residual = WORKLOADS["residual"]._replace(batch_size=256)
    jobs = [("mlp", WORKLOADS["mlp"], "float32"), ("residual", residual, "bf16")]
    for name, work, precision in [("tiny", WORKLOADS["tiny"], "float32")] if dry else jobs:
        found = profiled(work, "cpu" if dry else "cuda", precision)
        print(f"\n{name}: {found['kernels']:.0f} kernels take {found['busy_ms']:.3f} ms of a round")
        print(f"of {found['wall_ms']:.3f} ms\n{found['table']}")
        record[name] = found


def profiled(work: Any, device: str, precision: str, rounds: int = 5) -> dict[str, Any]:
    """The profiler's events of some launched rounds, as figures and a table."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiling

    ways, batch, noises = two_ways(work, device, precision)
    play = ways["fgan.compile"]()
    for _ in range(4):
        play(batch, noises[0])
    wall = milliseconds(lambda: play(batch, noises[0]), 20)
    host = host_milliseconds(lambda: play(batch, noises[0]), 20)
    kind, activity = DeviceType.CUDA, ProfilerActivity.CUDA
    if device == "cpu":
        kind, activity = DeviceType.CPU, ProfilerActivity.CPU
    with profiling(activities=[activity]) as profiler:
        milliseconds(lambda: play(batch, noises[0]), rounds - 1)
    totals: dict[str, list[float]] = {}
    for event in profiler.events():
        if event.device_type == kind:
            totals.setdefault(event.name, []).append(event.time_range.elapsed_us())
    rows = sorted(((sum(us), len(us), name) for name, us in totals.items()), reverse=True)
    lines = [f"{'us a round':>10} {'count':>6} {'us each':>8}  kernel"]
    lines += [
        f"{total / rounds:10.1f} {count / rounds:6.1f} {total / count:8.2f}  {name[:90]}"
        for total, count, name in rows[:40]
    ]
    return {
        "wall_ms": wall,
        "host_ms": host,
        "busy_ms": sum(total for total, _, _ in rows) / rounds / 1e3,
        "kernels": sum(count for _, count, _ in rows) / rounds,
        "table": "\n".join(lines),
    }


def host_milliseconds(work: Callable[[], object], runs: int) -> float:
    """The median time until the host has asked for some work, the device idle before."""
    times = []
    for _ in range(runs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


# --- startup -------------------------------------------------------------------------------------


def startup(record: Record, dry: bool) -> None:
    """Seconds of the first call in a process of its own, with an empty cache and a filled one."""
    from startup import first_call

    with tempfile.TemporaryDirectory() as cache:
        for kind in ("cold_s", "warm_s"):
            name = "tiny" if dry else "mlp"
            record[kind] = first_call(name, "wgan-gp", "cpu" if dry else "cuda", cache)
            print(f"{kind}: {record.content[kind]:.1f}")


class Stage(NamedTuple):
    """A part of the run."""

    run: Callable[[Record, bool], None]
    """(where results go, whether this is a dry run)."""
    limit_s: int


STAGES = {
    "right": Stage(right, 140),
    "fast": Stage(fast, 220),
    "big": Stage(big, 80),
    "many": Stage(many, 45),
    "profile": Stage(profile, 40),
    "startup": Stage(startup, 60),
}


# --- compiled ahead ------------------------------------------------------------------------------


def ahead_jobs(stages: list[str]) -> list[list[str]]:
    """What these stages will compile, one process each, the first needed first.

    The stage that a job is for comes first in it.
    """
    rounds = [[name, recipe, way] for recipe in WAYS for way in AHEAD for name in NAMES]
    rounds = [job for job in rounds if job[2] in WAYS[job[1]]]
    rounds.append([NAMES[0], "wgan-gp", "torch.compile"])
    jobs = [["big", str(size), precision] for size, precision in BIG]
    jobs += [["fast", *job] for job in rounds]
    jobs += [["many"]]
    return [job for job in jobs if job[0] in stages]


AHEAD = ("fgan.compile", "jax")


def ahead(job: list[str]) -> None:
    """Compile one contestant's round and play it once, for the compiler's cache alone."""
    import rounds
    from torch._inductor import config
    from workloads import RECIPES, WORKLOADS

    import fgan

    # The fastest variant of a kernel is chosen later, when the device does nothing else.
    config.autotune_local_cache = False
    if job[0] == "many":
        from population import WORK, contestants, inputs

        batch, noises = inputs(64, "cuda")
        for play in contestants(WORK, 64, "cuda", MANY[1:]).values():
            play(batch, noises[0])
        return
    if job[0] == "big":
        work = WORKLOADS["residual"]._replace(batch_size=int(job[1]))
        ways, batch, noises = two_ways(work, "cuda", job[2])
        with tf32():
            ways["fgan.compile"]()(batch, noises[0])
        return
    _, name, recipe, way = job
    work = WORKLOADS[name]._replace(batch_size=64)
    drawer = RECIPES[recipe](work.generator(), work.critic(), n_critic=work.n_critic)
    batch = fgan.Batch(torch.rand(work.n_critic, work.batch_size, *work.sample_shape).cuda())
    noise = drawer.noise(0, 0, work.batch_size, "cuda")
    for play in rounds.contestants(recipe, work, "cuda", {way}, None).values():
        play(batch, noise)
