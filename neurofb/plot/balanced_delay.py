"""Balanced coding with a delay: where the loop oscillates, what noise does to it, hysteresis."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import axis_label, context, tidy

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_OUTLINE = [patheffects.withStroke(linewidth=3.0, foreground="white")]
_CRITICAL: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.4}
_OPTIMAL: dict[str, Any] = {"color": "black", "linestyle": "-.", "linewidth": 1.1}
_NULL: dict[str, Any] = {"color": "#555555", "linestyle": ":", "linewidth": 1.1}
_DOT: dict[str, Any] = {"linestyle": "", "marker": "o", "markeredgewidth": 0.6}
_RUN: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 2.4, "markeredgewidth": 0}


def delay_diagram(dataset: xr.Dataset) -> Figure:
    """Draw fluctuations over delay and balance, in slices, and how fast the network oscillates.

    Left medians over trials with the theory's critical (dashed) and optimal balance (dash-dotted),
    and where trials cross from small to large fluctuations (circles); middle every trial, theory
    dashed up to the critical balance, dotted the null without feedback; right the angular frequency
    of the runs beyond it.

    Parameters
    ----------
    dataset
        ``std`` and ``oscillation`` (delay, balance, trial), ``std_theory`` (delay, balance; NaN
        beyond the critical balance), ``critical_balance``, ``optimal_balance`` and
        ``critical_frequency`` (delay), ``crossing`` (delay, trial), ``std_open_theory``.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> runs = xr.DataArray(np.ones((2, 3, 1)), dims=("delay", "balance", "trial"))
    >>> found = xr.Dataset({"std": runs, "oscillation": runs, "crossing": runs[:, 0]})
    >>> found["std_theory"] = runs[..., 0]
    >>> for name in ("critical_balance", "optimal_balance", "critical_frequency"):
    ...     found[name] = runs[:, 0, 0]
    >>> found["std_open_theory"] = 0.01
    >>> places = {"delay": [0.1, 1.0], "balance": [1.0, 3.0, 9.0], "trial": [0]}
    >>> len(delay_diagram(found.assign_coords(places)).axes)  # three panels, one bar
    4
    """
    theory = ("std_theory", "critical_balance", "optimal_balance", "critical_frequency")
    theory += ("std_open_theory",)
    dims = ("delay", "balance", "trial")
    require(dataset, "std", "oscillation", "crossing", *theory, dims=dims)
    delay, balance = dataset["delay"].values, dataset["balance"].values
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.88, delay.size))
    with context():
        figure = Figure(figsize=(10.0, 3.7), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        median = dataset["std"].median("trial").transpose("balance", "delay").values
        mesh = left.pcolormesh(_edges(delay), _edges(balance), median, norm=LogNorm())
        figure.colorbar(mesh, ax=left, pad=0.02, label=axis_label(dataset["std"], width=52))
        middle.set_title("the same, over the balance", loc="left", fontsize=8)
        for name, style in (("critical_balance", _CRITICAL), ("optimal_balance", _OPTIMAL)):
            line = np.where(dataset[name] >= _edges(balance)[0], dataset[name], np.nan)
            left.plot(delay, line, gid=name, path_effects=_OUTLINE, **style)
        for trial in dataset["crossing"].transpose("trial", "delay"):
            circle = {**_DOT, "markersize": 3.5, "markerfacecolor": "white", "mec": "black"}
            left.plot(delay, trial, gid="crossing", **circle)
        left.set_ylim(_edges(balance)[0], _edges(balance)[-1])
        left.set_ylabel(axis_label(dataset["balance"], width=52))
        for number, one in enumerate(delay):
            here, colour = dataset.isel(delay=number), shades[number]
            runs = here["std"].transpose("balance", "trial").values
            where = np.broadcast_to(balance[:, None], runs.shape)
            middle.plot(where.ravel(), runs.ravel(), color=colour, gid="run", **_RUN)
            median = here["std"].median("trial")
            middle.plot(balance, median, color=colour, linewidth=0.7, label=f"d = {one:g}")
            middle.plot(balance, here["std_theory"], "--", color="black", gid="theory", lw=1.0)
        middle.axhline(float(dataset["std_open_theory"]), **_NULL)
        middle.set_yscale("log")
        middle.set_xlabel(axis_label(dataset["balance"], width=40))
        middle.legend(loc="upper left", fontsize=6.5, handlelength=1.2)
        _draw_frequency(right, dataset)
        for axes in (left, right):
            axes.set_xlabel(axis_label(dataset["delay"], width=36))
        for axes in (left, middle, right):
            axes.set_xscale("log")
            tidy(axes)
        left.set_yscale("log")
        grey = {**_RUN, "color": "#777777"}
        handles = [
            Line2D([], [], **_CRITICAL, label="theory; left: critical balance"),
            Line2D([], [], **_OPTIMAL, label="theory: optimal balance"),
            Line2D([], [], **_DOT, mfc="white", mec="black", ms=3.5, label="crossing of a trial"),
            Line2D([], [], **grey, label="simulation: a trial"),
            Line2D([], [], **_NULL, label="null: no feedback, theory"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def noise_and_delay(dataset: xr.Dataset) -> Figure:
    """Draw how noise stabilises a delayed loop: the error over the noise, and the critical balance.

    Left every trial's error (dots), medians, and theory (dashed, where the loop is stable); dotted
    is the null, the error of the estimate 0. Right the critical balance
    over the noise, and the balance that the network has.

    Parameters
    ----------
    dataset
        ``rmse`` (noise, trial), ``rmse_theory`` and ``critical_balance`` (noise), ``balance`` and
        ``drive``.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> runs = xr.DataArray(np.ones((2, 3)), dims=("noise", "trial"))
    >>> found = xr.Dataset({"rmse": runs, "rmse_theory": runs[:, 0], "balance": 20.0})
    >>> found["critical_balance"], found["drive"] = runs[:, 0], 0.2
    >>> len(noise_and_delay(found.assign_coords(noise=[0.5, 1.0])).axes)
    2
    """
    names = ("rmse", "rmse_theory", "critical_balance", "balance", "drive")
    require(dataset, *names, dims=("noise", "trial"))
    noise = dataset["noise"].values
    runs = dataset["rmse"].transpose("noise", "trial").values
    with context():
        figure = Figure(figsize=(6.4, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        where = np.broadcast_to(noise[:, None], runs.shape)
        left.plot(where.ravel(), runs.ravel(), color=_COLOURS[0], gid="run", **_RUN)
        median = {**_DOT, "color": _COLOURS[0], "mec": "black", "markersize": 5}
        left.plot(noise, dataset["rmse"].median("trial"), gid="median", **median)
        left.plot(noise, dataset["rmse_theory"], "k--", lw=1.1, gid="theory", zorder=3)
        left.axhline(abs(float(dataset["drive"])), **_NULL)
        left.set_yscale("log")
        left.set_ylabel(axis_label(dataset["rmse"], width=40))
        right.plot(noise, dataset["critical_balance"], gid="theory", **_CRITICAL)
        right.axhline(float(dataset["balance"]), color=_COLOURS[0], gid="balance")
        right.set_ylabel(axis_label(dataset["critical_balance"], width=40))
        for axes in (left, right):
            axes.set_xlabel(axis_label(dataset["noise"], width=36))
            tidy(axes)
        handles = [
            Line2D([], [], **_RUN, color="#777777", label="simulation: a trial"),
            Line2D([], [], **{**median, "color": "#777777"}, label="median"),
            Line2D([], [], **_CRITICAL, label="theory"),
            Line2D([], [], **_NULL, label="null: estimate 0"),
            Line2D([], [], color=_COLOURS[0], label="balance of the network"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def balance_ramps(dataset: xr.Dataset) -> Figure:
    """Draw the fluctuations while the balance is moved up and down, a panel a source of noise.

    Thin lines are single trials, thick ones medians; the vertical dashed line is the critical
    balance of the linear theory, the dashed curve its fluctuations; dotted the null, no feedback.

    Parameters
    ----------
    dataset
        ``std`` (source, ramp, balance, matrix, trial), ``std_theory`` (source, balance) and
        ``critical_balance`` and ``std_open_theory`` (source).

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> dims = ("source", "ramp", "balance", "matrix", "trial")
    >>> found = xr.Dataset({"std": xr.DataArray(np.ones((1, 2, 3, 1, 1)), dims=dims)})
    >>> found["std_theory"] = found["std"][:, 0, :, 0, 0]
    >>> found["critical_balance"] = found["std_open_theory"] = ("source", [2.0])
    >>> places = {"source": ["noise"], "ramp": ["up", "down"], "balance": [1.0, 2.0, 3.0]}
    >>> len(balance_ramps(found.assign_coords(places)).axes)
    1
    """
    dims = ("source", "ramp", "balance", "matrix", "trial")
    require(dataset, "std", "std_theory", "critical_balance", "std_open_theory", dims=dims)
    balance, columns = dataset["balance"], dataset.sizes["source"]
    ramps = dict(zip(dataset["ramp"].values, _COLOURS, strict=False))
    with context():
        figure = Figure(figsize=(0.6 + 3.2 * columns, 3.4), layout="constrained")
        panels = figure.subplots(1, columns, squeeze=False, sharey=True).ravel()
        for axes, source in zip(panels, dataset["source"].values, strict=True):
            one = dataset.sel(source=source)
            for ramp, colour in ramps.items():
                runs = one["std"].sel(ramp=ramp).transpose("balance", "matrix", "trial")
                values = runs.values.reshape(balance.size, -1)
                axes.plot(balance, values, color=colour, lw=0.5, alpha=0.5, gid="run")
                median = runs.median(("matrix", "trial"))
                axes.plot(balance, median, color=colour, lw=1.8, gid="median")
            axes.plot(balance, one["std_theory"], "k--", lw=1.1, gid="theory")
            axes.axvline(float(one["critical_balance"]), gid="critical", **_CRITICAL)
            axes.axhline(float(one["std_open_theory"]), **_NULL)
            axes.set_yscale("log")
            axes.set_title(str(source), loc="left", fontsize=8)
            axes.set_xlabel(axis_label(balance, width=40))
            tidy(axes)
        panels[0].set_ylabel(axis_label(dataset["std"], width=52))
        handles = [
            *(
                Line2D([], [], color=colour, lw=1.8, label=f"balance moved {ramp}")
                for ramp, colour in ramps.items()
            ),
            Line2D([], [], color="#777777", linewidth=0.5, label="a trial"),
            Line2D([], [], **_CRITICAL, label="linear theory: fluctuations, critical balance"),
            Line2D([], [], **_NULL, label="null: no feedback, theory"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(3, 2 * columns))
    return figure


def _draw_frequency(axes: Axes, dataset: xr.Dataset) -> None:
    """Draw the frequencies of the runs beyond the critical balance, with the theory's line."""
    delay = dataset["delay"].values
    runs = dataset["oscillation"].transpose("delay", "balance", "trial").values
    runs = runs.reshape(delay.size, -1)
    where = np.broadcast_to(delay[:, None], runs.shape)
    axes.plot(where.ravel(), runs.ravel(), color=_COLOURS[0], gid="run", **_RUN)
    axes.plot(delay, dataset["critical_frequency"], gid="theory", **_CRITICAL)
    axes.set_yscale("log")
    axes.set_ylabel(axis_label(dataset["oscillation"], width=36))


def _edges(centres: np.ndarray) -> np.ndarray:
    """Return the edges of cells around rising positive centres, midway between their logarithms."""
    logs = np.log(centres)
    if logs.size == 1:
        return np.exp(logs[0] + np.array([-0.5, 0.5]))
    middle = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]]))
