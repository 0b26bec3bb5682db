"""Accuracy against a number of dimensions, of the network or of its error."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from neurofb.plot.study import require
from neurofb.plot.style import axis_label, condition_colours, context, tidy


def accuracy_against_size(dataset: xr.Dataset) -> Figure:
    """Draw test accuracy against the width or the rank, every seed shown, a line a condition.

    Dots are seeds, lines means over seeds. The axis is logarithmic.

    Parameters
    ----------
    dataset
        `test_accuracy` (condition, seed, size); sizes that a condition does not have are NaN.

    Raises
    ------
    ValueError
        If the variable or a dim is missing.

    Examples
    --------
    >>> values = xr.DataArray([[[0.5, 0.8]]], dims=("condition", "seed", "size"))
    >>> names = {"condition": ["width, BP"], "seed": [0], "size": [10, 512]}
    >>> study = xr.Dataset({"test_accuracy": values}).assign_coords(names)
    >>> accuracy_against_size(study).axes[0].get_xscale()
    'log'
    """
    require(dataset, "test_accuracy", "size", dims=("condition", "seed", "size"))
    values = dataset["test_accuracy"].transpose("condition", "seed", "size")
    sizes = values["size"].values.astype(float)
    with context():
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for (name, colour), one in zip(condition_colours(dataset).items(), values, strict=True):
            have = np.isfinite(one.values).any(axis=0)
            middle = one.mean("seed").values[have]
            axes.plot(sizes[have], middle, color=colour, linewidth=1.8, label=name)
            x = np.broadcast_to(sizes[have], one.values[:, have].shape)
            axes.scatter(
                x, one.values[:, have], s=14, color=colour, edgecolor="white", linewidths=0.4,
                zorder=3, gid=name,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("width of the network, or rank of the error (log scale)")
        axes.set_ylabel(axis_label(dataset["test_accuracy"]))
        axes.legend(loc="lower right", title="dots: seeds; lines: means", title_fontsize=7.5)
        tidy(axes)
    return figure
