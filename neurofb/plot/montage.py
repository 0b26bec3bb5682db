"""Receptive fields of every condition and seed."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from neurofb.plot.cells import draw_cell, mark_legend, select_units, single_channel
from neurofb.plot.study import counted, require
from neurofb.plot.style import condition_colours, context, title_size, wrap_condition


def receptive_field_montage(
    dataset: xr.Dataset,
    *,
    seeds: Sequence[int] | None = None,
    num_units: int = 8,
    sort_by: str = "rotational_symmetry",
) -> Figure:
    """Draw units' receptive fields: a column a condition, a row a seed.

    Red excites, blue suppresses, white is zero; each unit has its own symmetric scale. Units are
    sorted by status, then by `sort_by`, and sampled evenly where there are more than `num_units`.
    Dead, silent, truncated and unmoved units are drawn in a coloured frame, absent ones are blank.

    Parameters
    ----------
    dataset
        A study, or one run, with `receptive_field`, `status` and the measure `sort_by`.
    seeds
        Seeds to draw; all by default.
    num_units
        Units in a cell.
    sort_by
        Measure that orders the units, largest first.

    Raises
    ------
    ValueError
        If a variable or a seed is missing, or `num_units` is below 1.

    Examples
    --------
    >>> from neurofb.plot import example_study
    >>> len(receptive_field_montage(example_study(num_seeds=2)).axes)
    12
    """
    for dim, only in {"condition": "", "seed": 0}.items():  # one run has neither
        if dim not in dataset.dims:
            dataset = dataset.expand_dims(dim if dim in dataset.coords else {dim: [only]})
    require(dataset, "receptive_field", "status", sort_by, dims=("condition", "seed", "unit"))
    if num_units < 1:
        raise ValueError(f"num_units={num_units} must be at least 1")
    known = [int(seed) for seed in dataset["seed"].values]
    chosen = known if seeds is None else list(seeds)
    for seed in chosen:
        if seed not in known:
            raise ValueError(f"seed={seed} is not in the dataset; it has {known}")
    if not chosen:
        raise ValueError(f"seeds={seeds} is empty; the dataset has {known}")

    conditions = [str(name) for name in dataset["condition"].values]
    field = single_channel(dataset["receptive_field"])
    columns = min(4, num_units)
    cell_rows = -(-num_units // columns)
    colours = condition_colours(dataset)
    shown: set[str] = set()
    with context():
        size = (0.4 * columns * len(conditions) + 0.5, (0.4 * cell_rows + 0.15) * len(chosen) + 1.1)
        figure = Figure(figsize=(max(size[0], 7.2), size[1]), layout="constrained")
        grid = figure.subplots(len(chosen), len(conditions), squeeze=False)
        for row, seed in enumerate(chosen):
            for column, name in enumerate(conditions):
                axes, at = grid[row, column], {"condition": column, "seed": known.index(seed)}
                cell = dataset[["status", sort_by]].isel(at)
                units = select_units(cell, num_units=num_units, sort_by=sort_by)
                status = [str(cell["status"].values[unit]) for unit in units]
                fields = field.isel(at).isel(unit=units).transpose("unit", "y", "x")
                values = np.asarray(fields.values, dtype=float)
                draw_cell(axes, values, status, places=num_units, columns=columns)
                shown |= set(status)
                axes.set_xlabel(count_text(dataset.isel(at)), fontsize=6.5, labelpad=2)
                if row == 0:
                    title = name if len(name) <= 16 else wrap_condition(name)
                    axes.set_title(
                        title, color=colours[name], fontweight="bold", fontsize=title_size(name)
                    )
                if column == 0:
                    axes.set_ylabel(f"seed {seed}")
        figure.suptitle(_title(dataset))
        mark_legend(figure, shown, note=selection_note(sort_by))
    return figure


def selection_note(sort_by: str) -> str:
    """Say which units a picture shows and what its colours mean."""
    return (
        "red excites, blue suppresses; each unit on its own scale; "
        f"units sampled evenly in order of {sort_by.replace('_', ' ')}"
    )


def count_text(cell: xr.Dataset) -> str:
    """Say how many of the units that there are count in medians, whether shown or not.

    Examples
    --------
    >>> count_text(xr.Dataset({"status": ("unit", ["ok", "dead", "absent"])}))
    '1/2 count'
    """
    return f"{int(counted(cell).sum())}/{int((cell['status'] != 'absent').sum())} count"


def _title(dataset: xr.Dataset) -> str:
    """Name the picture, and say which channel is drawn where there are several."""
    channels = dataset["receptive_field"].sizes.get("channel", 1)
    several = f" (of {channels} channels, the one of the largest energy)" if channels > 1 else ""
    return f"Receptive fields{several}"
