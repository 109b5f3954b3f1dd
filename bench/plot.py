"""The README's plots from bench/results: rounds per imperative round, and how rounds grow.

python bench/plot.py        # needs the extra `plots`
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
COLORS = {
    "imperative": "black",
    "eager": "tab:gray",
    "torch.compile": "tab:orange",
    "jax": "tab:green",
    "fgan.compile": "tab:blue",
}


def main() -> None:
    """Draw results/rounds-DEVICE.json and results/growth-DEVICE.json beside them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    draw_rounds(RESULTS / f"rounds-{options.device}.json")
    draw_growth(RESULTS / f"growth-{options.device}.json")


def draw_rounds(source: Path) -> None:
    """How many rounds each contestant plays in the time of an imperative one."""
    results = json.loads(source.read_text())["results"]
    workloads = list(dict.fromkeys(result["workload"] for result in results))
    figure, panels = plt.subplots(
        1, len(workloads), figsize=(9, 2.8), sharey=True, layout="constrained", squeeze=False
    )
    panels = panels[0]
    for panel, name in zip(panels, workloads, strict=True):
        chosen = [result for result in results if result["workload"] == name]
        for place, result in enumerate(chosen):
            base = result["rows"]["imperative"]["median_ms"]
            ways = [way for way in list(COLORS)[1:] if way in result["rows"]]
            for index, way in enumerate(ways):
                height = base / result["rows"][way]["median_ms"]
                at = place + (index - (len(ways) - 1) / 2) / 5
                panel.bar(at, height, 0.2, color=COLORS[way], label=way)
        panel.axhline(1, color="black", linewidth=0.8)
        recipes = [result["recipe"] for result in chosen]
        panel.set_xticks(range(len(chosen)), recipes, fontsize=8)
        panel.set_title(name)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("rounds per imperative round")
    bars = {
        way: bar
        for panel in panels
        for bar, way in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        bars.values(), bars.keys(), loc="outside upper center", ncols=len(bars), frameon=False
    )
    figure.savefig(source.with_suffix(".png"), dpi=120)


def draw_growth(source: Path) -> None:
    """Milliseconds per round against batch size, critic updates, width and depth."""
    rows = json.loads(source.read_text())["rows"]
    sweeps = list(dict.fromkeys(row["what"] for row in rows))
    figure, panels = plt.subplots(
        1, len(sweeps), figsize=(9, 2.6), sharey=True, layout="constrained"
    )
    for panel, what in zip(panels, sweeps, strict=True):
        chosen = [row for row in rows if row["what"] == what]
        values = [row["value"] for row in chosen]
        for way in ("imperative", "torch.compile", "fgan.compile"):
            times = [row[way] for row in chosen]
            panel.loglog(values, times, "o-", color=COLORS[way], label=way)
        panel.set_xticks(values, values)
        panel.minorticks_off()
        panel.set_xlabel(what)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("ms per round")
    panels[0].legend(frameon=False)
    figure.savefig(source.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
