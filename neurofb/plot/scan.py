"""The measures and curves of a scan against its axes.

The dims of a scan are any names; ``seed`` is the one whose values are repeats. The first axis of
numbers lies on x, the next axis gets the colours, and what is left becomes panels.
"""

import itertools
import textwrap
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.scan_map import plain_text, value_text
from neurofb.plot.study import require
from neurofb.plot.style import NOISE_COLOUR, UNTRAINED_COLOUR, axis_label, context, tidy

#: panels of one figure; more are left out, and the figure says so
MOST_PANELS = 12
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8c564b")
_NULLS = {
    "_untrained": (UNTRAINED_COLOUR, "untrained network"),
    "_noise": (NOISE_COLOUR, "noise of the same spectrum"),
}


@dataclass(frozen=True)
class _Layout:
    """Which axis lies where: `x` and `colour` are dims, or ''; `panels` are selections."""

    x: str
    colour: str
    panels: list[dict[str, int]]
    num_left_out: int = 0


def scan_measure(dataset: xr.Dataset, name: str) -> Figure:
    """Draw a measure of a scan against its axes: dots are cells, lines medians over seeds.

    Where the dataset has the measure's nulls, `name` with ``_untrained`` or ``_noise``, these are
    drawn behind it, dashed the median over all seeds and colours. An axis of words runs down the
    page, with a bar for the median.

    Parameters
    ----------
    dataset
        With the variable `name` over the scan's dims (NaN where a cell is not done).
    name
        The measure.

    Raises
    ------
    ValueError
        If there is no such variable, it has no dim, or no finite value.

    Examples
    --------
    >>> values = xr.DataArray([[0.5, 0.7], [0.8, 0.9]], dims=("rank", "seed"))
    >>> scan = xr.Dataset({"accuracy": values}, {"rank": [1, 4], "seed": [0, 1]})
    >>> scan_measure(scan, "accuracy").axes[0].lines[0].get_ydata().round(2).tolist()
    [0.6, 0.85]
    """
    values = _finite(dataset, name)
    layout = _layout(values)
    axis = values[layout.x]
    at, note = _places(axis)
    words = axis.dtype.kind not in "iuf"
    colours = _colours(values, layout.colour)
    nulls = {
        end: _finite(dataset, name + end)
        for end in _NULLS
        if name + end in dataset and dataset[name + end].notnull().any()
    }
    with context():
        height = 0.24 * at.size + 0.6 if words else 2.6
        figure, grid = _figure(values, layout, height)
        gap = float(np.diff(np.unique(at)).min()) if at.size > 1 else 1.0
        shifts = gap * 0.4 * ((np.arange(len(colours)) + 0.5) / len(colours) - 0.5)
        for axes, panel in zip(grid, layout.panels, strict=True):
            for end, null in nulls.items():
                _draw(axes, null.isel(panel), layout.x, at, _NULLS[end][0], words, "--")
            for index, (colour, shift) in enumerate(zip(colours, shifts, strict=True)):
                one = values.isel(panel).isel({layout.colour: index} if layout.colour else {})
                _draw(axes, one, layout.x, at + shift, colour, words, "-")
            _name_places(axes, axis, at, words, len(grid) == 1)
            tidy(axes)
        along, across = axis_label(axis) + note, axis_label(values)
        _name_axes(grid, across if words else along, "" if words else across)
        _legend(figure, values, layout, colours, list(nulls))
    return figure


def scan_curves(dataset: xr.Dataset, name: str, *, along: str = "step") -> Figure:
    """Draw curves of a scan: thin lines are cells, thick lines medians over seeds.

    The axis that lies on x in `scan_measure` gets the colours, the others become panels.

    Parameters
    ----------
    dataset
        With the variable `name` over the scan's dims and `along`.
    name
        The variable.
    along
        The dim on x, such as ``step`` or ``epoch``.

    Raises
    ------
    ValueError
        If there is no such variable or dim, or no finite value.

    Examples
    --------
    >>> values = xr.DataArray([[[2.0, 1.0], [2.0, 0.5]]], dims=("rank", "seed", "step"))
    >>> scan = xr.Dataset({"loss": values}, {"rank": [1], "seed": [0, 1], "step": [0, 1]})
    >>> len(scan_curves(scan, "loss").axes[0].lines)
    3
    """
    require(dataset, name, dims=(along,))
    values = _finite(dataset, name, keep=along)
    first = _layout(values.isel({along: 0})).x if values.ndim > 1 else ""
    colour = "" if first == "seed" else first
    panels = [str(d) for d in values.dims if d not in (colour, along, "seed")]
    layout = _Layout(along, colour, *_panels(values, panels))
    at, colours = np.asarray(values[along].values, dtype=float), _colours(values, colour)
    with context():
        figure, grid = _figure(values, layout, 2.6)
        for axes, panel in zip(grid, layout.panels, strict=True):
            for index, shade in enumerate(colours):
                one = values.isel(panel).isel({colour: index} if colour else {})
                if "seed" in one.dims:
                    lines = one.transpose(along, "seed").values
                    axes.plot(at, lines, color=shade, linewidth=0.5, alpha=0.5, gid="seed")
                    one = one.median("seed", skipna=True)
                axes.plot(at, one.values, color=shade, linewidth=1.8, zorder=3, gid="median")
            tidy(axes)
        _name_axes(grid, axis_label(values[along]), axis_label(values))
        _legend(figure, values, layout, colours, [])
    return figure


def _finite(dataset: xr.Dataset, name: str, keep: str = "seed") -> xr.DataArray:
    """Return a variable as floats, dims of one value left out, a coordinate for every other."""
    require(dataset, name, dims=())
    values = dataset[name].astype(float).assign_attrs(dataset[name].attrs)
    if not values.ndim or not np.isfinite(values.values).any():
        raise ValueError(f"dataset has no finite value of {name!r} over a dim: nothing to draw")
    single = [d for d in values.dims if values.sizes[d] == 1 and d not in ("seed", keep)]
    if len(single) == values.ndim:
        single = single[1:]
    missing = {d: np.arange(values.sizes[d]) for d in values.dims if d not in values.coords}
    return values.assign_coords(missing).squeeze(single, drop=True)


def _layout(values: xr.DataArray) -> _Layout:
    """Choose the axes of x and of colour, and the panels."""
    axes = [str(d) for d in values.dims if d != "seed"]
    numbers = [dim for dim in axes if values[dim].dtype.kind in "iuf"]
    x = (numbers or axes or ["seed"])[0]
    others = [dim for dim in axes if dim != x]
    few = [dim for dim in others if values.sizes[dim] <= len(_COLOURS)]
    colour = (few or others or [""])[0]
    return _Layout(x, colour, *_panels(values, [dim for dim in others if dim != colour]))


def _panels(values: xr.DataArray, dims: list[str]) -> tuple[list[dict[str, int]], int]:
    """Return the selections of the panels, evenly spaced where there are more than fit."""
    every = itertools.product(*[range(values.sizes[dim]) for dim in dims])
    panels = [dict(zip(dims, index, strict=True)) for index in every]
    if len(panels) <= MOST_PANELS:
        return panels, 0
    keep = np.linspace(0, len(panels) - 1, MOST_PANELS).astype(int)
    return [panels[i] for i in keep], len(panels) - MOST_PANELS


def _figure(values: xr.DataArray, layout: _Layout, height: float) -> tuple[Figure, list[Axes]]:
    """Make a figure with a titled panel a selection; unused places of the grid are removed."""
    number = len(layout.panels)
    columns = _columns(number)
    rows = -(-number // columns)
    scale = 1.0 if number == 1 else 0.85
    size = (4.9 if columns == 1 else 8.4, rows * (height * scale + 0.25) + 0.95)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[number:]:
        axes.remove()
    for above in grid[max(number - columns, 0) : number]:
        above.tick_params(labelbottom=True)
    for axes, panel in zip(grid, layout.panels, strict=False):
        named = [f"{dim} {value_text(values[dim].values[i])}" for dim, i in panel.items()]
        axes.set_title(plain_text(textwrap.fill(", ".join(named), 44)))
    return figure, list(grid[:number])


def _columns(number: int) -> int:
    """Return how many panels stand side by side."""
    return {1: 1, 2: 2, 4: 2}.get(number, 3)


def _name_axes(grid: list[Axes], x: str, y: str) -> None:
    """Name x below the lowest panels, and y left of the first ones."""
    columns = _columns(len(grid))
    for axes in grid[-columns:]:
        axes.set_xlabel(plain_text(textwrap.fill(x, 80 if columns == 1 else 36)))
    for axes in grid[::columns]:
        axes.set_ylabel(plain_text(textwrap.fill(y, 36)))


def _draw(
    axes: Axes, values: xr.DataArray, x: str, at: np.ndarray, colour: Any, words: bool, line: str
) -> None:
    """Draw every value as a dot, and the median at each place."""
    others = [dim for dim in values.dims if dim != x]
    median = values.median(others, skipna=True) if others else values
    dots = values.transpose(x, *others).values.reshape(at.size, -1)
    places = np.broadcast_to(at[:, None], dots.shape)
    null = line == "--"
    many = dots.size > 150
    style: dict[str, Any] = {"color": colour, "zorder": 1 if null else 3}
    have = np.isfinite(median.values)
    if words:
        axes.plot(median.values, at, "|", markersize=11, markeredgewidth=2, gid="median", **style)
        places, dots = dots, places
    else:
        axes.plot(at[have], median.values[have], line, linewidth=1.6, gid="median", **style)
    axes.scatter(
        places, dots, s=7 if null or many else 16, alpha=0.5 if null or many else 0.85,
        color=colour, edgecolor="white", linewidths=0.3, zorder=1 if null else 2,
        gid="null" if null else "seed",
    )  # fmt: skip


def _places(axis: xr.DataArray) -> tuple[np.ndarray, str]:
    """Place the values of an axis: by value or logarithm, whichever is more even; else evenly."""
    even = np.arange(axis.size, dtype=float)
    if axis.dtype.kind not in "iuf" or not np.isfinite(axis.values.astype(float)).all():
        return even, ""
    values = axis.values.astype(float)
    positive = values[values > 0]
    if positive.size < 3 or _unevenness(np.log2(positive)) >= _unevenness(positive):
        return values, ""
    if (values > 0).all():
        return np.log2(values), " (log scale)"
    return even, " (evenly spaced)"


def _unevenness(values: np.ndarray) -> float:
    """Return how much the gaps between values differ, in units of their mean."""
    gaps = np.diff(np.sort(values))
    return float(gaps.std() / gaps.mean())


def _name_places(axes: Axes, axis: xr.DataArray, at: np.ndarray, words: bool, alone: bool) -> None:
    """Write the axis' values at their places, every so many where there are many."""
    names = [value_text(value) for value in axis.values]
    if words:
        names = [plain_text(textwrap.shorten(name, 48, placeholder=" …")) for name in names]
        axes.set_yticks(at, names)
        axes.set_ylim(at.max() + 0.6, at.min() - 0.6)
        axes.grid(axis="y", color="#e4e6e9", linewidth=0.6)
        axes.set_axisbelow(True)
        return
    order, some = np.argsort(at), []
    least = (at.max() - at.min()) / (12 if alone else 6)
    for i in order:
        if not some or at[i] - at[some[-1]] >= least:
            some.append(i)
    axes.set_xticks(at[some], [names[i] for i in some])


def _colours(values: xr.DataArray, dim: str) -> list[Any]:
    """Return a colour for each value of a dim: shades for numbers, distinct ones for words."""
    if not dim:
        return [_COLOURS[0]]
    number = values.sizes[dim]
    if (values[dim].dtype.kind in "iuf" and number > 2) or number > len(_COLOURS):
        return [tuple(c) for c in mpl.colormaps["viridis"](np.linspace(0.0, 0.88, number))]
    return list(_COLOURS[:number])


def _line(colour: Any, label: str) -> Line2D:
    return Line2D([], [], color=colour, linewidth=2.2, label=label)


def _legend(
    figure: Figure, values: xr.DataArray, layout: _Layout, colours: list[Any], nulls: list[str]
) -> None:
    """Explain colours, dots, lines and nulls below the figure, and say what is left out."""
    handles = []
    if layout.colour:
        names = [value_text(value) for value in values[layout.colour].values]
        some = np.unique(np.linspace(0, len(names) - 1, min(len(names), 10)).astype(int))
        handles = [
            Line2D(
                [],
                [],
                color=colours[i],
                linewidth=2.2,
                label=plain_text(f"{layout.colour} {names[i]}"),
            )
            for i in some
        ]
    for end in nulls:
        colour, words = _NULLS[end]
        handles.append(Line2D([], [], color=colour, linestyle="--", linewidth=1.6, label=words))
    note = ""
    if layout.num_left_out:
        note = f"{len(layout.panels)} of {len(layout.panels) + layout.num_left_out} panels"
    if handles or note:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=5 if len(handles) > 4 else 4,
            title=note or None, title_fontsize=7.5, handlelength=1.4,
        )  # fmt: skip
