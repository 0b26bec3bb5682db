"""Accuracies over seeds: the last, the best rate's, differences, the rank that is enough."""

import xarray as xr


def last_value(curve: xr.DataArray, dim: str = "epoch") -> xr.DataArray:
    """Return the last value of a curve that is not NaN; shorter runs of a study end in NaN.

    Examples
    --------
    >>> curve = xr.DataArray([[0.5, 0.75, float("nan")], [0.5, 0.6, 0.875]], dims=("seed", "epoch"))
    >>> last_value(curve).values
    array([0.75 , 0.875])
    """
    position = curve.notnull().cumsum(dim).argmax(dim)
    return curve.isel({dim: position}).reset_coords(drop=True)


def best_rate(curve: xr.DataArray) -> xr.Dataset:
    """Return the learning rate with the best accuracy at the end, of those that were tried.

    Parameters
    ----------
    curve
        Validation accuracy over ``learning_rate`` (sorted), ``epoch``, ``seed`` and any other dims;
        NaN where a rate was not tried. A rate that diverged counts if it has a value.

    Returns
    -------
    xr.Dataset
        ``last_validation_accuracy`` (mean over seeds), ``chosen_rate`` (NaN where nothing was
        tried) and ``at_edge``: the best rate is the lowest or the highest that was tried there.

    Examples
    --------
    >>> tried = {"learning_rate": [0.1, 0.3, 1.0], "seed": [0], "epoch": [1.0]}
    >>> curve = xr.DataArray([[[0.5]], [[0.7]], [[float("nan")]]], tried)
    >>> found = best_rate(curve)
    >>> float(found.chosen_rate), bool(found.at_edge)
    (0.3, True)
    """
    last = last_value(curve).mean("seed")
    tried, have = last.notnull(), last.notnull().any("learning_rate")
    filled = last.fillna(-1)
    best = filled["learning_rate"][filled.argmax("learning_rate")].drop_vars("learning_rate")
    rates = last["learning_rate"].where(tried)
    at_edge = have & ((best == rates.min("learning_rate")) | (best == rates.max("learning_rate")))
    found = {
        "last_validation_accuracy": (last, "1", "validation accuracy at the end"),
        "chosen_rate": (best.where(have), "1", "learning rate with the best validation accuracy"),
        "at_edge": (at_edge, "1", "the lowest or the highest rate tried is the best"),
    }
    return xr.Dataset(
        {k: v.assign_attrs(units=units, long_name=name) for k, (v, units, name) in found.items()}
    )


def against_reference(
    accuracy: xr.DataArray, reference: xr.DataArray, within: float = 0.01
) -> xr.Dataset:
    """Compare accuracies with those of a reference, paired by the seed.

    Parameters
    ----------
    accuracy
        Test accuracy, 0 to 1, over ``seed`` and any other dims.
    reference
        The same without some of these dims, but with ``seed``.
    within
        Difference up to which two accuracies count as equal; 0.01 is one point.

    Returns
    -------
    xr.Dataset
        ``mean`` and ``sd`` over seeds and ``num_seeds``; ``difference`` (seed) in points (percent);
        ``mean_difference`` and ``sd_difference``; ``verdict``: "within", "behind" or "ahead" by
        more than `within` where all of two seeds or more say so, "mixed" where they do not (a seed
        without a value agrees with nothing), "" where there is no run.

    Examples
    --------
    >>> rules = {"rule": ["FA", "KP"], "seed": [0, 1]}
    >>> accuracy = xr.DataArray([[0.70, 0.72], [0.90, 0.895]], rules, ("rule", "seed"))
    >>> bp = xr.DataArray([0.90, 0.90], {"seed": [0, 1]}, ("seed",))
    >>> against_reference(accuracy, bp).verdict.values.tolist()
    ['behind', 'within']
    """
    difference = accuracy - reference
    edge = within + 1e-9  # far below one image
    have = difference.notnull()
    every = {
        "within": abs(difference) <= edge,
        "behind": difference < -edge,
        "ahead": difference > edge,
    }
    verdict = xr.where(have.any("seed"), "mixed", "").astype(object)
    for word, agrees in every.items():
        verdict = verdict.where(~agrees.all("seed") | (agrees.sizes["seed"] < 2), word)
    points = 100 * difference
    found = {
        "mean": (accuracy.mean("seed"), "1", "mean accuracy over seeds"),
        "sd": (accuracy.std("seed", ddof=1), "1", "standard deviation over seeds"),
        "num_seeds": (accuracy.count("seed"), "1", "seeds"),
        "difference": (points, "percent", "difference to the reference of the same seed"),
        "mean_difference": (points.mean("seed"), "percent", "mean difference to the reference"),
        "sd_difference": (points.std("seed", ddof=1), "percent", "its standard deviation"),
        "verdict": (verdict, "1", f"what all seeds say of a difference of {100 * within:g} points"),
    }
    return xr.Dataset(
        {
            name: values.assign_attrs(units=units, long_name=long_name)
            for name, (values, units, long_name) in found.items()
        }
    )


def sufficient_rank(
    accuracy: xr.DataArray, reference: xr.DataArray, within: float = 0.01
) -> xr.DataArray:
    """Return the smallest rank whose accuracy is at most `within` below the reference.

    Parameters
    ----------
    accuracy
        Over ``rank`` (its values are the ranks) and any other dims.
    reference
        The same without ``rank``.
    within
        0.01 is one point.

    Returns
    -------
    xr.DataArray
        The rank, NaN where none is enough.

    Examples
    --------
    >>> accuracy = xr.DataArray([0.5, 0.8, 0.91], {"rank": [1, 5, 10]}, ("rank",))
    >>> [float(sufficient_rank(accuracy, xr.DataArray(bp))) for bp in (0.9, 0.99)]
    [10.0, nan]
    """
    enough = accuracy >= reference - within - 1e-9
    rank = accuracy["rank"].where(enough).min("rank")
    return rank.assign_attrs(units="1", long_name="smallest rank close enough to the reference")
