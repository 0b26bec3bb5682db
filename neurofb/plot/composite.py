"""The main result in one picture: receptive fields beside symmetry and orientation.

After Hanut & Kadmon (2025), Fig. 5: what the dimensionality of the error does to a retina.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure, SubFigure

from neurofb.plot.cells import draw_cell, mark_legend, select_units, single_channel
from neurofb.plot.montage import count_text, selection_note
from neurofb.plot.rank import condition_places, draw_against_rank, rank_legend
from neurofb.plot.study import low_rank_series, null_band, require, seed_medians
from neurofb.plot.style import (
    UNTRAINED_COLOUR,
    condition_colours,
    context,
    title_size,
    wrap_condition,
)

_MEASURES = {"rotational_symmetry": "symmetry", "orientation_selectivity": "gOSI"}


def figure5(
    dataset: xr.Dataset,
    *,
    columns: Sequence[str] | None = None,
    num_units: int | None = None,
) -> Figure:
    """Draw receptive fields (a row a seed, a column a condition) beside measures against rank.

    Panel a: a sample of the units of every condition and seed, after those of the first condition
    before training; under each column its medians and how many units count. Panels b and c:
    medians over units of every seed against the feedback rank, the median over seeds, the band of
    the untrained units, and in how many seeds the order of Fig. 5 holds.

    Parameters
    ----------
    dataset
        A study with `receptive_field`, `receptive_field_untrained`, `status`, `feedback_rank`,
        and `rotational_symmetry` and `orientation_selectivity` each with its ``_untrained``.
    columns
        Conditions of panel a; by default all, or, beyond eight, those of the first low-rank series
        and those without low rank.
    num_units
        Units in a cell (two in a row); by default 8, 6, or 4 for one or two, three, or more seeds.

    Raises
    ------
    ValueError
        If a variable or a condition is missing, or `num_units` is below 1.

    Examples
    --------
    >>> from neurofb.plot import example_study
    >>> len(figure5(example_study(num_seeds=1)).axes)  # 7 columns, 2 panels
    9
    """
    names = [f"{measure}{null}" for measure in _MEASURES for null in ("", "_untrained")]
    names += ["receptive_field", "receptive_field_untrained", "status"]
    names += ["feedback_rank", "bottleneck"]
    require(dataset, *names, dims=("condition", "seed", "unit"))
    num_seeds = dataset.sizes["seed"]
    if num_units is None:
        num_units = {1: 8, 2: 8, 3: 6}.get(num_seeds, 4)
    if num_units < 1:
        raise ValueError(f"num_units={num_units} must be at least 1")
    shown = dataset.sel(condition=_columns(dataset, columns))
    with context():
        tile = min((6.3 / (shown.sizes["condition"] + 1) - 0.1) / 2, 0.5)  # inch
        height = max((tile * -(-num_units // 2) + 0.12) * num_seeds + 1.7, 4.4)
        height += 0.35 * max(len(low_rank_series(dataset)) - 1, 0)
        figure = Figure(figsize=(10.0, height), layout="constrained")
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(6.6, 3.4), wspace=0.02)[
            0
        ]
        _draw_fields(left, shown, num_units, condition_colours(dataset))
        _draw_measures(right, dataset)
    return figure


def _columns(dataset: xr.Dataset, columns: Sequence[str] | None) -> list[str]:
    """Return the conditions of panel a."""
    names = [str(name) for name in dataset["condition"].values]
    for name in columns or ():
        if name not in names:
            raise ValueError(f"columns: no condition {name!r}; the dataset has {', '.join(names)}")
    if columns is not None:
        return list(columns)
    others = list(low_rank_series(dataset).values())[1:]
    left_out = {names[index] for members in others for index in members}
    return names if len(names) <= 8 else [name for name in names if name not in left_out]


def _draw_fields(
    figure: SubFigure, dataset: xr.Dataset, num_units: int, conditions: dict[str, Any]
) -> None:
    """Draw panel a: columns untrained, then every condition; rows seeds."""
    names = [str(name) for name in dataset["condition"].values]
    colours = {"untrained": UNTRAINED_COLOUR} | {name: conditions[name] for name in names}
    trained = single_channel(dataset["receptive_field"])
    untrained = single_channel(dataset["receptive_field_untrained"])
    sort_by, shown = "rotational_symmetry", set[str]()
    grid = figure.subplots(dataset.sizes["seed"], len(names) + 1, squeeze=False)
    for row, column in np.ndindex(grid.shape):
        at = {"condition": max(column - 1, 0), "seed": row}
        cell = dataset[["status", sort_by, f"{sort_by}_untrained"]].isel(at)
        if column == 0:
            present = cell["status"] != "absent"
            status = present.copy(data=np.where(present, "ok", "absent").astype(object))
            cell = cell.assign(status=status)
            units = select_units(cell, num_units=num_units, sort_by=f"{sort_by}_untrained")
        else:
            units = select_units(cell, num_units=num_units, sort_by=sort_by)
        status = [str(cell["status"].values[unit]) for unit in units]
        field = (trained if column else untrained).isel(at).isel(unit=units)
        values = np.asarray(field.transpose("unit", "y", "x").values, dtype=float)
        draw_cell(grid[row, column], values, status, places=num_units, columns=2)
        shown |= set(status)
    for axes, (name, colour) in zip(grid[0], colours.items(), strict=True):
        axes.set_title(
            wrap_condition(name), color=colour, fontweight="bold", fontsize=title_size(name)
        )
    for axes, text in zip(grid[-1], _column_medians(dataset), strict=True):
        axes.set_xlabel(text, fontsize=7.5)
    for axes, seed in zip(grid[:, 0], dataset["seed"].values, strict=True):
        axes.set_ylabel(f"seed {seed}")
    figure.suptitle("a   Receptive fields of retinal units", x=0.01, ha="left", fontweight="bold")
    mark_legend(figure, shown, note=selection_note(sort_by))


def _column_medians(dataset: xr.Dataset) -> list[str]:
    """Write each column's median over seeds of both measures, the untrained column's first."""
    texts = []
    for index in range(-1, dataset.sizes["condition"]):
        lines = []
        for measure, short in _MEASURES.items():
            band = null_band(dataset[f"{measure}_untrained"].isel(condition=0))
            value = (
                seed_medians(dataset.isel(condition=index), measure).median("seed").item()
                if index >= 0
                else np.nan
                if band is None
                else band.median
            )
            short = short.replace("symmetry", "sym.")  # columns are narrow
            lines.append(f"{short} {value:.2f}" if np.isfinite(value) else f"{short} –")
        if index >= 0:
            lines.append(count_text(dataset.isel(condition=index)))
        texts.append("\n".join(lines))
    return texts


def _draw_measures(figure: SubFigure, dataset: xr.Dataset) -> None:
    """Draw panels b and c."""
    panels = (
        ("rotational_symmetry", "b   Rotational symmetry", "higher: rounder", 1),
        ("orientation_selectivity", "c   Orientation selectivity", "higher: more oriented", -1),
    )
    for axes, (measure, title, meaning, sign) in zip(figure.subplots(2, 1), panels, strict=True):
        draw_against_rank(axes, dataset, measure)
        counts = _counts(dataset, measure, sign)
        axes.set_title("\n".join([title, *[""] * len(counts)]), loc="left", fontweight="bold")
        axes.set_title("\n".join(counts), loc="right", x=0.0, ha="left", fontsize=7.5)
        axes.set_ylabel(f"{_MEASURES[measure]}\n({meaning})")
    figure.axes[0].set_xlabel("")
    rank_legend(figure, dataset)


def _counts(dataset: xr.Dataset, measure: str, sign: int) -> list[str]:
    """Count seeds in which the expected order holds, for the comparisons that the study has.

    Expected (sign 1: symmetry; -1: the reverse): every series' lowest rank above the full rank;
    the first condition at the side (narrow BP) above the full rank and above the others (dLDFA).
    """
    medians, names = seed_medians(dataset, measure), dataset["condition"].values
    places = condition_places(dataset)
    side, full = places.side, places.full[-1:]
    pairs = [(members[0], whole) for members in places.series.values() for whole in full]
    pairs += [(narrow, whole) for narrow in side[:1] for whole in full]
    pairs += [(side[0], direct) for direct in side[1:]]
    lines = []
    for above, below in pairs:
        difference = sign * (medians.isel(condition=above) - medians.isel(condition=below)).values
        measured = int(np.isfinite(difference).sum())
        relation = ">" if sign > 0 else "<"
        count = int((difference > 0).sum())
        lines.append(f"{names[above]} {relation} {names[below]}: {count} of {measured} seeds")
    return lines
