"""Claims over seeds: paired differences and rank trends, counted and not smoothed over."""

from typing import Any

import numpy as np
import xarray as xr

from neurofb import labels


def contrast(first: xr.DataArray, second: xr.DataArray, statement: str) -> xr.Dataset:
    """Compare two conditions seed by seed: first minus second.

    Parameters
    ----------
    first, second
        One value per seed each (dim ``seed``), paired by the seed's label.
    statement
        What a positive difference says.

    Returns
    -------
    xr.Dataset
        See `verdict`.

    Examples
    --------
    >>> a, b = (xr.DataArray(v, coords={"seed": [0, 1, 2]}) for v in ([3, 2, 5.0], [1, 1, 1.0]))
    >>> bool(contrast(a, b, "a is larger").holds)
    True
    """
    first, second = xr.align(first, second, join="outer")
    return verdict(first["seed"].values, (first - second).values, statement)


def rank_trend(values: xr.DataArray, ranks: xr.DataArray, statement: str) -> xr.Dataset:
    """Correlate a measure with the falling rank, seed by seed: minus Kendall's tau-b.

    Parameters
    ----------
    values
        Dims ``condition`` and ``seed``.
    ranks
        The rank of the feedback of each condition.
    statement
        What a positive trend (the measure rises as the rank falls) says.

    Returns
    -------
    xr.Dataset
        See `verdict`; a seed with fewer than two finite values is NaN.

    Examples
    --------
    >>> rows = xr.DataArray([[0.9], [0.5]], dims=("condition", "seed"), coords={"seed": [0]})
    >>> float(rank_trend(rows, xr.DataArray([1, 32], dims="condition"), "rises").difference[0])
    1.0
    """
    from scipy.stats import kendalltau  # half a second, for every process that measures anything

    trends = []
    for seed in values["seed"].values:
        column = values.sel(seed=seed).values
        finite = np.isfinite(column)
        if finite.sum() < 2:
            trends.append(np.nan)
            continue
        tau: Any = kendalltau(ranks.values[finite], column[finite])
        trends.append(0.0 - tau.statistic)
    return verdict(values["seed"].values, np.array(trends), statement)


def verdict(seeds: np.ndarray, differences: np.ndarray, statement: str) -> xr.Dataset:
    """Count the seeds that agree: all (two at least) must, or all but one of five or more.

    Seeds without a value count against the statement. With five seeds four agreeing is weak
    evidence (one-sided sign test p = 0.19, five: p = 0.03), so the differences are returned too.

    Returns
    -------
    xr.Dataset
        ``difference(seed)``, ``median_difference``, ``num_agreeing``, ``num_seeds``, ``holds``; the
        statement stands in the attributes.

    Examples
    --------
    >>> float(verdict(np.arange(3), np.array([1.0, -1.0, 2.0]), "more").num_agreeing)
    2.0
    """
    agreeing, num_seeds = int((differences > 0).sum()), len(seeds)
    needed = num_seeds - 1 if num_seeds >= 5 else max(num_seeds, 2)
    holds = agreeing >= needed
    middle = np.nanmedian(differences) if np.isfinite(differences).any() else np.nan
    one = labels.variable
    return xr.Dataset(
        {
            "difference": one("seed", differences, "1", "difference, positive if the seed agrees"),
            "median_difference": one((), middle, "1", "median difference over seeds"),
            "num_agreeing": one((), agreeing, "1", "seeds that agree"),
            "num_seeds": one((), num_seeds, "1", "seeds"),
            "holds": one((), holds, "1", "all seeds agree, or all but one of at least five"),
        },
        coords={"seed": labels.coordinate("seed", seeds)},
        attrs={"statement": statement},
    )
