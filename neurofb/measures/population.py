"""From units to a population: medians over the units that count."""

import xarray as xr

#: Measures that decide whether a population is oriented or centre-surround.
HEADLINE = (
    "rotational_symmetry",
    "orientation_selectivity",
    "rotation_correlation_min",
    "dc_ratio",
)


def counted_units(dataset: xr.Dataset) -> xr.DataArray:
    """Tell which units count in a population: learnt, and alive on images.

    Parameters
    ----------
    dataset
        With ``status`` and, if known, ``moved`` and ``alive`` over unit and any other dims.

    Returns
    -------
    xr.DataArray
        True where the field moved from its start and the unit responds to images. Fields cut by
        the border count; dead, silent, unmoved and absent units do not.

    Examples
    --------
    >>> from neurofb import labels
    >>> status = labels.variable("unit", ["ok", "dead", "truncated"], "1", "status")
    >>> counted_units(xr.Dataset({"status": status})).values.tolist()
    [True, False, True]
    """
    counted = dataset["status"].isin(["ok", "truncated"])
    for name in ("moved", "alive"):
        if name in dataset:
            counted = counted & (dataset[name] == 1)
    counted.attrs = {"units": "1", "long_name": "unit counts in medians (moved and alive)"}
    return counted.rename("counted")


def population_medians(dataset: xr.Dataset, measures: tuple[str, ...] = HEADLINE) -> xr.Dataset:
    """Take the median of measures over the units that count, and say how many they are.

    Parameters
    ----------
    dataset
        Measures with a dim ``unit`` and any other dims, as `shape_measures` makes them.
    measures
        Names of variables; nulls (``<name>_untrained``) are medians over all their units.

    Returns
    -------
    xr.Dataset
        The measures without ``unit``, their nulls where the dataset has them, ``num_counted`` and
        ``num_units``.

    Raises
    ------
    ValueError
        If a measure is not in the dataset.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[-8:9, -8:9]
    >>> from neurofb.measures import shape_measures
    >>> table = shape_measures(np.exp(-(x**2 + y**2) / 8.0)[None], fits=False, bars=False)
    >>> float(population_medians(table).rotational_symmetry.round(2))
    1.0
    """
    missing = [name for name in measures if name not in dataset]
    if missing:
        raise ValueError(f"measures={missing} are not in the dataset; it has {list(dataset)}")
    counted = counted_units(dataset)
    medians = {}
    for name in measures:
        medians[name] = _median(dataset[name].where(counted))
        null = f"{name}_untrained"
        if null in dataset:
            medians[null] = _median(dataset[null])
    present = dataset["status"] != "absent"
    medians["num_counted"] = counted.sum("unit").assign_attrs(counted.attrs)
    medians["num_units"] = present.sum("unit").assign_attrs(units="1", long_name="number of units")
    return xr.Dataset(medians)


def _median(values: xr.DataArray) -> xr.DataArray:
    """Take the median over units; NaN where there is none (without numpy's warning)."""
    empty = values.isnull().all("unit")
    return values.where(~empty, 0.0).median("unit", keep_attrs=True).where(~empty)
