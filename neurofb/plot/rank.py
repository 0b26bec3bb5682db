"""Symmetry and orientation against the rank of the feedback."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from neurofb.plot.study import low_rank_series, null_band, require, seed_medians
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

    Dots and thin lines are seeds (median over the units that count), the thick line is the median
    over seeds. Conditions with a feedback rank stand on a log2 axis, exact feedback (BP wide) at
    its full width at the right; low-rank conditions that differ in more than rank (as
    ``LDFA r=2, P`` and ``LDFA r=2, Q`` do) make a line each. Conditions without a rank (narrow BP,
    dLDFA) stand at the side. The band is 5-95 % of the units of the same networks before training;
    a cross at the bottom is a seed without a unit that counts.

    Parameters
    ----------
    dataset
        A study with `status`, `feedback_rank`, `bottleneck`, and each measure under its name and
        under its name with ``_untrained``.
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
    names += ["status", "feedback_rank", "bottleneck"]
    require(dataset, *names, dims=("condition", "seed", "unit"))
    with context():
        figure = Figure(figsize=(3.6 * len(measures), 3.2), layout="constrained")
        for axes, measure in zip(
            figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True
        ):
            draw_against_rank(axes, dataset, measure)
            axes.set_title(measure.replace("_", " "), loc="left", fontweight="bold")
        rank_legend(figure, dataset)
    return figure


def draw_against_rank(axes: Axes, dataset: xr.Dataset, measure: str) -> None:
    """Draw one measure against rank on existing axes (see `symmetry_against_rank`)."""
    medians = seed_medians(dataset, measure).transpose("condition", "seed")
    values, middle = medians.values, medians.median("seed", skipna=True).values
    colours = condition_colours(dataset)
    places = condition_places(dataset)
    at, side = places.at, places.side
    _draw_null(axes, dataset, measure, at, [places.ranked, *[[index] for index in side]])
    lines = [[*members, *places.full] for members in places.series.values()] or [places.full]
    for number, line in enumerate(lines):
        colour = "black" if len(lines) == 1 else colours[places.names[line[0]]]
        axes.plot(at[line], values[line], color="#555555", linewidth=0.7, alpha=0.6, zorder=2)
        width = 2.4 if len(lines) == 1 else 1.5
        axes.plot(
            at[line], middle[line], color=colour, linewidth=width, zorder=3, gid=f"median {number}"
        )
    axes.plot(at[side], values[side], color="#555555", linewidth=0.7, alpha=0.6, zorder=2)
    bar = at[side] - 0.4, at[side] + 0.4
    axes.hlines(middle[side], *bar, color="black", linewidth=2.4, zorder=3)
    for index, (name, colour) in enumerate(colours.items()):
        finite = values[index][np.isfinite(values[index])]
        axes.scatter(
            np.full(finite.size, at[index]),
            finite,
            s=26,
            marker=places.marker(index),
            color=colour,
            edgecolor="white",
            linewidths=0.6,
            zorder=4,
            gid=name,
        )
        if finite.size < values[index].size:
            cross = axes.plot(at[index], 0.02, "x", color=colour, gid="no unit counts")
            cross[0].set_transform(axes.get_xaxis_transform())
    axes.set_xticks(*_ticks(dataset, places))
    for label in axes.get_xticklabels()[-len(side) :] if side else []:
        label.set_fontsize("x-small")  # names are wider than ranks
    axes.set_xlim(at.min() - 0.6, at.max() + 0.7)
    if places.ranked and side:
        edge = at[places.ranked].max() + _GAP / 2
        axes.axvline(edge, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("feedback rank (log scale)" if places.ranked else "condition", loc="left")
    axes.set_ylabel(axis_label(dataset[measure], width=32))
    tidy(axes)


def rank_legend(figure: FigureBase, dataset: xr.Dataset) -> None:
    """Explain dots, lines and band below the figure, and the series where there are several."""
    handles: list[Artist] = [
        Line2D([], [], color="#555555", linewidth=0.7, marker="o", markersize=4, label="seed"),
        Line2D([], [], color="black", linewidth=2.4, label="median of seeds"),
        Patch(facecolor=UNTRAINED_COLOUR, alpha=0.3, label="untrained, 5–95 %"),
    ]
    places, colours = condition_places(dataset), condition_colours(dataset)
    if len(places.series) > 1:
        handles += [
            Line2D(
                [],
                [],
                color=colours[places.names[members[0]]],
                marker=places.marker(members[0]),
                label=name,
            )
            for name, members in places.series.items()
        ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=3 if len(places.series) < 2 else 2,
        columnspacing=1.0,
        handlelength=1.5,
    )


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where conditions stand: positions along the axis, and who belongs to which part."""

    names: list[str]
    at: Float[np.ndarray, "condition"]
    series: dict[str, list[int]]
    full: list[int]
    side: list[int]

    @property
    def ranked(self) -> list[int]:
        """Conditions on the rank axis, from the lowest rank to the full one."""
        return [*[index for members in self.series.values() for index in members], *self.full]

    def marker(self, index: int) -> str:
        """Return the marker of a condition: one a series."""
        for number, members in enumerate(self.series.values()):
            if index in members:
                return "os^D"[number % 4]
        return "o"


def condition_places(dataset: xr.Dataset) -> Places:
    """Place conditions at the log2 of their rank (series side by side), others at the side."""
    ranks = np.asarray(dataset["feedback_rank"].values, dtype=float)
    if (ranks < 1).any():
        raise ValueError(f"feedback_rank={ranks.tolist()} must be NaN or at least 1")
    series = low_rank_series(dataset)
    low = [index for members in series.values() for index in members]
    side = [i for i in range(ranks.size) if not np.isfinite(ranks[i])]
    full = [i for i in np.argsort(ranks, kind="stable").tolist() if i not in low and i not in side]
    at = np.zeros(ranks.size)
    at[low + full] = np.log2(ranks[low + full])
    for number, members in enumerate(series.values()):
        at[members] += 0.2 * (number - (len(series) - 1) / 2)
    right = at[low + full].max() + _GAP if low + full else 0.0
    at[side] = right + 1.8 * np.arange(len(side))
    names = [str(name) for name in dataset["condition"].values]
    return Places(names=names, at=at, series=series, full=full, side=side)


def _ticks(dataset: xr.Dataset, places: Places) -> tuple[list[float], list[str]]:
    """Return one tick a rank and one a condition at the side, with their labels."""
    ranks = np.asarray(dataset["feedback_rank"].values, dtype=float)
    ticks = {float(np.log2(ranks[i])): f"{ranks[i]:g}" for i in places.ranked}
    for index in places.full:
        if places.names[index].startswith("BP"):
            ticks[float(places.at[index])] = f"{ranks[index]:g}\nBP"
    ticks |= {float(places.at[i]): wrap_condition(places.names[i]) for i in places.side}
    return list(ticks), list(ticks.values())


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
