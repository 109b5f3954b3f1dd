"""All that a GPU can tell about fgan, in one run of under ten minutes, most important first.

    python bench/gpu.py --out results                  # every stage
    python bench/gpu.py --out results --stages fast big
    python bench/gpu.py --out results --dry-run        # every stage at a toy size, on the CPU

Each stage (`gpu_stages.py`) is a process of its own with a time limit. It prints to the standard
output and writes `STAGE.json`; a stage that fails or runs out of time keeps what it has and says
so. `log.txt` has the whole output. fgan is taken from the working tree, and nothing is downloaded.
README.md beside this file says what each stage does.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpu_stages import STAGES, Record, ahead, ahead_jobs

HERE = Path(__file__).resolve().parent
OURS = "fgan.compile"
AHEAD_S = 150
"""The longest that one job of `compile_ahead` may take."""


class Tee:
    """Writes to the standard output and to a file."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w")

    def write(self, text: str) -> None:
        """At once, so that a run that is cut off keeps its output."""
        for target in (sys.stdout, self.file):
            target.write(text)
            target.flush()


def compile_ahead(
    jobs: list[list[str]], environment: dict[str, str], tee: Tee
) -> list[tuple[str, Future[None]]]:
    """Fill the compilers' caches in the background, since compiling takes most of a run's time.

    As many jobs at a time as there are processors, at a low priority, each with the stage that
    it is for: a stage waits for its own.
    """
    own = environment | {"TORCHINDUCTOR_COMPILE_THREADS": "4", "OMP_NUM_THREADS": "2"}

    def run(job: list[str]) -> None:
        command = ["nice", "-n", "5", sys.executable, __file__, "--ahead", *job]
        begin = time.perf_counter()
        try:
            done = subprocess.run(
                command, env=own, check=False, capture_output=True, text=True, timeout=AHEAD_S
            )
            status, errors = str(done.returncode), done.stderr[-2000:]
        except subprocess.TimeoutExpired:
            status, errors = "out of time", ""
        spent = time.perf_counter() - begin
        tee.write(f"[compiled] {' '.join(job)}: {spent:.0f} s, status {status}\n")
        tee.write(errors if status != "0" else "")

    pool = ThreadPoolExecutor(os.cpu_count())
    return [(job[0], pool.submit(run, job)) for job in jobs]


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

    reader = threading.Thread(target=copy, daemon=True)
    reader.start()
    try:
        status = "passed" if child.wait(limit) == 0 else "failed"
    except subprocess.TimeoutExpired:
        status = "out of time"
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    reader.join(5)
    record = Record(path)
    record["seconds"] = round(time.perf_counter() - begin, 1)
    record["status"] = status


def summary(found: dict[str, Any]) -> str:
    """What passed, what failed, and the ratios that matter, on one screen."""
    lines = ["", "=== summary ==="]
    for name, content in found.items():
        lines.append(f"{name:8} {content['status']:12} {content['seconds']:6.1f} s")
        if tests := content.get("tests"):
            lines.append(f"         {tests['passed']} passed, {tests['skipped']} skipped")
            lines += [f"         failed: {test}" for test in tests["failed"]]
        lines += [f"         failed: {json.dumps(lost)[:300]}" for lost in content.get("lost", [])]
    results = found.get("fast", {}).get("results", [])
    rivals = {
        "the imperative round": "imperative",
        "the imperative round in a CUDA graph": "imperative-cuda-graph",
        "torch.compile": "torch.compile",
        "jax.jit": "jax",
    }
    for title, rival in rivals.items():
        rows = [result for result in results if {rival, OURS} <= result["rows"].keys()]
        ratios = [
            f"{row['workload']} {row['recipe']} {ratio(row['rows'], rival):.2f}" for row in rows
        ]
        lines.append(f"{title} / fgan.compile: {', '.join(ratios) or 'not measured'}")
    shares = [
        f"batch {row['batch_size']} {row['precision']} {row[OURS]['share_of_bf16_rate']:.2f}"
        for row in found.get("big", {}).get("rows", [])
    ]
    lines.append(f"share of the bf16 rate, residual pair: {', '.join(shares) or 'not measured'}")
    row = found.get("many", {}).get("row", {})
    if {"imperative, one by one", "population, fgan.compile"} <= row.keys():
        gain = row["imperative, one by one"] / row["population, fgan.compile"]
        lines.append(f"one by one / a compiled population of {row['members']}: {gain:.1f}")
    return "\n".join(lines) + "\n"


def ratio(rows: dict[str, Any], rival: str) -> float:
    """How many compiled rounds are played in the time of one of a rival's."""
    return float(rows[rival]["median_ms"] / rows[OURS]["median_ms"])


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
        paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
        environment = {
            "TORCHINDUCTOR_CACHE_DIR": cache,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "JAX_COMPILATION_CACHE_DIR": str(Path(cache) / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
        }
        jobs = [] if options.dry_run else ahead_jobs(options.stages)
        compiling = compile_ahead(jobs, environment, tee)
        for name in options.stages:
            limit = scale * STAGES[name].limit_s
            begun = time.perf_counter()
            wait([job for stage, job in compiling if stage == name], limit / 2)
            left = limit - (time.perf_counter() - begun)  # the wait counts
            run_stage(name, left, options.out, options.dry_run, environment, tee)
    found = {name: Record(options.out / f"{name}.json").content for name in options.stages}
    tee.write(summary(found))
    tee.write(f"{time.perf_counter() - begin:.0f} s in all; results in {options.out}\n")
    return int(any(content["status"] != "passed" for content in found.values()))


if __name__ == "__main__":
    sys.exit(main())
