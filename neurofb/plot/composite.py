"""The main result in one picture: receptive fields beside symmetry and orientation.

After Hanut & Kadmon (2025), Fig. 5: what the dimensionality of the error does to a retina.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure, SubFigure

from neurofb.plot.cells import draw_cell, mark_legend, select_units, single_channel
from neurofb.plot.montage import count_ok, selection_note
from neurofb.plot.rank import condition_places, draw_against_rank, rank_legend
from neurofb.plot.study import null_band, require, seed_medians
from neurofb.plot.style import UNTRAINED_COLOUR, condition_colours, context, wrap_condition

_MEASURES = {"rotational_symmetry": "symmetry", "orientation_selectivity": "gOSI"}


def figure5(dataset: xr.Dataset, *, num_units: int | None = None) -> Figure:
    """Draw receptive fields (a row a seed, a column a condition) beside measures against rank.

    Panel a: a sample of the units of every condition and seed, after those of the first condition
    before training; under each column its medians and how many units are ok. Panels b and c:
    medians over units of every seed against the feedback rank, the median over seeds, the band of
    the untrained units, and in how many seeds the order of Fig. 5 holds.

    Parameters
    ----------
    dataset
        A study with `receptive_field`, `receptive_field_untrained`, `status`, `feedback_rank`,
        and `rotational_symmetry` and `orientation_selectivity` each with its ``_untrained``.
    num_units
        Units in a cell (two in a row); by default 8, 6, or 4 for one or two, three, or more seeds.

    Raises
    ------
    ValueError
        If a variable is missing, or `num_units` is below 1.

    Examples
    --------
    >>> from neurofb.plot import example_study
    >>> len(figure5(example_study(num_seeds=1)).axes)  # 7 columns, 2 panels
    9
    """
    names = [f"{measure}{null}" for measure in _MEASURES for null in ("", "_untrained")]
    fields = ("receptive_field", "receptive_field_untrained")
    require(dataset, *fields, "status", "feedback_rank", *names, dims=("condition", "seed", "unit"))
    num_seeds = dataset.sizes["seed"]
    if num_units is None:
        num_units = {1: 8, 2: 8, 3: 6}.get(num_seeds, 4)
    if num_units < 1:
        raise ValueError(f"num_units={num_units} must be at least 1")
    with context():
        tile = min((6.3 / (dataset.sizes["condition"] + 1) - 0.1) / 2, 0.5)  # inch
        height = max((tile * -(-num_units // 2) + 0.12) * num_seeds + 1.7, 4.4)
        figure = Figure(figsize=(10.0, height), layout="constrained")
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(6.6, 3.4), wspace=0.02)[
            0
        ]
        _draw_fields(left, dataset, num_units)
        _draw_measures(right, dataset)
    return figure


def _draw_fields(figure: SubFigure, dataset: xr.Dataset, num_units: int) -> None:
    """Draw panel a: columns untrained, then every condition; rows seeds."""
    names = [str(name) for name in dataset["condition"].values]
    colours = {"untrained": UNTRAINED_COLOUR, **condition_colours(dataset)}
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
        axes.set_title(wrap_condition(name), color=colour, fontweight="bold")
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
            lines.append(f"{short} {value:.2f}" if np.isfinite(value) else f"{short} –")
        if index >= 0:
            lines.append(count_ok(dataset["status"].isel(condition=index)))
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
        axes.set_ylabel(f"{axes.get_ylabel()}\n({meaning})")
    figure.axes[0].set_xlabel("")
    rank_legend(figure)


def _counts(dataset: xr.Dataset, measure: str, sign: int) -> list[str]:
    """Count seeds in which the expected order holds, for the comparisons that the study has.

    Expected (sign 1: symmetry; -1: the reverse): the lowest rank above the full rank; the first
    condition at the side (narrow BP) above the full rank and above the second one (dLDFA).
    """
    medians, names = seed_medians(dataset, measure), dataset["condition"].values
    _, ranked, side = condition_places(dataset)
    pairs = [(ranked[0], ranked[-1])] if len(ranked) > 1 else []
    pairs += [(side[0], ranked[-1])] if ranked and side else []
    pairs += [(side[0], side[1])] if len(side) > 1 else []
    lines = []
    for above, below in pairs:
        difference = sign * (medians.isel(condition=above) - medians.isel(condition=below)).values
        measured = int(np.isfinite(difference).sum())
        relation = ">" if sign > 0 else "<"
        count = int((difference > 0).sum())
        lines.append(f"{names[above]} {relation} {names[below]}: {count} of {measured} seeds")
    return lines
