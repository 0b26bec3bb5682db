"""Variants of a method in rows, in groups: several measures side by side, every seed shown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.ssa import method_colour
from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, context, tidy

_DOT: dict[str, Any] = {"s": 14, "edgecolor": "white", "linewidths": 0.4, "zorder": 3}
_HEADING = 0.9


def grouped_rows(
    dataset: xr.Dataset,
    *,
    measures: Sequence[str] = ("test_accuracy",),
    reference: str = "",
    log: Sequence[str] = (),
    chance: float | None = None,
) -> Figure:
    """Draw measures (panels) of variants (rows) in groups, every seed shown.

    Dots are seeds, ticks means over seeds, with the mean beside it. The vertical line through a
    group is its reference. Runs that diverged have a cross at the left edge of the first panel, and
    when that was; where they have no value of a measure they have no dot.

    Parameters
    ----------
    dataset
        The measures over (condition, seed), `diverged_at` (condition, seed) if runs may diverge,
        and the coordinates `group` and `label` (condition): heading and name of a row. Groups keep
        their order.
    measures
        Panels.
    reference
        Label of the row of each group that its line stands for; "" draws none.
    log
        Measures on logarithmic axes.
    chance
        Accuracy of guessing, a dotted line in the first panel; None draws none.

    Raises
    ------
    ValueError
        If a variable, dim or coordinate is missing.

    Examples
    --------
    >>> values = {"test_accuracy": (("condition", "seed"), [[0.8, 0.9], [0.6, float("nan")]])}
    >>> names: dict = {"condition": ["a", "b"], "seed": [0, 1]}
    >>> names["label"] = ("condition", ["retract", "none"])
    >>> names["group"] = ("condition", ["SSA-DFA", "SSA-DFA"])
    >>> figure = grouped_rows(xr.Dataset(values, names), reference="retract")
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['SSA-DFA', 'retract', 'none']
    """
    require(dataset, *measures, "group", "label")
    groups = [str(name) for name in dataset["group"].values]
    labels = [str(name) for name in dataset["label"].values]
    heights, headings = _places(groups)
    bottom = max(heights) + 0.6
    with context():
        size = (2.2 + 2.4 * len(measures), 0.9 + 0.2 * bottom)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axes, measure in zip(grid, measures, strict=True):
            values = dataset[measure].transpose("condition", "seed").values
            if measure in log:
                axes.set_xscale("log")
            for group, height in headings.items():
                rows = [i for i, name in enumerate(groups) if name == group]
                _draw_reference(axes, values, rows, labels, heights, reference)
                for row in rows:
                    _draw_row(axes, values[row], heights[row], method_colour(group), labels[row])
                axes.axhline(height - 0.5, color="#dddddd", linewidth=0.7, zorder=0)
            axes.set_xlabel(axis_label(dataset[measure], width=34))
            tidy(axes)
        if chance is not None:
            style: dict[str, Any] = {"color": UNTRAINED_COLOUR, "linestyle": ":"}
            grid[0].axvline(chance, linewidth=1.2, zorder=0, **style)
        crossed = _draw_diverged(grid[0], dataset, heights)
        grid[0].set_ylim(bottom, -0.6)
        ticks = {**dict(zip(heights, labels, strict=True)), **{h: g for g, h in headings.items()}}
        grid[0].set_yticks(sorted(ticks), [ticks[height] for height in sorted(ticks)])
        for text, height in zip(grid[0].get_yticklabels(), sorted(ticks), strict=True):
            if height in headings.values():
                text.set_fontweight("bold")
        for axes in grid:
            axes.tick_params(axis="y", length=0)
        handles = _handles(reference, chance, crossed)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _places(groups: Sequence[str]) -> tuple[list[float], dict[str, float]]:
    """Return the height of each row, and of each group's heading."""
    heights, headings, height = dict.fromkeys(range(len(groups)), 0.0), {}, 0.0
    for group in dict.fromkeys(groups):
        headings[group] = height
        height += _HEADING
        for row in (i for i, name in enumerate(groups) if name == group):
            heights[row] = height
            height += 1.0
        height += 0.3
    return list(heights.values()), headings


def _draw_reference(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[int],
    labels: Sequence[str],
    heights: Sequence[float],
    reference: str,
) -> None:
    """Draw the mean of a group's reference as a line through its rows."""
    for row in (row for row in rows if labels[row] == reference):
        if np.isfinite(values[row]).any():
            ends = [heights[rows[0]] - 0.4, heights[rows[-1]] + 0.4]
            at = [np.nanmean(values[row])] * 2
            axes.plot(at, ends, color="#555555", linewidth=0.8, zorder=1, gid="reference")


def _draw_row(axes: Axes, seeds: np.ndarray, height: float, colour: str, label: str) -> None:
    """Draw one variant: seeds side by side, their mean and its number."""
    seeds = seeds[np.isfinite(seeds)]
    if not seeds.size:
        return
    spread = height + (np.linspace(-0.22, 0.22, seeds.size) if seeds.size > 1 else 0.0)
    axes.scatter(seeds, np.broadcast_to(spread, seeds.shape), color=colour, gid=label, **_DOT)
    mean = float(seeds.mean())
    axes.plot(mean, height, "|", color=colour, markersize=9, markeredgewidth=1.6)
    place = axes.get_yaxis_transform()
    axes.text(1.02, height, _number(mean), transform=place, va="center", fontsize=6.5)


def _draw_diverged(axes: Axes, dataset: xr.Dataset, heights: Sequence[float]) -> bool:
    """Mark runs that diverged, and tell whether there is any."""
    if "diverged_at" not in dataset:
        return False
    when = dataset["diverged_at"].transpose("condition", "seed").values
    place = axes.get_yaxis_transform()
    for row, height in zip(when, heights, strict=True):
        bad = row[np.isfinite(row)]
        if not bad.size:
            continue
        axes.plot(0.03, height, "x", color="#B00000", transform=place, markersize=6, gid="diverged")
        text = f"{bad.size} of {row.size} diverged by update {bad.max():.0f}"
        style: dict[str, Any] = {"color": "#B00000", "fontsize": 6.5, "va": "center"}
        style["bbox"] = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.6}
        axes.text(0.08, height, text, transform=place, **style)
    return bool(np.isfinite(when).any())


def _handles(reference: str, chance: float | None, crossed: bool) -> list[Line2D]:
    """Return the entries of the legend."""
    handles = [
        Line2D([], [], color="#555555", marker="o", markersize=4, linestyle="", label="seed"),
        Line2D([], [], color="#555555", marker="|", markersize=9, linestyle="", label="mean"),
    ]
    if reference:
        handles.append(Line2D([], [], color="#555555", linewidth=0.8, label=f"mean of {reference}"))
    if chance is not None:
        null: dict[str, Any] = {"color": UNTRAINED_COLOUR, "linestyle": ":", "label": "chance"}
        handles.append(Line2D([], [], **null))
    if crossed:
        cross: dict[str, Any] = {"marker": "x", "linestyle": "", "label": "diverged"}
        handles.append(Line2D([], [], color="#B00000", **cross))
    return handles


def _number(value: float) -> str:
    """Write a mean with as many digits as its size needs."""
    if value == round(value) and value >= 1:
        return f"{value:.0f}"
    if value == 0 or 0.01 <= abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.1e}" if abs(value) < 0.01 or abs(value) >= 1e4 else f"{value:.1f}"
