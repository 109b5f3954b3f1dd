"""The reliability drills, and one table of what held.

    python tests/reliability                      # all, in full: some minutes
    python tests/reliability kills power          # those of some modules
    python tests/reliability --count 8            # fewer tries of each kind
    python tests/reliability --out results.json   # where the figures go

A drill is a module of this folder with a NAME, a function `run(count)` that returns rows (label,
how often it held, how often it was tried, a remark), and, where 100 is not its number of tries in
full, a COUNT. Exits with 1 if anything did not hold.
"""

import argparse
import importlib
import json
import os
import platform
import signal
import sys
import time
import traceback
from pathlib import Path

# Before torch is imported: the drills fork, and a fork must not find threads of torch.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell ignores Ctrl-C in what it starts in the background, and so would the runs of the drills.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

SUPPORT = {"__main__", "runs", "hooks", "images"}


def drills(chosen):
    """The modules with drills, by file name."""
    for path in sorted(HERE.glob("*.py")):
        if path.stem in SUPPORT or path.stem.startswith("test_"):
            continue
        if chosen and path.stem not in chosen:
            continue
        module = importlib.import_module(path.stem)
        if hasattr(module, "NAME") and hasattr(module, "run"):
            yield module


def table(rows):
    """The rows as a markdown table."""
    lines = ["| drill | what has to hold | held | tried |", "|---|---|---|---|"]
    for name, label, held, tried, remark in rows:
        lines.append(f"| {name} | {label}{f' ({remark})' if remark else ''} | {held} | {tried} |")
    return "\n".join(lines)


def passed(name, label, held, tried, remark):
    """Whether a row held; one without a try says why it was skipped."""
    return held == tried and (tried > 0 or remark.startswith(("skipped", "float32")))


def main():
    """Run the drills and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drills", nargs="*", help="file names without .py (default: all)")
    parser.add_argument("--count", type=int, help="tries of each kind (default: each module's)")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    if unknown := set(options.drills) - {path.stem for path in HERE.glob("*.py")}:
        parser.error(f"there is no drill {', '.join(sorted(unknown))}")
    import torch

    rows, seconds = [], {}
    for module in drills(options.drills):
        began = time.monotonic()
        count = options.count or getattr(module, "COUNT", 100)
        try:
            rows += [(module.NAME, *row) for row in module.run(count)]
        except Exception:  # the other drills go on
            traceback.print_exc()
            rows.append((module.NAME, "the drill itself ran", 0, 1, ""))
        seconds[module.NAME] = round(time.monotonic() - began, 1)
        print(f"{module.NAME}: {seconds[module.NAME]} s", file=sys.stderr, flush=True)
    print(table(rows))
    if options.out:
        keys = ("drill", "label", "held", "tried", "remark")
        content = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            "seconds": seconds,
            "rows": [dict(zip(keys, row, strict=True)) for row in rows],
        }
        options.out.write_text(json.dumps(content, indent=2) + "\n")
    return int(not rows or not all(passed(*row) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
