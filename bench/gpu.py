"""All that a GPU can tell about fgan, in one run of under ten minutes, most important first.

    python bench/gpu.py --out results                  # every stage
    python bench/gpu.py --out results --stages fast big
    python bench/gpu.py --out results --dry-run        # every stage at a toy size, on the CPU

Each stage is a process of its own with a time limit, prints to the standard output and writes
`STAGE.json`; a stage that fails or runs out of time keeps what it has and says so. `log.txt` has the
whole output. fgan is taken from the working tree, and nothing is downloaded. README.md beside this
file says what each stage does.
"""

import argparse
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TextIO

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class Stage(NamedTuple):
    """A part of the run."""

    run: Callable[["Record", bool], None]
    """(where results go, whether this is a dry run)."""
    limit_s: int


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


# --- right ---------------------------------------------------------------------------------------


def right(record: Record, dry: bool) -> None:
    """The tests marked `gpu`; they are skipped without a GPU."""
    report = record.path.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--tb=short", "-rfE"]
    command += [
        "-p",
        "no:cacheprovider",
        "--color=no",
        f"--junit-xml={report}",
        str(ROOT / "tests"),
    ]
    if find_spec("xdist") and not dry:  # most of a test is compiling
        command += ["-n", str(min(6, os.cpu_count() or 1))]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    cases = list(ET.parse(report).iter("testcase"))
    report.unlink()
    failed = [case for case in cases if {"failure", "error"} & {part.tag for part in case}]
    skipped = [case for case in cases if "skipped" in {part.tag for part in case}]
    record["tests"] = {
        "passed": len(cases) - len(failed) - len(skipped),
        "skipped": len(skipped),
        "failed": [f"{case.get('classname')}::{case.get('name')}" for case in failed],
    }
    if status:
        raise SystemExit(status)


# --- fast ----------------------------------------------------------------------------------------

ALL_WAYS = {
    "imperative",
    "imperative-cuda-graph",
    "torch.compile",
    "fgan.compile",
    "fgan.compile-no-cuda-graph",
    "jax",
}
OTHER_RECIPES = ALL_WAYS - {"torch.compile", "fgan.compile-no-cuda-graph"}


def fast(record: Record, dry: bool) -> None:
    """Milliseconds per round of every contestant, WGAN-GP first."""
    import torch
    from limits import measured_rates
    from rich.console import Console
    from rounds import machine, measure, table
    from workloads import RECIPES, WORKLOADS

    device = "cpu" if dry else "cuda"
    record["machine"] = machine(device) | hardware(device)
    print(json.dumps(record.content["machine"]))
    rates = measured_rates(device)
    names = ["tiny"] if dry else ["mlp", "conv", "toy"]
    jobs = [("wgan-gp", name, ALL_WAYS) for name in names]
    if not dry:
        jobs += [
            (recipe, name, OTHER_RECIPES)
            for recipe in RECIPES
            if recipe != "wgan-gp"
            for name in names
        ]
    for recipe, name, ways in jobs:
        torch.compiler.reset()
        work = WORKLOADS[name]
        if not dry:
            work = work._replace(batch_size=64)
        try:
            result = measure(recipe, name, work, device, 2 if dry else 30, ways, rates, None)
        except Exception:  # one workload that fails leaves the others
            record.append("failures", {"workload": name, "recipe": recipe, **failure()})
            continue
        record.append("results", result)
        table(result, Console(width=110))
    if record.content.get("failures"):
        raise SystemExit(1)


def hardware(device: str) -> dict[str, float]:
    """Rates of matrix products, of a large copy, and microseconds of one more small kernel."""
    import torch
    from limits import measured_rates

    if device == "cpu":
        return {}
    found: dict[str, float] = {"multiprocessors": properties().multi_processor_count}
    rates = measured_rates(device, torch.bfloat16)
    found |= {"bf16_tflops": rates.flops / 1e12, "copy_gb_per_s": rates.bytes / 1e9}
    found["float32_tflops"] = measured_rates(device).flops / 1e12
    with tf32():
        found["tf32_tflops"] = measured_rates(device).flops / 1e12
    x = torch.zeros(1, device=device)

    def thousand() -> None:
        for _ in range(1000):
            x.add_(1)

    found["launch_us"] = 1e3 * milliseconds(thousand, 5) / 1000
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        thousand()
    found["kernel_in_graph_us"] = 1e3 * milliseconds(graph.replay, 5) / 1000
    return found


def properties() -> Any:
    """Of the current CUDA device."""
    import torch

    return torch.cuda.get_device_properties(torch.cuda.current_device())


class tf32:  # noqa: N801, a context like torch's own
    """Within, float32 products may use TF32."""

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")

    def __exit__(self, *unused: object) -> None:
        import torch

        torch.set_float32_matmul_precision(self.before)


def milliseconds(work: Callable[[], object], runs: int) -> float:
    """The median time of some work, the device synchronised, after one run that is not timed."""
    import torch

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    times = []
    for _ in range(runs + 1):
        wait()
        begin = time.perf_counter()
        work()
        wait()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[1:])


def failure() -> dict[str, str]:
    """The error at hand, printed and for the record."""
    traceback.print_exc()
    return {"error": "".join(traceback.format_exception_only(*sys.exc_info()[:2])).strip()[:2000]}


# --- big -----------------------------------------------------------------------------------------


def big(record: Record, dry: bool) -> None:
    """The residual pair: milliseconds, share of the bf16 rate and peak memory, two ways."""
    import torch
    from limits import flops, measured_rates, products_of_round
    from workloads import RECIPES, WORKLOADS

    device, work = ("cpu", WORKLOADS["tiny"]) if dry else ("cuda", WORKLOADS["residual"])
    rate = measured_rates(device, torch.float32 if dry else torch.bfloat16).flops
    record["bf16_tflops"] = rate / 1e12
    drawer = RECIPES["wgan-gp"](work.generator(), work.critic(), n_critic=work.n_critic)
    per_sample = sum(map(flops, products_of_round(drawer, work))) / work.batch_size
    for size, precision in [(4, "tf32")] if dry else BIG:
        try:
            row = big_row(work._replace(batch_size=size), device, precision, per_sample, rate)
        except Exception:
            record.append("failures", {"batch_size": size, "precision": precision, **failure()})
            continue
        record.append("rows", row)
        print(json.dumps(row))
    if record.content.get("failures"):
        raise SystemExit(1)


BIG = [(256, "bf16"), (64, "bf16"), (256, "tf32"), (64, "tf32")]


def big_row(work: Any, device: str, precision: str, per_sample: float, rate: float) -> Any:
    """One batch size at one precision: peaks one after another, then times in turn."""
    import torch
    from memory import peak
    from rounds import first_rounds, in_turn

    ways, batch, noises = big_contestants(work, device, precision)
    peaks, plays = {}, {}
    with tf32():
        for way, make in ways.items():
            peaks[way] = peak(make, batch, noises[0], device) / 1e6
            gc.collect()
            plays[way] = make()
        first_rounds(plays, batch, noises, narrow=True)
        times = in_turn(plays, batch, noises, 1 if dry_size(work) else 8, device)
        torch.compiler.reset()
    row: dict[str, Any] = {"batch_size": work.batch_size, "precision": precision}
    row["gflop"] = per_sample * work.batch_size / 1e9
    for way, values in times.items():
        middle = statistics.median(values)
        share = row["gflop"] * 1e9 / (middle * 1e-3) / rate
        row[way] = {"ms": middle, "share_of_bf16_rate": share, "peak_mb": peaks[way]}
    return row


def dry_size(work: Any) -> bool:
    """Whether this is the toy workload."""
    return bool(work.batch_size == 4)


def big_contestants(work: Any, device: str, precision: str) -> tuple[dict, Any, list]:
    """The ways, a batch and noises."""
    import copy

    import torch
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


def many(record: Record, dry: bool) -> None:
    """A population of 64 small WGAN-GPs, against one by one and `jax.vmap`."""
    from population import measure

    members, device = (2, "cpu") if dry else (64, "cuda")
    row = measure(members, device, 1 if dry else 10)
    record["row"] = {"members": members, **row}
    for way, value in row.items():
        print(f"{way:32} {value:10.3f} ms")


# --- where the time goes -------------------------------------------------------------------------


def profile(record: Record, dry: bool) -> None:
    """Kernels of one compiled WGAN-GP round: which, how many, how long, and the gaps between."""
    from workloads import WORKLOADS

    if dry:
        jobs = {"tiny": (WORKLOADS["tiny"], "tf32")}
    else:
        big_work = WORKLOADS["residual"]._replace(batch_size=256)
        jobs = {"mlp": (WORKLOADS["mlp"], "float32"), "residual": (big_work, "bf16")}
    for name, (work, precision) in jobs.items():
        found = profiled(work, "cpu" if dry else "cuda", precision)
        print(f"\n{name}: {found['kernels']:.0f} kernels a round, {found['busy_ms']:.3f} ms of")
        print(f"{found['wall_ms']:.3f} ms\n{found['table']}")
        record[name] = found


def profiled(work: Any, device: str, precision: str, rounds: int = 5) -> dict[str, Any]:
    """The profiler's events of some replayed rounds, as figures and a table."""
    import torch
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiling

    ways, batch, noises = big_contestants(work, device, precision)
    play = ways["fgan.compile"]()
    for _ in range(4):
        play(batch, noises[0])
    wall = milliseconds(lambda: play(batch, noises[0]), rounds)
    activities = [ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU]
    with profiling(activities=activities) as profiler:
        for _ in range(rounds):
            play(batch, noises[0])
        if device == "cuda":
            torch.cuda.synchronize()
    kind = DeviceType.CUDA if device == "cuda" else DeviceType.CPU
    totals: dict[str, list[float]] = {}
    for event in profiler.events():
        if event.device_type == kind:
            totals.setdefault(event.name, []).append(event.time_range.elapsed_us())
    rows = sorted(((sum(v), len(v), name) for name, v in totals.items()), reverse=True)
    lines = [f"{'us a round':>10} {'count':>6} {'us each':>8}  kernel"]
    lines += [
        f"{total / rounds:10.1f} {count / rounds:6.1f} {total / count:8.2f}  {name[:90]}"
        for total, count, name in rows[:30]
    ]
    return {
        "wall_ms": wall,
        "busy_ms": sum(total for total, _, _ in rows) / rounds / 1e3,
        "kernels": sum(count for _, count, _ in rows) / rounds,
        "table": "\n".join(lines),
    }


# --- start-up ------------------------------------------------------------------------------------


def startup(record: Record, dry: bool) -> None:
    """Seconds of the first call in a process of its own, with an empty cache and a filled one."""
    from startup import first_call

    with tempfile.TemporaryDirectory() as cache:
        for kind in ("cold_s", "warm_s"):
            name = "tiny" if dry else "mlp"
            record[kind] = first_call(name, "wgan-gp", "cpu" if dry else "cuda", cache)
            print(f"{kind}: {record.content[kind]:.1f}")


STAGES = {
    "right": Stage(right, 130),
    "fast": Stage(fast, 190),
    "big": Stage(big, 100),
    "many": Stage(many, 60),
    "profile": Stage(profile, 50),
    "startup": Stage(startup, 60),
}


# --- compile ahead -------------------------------------------------------------------------------


def ahead_jobs() -> list[list[str]]:
    """What the later stages compile, longest first; one process each while `right` runs."""
    names = ("mlp", "conv", "toy")
    jobs = [["round", name, "wgan-gp", "torch.compile"] for name in names]
    jobs += [["big", str(size), precision] for size, precision in BIG]
    for recipe in RECIPE_ORDER:
        jobs += [["round", name, recipe, "fgan.compile"] for name in names]
    return jobs


RECIPE_ORDER = ("wgan-gp", "wgan-div", "gan", "wgan")


def ahead(job: list[str]) -> None:
    """Compile one contestant's round, for the compiler's cache alone."""
    import torch
    import torch._inductor.config as inductor_config
    from workloads import WORKLOADS

    # Kernels tried out beside other processes' would be chosen badly: choices are made later.
    inductor_config.autotune_local_cache = False
    if job[0] == "big":
        work = WORKLOADS["residual"]._replace(batch_size=int(job[1]))
        ways, batch, noises = big_contestants(work, "cuda", job[2])
        with tf32():
            ways["fgan.compile"]()(batch, noises[0])
        return
    from rounds import contestants
    from workloads import RECIPES

    import fgan

    work = WORKLOADS[job[1]]._replace(batch_size=64)
    drawer = RECIPES[job[2]](work.generator(), work.critic(), n_critic=work.n_critic)
    batch = fgan.Batch(torch.rand(work.n_critic, work.batch_size, *work.sample_shape).cuda())
    noise = drawer.noise(0, 0, work.batch_size, "cuda")
    for play in contestants(job[2], work, "cuda", {job[3]}, None).values():
        play(batch, noise)


def compile_ahead(environment: dict[str, str], out: TextIO, workers: int = 8) -> threading.Thread:
    """Run the jobs in the background, some at a time."""
    jobs = ahead_jobs()
    own = environment | {"TORCHINDUCTOR_COMPILE_THREADS": "2", "OMP_NUM_THREADS": "2"}

    def work() -> None:
        while jobs:
            job = jobs.pop(0)
            command = [sys.executable, __file__, "--ahead", *job]
            begin = time.perf_counter()
            done = subprocess.run(
                command, env=own, check=False, capture_output=True, text=True, timeout=240
            )
            spent = time.perf_counter() - begin
            out.write(
                f"[compiled ahead] {' '.join(job)}: {spent:.0f} s, status {done.returncode}\n"
            )
            if done.returncode:
                out.write(done.stderr[-2000:] + "\n")
            out.flush()

    def run() -> None:
        threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


# --- the run -------------------------------------------------------------------------------------


class Tee:
    """Writes to the standard output and to a file."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w")

    def write(self, text: str) -> None:
        for target in (sys.stdout, self.file):
            target.write(text)

    def flush(self) -> None:
        for target in (sys.stdout, self.file):
            target.flush()


def run_stage(
    name: str, limit: float, out: Path, dry: bool, environment: dict[str, str], tee: Tee
) -> None:
    """One stage in a process of its own, ended with all of its children when its time is up."""
    tee.write(f"\n=== {name} (at most {limit:.0f} s) ===\n")
    path = out / f"{name}.json"
    path.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--out", str(out), "--child", name]
    begin = time.perf_counter()
    child = subprocess.Popen(
        command + ["--dry-run"] * dry,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )

    def copy() -> None:
        for line in child.stdout or ():
            tee.write(line)
            tee.flush()

    reader = threading.Thread(target=copy, daemon=True)
    reader.start()
    try:
        status = "passed" if child.wait(limit) == 0 else "failed"
    except subprocess.TimeoutExpired:
        status = "out of time"
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
    reader.join(5)
    record = Record(path)
    record["seconds"] = round(time.perf_counter() - begin, 1)
    record["status"] = status


def summary(out: Path, stages: list[str]) -> str:
    """What passed, what failed, and the five ratios that matter, on one screen."""
    found = {name: json.loads((out / f"{name}.json").read_text()) for name in stages}
    lines = ["", "=== summary ==="]
    for name, content in found.items():
        note = ""
        if "tests" in content:
            tests = content["tests"]
            note = f"{tests['passed']} passed, {tests['skipped']} skipped"
            note += "".join(f"\n           failed: {test}" for test in tests["failed"])
        for lost in content.get("failures", []):
            note += "\n           " + " ".join(str(value) for value in lost.values())[:300]
        lines.append(f"{name:8} {content['status']:12} {content['seconds']:6.1f} s  {note}")
    results = found.get("fast", {}).get("results", [])
    rivals = {
        "imperative": "imperative",
        "the imperative round in a CUDA graph": "imperative-cuda-graph",
        "torch.compile": "torch.compile",
        "jax.jit": "jax",
    }
    lines.append("times as fast as fgan.compile is:")
    for title, rival in rivals.items():
        ratios = [
            f"{result['workload']} {result['recipe']} "
            f"{result['rows'][rival]['median_ms'] / result['rows']['fgan.compile']['median_ms']:.2f}"
            for result in results
            if rival in result["rows"]
        ]
        lines.append(f"  {title}: {', '.join(ratios) or 'not measured'}")
    shares = [
        f"batch {row['batch_size']} {row['precision']} {row['fgan.compile']['share_of_bf16_rate']:.2f}"
        for row in found.get("big", {}).get("rows", [])
    ]
    lines.append(f"share of the bf16 rate, residual pair: {', '.join(shares) or 'not measured'}")
    row = found.get("many", {}).get("row", {})
    if {"imperative, one by one", "population, fgan.compile"} <= row.keys():
        ratio = row["imperative, one by one"] / row["population, fgan.compile"]
        lines.append(f"a population of {row['members']} against one by one: {ratio:.1f}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the stages, or one of them as a child of the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu-results"))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--minutes", type=float, help="limit in all (default: the stages' limits)")
    parser.add_argument("--dry-run", action="store_true", help="a toy size, on the CPU")
    parser.add_argument("--child", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--ahead", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ahead:
        ahead(options.ahead)
        return 0
    if options.child:
        STAGES[options.child].run(Record(options.out / f"{options.child}.json"), options.dry_run)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    begin, tee = time.perf_counter(), Tee(options.out / "log.txt")
    scale = 5.0 if options.dry_run else 1.0  # a toy's time is that of a compiler on few cores
    if options.minutes:
        scale = 60 * options.minutes / sum(STAGES[name].limit_s for name in options.stages)
    with tempfile.TemporaryDirectory() as cache:
        paths = [str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]
        environment = {
            "TORCHINDUCTOR_CACHE_DIR": cache,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
        }
        later = {"fast", "big"} & set(options.stages)
        compiling = compile_ahead(environment, tee) if later and not options.dry_run else None
        for name in options.stages:
            if name != "right" and compiling is not None:
                compiling.join(60)  # nothing else runs while rounds are timed
            limit = scale * STAGES[name].limit_s
            run_stage(name, limit, options.out, options.dry_run, environment, tee)
    tee.write(summary(options.out, options.stages))
    tee.write(f"{time.perf_counter() - begin:.0f} s in all; results in {options.out}\n")
    tee.flush()
    records = [Record(options.out / f"{name}.json").content for name in options.stages]
    return int(any(record["status"] != "passed" for record in records))


if __name__ == "__main__":
    sys.exit(main())
