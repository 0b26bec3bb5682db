"""Orientation tuning of single units, on a polar axis."""

from typing import cast

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from neurofb.plot.study import require
from neurofb.plot.style import axis_label, context


def orientation_tuning(dataset: xr.Dataset, *, num_units: int = 8) -> Figure:
    """Draw the response of each unit against the orientation of the stimulus.

    The angle is the orientation (counter-clockwise from horizontal), the distance from the centre
    the response. Orientation repeats after 180 degrees, so each curve is drawn twice, opposite
    itself: a figure of eight is a tuned unit, a circle an untuned one.

    Parameters
    ----------
    dataset
        `response` (unit, orientation), not negative, with orientation in degrees over [0, 180).
    num_units
        Units to draw, the first ones of the dataset; a unit without finite responses says so.

    Raises
    ------
    ValueError
        If a variable or dim is missing, `num_units` is below 1, or a response is negative.

    Examples
    --------
    >>> from neurofb.labels import coordinate, variable
    >>> response = variable(("unit", "orientation"), [[1.0, 0.2, 0.1, 0.2]], "1", "response")
    >>> angles = coordinate("orientation", [0, 45, 90, 135])
    >>> units = coordinate("unit", [3])
    >>> tuning = xr.Dataset({"response": response}, coords={"orientation": angles, "unit": units})
    >>> orientation_tuning(tuning).axes[0].get_title()
    'unit 3'
    """
    require(dataset, "response", "orientation", "unit", dims=("unit", "orientation"))
    if num_units < 1:
        raise ValueError(f"num_units={num_units} must be at least 1")
    tuning = dataset["response"].transpose("unit", "orientation").isel(unit=slice(num_units))
    smallest = float(tuning.min())
    if smallest < 0:
        raise ValueError(f"response={smallest:g} is negative; a polar curve needs responses >= 0")
    angle = np.deg2rad(dataset["orientation"].values.astype(float))
    around = np.concatenate([angle, angle + np.pi, angle[:1]])
    columns = min(4, tuning.sizes["unit"])
    rows = -(-tuning.sizes["unit"] // columns)
    with context():
        size = (max(1.7 * columns, 3.4), 1.75 * rows + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        for place, unit in enumerate(tuning["unit"].values):
            axes = figure.add_subplot(rows, columns, place + 1, projection="polar")
            curve = tuning.values[place]
            _draw_curve(cast(PolarAxes, axes), around, np.concatenate([curve, curve, curve[:1]]))
            axes.set_title(f"unit {unit}")
        figure.suptitle(f"{axis_label(tuning)} against {axis_label(dataset['orientation'])}")
    return figure


def _draw_curve(axes: PolarAxes, angle: np.ndarray, response: np.ndarray) -> None:
    """Draw one closed curve, on its own scale that starts at zero."""
    axes.set_thetagrids([0, 45, 90, 135], ["0°", "45°", "90°", "135°"], fontsize=7)
    axes.tick_params(pad=-2)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines["polar"].set_color("#dddddd")
    if not np.isfinite(response).all():
        axes.set_rgrids([1.0], [""])
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
        return
    axes.plot(angle, response, color="#0072B2", linewidth=1.6)
    axes.fill(angle, response, color="#0072B2", alpha=0.15)
    top = float(response.max()) or 1.0
    axes.set_rmax(1.05 * top)
    axes.set_rgrids([top], [f"{top:.2g}"], angle=22.5, fontsize=6.5, color="#555555")
