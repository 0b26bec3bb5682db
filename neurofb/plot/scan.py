"""A scan at a glance: which cells are done, and each measure and curve against the scan's axes.

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
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neurofb.plot.study import require
from neurofb.plot.style import NOISE_COLOUR, UNTRAINED_COLOUR, axis_label, context, tidy

#: status -> (word, colour), as stored: -1, 0, 1, 2
STATUS = {
    -1: ("absent", "#ffffff"),
    0: ("pending", "#d5d9de"),
    1: ("done", "#3b82b8"),
    2: ("failed", "#d55e00"),
}
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


def scan_status(dataset: xr.Dataset) -> Figure:
    """Draw the status of every cell of a scan as a map; failed cells carry a cross.

    The last dims run along the columns, the others down the rows; a map with many cells has no
    room for crosses.

    Parameters
    ----------
    dataset
        A scan with `status` (-1 absent, 0 pending, 1 done, 2 failed) over the scan's dims.

    Raises
    ------
    ValueError
        If there is no `status`, or it has no dim.

    Examples
    --------
    >>> status = xr.DataArray([[1, 2], [0, 1]], dims=("rank", "seed"))
    >>> scan = xr.Dataset({"status": status}, {"rank": [1, 4], "seed": [0, 1]})
    >>> [text.get_text() for text in scan_status(scan).legends[0].get_texts()]
    ['pending (1)', 'done (2)', 'failed (1)']
    """
    require(dataset, "status", dims=())
    status = dataset["status"]
    single = [dim for dim in status.dims if status.sizes[dim] == 1]
    status = status.squeeze(single[: status.ndim - 1], drop=True)
    if not status.ndim or not status.size:
        raise ValueError(f"dataset has a status without cells, of shape {status.shape}")
    rows, columns = _split(status)
    codes = np.nan_to_num(np.asarray(status.transpose(*rows, *columns).values, dtype=float))
    table = codes.astype(int).reshape(_count(status, rows), -1)
    tall, wide = table.shape
    with context():
        edge = float(np.clip(6.8 / wide, 0.02, 0.3))  # inch
        height = float(np.clip(min(edge, 0.24) * tall, 0.3, 7.0))
        has_room = min(edge, height / tall) > 0.1
        figure = Figure(figsize=(max(edge * wide + 2.4, 4.2), height + 1.2), layout="constrained")
        axes = figure.subplots()
        colours = ListedColormap([colour for _, colour in STATUS.values()])
        axes.pcolormesh(
            np.arange(wide + 1) - 0.5, np.arange(tall + 1) - 0.5, table, cmap=colours,
            vmin=-1.5, vmax=2.5, edgecolors="white" if has_room else "none", linewidth=0.8,
        )  # fmt: skip
        y, x = np.nonzero(table == 2)
        if has_room:
            axes.plot(x, y, "x", color="white", markersize=30 * edge, markeredgewidth=1.4)
        axes.set(xlim=(-0.5, wide - 0.5), ylim=(tall - 0.5, -0.5), aspect="auto")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        _label_cells(axes, status, columns, "x", edge)
        _label_cells(axes, status, rows, "y", height / tall)
        number = {code: int((table == code).sum()) for code in STATUS}
        words = {code: word for code, (word, _) in STATUS.items()} | {-1: "absent: not asked for"}
        boxes = [
            Patch(facecolor=colour, edgecolor="#9aa0a6", label=f"{words[code]} ({number[code]})")
            for code, (_, colour) in STATUS.items()
            if number[code]
        ]
        figure.legend(handles=boxes, loc="outside lower center", ncols=2 if edge * wide < 4 else 4)
        tidy(axes)
        axes.tick_params(length=0)
    return figure


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
        named = [f"{dim} {_value(values[dim].values[i])}" for dim, i in panel.items()]
        axes.set_title(_text(textwrap.fill(", ".join(named), 44)))
    return figure, list(grid[:number])


def _columns(number: int) -> int:
    """Return how many panels stand side by side."""
    return {1: 1, 2: 2, 4: 2}.get(number, 3)


def _name_axes(grid: list[Axes], x: str, y: str) -> None:
    """Name x below the lowest panels, and y left of the first ones."""
    columns = _columns(len(grid))
    for axes in grid[-columns:]:
        axes.set_xlabel(_text(textwrap.fill(x, 80 if columns == 1 else 36)))
    for axes in grid[::columns]:
        axes.set_ylabel(_text(textwrap.fill(y, 36)))


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
    names = [_value(value) for value in axis.values]
    if words:
        names = [_text(textwrap.shorten(name, 48, placeholder=" …")) for name in names]
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


def _label_cells(axes: Axes, status: xr.DataArray, dims: list[str], side: str, step: float) -> None:
    """Name the rows or the columns of the map of status, as many as there is space for."""
    coordinates = [
        status[dim].values if dim in status.coords else range(status.sizes[dim]) for dim in dims
    ]
    names = [" · ".join(map(_value, values)) for values in itertools.product(*coordinates)]
    names = [_text(textwrap.shorten(name, 40, placeholder=" …")) for name in names]
    longest = max(map(len, names))
    needed = 0.17 if side == "y" or longest * 0.07 > step else 0.07 * longest + 0.05  # inch
    some = slice(None, None, max(1, round(np.ceil(needed / step))))
    title = _text(" · ".join(dims))
    if side == "x":
        turned = 90 if longest * 0.07 > step and longest > 3 else 0
        axes.set_xticks(np.arange(len(names))[some], names[some], rotation=turned)
        axes.set_xlabel(title)
    elif dims:
        axes.set_yticks(np.arange(len(names))[some], names[some])
        axes.set_ylabel(title)
    else:
        axes.set_yticks([])


def _colours(values: xr.DataArray, dim: str) -> list[Any]:
    """Return a colour for each value of a dim: shades for numbers, distinct ones for words."""
    if not dim:
        return [_COLOURS[0]]
    number = values.sizes[dim]
    if (values[dim].dtype.kind in "iuf" and number > 2) or number > len(_COLOURS):
        return [tuple(c) for c in mpl.colormaps["viridis"](np.linspace(0.0, 0.88, number))]
    return list(_COLOURS[:number])


def _legend(
    figure: Figure, values: xr.DataArray, layout: _Layout, colours: list[Any], nulls: list[str]
) -> None:
    """Explain colours, dots, lines and nulls below the figure, and say what is left out."""
    handles = []
    if layout.colour:
        names = [_value(value) for value in values[layout.colour].values]
        some = np.unique(np.linspace(0, len(names) - 1, min(len(names), 10)).astype(int))
        handles = [
            Line2D(
                [], [], color=colours[i], linewidth=2.2, label=_text(f"{layout.colour} {names[i]}")
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


def _split(status: xr.DataArray) -> tuple[list[str], list[str]]:
    """Share the dims out to rows and columns: the last one along columns, or nearly a square."""
    dims = [str(dim) for dim in status.dims]
    if _count(status, dims[:-1]) <= 30:
        return dims[:-1], dims[-1:]
    shape = [np.log(_count(status, dims[:k]) / _count(status, dims[k:])) for k in range(len(dims))]
    best = int(np.argmin(np.abs(shape)))
    return dims[:best], dims[best:]


def _count(array: xr.DataArray, dims: list[str]) -> int:
    """Return how many combinations the values of dims have."""
    return int(np.prod([array.sizes[dim] for dim in dims], dtype=int))


def _value(value: Any) -> str:
    """Write a value of an axis: numbers short, everything else as text."""
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _text(text: str) -> str:
    """Keep a dollar in data from being read as mathematics."""
    return text.replace("$", r"\$")
