"""How well a balanced network follows a signal that changes."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, context, tidy

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_RUN: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 3.2, "markeredgewidth": 0}


def tracking_errors(dataset: xr.Dataset) -> Figure:
    """Draw how much of a sinusoid arrives in the estimate, and the error, over its frequency.

    Dots are single trials, theory for small signals is dashed, a colour a condition; dotted is the
    null, an estimate that does not move.

    Parameters
    ----------
    dataset
        ``response`` and ``tracking_error`` (condition, angular_frequency, trial), and of theory
        ``response_theory`` and ``tracking_error_theory`` (condition, angular_frequency).

    Raises
    ------
    ValueError
        If a variable or a dim is missing.

    Examples
    --------
    >>> runs = xr.DataArray(np.ones((1, 2, 3)), dims=("condition", "angular_frequency", "trial"))
    >>> found = xr.Dataset({"response": runs, "tracking_error": runs})
    >>> found["response_theory"] = found["tracking_error_theory"] = runs[..., 0]
    >>> places = {"condition": ["b = 3"], "angular_frequency": [0.3, 1.0]}
    >>> len(tracking_errors(found.assign_coords(places)).axes)
    2
    """
    names = ("response", "tracking_error")
    dims = ("condition", "angular_frequency", "trial")
    require(dataset, *names, *(f"{name}_theory" for name in names), dims=dims)
    place = dataset["angular_frequency"]
    conditions = dataset["condition"].values
    with context():
        figure = Figure(figsize=(7.0, 3.5), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, name, null in zip(panels, names, (0.0, 1.0), strict=True):
            for number, condition in enumerate(conditions):
                one = dataset.sel(condition=condition)
                runs = one[name].transpose("angular_frequency", "trial").values
                where = np.broadcast_to(place.values[:, None], runs.shape)
                colour = _COLOURS[number % len(_COLOURS)]
                axes.plot(where.ravel(), runs.ravel(), color=colour, gid="run", **_RUN)
                line = {"color": colour, "linestyle": "--", "linewidth": 1.1, "gid": "theory"}
                axes.plot(place, one[f"{name}_theory"], **line)
            axes.axhline(null, color=UNTRAINED_COLOUR, linestyle=":")
            axes.set_xscale("log")
            axes.set_xlabel(axis_label(place, width=44))
            axes.set_ylabel(axis_label(dataset[name], width=40))
            tidy(axes)
        panels[1].set_yscale("log")
        handles = [
            *(
                Line2D([], [], **_RUN, color=_COLOURS[number % len(_COLOURS)], label=str(name))
                for number, name in enumerate(conditions)
            ),
            Line2D([], [], color="black", linestyle="--", label="theory, small signals"),
            Line2D([], [], color=UNTRAINED_COLOUR, ls=":", label="null: constant estimate"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
