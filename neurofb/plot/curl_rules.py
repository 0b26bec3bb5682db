"""The curl of learning rules: a row a rule, and over training."""

import itertools
import math
import re
import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, context, tidy

#: index of a Jacobian of independent random numbers
RANDOM_FIELD = 0.5**0.5
_COLOUR, _START = "#0072B2", "#E69F00"
_NULL: dict[str, Any] = {"color": UNTRAINED_COLOUR, "linestyle": ":", "linewidth": 1.2}
_NAMES = ("curl_index", "gradient_cosine", "test_accuracy")


def curl_rows(dataset: xr.Dataset) -> Figure:
    """Draw curl, agreement with the gradient, and accuracy of every rule, every seed shown.

    A row a rule. Small dots are seeds, ticks their medians, at the start (orange, above) and at the
    end of training (blue, below). Dotted lines are the nulls: a curl index of 0 is a gradient, one
    of 1/√2 a field whose Jacobian is random; a cosine of 1 is the gradient itself, one of 0 a
    direction that has nothing to do with it; and guessing.

    Parameters
    ----------
    dataset
        `curl_index` and `gradient_cosine` (condition, seed, epoch), `test_accuracy` (condition,
        seed), `chance` (), and the coordinate `group` (condition), by which rows stand together.

    Raises
    ------
    ValueError
        If a variable or dim is missing.

    Examples
    --------
    >>> curve = (("condition", "seed", "epoch"), [[[0.5, 0.4]], [[0.0, 0.0]]])
    >>> names = {"condition": ["FA", "BP"], "seed": [0], "group": ("condition", ["", ""])}
    >>> study = xr.Dataset({"curl_index": curve, "gradient_cosine": curve, "chance": 0.1}, names)
    >>> study["test_accuracy"] = study["curl_index"].isel(epoch=-1)
    >>> [text.get_text() for text in curl_rows(study).axes[0].get_yticklabels()]
    ['FA', 'BP']
    """
    require(dataset, *_NAMES, "chance", "group", dims=("condition", "seed", "epoch"))
    names = [str(name) for name in dataset["condition"].values]
    groups = [str(name) for name in dataset["group"].values]
    changes = np.cumsum([False] + [a != b for a, b in itertools.pairwise(groups)])
    heights = np.arange(len(names)) + 0.5 * changes
    nulls = {
        "curl_index": (0.0, RANDOM_FIELD),
        "gradient_cosine": (0.0, 1.0),
        "test_accuracy": (float(dataset["chance"]),),
    }
    with context():
        figure = Figure(figsize=(7.6, 1.2 + 0.21 * heights[-1]), layout="constrained")
        panels = figure.subplots(1, len(_NAMES), sharey=True, width_ratios=(1.4, 1, 1))
        for axes, name in zip(panels, _NAMES, strict=True):
            values = dataset[name]
            moments = {_COLOUR: values if "epoch" not in values.dims else _last(values)}
            if "epoch" in values.dims:
                moments = {_START: values.isel(epoch=0)} | moments
            for shift, (colour, one) in zip((-0.18, 0.18), moments.items(), strict=False):
                table = one.transpose("condition", "seed").values
                for height, seeds in zip(heights, table, strict=True):
                    _draw(axes, height + (shift if len(moments) == 2 else 0), seeds, colour)
            for null in nulls[name]:
                axes.axvline(null, gid="null", zorder=0, **_NULL)
            axes.set_xlabel(axis_label(values, width=32))
            axes.set_axisbelow(True)
            axes.grid(axis="y", color="#eeeeee", linewidth=0.8)
            tidy(axes)
        panels[0].set_yticks(heights, names)
        panels[0].set_ylim(heights[-1] + 0.6, -0.6)
        entries = [("before training", _START, "o"), ("after training", _COLOUR, "o")]
        handles: list[Any] = [
            Line2D([], [], color=colour, marker=marker, markersize=4, linestyle="", label=text)
            for text, colour, marker in entries
        ]
        tick: dict[str, Any] = {"marker": "|", "markersize": 8, "linestyle": ""}
        handles.append(Line2D([], [], color="#555555", label="median of seeds", **tick))
        text = "nulls (curl: gradient 0, random field 1/√2)"
        handles.append(Line2D([], [], label=text, **_NULL))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def curl_over_epochs(dataset: xr.Dataset, *, columns: int = 4) -> Figure:
    """Draw the curl index over training, a panel a group of rules, every seed shown.

    Thin lines are seeds, thick ones their medians; dotted lines as in `curl_rows`. Colours of a
    group go from dark to light in its order, from the lowest rank up.

    Parameters
    ----------
    dataset
        `curl_index` (condition, seed, epoch) and the coordinate `group` (condition).
    columns
        Panels side by side.

    Raises
    ------
    ValueError
        If a variable or dim is missing.

    Examples
    --------
    >>> curve = (("condition", "seed", "epoch"), [[[0.5, 0.4]], [[0.0, 0.0]]])
    >>> names = {"condition": ["FA", "BP"], "seed": [0], "group": ("condition", ["dense", "BP"])}
    >>> names["epoch"] = [0.0, 1.0]
    >>> figure = curl_over_epochs(xr.Dataset({"curl_index": curve}, names))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['dense', 'BP']
    """
    require(dataset, "curl_index", "group", dims=("condition", "seed", "epoch"))
    groups = list(dict.fromkeys(str(name) for name in dataset["group"].values))
    columns = min(columns, len(groups))
    rows = math.ceil(len(groups) / columns)
    with context():
        size = (max(0.6 + 1.85 * columns, 3.6), 0.5 + 1.9 * rows + (columns == 1))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, group in zip(grid, groups, strict=False):
            here = dataset.isel(condition=np.flatnonzero(dataset["group"].values == group))
            for colour, name in zip(
                _shades(here.sizes["condition"]), here["condition"], strict=True
            ):
                curve = here["curl_index"].sel(condition=name.item()).transpose("epoch", "seed")
                curve = curve.dropna("epoch", how="all")
                epoch = curve["epoch"].values
                axes.plot(epoch, curve, color=colour, linewidth=0.5, alpha=0.6, gid="seed")
                label = _short(str(name.item()), group)
                axes.plot(epoch, curve.median("seed"), color=colour, linewidth=1.8, label=label)
            for null in (0.0, RANDOM_FIELD):
                axes.axhline(null, gid="null", zorder=0, **_NULL)
            axes.set_title(group, loc="left", fontweight="bold")
            axes.set_ylim(-0.03, 1.2)
            place: dict[str, Any] = {"loc": "upper right", "ncols": 2, "fontsize": 6}
            axes.legend(columnspacing=0.8, handlelength=1.0, borderaxespad=0.1, **place)
            tidy(axes)
        for axes in grid[len(groups) :]:
            axes.set_axis_off()
        for axes in grid[::columns]:
            axes.set_ylabel("curl index")
        for index in range(len(groups)):
            if index + columns >= len(groups):
                grid[index].set_xlabel("epoch")
                grid[index].tick_params(labelbottom=True)
        text = "thin: seeds, thick: their median; dotted: 0 (gradient), 1/√2 (random field)"
        figure.supxlabel(textwrap.fill(text, int(19 * size[0])), fontsize=7.5)
    return figure


def _draw(axes: Axes, height: float, seeds: np.ndarray, colour: str) -> None:
    """Draw the seeds of one row, and their median."""
    seeds = seeds[np.isfinite(seeds)]
    if seeds.size:
        dot: dict[str, Any] = {"markersize": 2.6, "markeredgewidth": 0, "alpha": 0.75}
        axes.plot(seeds, np.full(seeds.size, height), "o", color=colour, gid="seed", **dot)
        tick: dict[str, Any] = {"markersize": 7, "markeredgewidth": 1.5, "gid": "median"}
        axes.plot(np.median(seeds), height, "|", color=colour, **tick)


def _last(values: xr.DataArray) -> xr.DataArray:
    """Return the values at the last epoch that each run has."""
    return values.isel(epoch=values.notnull().cumsum("epoch").argmax("epoch"))


def _short(name: str, group: str) -> str:
    """Return a name without the words that its group's title has."""
    words = [word for word in re.split("[ ,]+", name) if word not in group.split()]
    return " ".join(words) or name


def _shades(number: int) -> list[Any]:
    """Return colours from dark to light."""
    return [tuple(shade) for shade in mpl.colormaps["viridis"](np.linspace(0.0, 0.85, number))]
