"""One cell of a receptive-field picture: a few units of one condition and one seed."""

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Patch, Rectangle

from neurofb.plot.style import RECEPTIVE_FIELD_COLOURS, STATUS_MARKS

_ORDER = ("ok", *STATUS_MARKS)


def select_units(cell: xr.Dataset, *, num_units: int, sort_by: str) -> list[int]:
    """Choose the units to show: sorted by status, then by a measure; a fair sample of all.

    Where there are more units than places, places are filled by units at evenly spaced ranks of
    the sorted order, so the sample shows failed units in their proportion and hides no kind.

    Parameters
    ----------
    cell
        One condition and one seed, with `status` and the measure `sort_by` over unit.
    num_units
        Number of places.
    sort_by
        Name of the measure; largest first, NaN last.

    Returns
    -------
    list of int
        Positions along unit; absent units are left out.
    """
    status, value = cell["status"].values, np.asarray(cell[sort_by].values, dtype=float)
    present = [u for u in range(status.size) if status[u] != "absent"]
    unknown = sorted({str(status[u]) for u in present} - set(_ORDER))
    if unknown:
        raise ValueError(f"status={unknown[0]!r} is unknown; allowed: {', '.join(_ORDER)}, absent")
    present.sort(key=lambda u: (_ORDER.index(status[u]), np.nan_to_num(-value[u], nan=np.inf)))
    if len(present) <= num_units:
        return present
    ranks = (np.arange(num_units) + 0.5) * len(present) / num_units
    return [present[int(rank)] for rank in ranks]


def draw_cell(
    axes: Axes,
    fields: Float[np.ndarray, "unit y x"],
    status: list[str],
    *,
    places: int,
    columns: int,
) -> None:
    """Draw units as tiles: red excites, blue suppresses, white is zero, each on its own scale.

    Each unit is divided by its largest absolute value, so that the limits are -1 and 1 for all. A
    unit that is not "ok" gets the frame of `STATUS_MARKS`; one without finite values is grey.

    Parameters
    ----------
    axes
        Where to draw.
    fields
        Receptive fields (unit, y, x), in the order of the tiles.
    status
        Status of each unit.
    places, columns
        Number of tiles of the cell, and tiles in a row; places without a unit stay blank.
    """
    height, width = fields.shape[1:]
    rows = -(-places // columns)
    canvas = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), np.nan)
    for place, field in enumerate(fields):
        top = place // columns * (height + 1) + 1
        left = place % columns * (width + 1) + 1
        scale = np.abs(field[np.isfinite(field)]).max(initial=0.0)
        canvas[top : top + height, left : left + width] = field / scale if scale > 0 else field
        colour, line, _ = STATUS_MARKS.get(status[place], ("#c8c8c8", "-", ""))
        frame = Rectangle(
            (left - 0.5, top - 0.5),
            width,
            height,
            facecolor="none" if np.isfinite(field).any() else "#d9d9d9",
            edgecolor=colour,
            linestyle=line,
            linewidth=1.4 if status[place] in STATUS_MARKS else 0.4,
            zorder=3 if status[place] in STATUS_MARKS else 2,
            gid=status[place],
        )
        axes.add_patch(frame)
    colours = colormaps[RECEPTIVE_FIELD_COLOURS].with_extremes(bad=(1, 1, 1, 0))
    axes.imshow(canvas, cmap=colours, vmin=-1.0, vmax=1.0)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def single_channel(field: xr.DataArray) -> xr.DataArray:
    """Show a field of several channels by each unit's channel of the largest energy."""
    if "channel" not in field.dims:
        return field
    if field.sizes["channel"] == 1:
        return field.isel(channel=0)
    energy = (field.fillna(0.0) ** 2).sum(["y", "x"])
    return field.isel(channel=energy.argmax("channel"))


def mark_legend(figure: FigureBase, shown: set[str], *, note: str) -> None:
    """Explain below the figure the colours, the selection (`note`) and the frames in use."""
    handles = [
        Patch(facecolor="none", edgecolor=colour, linestyle=line, linewidth=1.4, label=text)
        for status, (colour, line, text) in STATUS_MARKS.items()
        if status in shown
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(len(handles), 1),
        title=note,
        title_fontsize=7.5,
        handlelength=0.9,
        handleheight=0.9,
        handletextpad=0.5,
    )
