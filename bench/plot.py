"""The README's plot: how many times faster than the imperative round, from bench/results.

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
    "eager": "tab:gray",
    "torch.compile": "tab:orange",
    "jax": "tab:green",
    "fgan.compile": "tab:blue",
}


def main() -> None:
    """Draw results/rounds-DEVICE.json beside it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    source = RESULTS / f"rounds-{options.device}.json"
    results = json.loads(source.read_text())["results"]
    workloads = list(dict.fromkeys(result["workload"] for result in results))
    figure, panels = plt.subplots(
        1, len(workloads), figsize=(9, 2.8), sharey=True, layout="constrained"
    )
    for panel, name in zip(panels, workloads, strict=True):
        chosen = [result for result in results if result["workload"] == name]
        for place, result in enumerate(chosen):
            base = result["rows"]["imperative"]["median_ms"]
            ways = [way for way in COLORS if way in result["rows"]]
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


if __name__ == "__main__":
    main()
