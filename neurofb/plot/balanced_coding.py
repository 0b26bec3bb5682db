"""Balanced coding without delay: bias and fluctuations over the balance and over the neurons."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, context, tidy

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_RUNS = ("matrix", "trial")
_POOLED: dict[str, Any] = {"color": "#D55E00", "linestyle": "", "marker": "s"}
_POOLED |= {"markersize": 5.5, "markerfacecolor": "none"}


def coding_against_balance(dataset: xr.Dataset) -> Figure:
    """Draw bias and fluctuations of the estimate over the balance, a column a source of noise.

    Small dots are single runs, larger ones their medians, theory is dashed; dotted is the theory of
    the null, the same network without feedback (b = 0), and crosses its runs. A source whose input
    is zero has no bias: its upper panel is left out. Open squares, where ``std_pooled`` is there,
    are all trials together, in which motion slower than a trial counts.

    Parameters
    ----------
    dataset
        ``bias`` and ``std`` (source, balance, matrix, trial), ``std_open`` (source, matrix,
        trial), of theory ``bias_theory`` and ``std_theory`` (source, balance) and
        ``std_open_theory`` (source); the coordinate ``drive`` (source); ``std_pooled`` (source,
        balance) or not.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> runs = xr.DataArray(np.ones((1, 2, 1, 2)), dims=("source", "balance", *_RUNS))
    >>> found = xr.Dataset({"bias": runs, "std": runs, "std_open": runs.isel(balance=0)})
    >>> found["bias_theory"] = found["std_theory"] = runs.mean(_RUNS)
    >>> found["std_open_theory"] = found["std_theory"].isel(balance=0)
    >>> places = {"source": ["noise"], "balance": [1.0, 3.0], "drive": ("source", [0.2])}
    >>> len(coding_against_balance(found.assign_coords(places)).axes)
    2
    """
    theory = ("bias_theory", "std_theory", "std_open_theory")
    require(dataset, "bias", "std", "std_open", *theory, dims=("source", "balance", *_RUNS))
    columns = dataset.sizes["source"]
    with context():
        figure = Figure(figsize=(0.6 + 2.4 * columns, 4.6), layout="constrained")
        grid = figure.subplots(2, columns, squeeze=False, sharex=True, sharey="row")
        for (above, below), source in zip(grid.T, dataset["source"].values, strict=True):
            one = dataset.sel(source=source)
            driven = float(one["drive"]) != 0
            above.set_title(str(source), loc="left", fontsize=8)
            if driven:
                _draw_curve(above, one["balance"], abs(one["bias"]), one["bias_theory"])
                above.axhline(abs(float(one["drive"])), color=UNTRAINED_COLOUR, linestyle=":")
            else:
                text = "input is zero: no bias"
                above.text(0.5, 0.5, text, ha="center", transform=above.transAxes, fontsize=7.5)
            _draw_curve(below, one["balance"], one["std"], one["std_theory"])
            below.axhline(float(one["std_open_theory"]), color=UNTRAINED_COLOUR, linestyle=":")
            if "std_pooled" in one:
                below.plot(one["balance"], one["std_pooled"], gid="pooled", **_POOLED)
            low = float(one["balance"].min()) / 1.8
            opened = one["std_open"].values.ravel()
            below.plot(np.full(opened.size, low), opened, "x", color=UNTRAINED_COLOUR, ms=3)
            below.set_xlabel(axis_label(one["balance"], width=36))
            for axes in (above, below):
                axes.set_xscale("log")
                axes.set_yscale("log")
                tidy(axes)
        for row, name in zip(grid, ("bias", "std"), strict=True):
            row[0].set_ylabel(axis_label(dataset[name], width=26))
        null: dict[str, Any] = {"color": UNTRAINED_COLOUR, "label": "null: no feedback (b = 0)"}
        handles = [*_handles(), Line2D([], [], linestyle=":", marker="x", markersize=3, **null)]
        if "std_pooled" in dataset:
            handles.append(Line2D([], [], **_POOLED, label="all trials together"))
        figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def coding_scaling(dataset: xr.Dataset) -> Figure:
    """Draw bias, fluctuations and error over the number of neurons, a colour a law of the balance.

    Small dots are single runs, larger ones medians, theory is dashed. The legend has the fitted
    slopes with their intervals.

    Parameters
    ----------
    dataset
        For each of ``bias``, ``std`` and ``rmse``: the runs (law, num_units, trial), the theory
        ``…_theory`` (law, num_units), and the fit ``…_slope``, ``…_slope_low`` and
        ``…_slope_high`` (law).

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> runs = xr.DataArray(np.ones((1, 2, 3)), dims=("law", "num_units", "trial"))
    >>> found = xr.Dataset(coords={"law": ["b = 5"], "num_units": [50, 100]})
    >>> for name in ("bias", "std", "rmse"):
    ...     found[name], found[f"{name}_theory"] = runs, runs.mean("trial")
    ...     for part in ("slope", "slope_low", "slope_high"):
    ...         found[f"{name}_{part}"] = ("law", [-0.5])
    >>> len(coding_scaling(found).axes)
    3
    """
    names = ("bias", "std", "rmse")
    endings = ("", "_theory", "_slope", "_slope_low", "_slope_high")
    require(
        *(dataset, *(name + ending for name in names for ending in endings)),
        dims=("law", "num_units", "trial"),
    )
    with context():
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        for axes, name in zip(figure.subplots(1, 3), names, strict=True):
            handles = []
            for law, colour in zip(dataset["law"].values, _COLOURS * 9, strict=False):
                one = dataset.sel(law=law)
                runs = abs(one[name]) if name == "bias" else one[name]
                _draw_curve(axes, one["num_units"], runs, one[f"{name}_theory"], colour)
                slope, low, high = (float(one[name + ending]) for ending in endings[2:])
                text = f"{law}: {slope:.2f} ({low:.2f} to {high:.2f})"
                handles.append(Line2D([], [], color=colour, marker="o", ls="", ms=4, label=text))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(axis_label(dataset["num_units"], width=36))
            axes.set_ylabel(axis_label(dataset[name], width=46))
            axes.legend(handles=handles, title="slope", loc="lower left", fontsize=6.5)
            tidy(axes)
        figure.legend(handles=_handles(), loc="outside lower center", ncols=3)
    return figure


def _draw_curve(
    axes: Axes, place: xr.DataArray, runs: xr.DataArray, theory: xr.DataArray, colour: str = ""
) -> None:
    """Draw single runs, their medians, and the theory dashed."""
    dim = str(place.dims[0])
    colour = colour or _COLOURS[0]
    over = [name for name in runs.dims if name != dim]
    values = runs.transpose(dim, *over).values.reshape(place.size, -1)
    where = np.broadcast_to(place.values[:, None], values.shape)
    small: dict[str, Any] = {"markersize": 2.4, "markeredgewidth": 0, "alpha": 0.45}
    axes.plot(where.ravel(), values.ravel(), "o", color=colour, gid="run", **small)
    median = runs.median(over).values
    axes.plot(place, median, "o", color=colour, markersize=5, mec="black", mew=0.6, gid="median")
    axes.plot(place, theory, "k--", linewidth=1.1, gid="theory", zorder=3)


def _handles() -> list[Line2D]:
    """Return the legend's entries of runs, medians and theory."""
    grey: dict[str, Any] = {"color": "#777777", "linestyle": "", "marker": "o"}
    return [
        Line2D([], [], **grey, markersize=2.4, label="simulation: a run"),
        Line2D([], [], **grey, markersize=5, mec="black", label="median"),
        Line2D([], [], color="black", linestyle="--", label="theory"),
    ]
