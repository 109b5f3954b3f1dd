"""The table of `quality.py`, in Markdown."""

import statistics
from collections.abc import Sequence
from typing import Any

from quality_players import WAYS
from quality_setups import CONTESTANTS, PAPERS, Preset

NAMES = [*CONTESTANTS, *PAPERS]

COLUMNS = {
    "fid": "FID",
    "frechet_distance": "Fréchet",
    "sliced_wasserstein": "sliced W1",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "label_accuracy": "label accuracy",
    "modes_covered": "modes",
    "high_quality": "high quality",
}
Row = dict[str, Any]


def report(rows: Sequence[Row], preset: Preset) -> str:
    """Mean ± standard deviation over the seeds of every recipe, way and budget."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if "way" in row:
            budget = ", ".join(f"{name} {value:g}" for name, value in row["budget"].items())
            key = (row["recipe"], row["conditional"], row["way"], budget)
            groups.setdefault(key, []).append(row)
    known = [n for n in COLUMNS if any(n in row["figures"] for row in rows)]
    head = ["recipe", "", "way", "budget", "seeds", "rounds", "core s"]
    has_bar = preset.frechet > 0
    head += [COLUMNS[name] for name in known] + ["s to the bar"] * has_bar + ["ρ"]
    lines = [_line(head), _line(["---"] * len(head))]
    for recipe, conditional, way, budget in sorted(groups, key=_place):
        group = groups[recipe, conditional, way, budget]
        cells = [recipe, "conditional" if conditional else "unconditional", way, budget]
        cells += [str(len(group)), _spread([r["rounds"] for r in group], ".0f")]
        cells.append(_spread([r["core_seconds"] for r in group], ".3g"))
        cells += [_spread([r["figures"].get(name) for r in group], ".3g") for name in known]
        cells += [_to_bar(group, preset)] * has_bar
        cells.append(_spread([correlation(r["curve"]) for r in group], ".2f"))
        lines.append(_line(cells))
    for row in rows:
        if row["recipe"] == "real":
            found = [_spread([row["figures"].get(name)], ".3g") for name in known]
            lines.append(_line(["real samples", *[""] * 6, *found, *[""] * (1 + has_bar)]))
    bar = f"Fréchet ≤ {preset.frechet:g}, label accuracy ≥ {preset.label_accuracy:g}"
    notes = f"s to the bar: core seconds of training until {bar} (2,000 samples); " * has_bar
    notes += (
        "ρ: Spearman's correlation of the critic's distance and the measured one along the run."
    )
    return "\n".join([*lines, "", notes])


def _place(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where a row stands: conditional runs first, the command line's before the papers'."""
    recipe, conditional, way, budget = key
    return recipe in PAPERS, not conditional, WAYS.index(way), NAMES.index(recipe), budget


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float | None], style: str) -> str:
    """Mean ± standard deviation; nothing where a run has no such figure."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = format(statistics.mean(known), style)
    is_one = len(set(known)) == 1  # run or value, without a spread
    return mean if is_one else f"{mean} ± {statistics.stdev(known):.2g}"


def reached(curve: Sequence[Row], preset: Preset) -> Row | None:
    """The first evaluation within the bars of the preset; None where there is none."""
    for row in curve:
        accuracy = row.get("label_accuracy", 1.0)
        distance = row.get("frechet_distance", row.get("fid", float("inf")))
        if distance <= preset.frechet and accuracy >= preset.label_accuracy:
            return row
    return None


def _to_bar(group: Sequence[Row], preset: Preset) -> str:
    known = [reached(row["curve"], preset) for row in group]
    there = [row["core_seconds"] for row in known if row is not None]
    if not there:
        return "not reached"
    count = "" if len(there) == len(group) else f" ({len(there)} of {len(group)})"
    return _spread(there, ".3g") + count


def correlation(curve: Sequence[Row]) -> float | None:
    """Spearman's rank correlation of the critic's distance and the measured one over a run."""
    names = ("fid", "frechet_distance")
    measured = [next((row[n] for n in names if n in row), None) for row in curve]
    pairs = [(m, row["critic_distance"]) for m, row in zip(measured, curve, strict=True) if m]
    if len(pairs) < 3:
        return None
    ranks = [_ranks([pair[i] for pair in pairs]) for i in (0, 1)]
    return statistics.correlation(*ranks)


def _ranks(values: Sequence[float]) -> list[float]:
    """The mean rank of equal values."""
    order = sorted(values)
    return [order.index(value) + (order.count(value) - 1) / 2 for value in values]
