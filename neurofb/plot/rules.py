"""Learning rules side by side: accuracy by rule, by rank, and by what it costs."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, condition_colours, context, tidy

_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DOT: dict[str, Any] = {"s": 14, "edgecolor": "white", "linewidths": 0.4, "zorder": 3}


def rule_table(
    dataset: xr.Dataset, *, reference: str = "BP", chance: float | None = None
) -> Figure:
    """Draw the test accuracy of every rule (rows) on every network (panels), every seed shown.

    Dots are seeds, the bar and the number beside it mean ± standard deviation over seeds, the full
    vertical line the mean of the reference, the dotted one chance. A condition without a run on a
    network has none.

    Parameters
    ----------
    dataset
        `test_accuracy` (network, condition, seed).
    reference
        The condition that all others are held against.
    chance
        Accuracy of guessing, as one over the number of classes; None draws no line.

    Raises
    ------
    ValueError
        If the variable, a dim or the reference is missing.

    Examples
    --------
    >>> values = xr.DataArray([[[0.9, 0.8]], [[0.5, 0.6]]], dims=("network", "condition", "seed"))
    >>> table = xr.Dataset({"test_accuracy": values})
    >>> names = {"network": ["MLP", "VGG"], "condition": ["BP"], "seed": [0, 1]}
    >>> figure = rule_table(table.assign_coords(names), chance=0.1)
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['MLP', 'VGG']
    """
    require(dataset, "test_accuracy", dims=("network", "condition", "seed"))
    names = [str(name) for name in dataset["condition"].values]
    if reference not in names:
        raise ValueError(f"reference={reference!r} is no condition; those are: {', '.join(names)}")
    values = dataset["test_accuracy"].transpose("network", "condition", "seed")
    with context():
        size = (1.6 + 2.7 * values.sizes["network"], 1.1 + 0.24 * len(names))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, values.sizes["network"], sharey=True, squeeze=False)[0]
        for axes, network in zip(grid, values, strict=True):
            axes.axvline(_mean(network.sel(condition=reference)), color="black", linewidth=0.9)
            if chance is not None:
                axes.axvline(chance, color=UNTRAINED_COLOUR, linestyle=":", linewidth=1.2)
            for row, name in enumerate(names):
                colour = "black" if name == reference else _LINES[0]
                _draw_seeds(axes, row, network.isel(condition=row).values, colour, name)
            axes.set_title(str(network["network"].values), loc="left", fontweight="bold")
            axes.set_xlabel(axis_label(dataset["test_accuracy"], width=28))
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.grid(axis="y", color="#eeeeee", linewidth=0.8)
            axes.set_axisbelow(True)
            tidy(axes)
        handles = [
            Line2D([], [], color="#555555", marker="o", markersize=4, linestyle="", label="seed"),
            Line2D([], [], color="#555555", linewidth=1.6, marker="|", label="mean ± sd"),
            Line2D([], [], color="black", linewidth=0.9, label=f"mean of {reference}"),
        ]
        if chance is not None:
            null: dict[str, Any] = {"color": UNTRAINED_COLOUR, "linestyle": ":", "label": "chance"}
            handles.append(Line2D([], [], **null))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def accuracy_against_rank(dataset: xr.Dataset, *, series: str = "num_classes") -> Figure:
    """Draw test accuracy against the rank of the feedback, every seed shown, a line a series.

    Dots are seeds, lines means over seeds. A horizontal band is backpropagation of the same series
    (mean ± standard deviation over seeds), a vertical dotted line the number of classes.

    Parameters
    ----------
    dataset
        `test_accuracy` (rank, seed, and, if there are several, `series` and one more dim, which
        makes a panel an entry), `bp_test_accuracy` (the same without rank), and, for the vertical
        lines, a coordinate `num_classes`: of one number, or along the series or the panels.
    series
        Dim whose entries are lines: "num_classes", "width", …

    Raises
    ------
    ValueError
        If a variable or a dim is missing, or there are more dims than these.

    Examples
    --------
    >>> values = xr.DataArray([[0.5, 0.4], [0.8, 0.9]], dims=("rank", "seed"))
    >>> study = xr.Dataset({"test_accuracy": values, "bp_test_accuracy": values[1]})
    >>> study = study.assign_coords(rank=[1, 8], seed=[0, 1], num_classes=10)
    >>> accuracy_against_rank(study).axes[0].get_xlabel()
    'rank of the feedback'
    """
    require(dataset, "test_accuracy", "bp_test_accuracy", dims=("rank", "seed"))
    others = [str(d) for d in dataset["test_accuracy"].dims if d not in ("rank", "seed", series)]
    if len(others) > 1:
        raise ValueError(f"dims {others} are too many; at most one beside rank, seed and {series}")
    panels = [dataset.isel({d: [i]}) for d in others for i in range(dataset.sizes[d])] or [dataset]
    with context():
        figure = Figure(figsize=(0.9 + 3.2 * len(panels), 3.0), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw_ranks(axes, panel.squeeze(others), series)
            if others:
                title = _named(others[0], panel[others[0]].values[0])
                axes.set_title(title, loc="left", fontweight="bold")
        handles, texts = grid[0].get_legend_handles_labels()
        handles += [
            Line2D([], [], color="#555555", linewidth=6, alpha=0.2, label="BP, mean ± sd"),
            Line2D([], [], color="#555555", linestyle=":", label="number of classes"),
        ]
        texts += ["BP, mean ± sd", "number of classes"]
        figure.legend(handles, texts, loc="outside lower center", ncols=min(len(texts), 5))
    return figure


def compute_against_accuracy(dataset: xr.Dataset) -> Figure:
    """Draw the accuracy at the end against the operations until the target is reached.

    Small dots are seeds, large ones means over the seeds that reach the target; above and to the
    left is better. Seeds that never reach it are crosses at the right edge.

    Parameters
    ----------
    dataset
        What `neurofb.measures.compute_to_accuracy` returns: `flops_reached` and `last_accuracy`
        (condition, seed).

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> pair = {"dims": ("condition", "seed"), "coords": {"condition": ["BP"], "seed": [0]}}
    >>> flops, last = (xr.DataArray([[value]], **pair) for value in (1e12, 0.9))
    >>> table = xr.Dataset({"flops_reached": flops, "last_accuracy": last})
    >>> compute_against_accuracy(table).axes[0].get_xscale()
    'log'
    """
    require(dataset, "flops_reached", "last_accuracy")
    flops = dataset["flops_reached"].transpose("condition", "seed").values
    last = dataset["last_accuracy"].transpose("condition", "seed").values
    with context():
        figure = Figure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        edge = 1.3 * np.nanmax(flops) if np.isfinite(flops).any() else 1.0
        for row, (name, colour) in enumerate(condition_colours(dataset).items()):
            x, y = flops[row], last[row]
            here = np.isfinite(x) & np.isfinite(y)
            axes.scatter(x[here], y[here], color=colour, gid=name, **_DOT)
            label = name if here.all() else f"{name} ({here.sum()} of {here.size} seeds)"
            centre = (x[here].mean(), y[here].mean()) if here.any() else ([], [])
            axes.plot(*centre, "o", color=colour, markersize=8, alpha=0.7, label=label)
            lost = y[~np.isfinite(x) & np.isfinite(y)]
            right = np.full(lost.size, edge)
            axes.plot(right, lost, "x", color=colour, gid=f"not reached {name}")
        axes.set_xlabel(axis_label(dataset["flops_reached"]) + " (log scale)")
        axes.set_ylabel(axis_label(dataset["last_accuracy"]))
        title = "large: mean of seeds\ncross: target not reached"
        figure.legend(loc="outside right upper", title=title, title_fontsize=7.5)
        tidy(axes)
    return figure


def _draw_seeds(axes: Axes, row: int, values: np.ndarray, colour: Any, name: str) -> None:
    """Draw one condition: seeds side by side, and mean ± standard deviation."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return
    spread = values.std(ddof=1) if values.size > 1 else 0.0
    centre = values.mean()
    axes.plot([centre - spread, centre + spread], [row, row], color=colour, linewidth=1.6)
    axes.plot(centre, row, "|", color=colour, markersize=11, markeredgewidth=1.6)
    height = row + np.linspace(-0.2, 0.2, values.size) if values.size > 1 else [row]
    axes.scatter(values, height, color=colour, gid=name, **_DOT)
    text = f"{centre:.3f} ± {spread:.3f}" if values.size > 1 else f"{centre:.3f}"
    axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=6.5)


def _draw_ranks(axes: Axes, panel: xr.Dataset, series: str) -> None:
    """Draw one panel of accuracy against rank."""
    several = series in panel["test_accuracy"].dims
    lines = [panel.isel({series: i}) for i in range(panel.sizes[series])] if several else [panel]
    for line, colour in zip(lines, _LINES * len(lines), strict=False):
        values = line["test_accuracy"].transpose("rank", "seed")
        rank = values["rank"].values
        name = _named(series, line[series].item()) if several else "mean of seeds"
        for column in values.values.T:
            axes.scatter(rank, column, color=colour, gid=name, **_DOT)
        axes.plot(rank, values.mean("seed"), color=colour, label=name, linewidth=1.8)
        bp = line["bp_test_accuracy"]
        low, high = float(bp.mean() - bp.std()), float(bp.mean() + bp.std())
        axes.axhspan(low, high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(float(bp.mean()), color=colour, linewidth=0.8, alpha=0.6)
        if "num_classes" in line.coords:
            axes.axvline(float(line["num_classes"]), color=colour, linestyle=":", linewidth=1.2)
    if float(panel["rank"].min()) > 0:
        axes.set_xscale("log", base=2)
    else:  # rank 0: no error at all
        axes.set_xscale("symlog", base=2, linthresh=1, linscale=0.6)
    ticks = [float(rank) for rank in panel["rank"].values]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("rank of the feedback")
    axes.set_ylabel(axis_label(panel["test_accuracy"]))
    tidy(axes)


def _mean(values: xr.DataArray) -> float:
    """Return the mean over whatever is finite."""
    return float(values.mean(skipna=True))


def _named(dim: str, value: Any) -> str:
    """Return an entry of a dim in words: 5 classes, width 64."""
    return f"{value} classes" if dim == "num_classes" else f"{dim.replace('_', ' ')} {value}"
