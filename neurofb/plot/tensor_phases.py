"""Phases of tensor decomposition: easy, hard, impossible over noise, prior mean and shape."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neurofb.plot.study import require
from neurofb.plot.style import axis_label, context, tidy

#: threshold -> (colour, what the legend says)
THRESHOLDS = {
    "algorithmic": ("#0072B2", "theory: easy below"),
    "information": ("#D55E00", "theory: impossible above"),
    "spinodal": ("#555555", "theory: no good solution above"),
}
#: algorithm -> (marker, colour of its face, threshold at which it fails by theory)
_BOUNDARIES = {
    "AMP": ("o", "#56B4E9", "algorithmic"),
    "AMP from the truth": ("s", "#BBBBBB", "spinodal"),
}
_REGIONS = {"easy": "#c7e9c0", "hard": "#fdd0a2", "impossible": "#dddddd"}
_WHITE = [patheffects.withStroke(linewidth=2.6, foreground="white")]


def tensor_phase_diagram(dataset: xr.Dataset) -> Figure:
    """Draw phases and the errors of AMP over prior mean and noise, theory's thresholds dashed.

    Left the phases of theory, then the median error of AMP started at the prior, and started at
    the truth; a row a condition. Small markers are the noise at which a seed begins to fail.
    In a white region there is one solution only: the error rises smoothly.

    Parameters
    ----------
    dataset
        ``tensor_error`` (condition, prior_mean, noise_variance, seed, algorithm), ``boundary``
        (condition, prior_mean, seed, algorithm), and theory: ``line_algorithmic``,
        ``line_information``, ``line_spinodal`` (condition, vertex) at ``line_mean`` (vertex).

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> sizes = {"condition": 1, "prior_mean": 2, "noise_variance": 2, "seed": 1, "algorithm": 2}
    >>> error = xr.DataArray(np.ones(tuple(sizes.values())), dims=tuple(sizes))
    >>> found = xr.Dataset({"tensor_error": error, "boundary": error.isel(noise_variance=0)})
    >>> for name in THRESHOLDS:
    ...     found[f"line_{name}"] = (("condition", "vertex"), [[0.1, 0.2]])
    >>> places = {"prior_mean": [0.1, 0.2], "noise_variance": [0.1, 0.2], "seed": [0]}
    >>> places |= {"condition": ["cubic"], "algorithm": ["AMP", "AMP from the truth"]}
    >>> found = found.assign_coords(places | {"line_mean": ("vertex", [0.0, 0.3])})
    >>> len(tensor_phase_diagram(found).axes)  # theory, two maps, their bar
    4
    """
    dims = ("condition", "prior_mean", "noise_variance", "seed", "algorithm", "vertex")
    lines = [f"line_{name}" for name in THRESHOLDS]
    require(dataset, "tensor_error", "boundary", "line_mean", *lines, dims=dims)
    rows, algorithms = dataset.sizes["condition"], dataset["algorithm"].values
    at_most = float(dataset["noise_variance"].max())
    with context():
        figure = Figure(figsize=(8.6, 0.7 + 2.4 * rows), layout="constrained")
        grid = figure.subplots(rows, 1 + len(algorithms), sharex=True, sharey=True, squeeze=False)
        for row, condition in zip(grid, dataset["condition"].values, strict=True):
            one = dataset.sel(condition=condition)
            _fill(row[0], one, at_most)
            for axes, algorithm in zip(row[1:], algorithms, strict=True):
                median = one["tensor_error"].sel(algorithm=algorithm).median("seed")
                axes.pcolormesh(
                    *(_edges(one[name].values) for name in ("prior_mean", "noise_variance")),
                    median.transpose("noise_variance", "prior_mean").values,
                    cmap="viridis_r",
                    vmin=0.0,
                    vmax=1.0,
                )
                axes.set_title(f"{algorithm}: median error", loc="left", fontsize=8)
                _draw_boundary(axes, one, str(algorithm))
            for axes in row:
                for name, (colour, _) in THRESHOLDS.items():
                    line = one[f"line_{name}"]
                    axes.plot(one["line_mean"], line, "--", color=colour, path_effects=_WHITE)
                axes.set_ylim(0, _edges(dataset["noise_variance"].values)[-1])
                tidy(axes)
            row[0].set_title(str(condition), loc="left", fontsize=8, fontweight="bold")
            row[0].set_ylabel(axis_label(dataset["noise_variance"], width=30))
            figure.colorbar(
                row[-1].collections[0], ax=row[-1], label="error of the tensor", extend="max"
            )
        for axes in grid[-1]:
            axes.set_xlabel(axis_label(dataset["prior_mean"], width=32))
        grid[0, 0].set_xlim(*_edges(dataset["prior_mean"].values)[[0, -1]])
        handles = [Patch(color=colour, label=name) for name, colour in _REGIONS.items()]
        handles.append(Patch(facecolor="white", edgecolor="#aaaaaa", label="smooth"))
        figure.legend(handles=handles + _handles(algorithms), loc="outside lower center", ncols=4)
    return figure


def hard_phase_width(dataset: xr.Dataset) -> Figure:
    """Draw thresholds over the shape of the tensor, and the width of the hard phase below them.

    Dashed is theory; markers are seeds: where AMP from the prior (circles) and from the truth
    (squares) begins to fail, at the size of the simulation.

    Parameters
    ----------
    dataset
        ``line_algorithmic``, ``line_information``, ``line_spinodal`` (vertex) at ``line_ratio``
        (vertex); ``boundary`` (shape_ratio, seed, algorithm), or not.

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> found = xr.Dataset({f"line_{name}": ("vertex", [0.1, 0.2]) for name in THRESHOLDS})
    >>> found["line_ratio"] = ("vertex", [0.5, 1.0])
    >>> [axes.get_xscale() for axes in hard_phase_width(found).axes]
    ['log', 'log']
    """
    lines = [f"line_{name}" for name in THRESHOLDS]
    require(dataset, "line_ratio", *lines, dims=("vertex",))
    with context():
        figure = Figure(figsize=(6.6, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, (colour, _) in THRESHOLDS.items():
            left.plot(dataset["line_ratio"], dataset[f"line_{name}"], "--", color=colour)
        width = dataset["line_information"] - dataset["line_algorithmic"]
        right.plot(dataset["line_ratio"], width, "k--", gid="theory")
        right.axvline(1.0, color="#bbbbbb", linewidth=0.8, zorder=0)
        algorithms: Any = []
        if "boundary" in dataset:
            algorithms = dataset["algorithm"].values
            for algorithm in algorithms:
                _draw_boundary(left, dataset, str(algorithm), along="shape_ratio")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlabel("first side over the geometric mean of all")
            tidy(axes)
        left.set_ylabel("noise variance Δ")
        right.set_ylabel("width of the hard phase along Δ, theory")
        right.set_ylim(bottom=0)
        figure.legend(handles=_handles(algorithms), loc="outside lower center", ncols=3)
    return figure


def _fill(axes: Axes, one: xr.Dataset, at_most: float) -> None:
    """Fill the phases of theory where there are any."""
    mean = one["line_mean"].values
    low, high = (one[f"line_{name}"].values for name in ("algorithmic", "information"))
    axes.fill_between(mean, 0, low, color=_REGIONS["easy"], linewidth=0)
    axes.fill_between(mean, low, high, color=_REGIONS["hard"], linewidth=0)
    top = np.where(np.isnan(high), np.nan, 2 * at_most)
    axes.fill_between(mean, high, top, color=_REGIONS["impossible"], linewidth=0)


def _draw_boundary(
    axes: Axes, one: xr.Dataset, algorithm: str, *, along: str = "prior_mean"
) -> None:
    """Draw where every seed begins to fail."""
    marker, colour, _ = _BOUNDARIES[algorithm]
    for seed in one["boundary"].sel(algorithm=algorithm).transpose("seed", along):
        axes.plot(
            *(seed[along], seed, marker),
            markersize=3.2,
            markerfacecolor=colour,
            markeredgecolor="black",
            markeredgewidth=0.6,
            gid="seed",
        )


def _handles(algorithms: Any) -> list[Any]:
    """Return the legend's entries of thresholds and of boundaries."""
    lines: list[Any] = [
        Line2D([], [], color=colour, linestyle="--", label=text)
        for colour, text in THRESHOLDS.values()
    ]
    for algorithm in algorithms:
        marker, colour, _ = _BOUNDARIES[str(algorithm)]
        style: dict[str, Any] = {
            "marker": marker,
            "markerfacecolor": colour,
            "markeredgecolor": "black",
        }
        text = f"{algorithm}: a seed begins to fail"
        lines.append(Line2D([], [], linestyle="", markersize=4, label=text, **style))
    return lines


def _edges(centres: np.ndarray) -> np.ndarray:
    """Return the edges of cells around rising centres, midway between them."""
    if centres.size == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
