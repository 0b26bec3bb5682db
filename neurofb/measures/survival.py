"""Times to an event of which some were cut short: survival curves and medians.

A run that has not reached its target when it ends has no time; to average its last step with the
times of others, or to leave it out, makes slow rules look fast. Here it counts as *later than*.
"""

import numpy as np
import xarray as xr

from neurofb import labels


def survival_curve(times: np.ndarray, censored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of runs that have not reached the event by each time.

    The product-limit estimate of Kaplan & Meier (1958): at each event the share falls by a factor
    1 − events / runs still watched. Without censored runs it is one minus the empirical
    distribution.

    Parameters
    ----------
    times
        Time of the event, or of the end of watching where `censored`, (run,).
    censored
        Whether the run ended without the event, (run,).

    Returns
    -------
    tuple
        Times of events (event,), ascending, and the share of runs left after each (event,).

    Raises
    ------
    ValueError
        If the shapes differ, there is no run, or a time is not finite or negative.

    Examples
    --------
    >>> times, left = survival_curve(np.array([2.0, 1.0, 3.0]), np.array([False, False, True]))
    >>> times.tolist(), left.round(3).tolist()
    ([1.0, 2.0], [0.667, 0.333])
    """
    times, censored = np.asarray(times, dtype=float), np.asarray(censored, dtype=bool)
    if times.ndim != 1 or times.shape != censored.shape or not times.size:
        raise ValueError(
            f"times has shape {times.shape}, censored {censored.shape}; both must be (run,), with "
            "one run at least"
        )
    if not (np.isfinite(times) & (times >= 0)).all():
        raise ValueError(
            f"times={times.tolist()} must be finite and >= 0; a run that was cut short has its "
            "last time, with censored True"
        )
    events = np.unique(times[~censored])
    watched = (times[:, None] >= events).sum(0)
    happened = ((times[:, None] == events) & ~censored[:, None]).sum(0)
    return events, np.cumprod(1 - happened / watched)


def median_time(times: xr.DataArray, censored: xr.DataArray, *, dim: str = "seed") -> xr.DataArray:
    """Return the median time to an event over runs, infinite if half of them were cut short.

    The first time by which at most half of the runs are left (`survival_curve`). For an even
    number without censored runs this is the lower of the two middle ones.

    Parameters
    ----------
    times
        Time of the event; where `censored`, the time at which watching ended.
    censored
        Whether a run ended without the event; the dims of `times`.
    dim
        The dim of the runs.

    Raises
    ------
    ValueError
        If `dim` is not there, or as `survival_curve`.

    Examples
    --------
    >>> times = xr.DataArray([[3.0, 9.0, 1.0], [9.0, 9.0, 5.0]], dims=("rule", "seed"))
    >>> median_time(times, times == 9).values.tolist()
    [3.0, inf]
    """
    if dim not in times.dims:
        raise ValueError(f"dim={dim!r} is none of times' dims: {', '.join(map(str, times.dims))}")
    median = xr.apply_ufunc(
        _median, times, censored, input_core_dims=[[dim], [dim]], vectorize=True
    )
    name = str(times.attrs.get("long_name", times.name or "time"))
    units = str(times.attrs.get("units", "1"))
    text = f"{name}, median over {dim}s (infinite where half of them did not get there)"
    return xr.DataArray(labels.variable(median.dims, median.values, units, text), median.coords)


def _median(times: np.ndarray, censored: np.ndarray) -> float:
    """Return the median of one group of runs."""
    events, left = survival_curve(times, censored)
    reached = events[left <= 0.5 + 1e-12]
    return float(reached[0]) if reached.size else float("inf")
