"""Symmetry and orientation against the rank of the feedback."""

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neurofb.plot.study import null_band, require, seed_medians
from neurofb.plot.style import (
    UNTRAINED_COLOUR,
    axis_label,
    condition_colours,
    context,
    tidy,
    wrap_condition,
)

_GAP = 1.6  # between the full rank and the categories at the side, in octaves of rank


def symmetry_against_rank(
    dataset: xr.Dataset,
    *,
    measures: tuple[str, ...] = ("rotational_symmetry", "orientation_selectivity"),
) -> Figure:
    """Draw each measure against the feedback rank, every seed shown.

    Dots and thin lines are seeds (median over units of status "ok"), the thick line is the median
    over seeds. Conditions with a feedback rank stand on a log2 axis, exact feedback (BP wide) at
    its full width at the right; conditions without one (narrow BP, dLDFA) stand at the side. The
    band is 5-95 % of the units of the same networks before training; a cross at the bottom is a
    seed without a measurable unit.

    Parameters
    ----------
    dataset
        A study with `status`, `feedback_rank` and for each measure its name and its name with
        ``_untrained``.
    measures
        Names of the measures, one panel each.

    Raises
    ------
    ValueError
        If a variable is missing, or `measures` is empty.

    Examples
    --------
    >>> from neurofb.plot import example_study
    >>> figure = symmetry_against_rank(example_study())
    >>> figure.axes[0].get_xlabel()
    'feedback rank (log scale)'
    """
    if not measures:
        raise ValueError(f"measures={measures!r} is empty; name at least one measure")
    names = [f"{measure}{null}" for measure in measures for null in ("", "_untrained")]
    require(dataset, "status", "feedback_rank", *names, dims=("condition", "seed", "unit"))
    with context():
        figure = Figure(figsize=(3.6 * len(measures), 3.2), layout="constrained")
        for axes, measure in zip(
            figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True
        ):
            draw_against_rank(axes, dataset, measure)
        rank_legend(figure)
    return figure


def draw_against_rank(axes: Axes, dataset: xr.Dataset, measure: str) -> None:
    """Draw one measure against rank on existing axes (see `symmetry_against_rank`)."""
    medians = seed_medians(dataset, measure).transpose("condition", "seed")
    values, middle = medians.values, medians.median("seed", skipna=True).values
    names = [str(name) for name in dataset["condition"].values]
    at, ranked, side = condition_places(dataset)
    _draw_null(axes, dataset, measure, at, [ranked, *[[index] for index in side]])
    for group in (ranked, side):
        axes.plot(at[group], values[group], color="#555555", linewidth=0.7, alpha=0.6, zorder=2)
    axes.plot(at[ranked], middle[ranked], color="black", linewidth=2.4, zorder=3, gid="median")
    axes.hlines(
        middle[side], at[side] - 0.4, at[side] + 0.4, color="black", linewidth=2.4, zorder=3
    )
    for index, (name, colour) in enumerate(condition_colours(dataset).items()):
        finite = values[index][np.isfinite(values[index])]
        place = np.full(finite.size, at[index])
        axes.scatter(
            place, finite, s=26, color=colour, edgecolor="white", linewidths=0.6, zorder=4, gid=name
        )
        if finite.size < values[index].size:
            axes.plot(
                at[index],
                0.02,
                "x",
                color=colour,
                transform=axes.get_xaxis_transform(),
                gid="no measurable unit",
            )
    ranks = np.asarray(dataset["feedback_rank"].values, dtype=float)
    labels = [
        wrap_condition(names[i])
        if i in side
        else f"{ranks[i]:g}" + ("\nBP" if names[i].startswith("BP") else "")
        for i in range(len(names))
    ]
    axes.set_xticks(at, labels)
    axes.set_xlim(at.min() - 0.6, at.max() + 0.7)
    if ranked and side:
        axes.axvline(at[ranked].max() + _GAP / 2, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("feedback rank (log scale)" if ranked else "condition", loc="left")
    axes.set_ylabel(axis_label(dataset[measure]))
    tidy(axes)


def rank_legend(figure: FigureBase) -> None:
    """Explain dots, lines and band below the figure."""
    handles: list[Artist] = [
        Line2D([], [], color="#555555", linewidth=0.7, marker="o", markersize=4, label="seed"),
        Line2D([], [], color="black", linewidth=2.4, label="median of seeds"),
        Patch(facecolor=UNTRAINED_COLOUR, alpha=0.3, label="untrained, 5–95 %"),
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.5
    )


def condition_places(dataset: xr.Dataset) -> tuple[np.ndarray, list[int], list[int]]:
    """Place conditions: log2 of the rank, or the side; also who stands on which part, in order."""
    ranks = np.asarray(dataset["feedback_rank"].values, dtype=float)
    ranked = [int(i) for i in np.argsort(ranks, kind="stable") if np.isfinite(ranks[i])]
    side = [i for i in range(ranks.size) if not np.isfinite(ranks[i])]
    if (ranks[ranked] < 1).any():
        raise ValueError(f"feedback_rank={ranks.tolist()} must be NaN or at least 1")
    at = np.zeros(ranks.size)
    at[ranked] = np.log2(ranks[ranked])
    right = at[ranked].max() + _GAP if ranked else 0.0
    at[side] = right + 1.5 * np.arange(len(side))
    return at, ranked, side


def _draw_null(
    axes: Axes, dataset: xr.Dataset, measure: str, at: np.ndarray, groups: list[list[int]]
) -> None:
    """Draw the untrained units' band: one for all ranked conditions, one for each at the side."""
    for group in groups:
        band = null_band(dataset[f"{measure}_untrained"].isel(condition=group)) if group else None
        if band is None:
            continue
        edges = (at[group].min() - 0.5, at[group].max() + 0.5)
        axes.fill_between(
            edges, band.low, band.high, color=UNTRAINED_COLOUR, alpha=0.3, linewidth=0, zorder=0
        )
        axes.hlines(
            band.median, *edges, color=UNTRAINED_COLOUR, linestyle="--", linewidth=0.9, zorder=1
        )
