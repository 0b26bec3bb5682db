"""Exponents of power laws over trials, with a bootstrap interval."""

import numpy as np
import xarray as xr

from neurofb import labels


def power_law(
    values: xr.DataArray,
    *,
    dim: str,
    over: str = "trial",
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Fit the exponent of a power law: the slope of log(median over trials) over log(dim).

    Trials are drawn with replacement, at each place on their own, for the interval.

    Parameters
    ----------
    values
        Positive, over `dim`, `over` and others.
    dim
        With a positive coordinate of two or more values.
    over
        Dim of the trials.
    num_resamples, level, seed
        Of the bootstrap: how often, share of resamples within the interval, random numbers.

    Returns
    -------
    xr.Dataset
        ``slope``, ``slope_low`` and ``slope_high``, over the other dims.

    Raises
    ------
    ValueError
        If a dim is missing, `dim` has no positive coordinate or fewer than two places, a value is
        not positive, or `level` is not between 0 and 1.

    Examples
    --------
    >>> size = xr.DataArray([10.0, 20.0, 40.0], dims="size")
    >>> values = (1 / size).expand_dims(trial=3).assign_coords(size=size)
    >>> float(power_law(values, dim="size")["slope"].round(6))
    -1.0
    """
    for name in (dim, over):
        if name not in values.dims:
            raise ValueError(
                f"values has no dim {name!r}; it has: {', '.join(map(str, values.dims))}"
            )
    if dim not in values.coords or values.sizes[dim] < 2 or not (values[dim] > 0).all():
        raise ValueError(f"dim={dim!r} needs a positive coordinate of two or more values")
    if not (values > 0).all():
        raise ValueError(f"values must be positive; smallest: {float(values.min())}")
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1")
    others = [name for name in values.dims if name not in (dim, over)]
    array = values.transpose(*others, dim, over).values
    generator = np.random.default_rng(seed)
    num_places, num_trials = array.shape[-2:]
    # place by place: a resample of the trials at one size says nothing of those at another
    drawn = generator.integers(num_trials, size=(num_resamples, num_places, num_trials))
    place = np.arange(num_places)[:, None]
    logs = np.log(values[dim].values.astype(float))
    slope = _slopes(np.median(array, axis=-1), logs)
    resampled = np.stack([_slopes(np.median(array[..., place, d], -1), logs) for d in drawn])
    tails = (1 - level) / 2, (1 + level) / 2
    low, high = np.quantile(resampled, tails, axis=0)
    what = str(values.attrs.get("long_name", "values"))
    found = xr.Dataset(coords={name: values[name] for name in others if name in values.coords})
    for name, one, text in (
        ("slope", slope, "exponent"),
        ("slope_low", low, f"lower end of the {level:.0%} interval of the exponent"),
        ("slope_high", high, f"upper end of the {level:.0%} interval of the exponent"),
    ):
        found[name] = labels.variable([str(o) for o in others], one, "1", f"{text}: {what}")
    return found


def _slopes(medians: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Return least-squares slopes of log(medians) (..., place) over logs (place,)."""
    centred = logs - logs.mean()
    return np.asarray(np.log(medians) @ centred / (centred @ centred))
