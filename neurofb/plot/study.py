"""What the figures read from a study: presence checks, units that count, medians, null bands.

A study has the dims condition, seed, unit, y, x, step; `example_study` makes a synthetic one.
"""

import re
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


def counted(dataset: xr.Dataset) -> xr.DataArray:
    """Tell which units count in medians: the study's `counted` where it has one, else by status.

    The rule is that of `neurofb.measures.counted_units`: fields cut by the border count; dead,
    silent, unmoved and absent units do not.
    """
    if "counted" in dataset:
        return dataset["counted"] == 1
    counts = dataset["status"].isin(["ok", "truncated"])
    for name in ("moved", "alive"):
        if name in dataset:
            counts = counts & (dataset[name] == 1)
    return counts


def low_rank_series(dataset: xr.Dataset) -> dict[str, list[int]]:
    """Group the low-rank conditions that differ in rank only: what they share -> positions.

    Low-rank is a feedback rank below the bottleneck's width; each group is in order of rank.

    Examples
    --------
    >>> facts = {
    ...     "condition": ["BP", "LDFA r=2, P", "LDFA r=1, P", "LDFA r=1, Q"],
    ...     "feedback_rank": ("condition", [8.0, 2.0, 1.0, 1.0]),
    ...     "bottleneck": ("condition", [8, 8, 8, 8]),
    ... }
    >>> low_rank_series(xr.Dataset(coords=facts))
    {'LDFA, P': [2, 1], 'LDFA, Q': [3]}
    """
    if "feedback_rank" not in dataset.variables or "bottleneck" not in dataset.variables:
        return {}
    ranks = np.atleast_1d(np.asarray(dataset["feedback_rank"].values, dtype=float))
    widths = np.atleast_1d(np.asarray(dataset["bottleneck"].values, dtype=float))
    names = [str(name) for name in np.atleast_1d(dataset["condition"].values)]
    series: dict[str, list[int]] = {}
    for index in np.argsort(ranks, kind="stable").tolist():
        if ranks[index] < widths[index]:
            shared = re.sub(r"\s*\b(r|rank)\s*=?\s*\d+", "", names[index]).strip()
            series.setdefault(shared, []).append(index)
    return dict(sorted(series.items(), key=lambda item: min(item[1])))


def seed_medians(dataset: xr.Dataset, measure: str) -> xr.DataArray:
    """Take the median over the units that count, of every condition and seed."""
    return dataset[measure].where(counted(dataset)).median("unit", skipna=True)


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
