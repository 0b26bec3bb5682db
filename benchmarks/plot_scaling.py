"""Draw how the simulators of learning scale, from what their benchmarks wrote.

Reads the results whose `scaling` is a dict of series, each with the label of its axis, the unit of
its times and its rows: ``{"axis": "networks", "unit": "seconds an iteration", "rows": [{"value":
15, "ours": 0.01, "loop": 2.1}, …]}``; the names of the ways are free, and one may be missing in
some rows. Fitted power laws (`exponents.py`), where a series has them, are dashed, and the legend
says their exponents. A row of panels a result.

    python benchmarks/plot_scaling.py
    python benchmarks/plot_scaling.py --systems two_theories
"""

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

from machine import ROOT
from matplotlib.figure import Figure

from neurofb.plot.style import context, tidy

RESULTS = {
    "learning_dynamics": ("linear_network_time", "curl_descent_time", "lyapunov_time"),
    "two_theories": ("balanced_network_time", "tensor_amp_time"),
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def scaling_figure(results: list[dict[str, Any]]) -> Figure:
    """Return times against what grows, on logarithmic axes: a row a result, a panel a series.

    Raises
    ------
    ValueError
        If no result has a series.
    """
    results = [result for result in results if result.get("scaling")]
    if not results:
        raise ValueError("results hold no scaling")
    columns = max(len(result["scaling"]) for result in results)
    with context():
        has_fits = any(each.get("fits") for one in results for each in one["scaling"].values())
        size = (0.4 + (3.6 if has_fits else 2.6) * columns, 0.3 + 2.3 * len(results))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(results), columns, squeeze=False)
        for row, result in zip(grid, results, strict=True):
            for axes, series in zip(row, result["scaling"].values(), strict=False):
                _draw(axes, series)
            for axes in row[len(result["scaling"]) :]:
                axes.set_visible(False)
            row[0].set_title(result.get("name", ""), loc="left", fontweight="bold")
    return figure


def _draw(axes: Any, series: dict[str, Any]) -> None:
    """Draw one series."""
    rows = series["rows"]
    values = [row["value"] for row in rows]
    ways = dict.fromkeys(name for row in rows for name in row if name != "value")
    for way, colour in zip(ways, COLOURS, strict=False):
        points = [(row["value"], row[way]) for row in rows if way in row]
        fit, label = series.get("fits", {}).get(way), way
        if fit is not None:
            ends = fit["values"]
            line = [fit["factor"] * value ** fit["exponent"] for value in ends]
            axes.plot(ends, line, "--", color=colour, linewidth=2.5, alpha=0.4)
            label = f"{way}: {fit['exponent']:.2f}"
        axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values], fontsize=6.5)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(textwrap.fill(series["axis"], 28))
    axes.set_ylabel(textwrap.fill(series["unit"], 24))
    if series.get("fits"):
        axes.legend(title="way: exponent", loc="upper left", bbox_to_anchor=(1, 1))
    else:
        axes.legend()
    tidy(axes)


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, nargs="*", help="JSON files of benchmarks")
    parser.add_argument("--systems", choices=list(RESULTS), default="learning_dynamics")
    parser.add_argument("--out", type=Path, help="default: docs/<systems>_scaling.png")
    settings = parser.parse_args()
    folder = ROOT / "benchmarks/results"
    paths = settings.results or [folder / f"{name}.json" for name in RESULTS[settings.systems]]
    settings.out = settings.out or ROOT / f"docs/{settings.systems}_scaling.png"
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    with context():
        scaling_figure(found).savefig(settings.out, dpi=200, metadata={"Software": None})
    print(f"figure: {settings.out}")


if __name__ == "__main__":
    main()
