"""The map of a scan: which of its cells are done."""

import itertools
import textwrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from neurofb.plot.study import require
from neurofb.plot.style import context, tidy

#: status -> (word, colour), as stored: -1, 0, 1, 2
STATUS = {
    -1: ("absent", "#ffffff"),
    0: ("pending", "#d5d9de"),
    1: ("done", "#3b82b8"),
    2: ("failed", "#d55e00"),
}


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


def value_text(value: Any) -> str:
    """Write a value of an axis: numbers short, everything else as text.

    Examples
    --------
    >>> value_text(0.5), value_text("BP")
    ('0.5', 'BP')
    """
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def plain_text(text: str) -> str:
    r"""Keep a dollar in data from being read as mathematics.

    Examples
    --------
    >>> plain_text("5 $")
    '5 \\$'
    """
    return text.replace("$", r"\$")


def _label_cells(axes: Axes, status: xr.DataArray, dims: list[str], side: str, step: float) -> None:
    """Name the rows or the columns of the map of status, as many as there is space for."""
    coordinates = [
        status[dim].values if dim in status.coords else range(status.sizes[dim]) for dim in dims
    ]
    names = [" · ".join(map(value_text, values)) for values in itertools.product(*coordinates)]
    names = [plain_text(textwrap.shorten(name, 40, placeholder=" …")) for name in names]
    longest = max(map(len, names))
    needed = 0.17 if side == "y" or longest * 0.07 > step else 0.07 * longest + 0.05  # inch
    some = slice(None, None, max(1, round(np.ceil(needed / step))))
    title = plain_text(" · ".join(dims))
    if side == "x":
        turned = 90 if longest * 0.07 > step and longest > 3 else 0
        axes.set_xticks(np.arange(len(names))[some], names[some], rotation=turned)
        axes.set_xlabel(title)
    elif dims:
        axes.set_yticks(np.arange(len(names))[some], names[some])
        axes.set_ylabel(title)
    else:
        axes.set_yticks([])


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
