"""Curl descent against its theory: phase diagrams with the critical line, and spectra."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import axis_label, context, tidy

_LINE: dict[str, Any] = {
    "color": "black",
    "linestyle": "--",
    "linewidth": 1.4,
    "path_effects": [patheffects.withStroke(linewidth=3.0, foreground="white")],
}
_POINT: dict[str, Any] = {"linestyle": "", "marker": "o", "markeredgewidth": 0.8}
_LARGE: dict[str, Any] = {"linestyle": "", "marker": "x", "color": "#555555", "markersize": 2.6}
#: losses below are drawn alike
_FLOOR = 1e-16
_PANELS = ("final_loss", "growth_start", "growth_end")


def phase_diagram(dataset: xr.Dataset, *, flips: str = "hidden_flips") -> Figure:
    """Draw loss and stability over inputs per neuron and fraction of flips, theory's line dashed.

    Left the loss at the end, in the middle the error's growth rate where learning started, right
    that where it ended: medians over seeds, a cell a setting. Red is unstable. Small circles are
    the seeds' boundaries, larger ones their medians; crosses are cells where steps became too large
    in most seeds, if ``step_size_number`` is there. A cell without a value is grey.

    Parameters
    ----------
    dataset
        ``final_loss``, ``growth_start`` and ``growth_end`` (ratio, `flips`, seed),
        ``boundary`` (ratio, seed), and the theory ``line_ratio`` and ``line_fraction`` (vertex).
    flips
        Dim of the fraction: ``"hidden_flips"`` or ``"readout_flips"``.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> values = xr.DataArray(np.ones((2, 3, 1)), dims=("ratio", "hidden_flips", "seed"))
    >>> names = ("final_loss", "growth_start", "growth_end")
    >>> scan = xr.Dataset(dict.fromkeys(names, values))
    >>> scan["boundary"] = values.isel(hidden_flips=0)
    >>> scan["line_ratio"] = scan["line_fraction"] = xr.DataArray([0.0, 1.0], dims="vertex")
    >>> places = {"ratio": [0.2, 0.4], "hidden_flips": [0.0, 0.5, 1.0], "seed": [0]}
    >>> len(phase_diagram(scan.assign_coords(places)).axes)  # three maps, three bars
    6
    """
    line = ("line_ratio", "line_fraction")
    require(dataset, *_PANELS, "boundary", *line, dims=("ratio", flips, "seed", "vertex"))
    ratio, fraction = dataset["ratio"].values.astype(float), dataset[flips].values.astype(float)
    log = ratio.min() > 0 and ratio.max() > 10 * ratio.min()
    spacing = np.log(ratio) if log else ratio
    edges = np.exp(_edges(spacing)) if log else _edges(spacing)
    with context():
        figure = Figure(figsize=(9.0, 3.3), layout="constrained")
        for axes, name in zip(figure.subplots(1, 3, sharey=True), _PANELS, strict=True):
            median = dataset[name].median("seed").transpose(flips, "ratio").values
            axes.set_facecolor("#bbbbbb")
            mesh = axes.pcolormesh(
                *(edges, _edges(fraction)), np.ma.masked_invalid(median), **_colours(name, median)
            )
            figure.colorbar(mesh, ax=axes, pad=0.02)
            if name == "final_loss":
                _mark_large_steps(axes, dataset, flips)
            axes.plot(dataset["line_ratio"], dataset["line_fraction"], gid="theory", **_LINE)
            if name == "final_loss":
                _draw_boundary(axes, dataset["boundary"])
            if log:
                axes.set_xscale("log")
            axes.set_xlim(edges[0], edges[-1])
            axes.set_ylim(min(0.0, fraction[0]), fraction[-1])
            axes.set_xlabel(axis_label(dataset["ratio"], width=36))
            title = axis_label(dataset[name], width=34)
            axes.set_title(title, loc="left", fontsize=8)
            tidy(axes)
        figure.axes[0].set_ylabel(axis_label(dataset[flips], width=36))
        marks = figure.axes[0].get_legend_handles_labels()[0]
        figure.legend(handles=[*_handles(), *marks], loc="outside lower center", ncols=4)
    return figure


def curl_spectra(dataset: xr.Dataset) -> Figure:
    """Draw eigenvalues of the linearised error dynamics as histograms, the theory's density dashed.

    A panel a flip condition; ticks below are every seed's largest eigenvalue, the vertical dashed
    line the theory's upper edge. Right of zero is unstable.

    Parameters
    ----------
    dataset
        ``eigenvalues`` (flip, seed, eigenvalue), ``density`` and ``density_at`` (flip, vertex),
        ``edge`` (flip).

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> found = xr.Dataset({"eigenvalues": (("flip", "seed", "eigenvalue"), -np.ones((1, 2, 4)))})
    >>> found["density"] = found["density_at"] = (("flip", "vertex"), -np.ones((1, 3)))
    >>> found["edge"] = ("flip", [-0.5])
    >>> found = found.assign_coords(flip=["none"], seed=[0, 1])
    >>> curl_spectra(found).axes[0].get_title(loc="left")
    'none'
    """
    names = ("eigenvalues", "density", "density_at", "edge")
    require(dataset, *names, dims=("flip", "seed", "eigenvalue", "vertex"))
    columns = min(dataset.sizes["flip"], 4)
    rows = -(-dataset.sizes["flip"] // columns)
    with context():
        figure = Figure(figsize=(0.4 + 2.2 * columns, 0.5 + 2.0 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, flip in zip(grid, dataset["flip"].values, strict=False):
            one = dataset.sel(flip=flip)
            values = one["eigenvalues"].values.ravel()
            bins = max(12, min(60, values.size // 30))
            bars = axes.hist(values, bins=bins, density=True, color="#9ecae1", gid="simulation")[0]
            axes.set_ylim(0, 1.3 * float(np.max(bars)))  # a density may have a peak without end
            axes.plot(one["density_at"], one["density"], "k--", linewidth=1.2, gid="theory")
            axes.axvline(float(one["edge"]), color="#D55E00", linestyle="--", linewidth=1.0)
            axes.axvline(0.0, color="#555555", linewidth=0.8)
            top = one["eigenvalues"].max("eigenvalue").values
            axes.plot(
                *(top, np.zeros_like(top), "|"), color="#0072B2", markersize=10, clip_on=False
            )
            axes.set_title(str(flip), loc="left", fontsize=8)
            tidy(axes)
        for axes in grid[dataset.sizes["flip"] :]:
            axes.set_visible(False)
        for axes in grid[::columns]:
            axes.set_ylabel("density")
        for axes in grid[max(dataset.sizes["flip"] - columns, 0) : dataset.sizes["flip"]]:
            axes.set_xlabel(axis_label(dataset["eigenvalues"], width=30))
        handles = [
            Line2D([], [], color="#9ecae1", linewidth=6, label="eigenvalues, all seeds"),
            Line2D([], [], color="black", linestyle="--", label="theory: density"),
            Line2D([], [], color="#D55E00", linestyle="--", label="theory: upper edge"),
            Line2D([], [], color="#0072B2", marker="|", linestyle="", label="largest of a seed"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, 2 * columns))
    return figure


def _colours(name: str, values: np.ndarray) -> dict[str, Any]:
    """Return colour map and scale of a panel: losses log, eigenvalues with white at zero."""
    finite = values[np.isfinite(values)]
    if name == "final_loss":
        top = max(float(finite.max()) if finite.size else 1.0, 10 * _FLOOR)
        return {"cmap": "viridis", "norm": LogNorm(_FLOOR, top, clip=True)}
    # the scale is that of the unstable side; the stable one may reach far below
    size = max(float(finite.max()) if finite.size else 0.0, 1.0)
    return {"cmap": "RdBu_r", "norm": SymLogNorm(0.1, vmin=-size, vmax=size, clip=True)}


def _draw_boundary(axes: Axes, boundary: xr.DataArray) -> None:
    """Draw every seed's boundary, and medians."""
    ratio, style = boundary["ratio"].values, {**_POINT, "markeredgecolor": "black"}
    for seed in boundary.transpose("seed", "ratio"):
        axes.plot(ratio, seed, markerfacecolor="white", markersize=2.6, gid="seed", **style)
    median = boundary.median("seed").values
    axes.plot(ratio, median, markerfacecolor="#D55E00", markersize=5.0, gid="median", **style)


def _mark_large_steps(axes: Axes, dataset: xr.Dataset, flips: str) -> None:
    """Put a cross on each cell whose steps became too large for the flow in most seeds."""
    if "step_size_number" not in dataset:
        return
    large = dataset["step_size_number"].median("seed").transpose("ratio", flips).values > 2
    ratio, fraction = np.meshgrid(dataset["ratio"], dataset[flips], indexing="ij")
    if large.any():
        label = "steps too large for the flow"
        axes.plot(ratio[large], fraction[large], **_LARGE, gid="large steps", label=label)


def _edges(centres: np.ndarray) -> np.ndarray:
    """Return the edges of cells around rising centres, midway between them."""
    if centres.size == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def _handles() -> list[Line2D]:
    """Return the legend's entries of a phase diagram."""
    seed = {**_POINT, "markerfacecolor": "white", "markeredgecolor": "black"}
    return [
        Line2D([], [], **_LINE, label="theory: critical fraction"),
        Line2D([], [], **seed, markersize=2.6, label="simulation: boundary of a seed"),
        Line2D([], [], **{**seed, "markerfacecolor": "#D55E00"}, markersize=5, label="median"),
    ]
