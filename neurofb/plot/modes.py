"""Modes that linear networks learn: their curves over training, and where they end."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, context, tidy

#: how a curve of theory looks
THEORY: dict[str, Any] = {"color": "black", "linestyle": (0, (3, 2)), "linewidth": 0.7}
#: one a seed
MARKERS = "osD^vP*"


def learned_modes(
    dataset: xr.Dataset, *, conditions: Sequence[str] | None = None, seed: int | None = None
) -> Figure:
    """Draw the share of every mode that is learned, a column a condition.

    Above over the steps, one seed: as many modes as the feedback has dimensions are coloured, the
    strongest darkest, the others grey; dashed is theory. Below at the end: a marker a seed, dashed
    theory (median of the seeds), the vertical line behind the last mode for which the feedback has
    a dimension. Shares below −0.5 and above 2, of what is about to diverge, are off the axes.

    Parameters
    ----------
    dataset
        `overlap` (condition, seed, step, mode), `overlap_theory` like it or not at all, and the
        coordinate `rank` (condition).
    conditions
        Names of those to draw; all by default.
    seed
        Whose curves; the first by default.

    Raises
    ------
    ValueError
        If a variable, a dim or a condition is missing.

    Examples
    --------
    >>> share = np.linspace(0, 1, 6).reshape(1, 1, 3, 2)
    >>> coords = {"condition": ["BP"], "seed": [0], "step": [0, 10, 20], "mode": [1, 2]}
    >>> made = xr.Dataset({"overlap": (tuple(coords), share)}, coords)
    >>> figure = learned_modes(made.assign_coords(rank=("condition", [2])))
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['BP', '']
    """
    require(dataset, "overlap", "rank", dims=("condition", "seed", "step", "mode"))
    names = [str(name) for name in dataset["condition"].values]
    chosen = names if conditions is None else list(conditions)
    for name in chosen:
        if name not in names:
            raise ValueError(f"conditions={chosen}: {name!r} is none of {', '.join(names)}")
    seed = int(dataset["seed"].values[0]) if seed is None else seed
    if seed not in dataset["seed"].values:
        raise ValueError(f"seed={seed} is none of {dataset['seed'].values.tolist()}")
    with context():
        size = (max(0.7 + 1.75 * len(chosen), 3.4), 4.1)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(2, len(chosen), sharex="row", sharey="row", squeeze=False)
        for column, name in zip(grid.T, chosen, strict=True):
            one = dataset.sel(condition=name)
            _draw_curves(column[0], one.sel(seed=seed))
            _draw_ends(column[1], one)
            title = textwrap.fill(name, 20)
            column[0].set_title(title, loc="left", fontsize=7.5, fontweight="bold")
            column[0].set_xlabel("step (log scale)")
            column[1].set_xlabel("mode, strongest first")
            column[1].xaxis.set_major_locator(MaxNLocator(integer=True))
            tidy(column[0])
            tidy(column[1])
        grid[0, 0].set_ylabel(f"{axis_label(dataset['overlap'], width=24)}, seed {seed}")
        grid[1, 0].set_ylabel("the same at the end,\nall seeds")
        grid[0, 0].set_xscale("log")
        for row in grid[:, 0]:
            low, high = row.get_ylim()
            row.set_ylim(max(min(low, -0.05), -0.5), min(max(high, 1.05), 2.0))
        handles = [
            Line2D([], [], color=_shades(2)[0], label="first mode …"),
            Line2D([], [], color=_shades(2)[1], label="… r-th mode"),
            Line2D([], [], color=UNTRAINED_COLOUR, label="other modes"),
            *seed_handles(dataset),
        ]
        if "overlap_theory" in dataset:
            label = "theory (below: median of the seeds)"
            handles.append(Line2D([], [], label=label, **THEORY))
        ncols = max(3, min(len(handles), 2 * len(chosen) - 1))
        figure.legend(handles=handles, loc="outside lower center", ncols=ncols)
    return figure


def mode_endpoints(dataset: xr.Dataset) -> Figure:
    """Draw what was learned of each mode against what theory says of it, a panel a condition.

    Parameters
    ----------
    dataset
        `overlap` and `endpoint` (condition, seed, mode): shares at the end, and those of theory.

    Raises
    ------
    ValueError
        If a variable or dim is missing.

    Examples
    --------
    >>> dims = ("condition", "seed", "mode")
    >>> made = xr.Dataset({name: (dims, [[[0.9, 0.1]]]) for name in ("overlap", "endpoint")})
    >>> figure = mode_endpoints(made.assign_coords(condition=["FA r=1"], seed=[0]))
    >>> figure.axes[0].get_title(loc="left")
    'FA r=1'
    """
    require(dataset, "overlap", "endpoint", dims=("condition", "seed", "mode"))
    with context():
        count = dataset.sizes["condition"]
        columns = 2 if count == 4 else min(count, 3)
        rows = -(-count // columns)
        figure = Figure(figsize=(0.6 + 2.0 * columns, 0.7 + 1.9 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip(grid.ravel(), dataset["condition"].values, strict=False):
            axes.plot([0, 1], [0, 1], gid="theory", **THEORY)
            for i in range(dataset.sizes["seed"]):
                one = dataset.sel(condition=name).isel(seed=i)
                style = {"s": 10, "alpha": 0.7, "linewidths": 0, "marker": MARKERS[i % 7]}
                axes.scatter(one["endpoint"], one["overlap"], color="#0072B2", **style)
            axes.set_title(str(name), loc="left", fontsize=7.5, fontweight="bold")
            tidy(axes)
        for axes in grid.ravel()[count:]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel(axis_label(dataset["endpoint"], width=24))
        for axes in grid[:, 0]:
            axes.set_ylabel(axis_label(dataset["overlap"], width=24))
        handles = [*seed_handles(dataset), Line2D([], [], label="theory", **THEORY)]
        figure.legend(handles=handles, loc="outside lower center", ncols=6)
    return figure


def seed_handles(dataset: xr.Dataset) -> list[Line2D]:
    """Return a legend entry for each seed.

    Examples
    --------
    >>> [handle.get_label() for handle in seed_handles(xr.Dataset(coords={"seed": [3]}))]
    ['seed 3']
    """
    style: dict[str, Any] = {"color": "#555555", "linestyle": "", "markersize": 3.5}
    return [
        Line2D([], [], marker=MARKERS[i % 7], label=f"seed {seed}", **style)
        for i, seed in enumerate(dataset["seed"].values)
    ]


def _draw_curves(axes: Axes, one: xr.Dataset) -> None:
    """Draw one seed's modes over the steps."""
    steps, rank = one["step"].values, int(one["rank"])
    shown = steps > 0
    overlap = one["overlap"].transpose("step", "mode").values[shown]
    leading = min(rank, overlap.shape[1])
    colours = _shades(leading)
    others = overlap[:, leading:]
    axes.plot(steps[shown], others, color=UNTRAINED_COLOUR, linewidth=1.4, alpha=0.6)
    for mode in range(leading):
        line = axes.plot(steps[shown], overlap[:, mode], color=colours[mode], linewidth=1.6)[0]
        line.set_gid(f"mode {mode + 1}")
    if "overlap_theory" in one:
        theory = one["overlap_theory"].transpose("step", "mode").values[shown]
        axes.plot(steps[shown], theory, gid="theory", **THEORY)


def _draw_ends(axes: Axes, one: xr.Dataset) -> None:
    """Draw every seed's modes at the end."""
    end = one.isel(step=-1)
    modes = end["mode"].values
    rank = int(end["rank"])
    if rank < modes.size:
        axes.axvline(modes[rank - 1] + 0.5, color=UNTRAINED_COLOUR, linewidth=0.7)
    leading = min(rank, modes.size)
    colours = [to_hex(colour) for colour in _shades(leading)]
    colours += [UNTRAINED_COLOUR] * (modes.size - leading)
    for i, share in enumerate(end["overlap"].transpose("seed", "mode").values):
        style = {"s": 9, "linewidths": 0, "alpha": 0.8, "zorder": 3}
        axes.scatter(modes, share, c=colours, marker=MARKERS[i % 7], **style)
    if "overlap_theory" in end:
        axes.plot(modes, end["overlap_theory"].median("seed", skipna=False), gid="theory", **THEORY)


def _shades(count: int) -> np.ndarray:
    """Return colours of the leading modes, dark to light."""
    return mpl.colormaps["viridis"](np.linspace(0.05, 0.92, count))
