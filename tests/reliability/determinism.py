"""What changes the bits of a run, and what does not.

Each row compares the states of twenty rounds of one algorithm under two conditions: once more in
the same process, in another process, with one thread and with two, eager and compiled, with another
version of torch, on the CPU and on CUDA, on CUDA with deterministic algorithms. A comparison is bit
for bit; where the bits differ, the remark is the largest relative difference of a leaf, by its
largest element, in float32 and in float64.

A row passes if the bits are those that fgan promises: the same seed gives the same bits on one
machine, with one version of torch and as many threads. All other rows only measure; for them, a
difference is no failure, and the bound is that of rounding in float64.

    FGAN_OTHER_PYTHON=/path/to/python python tests/reliability/determinism.py

measures another version of torch too: that of another Python.
"""

import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import fgan
from fgan import tree

NAME = "determinism"
ROUNDS, BATCH, LATENT, SHAPE = 20, 64, 16, (1, 28, 28)
COUNT = ROUNDS  # not the 100 of the other drills: in float32 a difference grows with the rounds
ROUNDING = 1e-9
"""Of a leaf's largest element, after all rounds in float64."""


def final(compiled: bool, dtype: torch.dtype, device: str, rounds: int) -> dict[str, torch.Tensor]:
    """The leaves of the state after some rounds of a conditional WGAN-GP on digits.

    The networks have no BatchNorm: the gradient of a bias before it is zero but for rounding, and
    Adam makes steps of full size of that, so such leaves would differ by as much as they hold.
    """
    generator = fgan.models.conv_generator(SHAPE, LATENT, 10, width=16, norm="none")
    critic = fgan.models.conv_critic(SHAPE, num_classes=10, width=16)
    networks = generator.to(device, dtype), critic.to(device, dtype)
    algorithm = fgan.wgan_gp(*networks, n_critic=2, ema_decay=0.9)
    if compiled:
        algorithm = fgan.compile(algorithm)
    state = algorithm.init(0)
    batches = fgan.data.batches("glyphs", BATCH, 2, rounds, seed=0, device=device)
    for index, batch in enumerate(batches):
        given = batch._replace(real=batch.real.to(dtype))
        # Drawn on the CPU, so that every device has the same noise.
        noise = algorithm.noise(0, index, BATCH, device="cpu")
        state, _ = algorithm.step(state, given, tree.map(lambda x: x.to(device), noise))
    return {name: leaf.cpu().clone() for name, leaf in tree.named_leaves(state).items()}


def elsewhere(
    python: str = sys.executable,
    *,
    compiled: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
    threads: int = 1,
    deterministic: bool = False,
    rounds: int = ROUNDS,
) -> dict[str, torch.Tensor]:
    """`final` in a process of its own."""
    given = [str(int(compiled)), dtype, device, str(threads), str(int(deterministic)), str(rounds)]
    variables = {"OMP_NUM_THREADS": str(threads), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    root = str(Path(fgan.__file__).resolve().parents[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "leaves.pt"
        subprocess.run(
            [python, __file__, "--child", *given, str(path)],
            check=True,
            env=os.environ | variables | {"PYTHONPATH": root},
        )
        return torch.load(path, weights_only=True)


def child(compiled, dtype, device, threads, deterministic, rounds, path):
    """What the process of `elsewhere` does."""
    torch.set_num_threads(int(threads))
    if deterministic == "1":
        torch.use_deterministic_algorithms(True)
    leaves = final(compiled == "1", getattr(torch, dtype), device, int(rounds))
    torch.save(leaves, path)


def difference(first, second):
    """0.0 for the same bits; else the largest difference of a leaf, by its largest element."""
    assert first.keys() == second.keys()
    worst = 0.0
    for name, leaf in first.items():
        other = second[name]
        if torch.equal(leaf, other):
            continue
        size = leaf.double().abs().max()
        found = float((leaf.double() - other.double()).abs().max() / size)
        worst = max(worst, math.inf if math.isnan(found) else found)
    return worst


def same(label, first, second):
    """A row that passes if the bits are the same."""
    found = difference(first, second)
    return label, int(found == 0), 1, "same bits" if found == 0 else f"differs by {found:.1e}"


def measured(label, pairs):
    """A row that passes if the difference in float64 is one of rounding."""
    found = {dtype: difference(*pair) for dtype, pair in pairs.items()}
    remarks = [
        f"{dtype}: {'same bits' if value == 0 else f'differs by {value:.1e}'}"
        for dtype, value in found.items()
    ]
    tried = int("float64" in found)  # float32 alone has no bar
    return label, int(bool(tried) and found["float64"] <= ROUNDING), tried, ", ".join(remarks)


def run(count=ROUNDS):
    """(label, passed, 1, remark) for each comparison, after `count` rounds."""
    kept = {}

    def of(**options):
        key = tuple(sorted(options.items()))
        if key not in kept:
            kept[key] = elsewhere(rounds=count, **options)
        return kept[key]

    def both(**options):
        """A condition beside one thread of the CPU, in both dtypes."""
        return {d: (of(dtype=d), of(dtype=d, **options)) for d in ("float32", "float64")}

    rows = []
    for compiled in (False, True):
        way = "compiled" if compiled else "eager"
        twice = [final(compiled, torch.float32, "cpu", count) for _ in range(2)]
        rows.append(same(f"{way}: twice in one process", *twice))
        first, second = (elsewhere(rounds=count, compiled=compiled) for _ in range(2))
        rows.append(same(f"{way}: in two processes", first, second))
    rows.append(measured("eager and compiled", both(compiled=True)))
    rows.append(measured("1 thread and 2 threads, eager", both(threads=2)))
    if other := os.environ.get("FGAN_OTHER_PYTHON"):
        rows.append(measured(f"torch {torch.__version__} and that of {other}", both(python=other)))
    if torch.cuda.is_available():  # pragma: no cover (needs a GPU)
        rows += on_cuda(count, both)
    return rows


def on_cuda(count, both):  # pragma: no cover (needs a GPU)
    """The rows of a GPU."""
    rows = [measured("CPU and CUDA, eager", both(device="cuda"))]
    for compiled in (False, True):
        way = "compiled" if compiled else "eager"
        for deterministic in (False, True):
            options = {"device": "cuda", "compiled": compiled, "deterministic": deterministic}
            pair = elsewhere(rounds=count, **options), elsewhere(rounds=count, **options)
            label = f"CUDA, {way}, in two processes"
            if deterministic:
                rows.append(same(f"{label}, deterministic algorithms", *pair))
            else:
                rows.append(measured(label, {"float32": pair}))
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        for row in run():
            print(*row, sep=" | ")
