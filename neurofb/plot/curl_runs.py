"""Curl descent, run by run: losses over steps, times to a target, Lyapunov exponents."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, context, tidy

_COLOURS = ("black", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MAX_COLUMNS = 4


def flip_loss_curves(dataset: xr.Dataset, *, measure: str = "train_loss") -> Figure:
    """Draw the loss over steps, a panel a flip condition, a line a seed, linear theory dashed.

    Parameters
    ----------
    dataset
        The measure (flip, seed, step); ``linear_theory`` (flip, seed, step) or not: the loss
        that eigenvalues foretell, NaN where they do not.
    measure
        Name of the variable.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> loss = xr.DataArray(np.ones((2, 1, 3)), dims=("flip", "seed", "step"))
    >>> run = xr.Dataset({"train_loss": loss})
    >>> run = run.assign_coords(flip=["none", "one"], seed=[0], step=[0, 1, 10])
    >>> [axes.get_title(loc="left") for axes in flip_loss_curves(run).axes]
    ['none', 'one']
    """
    require(dataset, measure, dims=("flip", "seed", "step"))
    columns = min(dataset.sizes["flip"], _MAX_COLUMNS)
    rows = -(-dataset.sizes["flip"] // columns)
    step = dataset["step"].values
    with context():
        figure = Figure(figsize=(0.5 + 2.1 * columns, 0.6 + 1.7 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, flip in zip(grid.ravel(), dataset["flip"].values, strict=False):
            one = dataset.sel(flip=flip)
            for number, seed in enumerate(dataset["seed"].values):
                colour = _COLOURS[1 + number % 6]
                axes.plot(step, one[measure].sel(seed=seed), color=colour, linewidth=1.0)
                if "linear_theory" in dataset:
                    theory = one["linear_theory"].sel(seed=seed)
                    axes.plot(step, theory, "k--", linewidth=1.0, gid="theory")
            axes.set_xscale("symlog", linthresh=1)
            axes.set_yscale("log")
            axes.set_title(str(flip), loc="left", fontsize=8)
            tidy(axes)
        for axes in grid.ravel()[dataset.sizes["flip"] :]:
            axes.set_visible(False)
        for axes in grid.ravel()[max(dataset.sizes["flip"] - columns, 0) : dataset.sizes["flip"]]:
            axes.xaxis.set_tick_params(labelbottom=True)
            axes.set_xlabel(axis_label(dataset["step"], width=30))
        for axes in grid[:, 0]:
            axes.set_ylabel(axis_label(dataset[measure], width=26))
        handles = [Line2D([], [], color=_COLOURS[1], label="a line a seed")]
        if "linear_theory" in dataset:
            handles.append(
                Line2D(
                    [], [], color="black", ls="--", label="theory, near where it starts and ends"
                )
            )
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def escape_times(dataset: xr.Dataset) -> Figure:
    """Draw how long every run took to its target, a panel a network, a column a flip condition.

    Dots are seeds, bars their medians, lines join a seed's runs. Triangles on the dashed line are
    runs that were not there when they ended: they took longer than that, and medians count them so.

    Parameters
    ----------
    dataset
        ``hit_epoch`` (activation, gain, flip, seed), with its last epoch where ``censored`` (the
        same dims) is true; ``median_epoch`` (activation, gain, flip), infinite or a number.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> dims = ("activation", "gain", "flip", "seed")
    >>> times = xr.DataArray(np.array([[[[5.0, 9.0], [2.0, 1.0]]]]), dims=dims)
    >>> study = xr.Dataset({"hit_epoch": times, "censored": times == 9})
    >>> study["median_epoch"] = times.min("seed")
    >>> places = {"activation": ["tanh"], "gain": [4.0], "flip": ["none", "one"], "seed": [0, 1]}
    >>> escape_times(study.assign_coords(places)).axes[0].get_title(loc="left")
    'tanh, g = 4'
    """
    dims = ("activation", "gain", "flip", "seed")
    require(dataset, "hit_epoch", "censored", "median_epoch", dims=dims)
    rows, columns = dataset.sizes["gain"], dataset.sizes["activation"]
    flips = [str(flip) for flip in dataset["flip"].values]
    with context():
        size = (0.6 + (0.5 + 0.36 * len(flips)) * columns, 1.0 + 1.7 * rows)
        figure = Figure(figsize=(max(size[0], 4.8), size[1]), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey="col")
        for axes, (i, j) in zip(grid.ravel(), np.ndindex(rows, columns), strict=True):
            one = dataset.isel(gain=i, activation=j)
            _draw_times(axes, one.transpose("flip", "seed"))
            name = f"{one['activation'].item()}, g = {float(one['gain']):g}"
            axes.set_title(name, loc="left", fontsize=8)
            axes.set_xticks(range(len(flips)), flips, rotation=90)
            tidy(axes)
        for axes in grid[:, 0]:
            axes.set_ylabel(axis_label(dataset["hit_epoch"], width=24))
        grey: dict[str, Any] = {"color": "#555555", "linestyle": ""}
        handles = [
            Line2D([], [], **grey, marker="o", markersize=4, label="seed"),
            Line2D([], [], color="#555555", linewidth=2.0, label="median"),
            Line2D(
                [], [], **grey, marker="^", markersize=5, mfc="none", label="not within the run"
            ),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def lyapunov_exponents(dataset: xr.Dataset) -> Figure:
    """Draw the largest Lyapunov exponent of every run with its error, and how far weights wander.

    Bars reach three standard errors to each side: chaos is what stays above zero with them and
    above the dotted line. Open markers are the same runs with half the learning rate.

    Parameters
    ----------
    dataset
        ``exponent`` and ``standard_error`` (condition, seed), ``wandering`` (condition, seed);
        ``exponent_half`` and ``standard_error_half`` or not; the attribute ``smallest_chaos`` or
        not.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> one = xr.DataArray([[0.01, 0.02]], dims=("condition", "seed"))
    >>> found = xr.Dataset(dict.fromkeys(("exponent", "standard_error", "wandering"), one))
    >>> found = found.assign_coords(condition=["20-20-1"], seed=[0, 1])
    >>> len(lyapunov_exponents(found).axes)
    2
    """
    require(dataset, "exponent", "standard_error", "wandering")
    names = [str(name) for name in dataset["condition"].values]
    offsets = np.linspace(-0.28, 0.28, dataset.sizes["seed"]) if dataset.sizes["seed"] > 1 else [0]
    with context():
        size = (1.4 + 0.62 * len(names), 4.6)
        figure = Figure(figsize=(max(size[0], 5.4), size[1]), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        for number, offset in enumerate(offsets):
            one, colour = dataset.isel(seed=number), _COLOURS[1 + number % 6]
            place = np.arange(len(names)) + offset
            style: dict[str, Any] = {"color": colour, "linestyle": "", "elinewidth": 0.9}
            above.errorbar(
                place, one["exponent"], 3 * one["standard_error"], fmt="o", ms=4, **style
            )
            if "exponent_half" in dataset:
                error = 3 * one["standard_error_half"]
                above.errorbar(
                    *(place + 0.09, one["exponent_half"], error),
                    **{"fmt": "o", "ms": 4, "mfc": "white", **style},
                )
            below.plot(place, one["wandering"], "o", color=colour, markersize=4)
        above.axhline(0.0, color="#555555", linewidth=0.8)
        if "smallest_chaos" in dataset.attrs:
            above.axhline(dataset.attrs["smallest_chaos"], color=UNTRAINED_COLOUR, linestyle=":")
        above.set_ylabel(axis_label(dataset["exponent"], width=38))
        below.set_ylabel(axis_label(dataset["wandering"], width=26))
        below.set_yscale("symlog", linthresh=1e-3)
        top = np.nanmax(np.append(dataset["wandering"].values.ravel(), 1e-3))
        below.set_ylim(-2e-4, 3 * top)
        below.set_xticks(range(len(names)), names, rotation=30, ha="right")
        tidy(above)
        tidy(below)
        grey: dict[str, Any] = {"color": "#555555", "linestyle": "", "marker": "o", "ms": 4}
        handles = [Line2D([], [], **grey, label="seed, ± 3 standard errors")]
        if "exponent_half" in dataset:
            handles.append(Line2D([], [], **grey, mfc="white", label="half the learning rate"))
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _draw_times(axes: Axes, one: xr.Dataset) -> None:
    """Draw one panel of `escape_times`."""
    times, censored = one["hit_epoch"].values, one["censored"].values.astype(bool)
    num_seeds = times.shape[1]
    offset = np.linspace(-0.22, 0.22, num_seeds) if num_seeds > 1 else np.zeros(1)
    places = np.arange(times.shape[0])
    for seed in range(num_seeds):
        axes.plot(places + offset[seed], times[:, seed], color="#dddddd", linewidth=0.6, zorder=0)
    for place in places:
        colour, late = _COLOURS[place % len(_COLOURS)], censored[place]
        dots: dict[str, Any] = {"linestyle": "", "color": colour, "markersize": 4}
        axes.plot(place + offset[~late], times[place][~late], marker="o", gid="seed", **dots)
        axes.plot(
            place + offset[late], times[place][late], marker="^", mfc="none", gid="late", **dots
        )
        median = float(one["median_epoch"][place])
        if np.isfinite(median):
            axes.hlines(median, place - 0.34, place + 0.34, color=colour, linewidth=2.0)
    if censored.any():
        end = times[censored].max()
        axes.axhline(
            end, color=UNTRAINED_COLOUR, linestyle="--", linewidth=0.8, gid="end", zorder=0
        )
    axes.set_yscale("log")
    axes.set_xlim(-0.6, len(places) - 0.4)
