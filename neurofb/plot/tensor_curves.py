"""Errors of tensor decompositions: over noise by algorithm, and over sweeps by schedule."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neurofb.plot.study import require
from neurofb.plot.style import axis_label, context, tidy

#: algorithm -> (colour, marker); others get grey
_LOOKS = {
    "AMP": ("#0072B2", "o"),
    "AMP from the truth": ("#56B4E9", "s"),
    "ALS, random start": ("#D55E00", "o"),
    "ALS, SVD start": ("#E69F00", "^"),
    "ALS, start at the prior mean": ("#CC79A7", "D"),
    "ALS from the truth": ("#F0C0A0", "s"),
}
_THEORY = {"prior": ("black", "--"), "truth": ("#777777", (0, (1.5, 1.5)))}
_SEEDS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MAX_COLUMNS = 3


def tensor_errors(dataset: xr.Dataset) -> Figure:
    """Draw the error of every algorithm over noise, each seed and medians, state evolution dashed.

    A panel a condition. Dashed is state evolution from the prior, dotted from the truth; vertical
    bands are the hard phase. The grey line is the null: the tensor of the prior's means.

    Parameters
    ----------
    dataset
        ``tensor_error`` (noise_variance, seed, algorithm, and condition or not), ``error_theory``
        (noise_variance, start), ``mean_error``; ``algorithmic`` and ``information`` or not; a finer
        curve of theory or not: ``line_error`` (vertex, start) at ``line_noise`` (vertex).

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> error = xr.DataArray(np.ones((2, 1, 1)), dims=("noise_variance", "seed", "algorithm"))
    >>> found = xr.Dataset({"tensor_error": error, "mean_error": 1.0})
    >>> found["error_theory"] = (("noise_variance", "start"), np.ones((2, 2)))
    >>> places = {"noise_variance": [0.1, 0.2], "seed": [0], "algorithm": ["AMP"]}
    >>> figure = tensor_errors(found.assign_coords(places | {"start": ["prior", "truth"]}))
    >>> len(figure.axes)
    1
    """
    dims = ("noise_variance", "seed", "algorithm", "start")
    require(dataset, "tensor_error", "error_theory", "mean_error", dims=dims)
    if "condition" not in dataset.dims:
        dataset = dataset.expand_dims(condition=[""])
    number = dataset.sizes["condition"]
    columns = min(number, _MAX_COLUMNS)
    rows, log = -(-number // columns), float(dataset["tensor_error"].max()) > 3
    with context():
        size = (
            0.8 + (4.6 if number == 1 else 2.7 * columns),
            1.0 + (2.6 if rows == 1 else 2.1 * rows),
        )
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, condition in zip(grid.ravel(), dataset["condition"].values, strict=False):
            one = dataset.sel(condition=condition)
            _draw(axes, one.dropna("noise_variance", how="all", subset=["tensor_error"]))
            axes.set_title(str(condition), loc="left", fontsize=8)
            if log:
                axes.set_yscale("log")
                axes.set_ylim(bottom=0.6 * float(one["tensor_error"].min()))
            tidy(axes)
        for axes in grid.ravel()[number:]:
            axes.set_visible(False)
        for axes in grid.ravel()[max(number - columns, 0) : number]:
            axes.set_xlabel(axis_label(dataset["noise_variance"], width=40))
        for axes in grid[:, 0]:
            axes.set_ylabel(axis_label(dataset["tensor_error"], width=32))
        figure.legend(
            handles=_handles(dataset), loc="outside lower center", ncols=min(3, 2 * columns)
        )
    return figure


def schedule_traces(dataset: xr.Dataset) -> Figure:
    """Draw the error of the tensor over sweeps, a row a noise variance, a column a schedule.

    A line a seed, dashed state evolution from the same start (for schedules that it describes:
    all axes at once), dotted its fixed point.

    Parameters
    ----------
    dataset
        ``error_trace`` (noise_variance, schedule, seed, sweep), NaN after a run has converged;
        ``fixed_error`` (noise_variance), and ``theory_trace`` (noise_variance, schedule, sweep).

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> dims = ("noise_variance", "schedule", "seed", "sweep")
    >>> found = xr.Dataset({"error_trace": (dims, np.ones((1, 2, 1, 3)))})
    >>> found["theory_trace"] = found["error_trace"].isel(seed=0)
    >>> found["fixed_error"] = ("noise_variance", [0.5])
    >>> places = {"noise_variance": [0.1], "schedule": ["a", "b"], "seed": [0], "sweep": [1, 2, 3]}
    >>> [axes.get_title(loc="left") for axes in schedule_traces(found.assign_coords(places)).axes]
    ['a', 'b']
    """
    dims = ("noise_variance", "schedule", "seed", "sweep")
    require(dataset, "error_trace", "fixed_error", "theory_trace", dims=dims)
    deltas, schedules = dataset["noise_variance"].values, dataset["schedule"].values
    with context():
        size = (0.8 + 2.3 * len(schedules), 0.8 + 1.6 * len(deltas))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(
            *(len(deltas), len(schedules)), sharex=True, sharey=True, squeeze=False
        )
        for (i, delta), (j, schedule) in (
            (a, b) for a in enumerate(deltas) for b in enumerate(schedules)
        ):
            axes, one = grid[i, j], dataset.sel(noise_variance=delta, schedule=schedule)
            for number, seed in enumerate(dataset["seed"].values):
                colour = _SEEDS[number % len(_SEEDS)]
                trace = one["error_trace"].sel(seed=seed)
                axes.plot(dataset["sweep"], trace, color=colour, linewidth=1.0, gid="seed")
            axes.plot(dataset["sweep"], one["theory_trace"], "k--", linewidth=1.0, gid="theory")
            axes.axhline(float(one["fixed_error"]), color="black", linestyle=":", linewidth=0.9)
            axes.set_xscale("log")
            axes.set_yscale("log")
            if i == 0:
                axes.set_title(str(schedule), loc="left", fontsize=8)
            tidy(axes)
        for axes, delta in zip(grid[:, 0], deltas, strict=True):
            axes.set_ylabel(f"error of the tensor,\nΔ = {delta:g}")
        for axes in grid[-1]:
            axes.set_xlabel(axis_label(dataset["sweep"], width=30))
        handles = [
            Line2D([], [], color=_SEEDS[0], label="AMP, a line a seed"),
            Line2D([], [], color="black", linestyle="--", label="state evolution"),
            Line2D([], [], color="black", linestyle=":", label="its fixed point"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _draw(axes: Axes, one: xr.Dataset) -> None:
    """Draw a panel: theory, null, medians and every seed."""
    names = {str(name) for name in one.variables}
    if {"algorithmic", "information"} <= names:
        hard = [float(one[name]) for name in ("algorithmic", "information")]
        low, high = one["noise_variance"].values[[0, -1]]
        if np.isfinite(hard).all() and hard[0] < high:
            axes.axvspan(max(hard[0], low), min(hard[1], high), color="#fdd0a2", alpha=0.5, lw=0)
    axes.axhline(float(one["mean_error"]), color="#999999", linewidth=0.8, gid="null")
    for start in one["start"].values[::-1]:
        colour, style = _THEORY[str(start)]
        places, theory = one["noise_variance"], one["error_theory"].sel(start=start)
        if "line_error" in names:
            places, theory = one["line_noise"], one["line_error"].sel(start=start)
        axes.plot(places, theory, color=colour, linestyle=style, linewidth=1.4, gid="theory")
    at = one["noise_variance"].values
    apart = 0.008 * (at[-1] - at[0])  # markers side by side
    for number, algorithm in enumerate(one["algorithm"].values):
        colour, marker = _LOOKS.get(str(algorithm), ("#777777", "x"))
        error = one["tensor_error"].sel(algorithm=algorithm)
        if bool(error.isnull().all()):
            continue
        axes.plot(at, error.median("seed"), color=colour, linewidth=1.0, gid="median")
        for seed in error.transpose("seed", "noise_variance"):
            place = at + apart * (number - (one.sizes["algorithm"] - 1) / 2)
            axes.plot(place, seed, marker, color=colour, markersize=2.4, linestyle="", gid="seed")


def _handles(dataset: xr.Dataset) -> list[Any]:
    """Return the legend's entries."""
    handles: list[Any] = [
        Line2D([], [], color=colour, marker=marker, markersize=3, label=name)
        for name, (colour, marker) in _LOOKS.items()
        if name in dataset["algorithm"].values
    ]
    for start, (colour, style) in _THEORY.items():
        text = f"state evolution from the {start}"
        handles.append(Line2D([], [], color=colour, linestyle=style, label=text))
    handles.append(Line2D([], [], color="#999999", linewidth=0.8, label="null: prior means"))
    if "algorithmic" in dataset and bool(dataset["algorithmic"].notnull().any()):
        handles.append(Patch(color="#fdd0a2", alpha=0.5, label="hard phase, theory"))
    return handles
