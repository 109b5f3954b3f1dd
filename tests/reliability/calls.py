"""Fuzzed calls: public functions with right, odd and wrong arguments, each outcome classified.

    python tests/reliability/calls.py                # 3000 calls, the table, and the worst
    python tests/reliability/calls.py --only 1234    # one call, its outcome and the traceback
    python tests/reliability/calls.py --label scores # the calls whose label matches

Call number i depends on i alone. An eighth of the calls are right, three quarters have one wrong or
odd argument, and the others two. See `fuzz_core` for the meaning of the four outcomes.
"""

import argparse
import faulthandler
import random
import re
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
from fuzz_all import mutations, targets
from fuzz_core import (
    KINDS,
    OBSCURE,
    SILENT,
    Mutation,
    Outcome,
    Target,
    first_line,
    outcome_of,
    told,
)

NAME = "fuzzed calls"
COUNT = 3200
HANGS_AFTER = 60
"""Seconds, of one call."""


@cache
def _mutations(index: int) -> list[Mutation]:
    return list(mutations(targets()[index]))


def call(number: int) -> tuple[Target, list[Mutation]]:
    """The call of that number."""
    source = random.Random(number)
    everything = targets()
    # Functions that compile or train are called less often.
    while everything[index := source.randrange(len(everything))].slow and source.random() < 0.7:
        pass
    choice = source.random()
    known = _mutations(index)
    chosen: list[Mutation] = []
    if choice > 0.125:
        arguments = sorted({m.argument for m in known})  # so that states do not outnumber the rest
        names = source.sample(arguments, 1 if choice < 0.875 else min(2, len(arguments)))
        chosen = [source.choice([m for m in known if m.argument == name]) for name in names]
    return everything[index], chosen


def label_of(target: Target, chosen: list[Mutation]) -> str:
    """What a call is, in words."""
    return f"{target.name}({', '.join(f'{m.argument}: {m.label}' for m in chosen) or 'right'})"


def outcomes(numbers: range) -> list[tuple[int, str, Outcome]]:
    """The outcomes of calls by their numbers, in this process."""
    found = []
    for number in numbers:
        target, chosen = call(number)
        found.append((number, label_of(target, chosen), outcome_of(target, chosen)))
    return found


def crashes(count: int) -> list[int]:
    """The calls among the first `count` at which a process of its own died or hung."""
    found, start = [], 0
    while start < count:
        command = [sys.executable, __file__, "--serve", str(start), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = [int(line) for line in done.stdout.split() if line.isdigit()]
        if done.returncode == 0:
            break
        start = (last[-1] if last else start) + 1
        found.append(start - 1)
    return found


def _serve(start: int, stop: int) -> None:
    for number in range(start, stop):
        print(number, flush=True)
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        outcome_of(*call(number))
        faulthandler.cancel_dump_traceback_later()


def run(count: int = COUNT) -> list[tuple[str, int, int, str]]:
    """(label, passed, total, remark) for each promise about the first `count` calls."""
    torch.set_num_threads(1)
    found = outcomes(range(count))
    kinds = Counter(outcome.kind for _, _, outcome in found)
    remark = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS)
    numbers = {
        kind: " ".join(f"--only {n}" for n, _, o in found if o.kind == kind)[:60] for kind in KINDS
    }
    dead = crashes(count)
    return [
        ("calls not silently wrong", count - kinds[SILENT], count, f"{remark} {numbers[SILENT]}"),
        ("calls not obscure", count - kinds[OBSCURE], count, numbers[OBSCURE]),
        ("calls without crash or hang", count - len(dead), count, " ".join(map(str, dead[:5]))),
    ]


def _print_table(found: list[tuple[int, str, Outcome]], seconds: float) -> None:
    kinds = Counter(outcome.kind for _, _, outcome in found)
    print(f"{len(found)} calls in {seconds:.1f} s")
    for kind in KINDS:
        print(f"  {kind:8} {kinds[kind]:5}")
    for kind in (SILENT, OBSCURE):
        print(f"\n{kind}")
        for number, label, outcome in found:
            if outcome.kind == kind:
                print(f"{number:6} {label}\n       {outcome.remark}; {first_line(outcome)}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--only", type=int, help="print the call of this number")
    parser.add_argument("--label", help="only calls whose label matches")
    parser.add_argument("--serve", type=int, nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.serve:
        _serve(*chosen.serve)
    elif chosen.only is not None:
        target, mutated = call(chosen.only)
        outcome = outcome_of(target, mutated)
        print(f"{chosen.only}: {label_of(target, mutated)}\n{outcome.kind} {outcome.remark}")
        print(told(outcome))
    else:
        begun = time.perf_counter()
        found = outcomes(range(chosen.count))
        if chosen.label:
            found = [row for row in found if re.search(chosen.label, row[1])]
        _print_table(found, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
