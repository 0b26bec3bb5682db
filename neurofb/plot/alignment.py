"""Alignment of the feedback with backpropagation while a network learns."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurofb.plot.study import require
from neurofb.plot.style import UNTRAINED_COLOUR, axis_label, condition_colours, context, tidy

#: measure -> its value for feedback that has nothing to do with the weights
_CHANCE = {"delta_angle": 90.0, "weight_angle": 90.0, "gradient_cosine": 0.0}
_MOST_LAYERS = 6


def alignment_curves(
    dataset: xr.Dataset,
    *,
    measures: Sequence[str] = ("gradient_cosine", "delta_angle"),
    layers: Sequence[str] | None = None,
) -> Figure:
    """Draw measures of alignment against the epoch, a row a measure and a column a layer.

    Thin lines are seeds, thick lines means over seeds, colours conditions; the dashed line is what
    feedback unrelated to the weights would have (90 degrees, cosine 0).

    Parameters
    ----------
    dataset
        Each measure over (condition, seed, epoch, layer), as studies have it under ``/alignment``.
    measures
        Names of variables of `neurofb.measures.alignment`.
    layers
        Columns; by default the layers, at most six of them evenly from the first to the last, that
        have a value of any of the measures.

    Raises
    ------
    ValueError
        If a variable, dim or layer is missing, or there is nothing to draw.

    Examples
    --------
    >>> dims = ("condition", "seed", "epoch", "layer")
    >>> angle = xr.DataArray([[[[90.0], [40.0]]]], dims=dims, attrs={"units": "degree"})
    >>> study = xr.Dataset({"delta_angle": angle})
    >>> names = {"condition": ["KP"], "seed": [0], "epoch": [0, 5], "layer": ["readout"]}
    >>> figure = alignment_curves(study.assign_coords(names), measures=("delta_angle",))
    >>> figure.axes[0].get_title()
    'readout'
    """
    dims = ("condition", "seed", "epoch", "layer")
    require(dataset, *measures, dims=dims)
    columns = _columns(dataset, measures, layers)
    if not measures or not columns:
        raise ValueError(f"measures={tuple(measures)} of layers {columns}: nothing to draw")
    colours = condition_colours(dataset)
    with context():
        size = (max(1.0 + 1.75 * len(columns), 3.6), 0.8 + 1.7 * len(measures))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(
            len(measures), len(columns), sharex=True, sharey="row", squeeze=False
        )
        for row, measure in enumerate(measures):
            for column, layer in enumerate(columns):
                axes = grid[row, column]
                values = dataset[measure].sel(layer=layer).transpose("condition", "seed", "epoch")
                _draw_curves(axes, values, list(colours.values()))
                if measure in _CHANCE:
                    style = {"color": UNTRAINED_COLOUR, "linestyle": "--", "linewidth": 0.9}
                    axes.axhline(_CHANCE[measure], zorder=0, **style)
                if row == 0:
                    axes.set_title(layer)
                if row == len(measures) - 1:
                    axes.set_xlabel("epoch")
                if column == 0:
                    axes.set_ylabel(axis_label(dataset[measure], width=26))
                tidy(axes)
        handles = [Line2D([], [], color=c, linewidth=2.0, label=n) for n, c in colours.items()]
        handles.append(Line2D([], [], color=UNTRAINED_COLOUR, linestyle="--", label="chance"))
        left_out = dataset.sizes["layer"] - len(columns)
        more = f"; {left_out} of {dataset.sizes['layer']} layers not shown" if left_out else ""
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(len(handles), max(3, 2 * len(columns))),
            title=f"thin: seeds; thick: mean over seeds{more}",
            title_fontsize=7.5,
        )
    return figure


def _columns(
    dataset: xr.Dataset, measures: Sequence[str], layers: Sequence[str] | None
) -> list[str]:
    """Return the layers that are drawn."""
    names = [str(name) for name in dataset["layer"].values]
    for name in layers or ():
        if name not in names:
            raise ValueError(f"layers: no layer {name!r}; the dataset has {', '.join(names)}")
    if layers is not None:
        return list(layers)
    have = [n for n in names if any(dataset[m].sel(layer=n).notnull().any() for m in measures)]
    if len(have) <= _MOST_LAYERS:
        return have
    return [have[round(i)] for i in np.linspace(0, len(have) - 1, _MOST_LAYERS)]


def _draw_curves(axes: Axes, values: xr.DataArray, colours: list) -> None:
    """Draw every seed and the mean of each condition."""
    epoch = values["epoch"].values
    for one, colour in zip(values, colours, strict=True):
        if not bool(one.notnull().any()):
            continue
        axes.plot(epoch, one.values.T, color=colour, linewidth=0.6, alpha=0.5, gid="seed")
        name = str(one["condition"].values)
        axes.plot(epoch, one.mean("seed"), color=colour, linewidth=1.8, zorder=3, gid=name)
