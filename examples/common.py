"""What the scripts of the story share: their command line, and the look of their figures.

Every script has three functions. `measure(quick)` runs the experiment and returns a NamedTuple,
`draw(found)` makes one figure of it, and `check(found)` asserts the claim with a margin.
"""

import argparse
import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # figures go to files, so no display is needed

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

FIGURES = Path(__file__).parent / "figures"

plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": "medium",
        "font.size": 9,
        "legend.frameon": False,
    }
)

REAL, FAKE = "tab:blue", "tab:orange"
# One colour for each method, the same in all figures.
COLORS = {
    "gan": "tab:gray",
    "wgan": "tab:green",
    "wgan-gp": "tab:red",
    "wgan-div": "tab:purple",
}


def main(
    measure: Callable[[bool], Any], draw: Callable[[Any], Figure], check: Callable[[Any], None]
) -> Any:
    """Measure, draw, insist on the claim; what was drawn is there to look at if it fails.

    Returns what `measure` found.
    """
    script = Path(inspect.getfile(measure))
    parser = argparse.ArgumentParser(description=(inspect.getmodule(measure).__doc__ or "").strip())
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a first look")
    parser.add_argument(
        "--figure",
        type=Path,
        help=f"where to draw; default: figures/{script.stem}.png, nowhere with --quick",
    )
    options = parser.parse_args()
    begin = time.perf_counter()
    found = measure(options.quick)
    for name, value in found._asdict().items():
        if isinstance(value, float | int):
            print(f"{name:>36}  {value:.4g}")
    figure = options.figure or (None if options.quick else FIGURES / f"{script.stem}.png")
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        draw(found).savefig(figure)
        print(f"drawn: {figure}")
    check(found)
    print(f"the claim holds ({time.perf_counter() - begin:.0f} s)")
    return found
