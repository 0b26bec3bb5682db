"""Measures of every unit, per condition, beside their nulls."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from neurofb.plot.study import counted, null_band, require, seed_medians
from neurofb.plot.style import (
    NOISE_COLOUR,
    UNTRAINED_COLOUR,
    axis_label,
    context,
    seed_colours,
    tidy,
    wrap_condition,
)

_WIDTH = 0.62


def measure_distributions(
    dataset: xr.Dataset,
    measures: Sequence[str] = ("rotational_symmetry", "orientation_selectivity"),
) -> Figure:
    """Draw a strip of units per condition, with medians and the two null bands.

    Small dots are units that count, coloured by seed; ringed dots the median of each seed; the
    black bar the median over seeds; grey crosses units that have a value but do not count. Behind
    each strip: the 5-95 % band of the same networks before training (wide, grey) and of noise
    matched in spectrum (narrow, sand). Under each condition: how many of its units count.

    Parameters
    ----------
    dataset
        A study with `status`, and for each measure its name with no suffix, with ``_untrained``
        and with ``_noise``, over condition, seed, unit.
    measures
        Names of the measures, one panel each.

    Raises
    ------
    ValueError
        If a variable is missing, or `measures` is empty.

    Examples
    --------
    >>> from neurofb.plot import example_study
    >>> figure = measure_distributions(example_study(), ("rotational_symmetry",))
    >>> figure.axes[0].get_ylabel()
    'rotational symmetry'
    """
    if not measures:
        raise ValueError(f"measures={measures!r} is empty; name at least one measure")
    names = [f"{measure}{null}" for measure in measures for null in ("", "_untrained", "_noise")]
    require(dataset, "status", *names, dims=("condition", "seed", "unit"))
    with context():
        num_conditions = dataset.sizes["condition"]
        size = (max(0.85 * num_conditions + 1.2, 5.4), 2.3 * len(measures) + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        for axes, measure in zip(
            figure.subplots(len(measures), 1, squeeze=False)[:, 0], measures, strict=True
        ):
            _draw_strips(axes, dataset, measure)
        _legend(figure, dataset)
    return figure


def _draw_strips(axes: Axes, dataset: xr.Dataset, measure: str) -> None:
    """Draw one panel: nulls, units, medians."""
    units, medians, labels = (
        dataset[measure].where(counted(dataset)),
        seed_medians(dataset, measure),
        [],
    )
    for place, name in enumerate(dataset["condition"].values):
        for suffix, colour, width in (
            ("_untrained", UNTRAINED_COLOUR, 0.9),
            ("_noise", NOISE_COLOUR, 0.12),
        ):
            band = null_band(dataset[f"{measure}{suffix}"].isel(condition=place))
            if band is not None:
                left = place - 0.45 if suffix == "_untrained" else place + 0.33
                _draw_band(axes, left, band.low, band.high, width, colour, f"{name}{suffix}")
        for order, (seed, colour) in enumerate(seed_colours(dataset).items()):
            values = units.isel(condition=place, seed=order).values
            at = place - 0.05 + (_WIDTH * _spread(values.size, order))
            axes.scatter(
                at, values, s=9, color=colour, alpha=0.55, linewidths=0, zorder=3, gid="units"
            )
            other = dataset[measure].isel(condition=place, seed=order).values
            other = np.where(np.isfinite(values), np.nan, other)
            axes.scatter(
                at,
                other,
                s=10,
                marker="x",
                color="#777777",
                linewidths=0.7,
                zorder=2,
                gid="not counted",
            )
            axes.scatter(
                [place - 0.05 + _WIDTH * _even(order, dataset.sizes["seed"])],
                [medians.isel(condition=place, seed=order).item()],
                s=34,
                facecolor=colour,
                edgecolor="white",
                linewidths=0.9,
                zorder=5,
                gid=f"median seed {seed}",
            )
        middle = medians.isel(condition=place).median("seed", skipna=True).item()
        axes.hlines(middle, place - 0.42, place + 0.3, color="black", linewidth=2, zorder=4)
        present = int((dataset["status"].isel(condition=place) != "absent").sum())
        measured = int(np.isfinite(units.isel(condition=place).values).sum())
        labels.append(f"{wrap_condition(str(name))}\n{measured} of {present} units")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylabel(axis_label(dataset[measure], width=32))
    axes.set_title(measure.replace("_", " "), loc="left", fontweight="bold")
    axes.spines["bottom"].set_visible(False)
    tidy(axes)
    axes.tick_params(axis="x", length=0)


def _draw_band(
    axes: Axes, left: float, low: float, high: float, width: float, colour: str, name: str
) -> None:
    """Draw a null as a filled rectangle."""
    axes.add_patch(
        Rectangle(
            (left, low),
            width,
            high - low,
            facecolor=colour,
            alpha=0.3 if width > 0.5 else 0.9,
            linewidth=0,
            zorder=1,
            gid=name,
        )
    )


def _even(order: int, count: int) -> float:
    """Spread the seeds' medians evenly over (-0.5, 0.5)."""
    return (order + 0.5) / count - 0.5


def _spread(count: int, order: int) -> np.ndarray:
    """Spread dots sideways over [-0.5, 0.5] without a random number (golden-ratio sequence)."""
    return ((np.arange(count) + 0.37 * order) * 0.6180339887) % 1.0 - 0.5


def _legend(figure: Figure, dataset: xr.Dataset) -> None:
    """Explain dots, bar and bands below the figure."""
    handles: list[Artist] = [
        Line2D([], [], color=colour, marker="o", linestyle="", markersize=5, label=f"seed {seed}")
        for seed, colour in seed_colours(dataset).items()
    ]
    handles += [
        Line2D([], [], color="black", linewidth=2, label="median over seeds"),
        Line2D(
            [],
            [],
            color="#777777",
            marker="x",
            linestyle="",
            markersize=4,
            label="not counted (silent, unmoved, …)",
        ),
        Patch(facecolor=UNTRAINED_COLOUR, alpha=0.3, label="untrained units, 5–95 %"),
        Patch(facecolor=NOISE_COLOUR, alpha=0.9, label="matched noise, 5–95 %"),
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=3,
        title="small dots: units; ringed dots: median of a seed",
        title_fontsize=7.5,
        columnspacing=1.2,
    )
