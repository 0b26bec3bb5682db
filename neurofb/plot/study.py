"""What the figures read from a study: presence checks, units that count, medians, null bands.

A study has the dims condition, seed, unit, y, x, step; `example_study` makes a synthetic one.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr


@dataclass(frozen=True, kw_only=True)
class Band:
    """The 5 %, 50 % and 95 % quantiles of a null over units, and how many units it holds."""

    low: float
    median: float
    high: float
    num_units: int


def require(
    dataset: xr.Dataset, *names: str, dims: tuple[str, ...] = ("condition", "seed")
) -> None:
    """Refuse a dataset that lacks a variable or a dim that the figure draws.

    Raises
    ------
    ValueError
        Naming the variable or the dim, and what the dataset has instead.
    """
    for name in names:
        if name not in dataset.variables:
            have = ", ".join(sorted(str(have) for have in dataset.variables))
            raise ValueError(f"dataset has no variable {name!r}; it has: {have or 'none'}")
    for dim in dims:
        if dim not in dataset.dims:
            have = ", ".join(sorted(str(have) for have in dataset.dims))
            raise ValueError(f"dataset has no dim {dim!r}; it has: {have or 'none'}")
        if dataset.sizes[dim] == 0:
            raise ValueError(f"dataset has an empty dim {dim!r}; at least one entry is needed")
        if dim in ("condition", "seed", "step") and dim not in dataset.coords:
            raise ValueError(f"dataset has no coordinate {dim!r}")


def measurable(dataset: xr.Dataset, measure: str) -> xr.DataArray:
    """Select a measure of the units whose status is "ok"; NaN elsewhere."""
    return dataset[measure].where(dataset["status"] == "ok")


def seed_medians(dataset: xr.Dataset, measure: str) -> xr.DataArray:
    """Take the median over the measurable units of every condition and seed."""
    return measurable(dataset, measure).median("unit", skipna=True)


def null_band(values: xr.DataArray) -> Band | None:
    """Take the 5-95 % band of a null over all that it holds, or None where nothing is finite.

    Examples
    --------
    >>> null_band(xr.DataArray([0.0, 1.0, 2.0, np.nan]))
    Band(low=0.1, median=1.0, high=1.9, num_units=3)
    """
    finite = np.asarray(values.values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return None
    low, median, high = np.quantile(finite, [0.05, 0.5, 0.95]).tolist()
    return Band(low=low, median=median, high=high, num_units=finite.size)
