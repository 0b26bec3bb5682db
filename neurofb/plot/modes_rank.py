"""What linear networks learn against the rank of their feedback."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.modes import MARKERS, THEORY, seed_handles
from neurofb.plot.study import require
from neurofb.plot.style import axis_label, context, rule_colours, tidy


def modes_against_rank(dataset: xr.Dataset, measures: Sequence[str]) -> Figure:
    """Draw measures of what was learned against the rank of the feedback, a panel a measure.

    Markers are seeds, lines join their medians, a colour a rule; dashed is theory, the
    median of the seeds. A rule with one condition, at the largest rank while others stand at lower
    ones, such as BP, is a horizontal line.

    Parameters
    ----------
    dataset
        The measures (condition, seed), the same under the name with ``_theory`` or not, and the
        coordinates `rule` and `rank` (condition).
    measures
        Names of variables.

    Raises
    ------
    ValueError
        If a variable or dim is missing, or `measures` is empty.

    Examples
    --------
    >>> made = xr.Dataset({"loss": (("condition", "seed"), [[9.0], [1.0], [2.0]])})
    >>> named = made.assign_coords(condition=["BP", "LDFA r=2", "LDFA r=4"], seed=[0])
    >>> named = named.assign_coords(rule=("condition", ["BP", "LDFA", "LDFA"]))
    >>> named = named.assign_coords(rank=("condition", [4, 2, 4]))
    >>> modes_against_rank(named, ["loss"]).axes[0].get_ylabel()
    'loss'
    """
    if not measures:
        raise ValueError(f"measures={tuple(measures)!r} is empty; name at least one measure")
    require(dataset, *measures, "rule", "rank")
    rules = list(dict.fromkeys(str(rule) for rule in dataset["rule"].values))
    colours = rule_colours(xr.Dataset(coords={"rule": rules}))
    with context():
        figure = Figure(figsize=(0.6 + 2.6 * len(measures), 3.4), layout="constrained")
        grid = figure.subplots(1, len(measures), squeeze=False)[0]
        for axes, measure in zip(grid, measures, strict=True):
            ranks = sorted({int(rank) for rank in dataset["rank"].values})
            for rule in rules:
                one = dataset.isel(condition=np.flatnonzero(dataset["rule"].values == rule))
                alone = one.sizes["condition"] == 1
                across = alone and ranks[0] < int(one["rank"].values[0]) == ranks[-1]
                _draw_rule(axes, one.sortby("rank"), measure, colours[rule], across)
            axes.set_xscale("log")
            axes.set_xticks(ranks, [str(rank) for rank in ranks])
            axes.set_xticks([], minor=True)
            axes.set_ylim(0, None)
            axes.set_xlabel("rank of the feedback (log scale)")
            axes.set_ylabel(axis_label(dataset[measure], width=36))
            tidy(axes)
        handles = [Line2D([], [], color=colours[rule], label=rule) for rule in rules]
        handles += seed_handles(dataset)
        if any(f"{measure}_theory" in dataset for measure in measures):
            handles.append(Line2D([], [], label="theory (median of the seeds)", **THEORY))
        figure.legend(handles=handles, loc="outside lower center", ncols=3 + len(measures) // 2)
    return figure


def _draw_rule(axes: Axes, one: xr.Dataset, measure: str, colour: str, across: bool) -> None:
    """Draw one rule's conditions in one panel of `modes_against_rank`."""
    values = one[measure].transpose("condition", "seed")
    middle = values.median("seed").values
    if across:
        axes.axhline(float(middle[0]), color=colour, linewidth=0.9, alpha=0.7)
    axes.plot(one["rank"], middle, color=colour)
    for i in range(values.sizes["seed"]):
        style: dict[str, Any] = {"edgecolor": "white", "linewidths": 0.3, "zorder": 3}
        marker = MARKERS[i % 7]
        place = one["rank"] * 1.05 ** (i - (values.sizes["seed"] - 1) / 2)  # side by side
        axes.scatter(place, values.isel(seed=i), s=13, color=colour, marker=marker, **style)
    if f"{measure}_theory" in one:
        theory = one[f"{measure}_theory"].median("seed")
        if across:
            axes.axhline(float(theory[0]), gid="theory", zorder=4, **THEORY)
        elif theory.size == 1:  # a point has no dashes: a short line
            place = float(one["rank"].values[0]) * np.array([0.8, 1.25])
            axes.plot(place, [float(theory[0])] * 2, gid="theory", zorder=4, **THEORY)
        else:
            axes.plot(one["rank"], theory, gid="theory", zorder=4, **THEORY)
