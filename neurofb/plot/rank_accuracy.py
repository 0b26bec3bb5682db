"""Rank of the error and accuracy: one against the other, and both over what was varied."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import (
    UNTRAINED_COLOUR,
    axis_label,
    context,
    panel_title,
    rule_colours,
    tidy,
)

_MARKERS = "os^DvP"
_FILLS: tuple[Any, ...] = ("none", "full", "left", "top", "bottom")
_NULL: dict[str, Any] = {"color": UNTRAINED_COLOUR, "linestyle": "--", "linewidth": 1.0}


def accuracy_against_error_rank(
    dataset: xr.Dataset,
    *,
    measures: Sequence[str] = ("error_rank", "error_rank_normalised"),
) -> Figure:
    """Draw test accuracy against the rank of one layer's error, a panel a measure of the rank.

    Each marker is a run: colours are rules, shapes optimisers, fillings normalisations. The dashed
    line is the accuracy of guessing, the grey band the range of ranks before training. A run
    without an accuracy, as one that diverged, is a cross on the lower edge.

    Parameters
    ----------
    dataset
        The measures and `test_accuracy` (rule, optimiser, normalisation, seed), the measures'
        values before training under their names with ``_start``, and `num_classes` as an attribute
        or not.
    measures
        Names of variables.

    Raises
    ------
    ValueError
        If a variable or dim is missing, or `measures` is empty.

    Examples
    --------
    >>> from neurofb.plot.example_rank import example_rank_study
    >>> study = example_rank_study().isel(layer=-1)
    >>> end = study.isel(epoch=-1).assign(error_rank_start=study.error_rank.isel(epoch=0))
    >>> figure = accuracy_against_error_rank(end, measures=("error_rank",))
    >>> figure.axes[0].get_ylabel()
    'test accuracy'
    """
    if not measures:
        raise ValueError(f"measures={tuple(measures)!r} is empty; name at least one measure")
    dims = ("rule", "optimiser", "normalisation", "seed")
    starts = [f"{measure}_start" for measure in measures]
    require(dataset, *measures, *starts, "test_accuracy", dims=dims)
    with context():
        size = (max(0.8 + 2.9 * len(measures), 6.2), 3.6)  # the legend has four columns
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axes, measure in zip(grid, measures, strict=True):
            start = dataset[f"{measure}_start"]
            low, high = float(start.min()), float(start.max())
            axes.axvspan(low, high, color=UNTRAINED_COLOUR, alpha=0.2, linewidth=0, gid="start")
            _draw_runs(axes, dataset, measure)
            _draw_chance(axes, dataset)
            axes.set_xlabel(axis_label(dataset[measure], width=40))
            axes.set_xlim(0, None)
            tidy(axes)
        grid[0].set_ylim(0, None)
        grid[0].set_ylabel(axis_label(dataset["test_accuracy"]))
        handles = _run_handles(dataset, measures)
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def measures_by_category(
    dataset: xr.Dataset, measures: Sequence[str], *, across: str, columns: str
) -> Figure:
    """Draw measures (rows of panels) over the entries of one dim, a column an entry of another.

    Dots are seeds, bars their means; the thin line is the mean of the column's first entry, the
    dashed one the null: chance for accuracy, for ranks the mean of all rules before training.
    Entries that a column does not have are left out of it; a cross on the lower edge is a seed
    without a value, as one that diverged.

    Parameters
    ----------
    dataset
        The measures (`across`, `columns`, seed); one under the name of a measure with ``_null``
        (`columns`, or of one number) is its null.
    measures
        Names of variables.
    across, columns
        Names of dims; one of them is ``rule`` and has the colours.

    Raises
    ------
    ValueError
        If a variable or dim is missing, or `measures` is empty.

    Examples
    --------
    >>> values = xr.DataArray([[[0.8], [0.6]]], dims=("rule", "control", "seed"))
    >>> study = xr.Dataset({"test_accuracy": values, "test_accuracy_null": 0.1})
    >>> names = {"rule": ["BP"], "control": ["none", "truncate 1"], "seed": [0]}
    >>> pair = {"across": "control", "columns": "rule"}
    >>> figure = measures_by_category(study.assign_coords(names), ["test_accuracy"], **pair)
    >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    ['none', 'truncate 1']
    """
    if not measures:
        raise ValueError(f"measures={tuple(measures)!r} is empty; name at least one measure")
    require(dataset, *measures, dims=(across, columns, "seed", "rule"))
    have = xr.concat([dataset[m].notnull().any("seed") for m in measures], "measure").any("measure")
    entries = {
        str(name): np.flatnonzero(have.sel({columns: name}).values)
        for name in dataset[columns].values
        if bool(have.sel({columns: name}).any())
    }
    widths = [len(places) for places in entries.values()]
    with context():
        size = (max(1.0 + 0.25 * sum(widths) + 0.2 * len(widths), 4.6), 1.6 + 1.5 * len(measures))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(
            *(len(measures), len(widths)), sharey="row", squeeze=False, width_ratios=widths
        )
        for row, measure in enumerate(measures):
            for axes, (column, places) in zip(grid[row], entries.items(), strict=True):
                here = dataset.isel({across: places}).sel({columns: column})
                _draw_categories(axes, here, measure, across, rule_colours(dataset))
                names = [str(name) for name in here[across].values]
                names = names if row == len(measures) - 1 else [""] * len(names)
                axes.set_xticks(range(len(places)), names, rotation=90)
                if row == 0:
                    axes.set_title(panel_title(column), loc="left", fontweight="bold", fontsize=8)
                tidy(axes)
            grid[row, 0].set_ylabel(axis_label(dataset[measure], width=24))
            grid[row, 0].set_ylim(0, None)
        first = next(iter(entries.values()))[0]
        name = str(dataset[across].values[first])
        handles = [
            Line2D([], [], color="#555555", marker="o", markersize=4, linestyle="", label="seed"),
            Line2D([], [], color="#555555", linewidth=2.0, label="mean"),
            Line2D([], [], color="#999999", linewidth=0.7, label=f"mean of {name}"),
            Line2D([], [], **_NULL, label="chance; rank before training (mean of rules)"),
        ]
        ncols = 4 if size[0] > 6.2 else 2
        figure.legend(handles=handles, loc="outside lower center", ncols=ncols)
    return figure


def _draw_categories(
    axes: Axes, here: xr.Dataset, measure: str, across: str, colours: dict[str, str]
) -> None:
    """Draw one panel of `measures_by_category`."""
    values = here[measure].transpose(across, "seed")
    null = here.get(f"{measure}_null")
    if null is not None:
        axes.axhline(float(null), gid="null", **_NULL)
    axes.axhline(float(values[0].mean()), color="#999999", linewidth=0.7, zorder=0)
    for place, seeds in enumerate(values):
        colour = colours[str(seeds["rule"].values)]
        offset = np.linspace(-0.15, 0.15, seeds.size) if seeds.size > 1 else np.zeros(1)
        mean = float(seeds.mean())
        axes.hlines(mean, place - 0.3, place + 0.3, color=colour, linewidth=2.0)
        style: dict[str, Any] = {"edgecolor": "white", "linewidths": 0.4, "zorder": 3}
        name = str(seeds[across].values)
        axes.scatter(place + offset, seeds.values, s=14, color=colour, gid=name, **style)
        lost = offset[~np.isfinite(seeds.values)]
        _draw_lost(axes, place + lost, colour, axes.get_xaxis_transform())
    axes.set_xlim(-0.6, values.sizes[across] - 0.4)


def _draw_runs(axes: Axes, dataset: xr.Dataset, measure: str) -> None:
    """Draw one marker a run."""
    for rule, colour in rule_colours(dataset).items():
        for i, optimiser in enumerate(dataset["optimiser"].values):
            for j, normalisation in enumerate(dataset["normalisation"].values):
                at = {"rule": rule, "optimiser": optimiser, "normalisation": normalisation}
                one = dataset.sel(at)
                x, y = one[measure].values, one["test_accuracy"].values
                style: dict[str, Any] = {"marker": _MARKERS[i % 6], "fillstyle": _FILLS[j % 5]}
                name = f"{rule}, {optimiser}, {normalisation}"
                axes.plot(x, y, linestyle="", color=colour, markersize=5, gid=name, **style)
                lost = x[np.isfinite(x) & ~np.isfinite(y)]
                _draw_lost(axes, lost, colour, axes.get_xaxis_transform())


def _draw_lost(axes: Axes, x: np.ndarray, colour: str, transform: Any) -> None:
    """Mark what has no value on the lower edge."""
    if x.size:
        axes.plot(x, np.full(x.size, 0.02), "x", color=colour, markersize=4, gid="lost")[
            0
        ].set_transform(transform)


def _draw_chance(axes: Axes, dataset: xr.Dataset) -> None:
    """Mark the accuracy of guessing, where the number of classes is known."""
    if "num_classes" in dataset.attrs:
        axes.axhline(1 / float(dataset.attrs["num_classes"]), gid="chance", **_NULL)


def _run_handles(dataset: xr.Dataset, measures: Sequence[str]) -> list[Line2D]:
    """Return the legend's entries, a column a group: rules, optimisers, normalisations, nulls.

    Of each group those that have a run.
    """
    have = dataset[measures[0]].notnull()
    drawn = {
        dim: dataset[dim].values[have.any(set(have.dims) - {dim}).values]
        for dim in ("rule", "optimiser", "normalisation")
    }
    band = "range before training"
    grey: dict[str, Any] = {"color": "#555555", "linestyle": "", "markersize": 5}
    groups = [
        [Line2D([], [], linestyle="", label="colour: rule")],
        [Line2D([], [], linestyle="", label="shape: optimiser")],
        [Line2D([], [], linestyle="", label="filling: normalisation")],
        [Line2D([], [], color=UNTRAINED_COLOUR, linewidth=6, alpha=0.3, label=band)],
    ]
    for rule, colour in rule_colours(dataset).items():
        if rule in drawn["rule"]:
            groups[0].append(Line2D([], [], color=colour, linewidth=4, label=rule))
    for i, name in enumerate(dataset["optimiser"].values):
        if name in drawn["optimiser"]:
            groups[1].append(Line2D([], [], marker=_MARKERS[i % 6], label=str(name), **grey))
    for j, name in enumerate(dataset["normalisation"].values):
        fill, label = _FILLS[j % 5], panel_title(str(name))
        if name in drawn["normalisation"]:
            groups[2].append(Line2D([], [], marker="D", fillstyle=fill, label=label, **grey))
    if "num_classes" in dataset.attrs:
        groups[3].append(Line2D([], [], **_NULL, label="chance"))
    longest = max(len(group) for group in groups)
    blank = Line2D([], [], linestyle="", label=" ")
    return [line for group in groups for line in [*group, *[blank] * (longest - len(group))]]
