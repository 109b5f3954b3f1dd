"""Plausible mistakes: does the message name the argument, what was given, and what is expected?

    python tests/reliability/mistakes.py                 # 1400 mistakes, the share of poor messages
    python tests/reliability/mistakes.py --count 20000   # every mistake at every function and game
    python tests/reliability/mistakes.py --label latent  # the mistakes whose label matches

A mistake is one argument of a public function, replaced as users do it (`fuzz_tensors`,
`fuzz_values`, `fuzz_states`, `fuzz_objects`). Each mistake at each function comes once, in a game
chosen by a seed; then, if more are asked for, again in other games. Mistakes that are computed with
the right value (an array of labels where a tensor is expected, say) are not counted.
"""

import argparse
import random
import re
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
from fuzz_all import mutations, targets
from fuzz_core import NAMED, RIGHT, SILENT, Mutation, Outcome, Target, first_line, outcome_of, told

NAME = "plausible mistakes"
COUNT = 1400


def mistakes(count: int = COUNT) -> list[tuple[Target, Mutation]]:
    """`count` plausible mistakes, spread over functions, arguments and games."""
    groups: dict[tuple[str, str, str], list[tuple[Target, Mutation]]] = defaultdict(list)
    for target in targets():
        function = target.name.split(": ")[-1]
        for mutation in mutations(target):
            if mutation.plausible:
                key = function, mutation.argument, mutation.label
                groups[key].append((target, mutation))
    source = random.Random(22)
    for group in groups.values():
        source.shuffle(group)
    keys = sorted(groups)
    source.shuffle(keys)
    chosen: list[tuple[Target, Mutation]] = []
    depth = 0
    while len(chosen) < count and any(len(groups[key]) > depth for key in keys):
        chosen += [groups[key][depth] for key in keys if len(groups[key]) > depth]
        depth += 1
    return chosen[:count]


def label_of(target: Target, mutation: Mutation) -> str:
    """A mistake in words."""
    return f"{target.name}({mutation.argument}: {mutation.label})"


def outcomes(chosen: list[tuple[Target, Mutation]]) -> list[tuple[str, Outcome]]:
    """The outcome of each mistake."""
    return [(label_of(t, m), outcome_of(t, [m])) for t, m in chosen]


def run(count: int = COUNT) -> list[tuple[str, int, int, str]]:
    """(label, passed, total, remark): the mistakes whose message is good."""
    torch.set_num_threads(1)
    found = [row for row in outcomes(mistakes(count)) if row[1].kind != RIGHT]
    good = sum(outcome.kind == NAMED for _, outcome in found)
    silent = sum(outcome.kind == SILENT for _, outcome in found)
    poor = 100 * (1 - good / max(len(found), 1))
    return [
        ("mistakes with a good message", good, len(found), f"{poor:.1f} % poor, {silent} silent")
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--label", help="only mistakes whose label matches")
    parser.add_argument("--trace", action="store_true", help="with tracebacks")
    parser.add_argument("--all", action="store_true", help="list the good ones too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    chosen = mistakes(options.count)
    if options.label:
        chosen = [pair for pair in chosen if re.search(options.label, label_of(*pair))]
    found = outcomes(chosen)
    kinds = Counter(outcome.kind for _, outcome in found)
    counted = len(found) - kinds[RIGHT]
    poor = counted - kinds[NAMED]
    print(f"{len(found)} mistakes in {time.perf_counter() - begun:.1f} s: {dict(kinds)}")
    print(f"poor messages: {poor} of {counted}, {100 * poor / max(counted, 1):.1f} %\n")
    shown = (NAMED, RIGHT) if not options.all else ()
    for label, outcome in sorted(found, key=lambda row: (row[1].kind, row[0])):
        if outcome.kind not in shown:
            print(f"{outcome.kind} {label}\n    {outcome.remark}; {first_line(outcome)}")
            if options.trace:
                print(told(outcome))


if __name__ == "__main__":
    main()
