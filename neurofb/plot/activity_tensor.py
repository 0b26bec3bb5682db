"""Tensors of activity: errors of decompositions by rank and noise, and what components are."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, context, tidy

#: algorithm -> (colour, marker); the colours of `tensor_errors`
_LOOKS = {
    "AMP": ("#0072B2", "o"),
    "ALS, random start": ("#D55E00", "o"),
    "ALS, SVD start": ("#E69F00", "^"),
}
_COMPONENTS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_NULL: dict[str, Any] = {"color": UNTRAINED_COLOUR, "linestyle": ":", "linewidth": 1.2}


def activity_errors(dataset: xr.Dataset) -> Figure:
    """Draw the error on held-out trials over the rank: a row a condition, a column a noise.

    Small markers are seeds, lines their medians. The dotted line is the null, the grand mean in
    every entry (median of seeds); 0 is perfect, 1 is what zeros get.

    Parameters
    ----------
    dataset
        `held_out_error` (condition, seed, algorithm, noise_ratio, rank) and `error_of_mean`
        (condition, seed, noise_ratio).

    Raises
    ------
    ValueError
        If a variable or dim is missing.

    Examples
    --------
    >>> dims = ("condition", "seed", "algorithm", "noise_ratio", "rank")
    >>> places = (["trained"], [0], ["AMP"], [0], [1])
    >>> error = xr.DataArray(np.ones((1,) * 5), dict(zip(dims, places, strict=True)), dims)
    >>> mean = error.isel(algorithm=0, rank=0, drop=True)
    >>> figure = activity_errors(xr.Dataset({"held_out_error": error, "error_of_mean": mean}))
    >>> figure.axes[0].get_title(loc="left")
    'trained, no added noise'
    """
    dims = ("condition", "seed", "algorithm", "noise_ratio", "rank")
    require(dataset, "held_out_error", "error_of_mean", dims=dims)
    conditions, ratios = dataset["condition"].values, dataset["noise_ratio"].values
    methods = [str(name) for name in dataset["algorithm"].values]
    with context():
        size = (0.6 + 1.75 * len(ratios), 0.9 + 1.45 * len(conditions))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(
            len(conditions), len(ratios), sharex=True, sharey="row", squeeze=False
        )
        for row, condition in zip(grid, conditions, strict=True):
            for axes, ratio in zip(row, ratios, strict=True):
                one = dataset.sel(condition=condition, noise_ratio=ratio)
                _draw_errors(axes, one, methods)
                noise = f"noise × {ratio:g}" if ratio else "no added noise"
                axes.set_title(f"{condition}, {noise}", loc="left", fontsize=7)
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
                axes.yaxis.set_minor_locator(NullLocator())
                tidy(axes)
        for axes in grid[-1]:
            axes.set_xlabel("components")
        figure.supylabel(axis_label(dataset["held_out_error"]), fontsize=8)
        handles = [
            Line2D([], [], color=_look(name)[0], marker=_look(name)[1], markersize=3, label=name)
            for name in methods
        ]
        handles.append(Line2D([], [], label="grand mean (null)", **_NULL))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def activity_factors(dataset: xr.Dataset) -> Figure:
    """Draw components along training: units, gratings, and their size over steps.

    Bars and bands are one posterior standard deviation on either side; units are in the order of
    the first component. Gratings are a map, orientation against frequency, a component each.

    Parameters
    ----------
    dataset
        `unit_factor` and `unit_variance` (unit, component), `stimulus_factor` (stimulus,
        component), `step_factor` and `step_variance` (step, component), coordinates orientation and
        frequency (stimulus).

    Raises
    ------
    ValueError
        If a variable or dim is missing.

    Examples
    --------
    >>> one = lambda dim: xr.Variable((dim, "component"), np.ones((2, 1)))
    >>> names = [f"{d}_{w}" for d in ("unit", "stimulus", "step") for w in ("factor", "variance")]
    >>> found = xr.Dataset({name: one(name.split("_")[0]) for name in names})
    >>> places = {"step": [0, 1], "component": [0]}
    >>> places |= {"orientation": ("stimulus", [0, 90]), "frequency": ("stimulus", [0.1, 0.1])}
    >>> len(activity_factors(found.assign_coords(places)).axes)
    3
    """
    names = ("unit_factor", "unit_variance", "stimulus_factor", "step_factor", "step_variance")
    require(
        dataset,
        *names,
        "orientation",
        "frequency",
        dims=("unit", "stimulus", "step", "component"),
    )
    number = dataset.sizes["component"]
    order = np.argsort(-dataset["unit_factor"].isel(component=0).values)
    rows = np.unique(dataset["frequency"].values)
    columns = np.unique(dataset["orientation"].values)
    with context():
        figure = Figure(figsize=(7.2, 0.6 + 1.3 * number), layout="constrained")
        grid = figure.subplots(number, 3, squeeze=False, sharex="col", width_ratios=(1.3, 1, 1))
        for k, (units, gratings, steps) in enumerate(grid):
            one, colour = dataset.isel(component=k), _COMPONENTS[k % len(_COMPONENTS)]
            sd = one["unit_variance"].values[order] ** 0.5
            places = np.arange(len(order))
            units.bar(
                places, one["unit_factor"].values[order], color=colour, yerr=sd, error_kw=_BAR
            )
            table = np.full((len(rows), len(columns)), np.nan)
            where = (
                np.searchsorted(rows, one["frequency"].values),
                np.searchsorted(columns, one["orientation"].values),
            )
            table[where] = one["stimulus_factor"].values
            gratings.imshow(table, aspect="auto", origin="lower", cmap="viridis")
            gratings.set_yticks(range(len(rows)), [f"{row:g}" for row in rows])
            size, sd = one["step_factor"].values, one["step_variance"].values ** 0.5
            at = dataset["step"].values
            steps.fill_between(at, size - sd, size + sd, color=colour, alpha=0.3, linewidth=0)
            steps.plot(at, size, color=colour, marker="o", markersize=2.5)
            units.set_ylabel(f"component {k + 1}")
            tidy(units)
            tidy(steps)
        last = grid[-1]
        last[0].set_xlabel("unit, in order of the first component")
        shown = range(0, len(columns), max(len(columns) // 4, 1))
        last[1].set_xticks(list(shown), [f"{columns[i]:g}" for i in shown])
        last[1].set_xlabel("orientation (degree)")
        last[2].set_xlabel(axis_label(dataset["step"], width=30))
        for axes, text in zip(grid[0], ("units", "frequency (cycle / pixel)", "size"), strict=True):
            axes.set_title(text, loc="left", fontsize=8)
    return figure


_BAR: dict[str, Any] = {"elinewidth": 0.7, "ecolor": "black"}


def _look(name: str) -> tuple[str, str]:
    return _LOOKS.get(name, ("#777777", "s"))


def _draw_errors(axes: Axes, one: xr.Dataset, methods: list[str]) -> None:
    """Draw the methods' seeds and medians over the rank, and the null."""
    axes.axhline(float(one["error_of_mean"].median()), gid="null", **_NULL)
    places = np.arange(one.sizes["rank"])
    for shift, name in zip(np.linspace(-0.12, 0.12, len(methods)), methods, strict=True):
        colour, marker = _look(name)
        values = one["held_out_error"].sel(algorithm=name).transpose("seed", "rank")
        for seed in values.values:
            axes.plot(
                places + shift, seed, marker, color=colour, markersize=2, alpha=0.5, linestyle=""
            )
        axes.plot(places + shift, values.median("seed"), color=colour, gid=name)
    axes.set_xticks(places, [f"{rank}" for rank in one["rank"].values])
