"""Exponential growth or decay of a loss, measured between two levels."""

import numpy as np
import xarray as xr

from neurofb import labels


def growth_rate(
    loss: xr.DataArray, *, low: float = 1e-9, high: float = 1e-5, dim: str = "step"
) -> xr.DataArray:
    """Return the rate at which a loss grows or decays, in the last part of its course in a window.

    The slope of log(loss) over `dim`, from the first to the last of the last consecutive records
    whose loss lies between `low` and `high`. Near a fixed point it is twice the rate at which the
    distance to it changes.

    Parameters
    ----------
    loss
        Positive, over `dim` and others; NaN where there is none.
    low, high
        The window: above what rounding does, and below where the motion stops being linear.
    dim
        The dim of time, with a coordinate that rises.

    Returns
    -------
    xr.DataArray
        Over the other dims, per unit of `dim`'s coordinate; NaN with fewer than two such records.

    Raises
    ------
    ValueError
        If `dim` has no coordinate, or not 0 < low < high.

    Examples
    --------
    >>> step = np.array([0, 10, 20, 40])
    >>> loss = xr.DataArray(1e-8 * np.exp(0.1 * step), {"step": step}, ("step",))
    >>> round(float(growth_rate(loss)), 6)
    0.1
    """
    if dim not in loss.coords:
        raise ValueError(f"dim={dim!r} has no coordinate")
    if not 0 < low < high:
        raise ValueError(f"low={low} and high={high} must be 0 < low < high")
    at = loss[dim].values.astype(float)

    def slope(values: np.ndarray) -> float:
        inside = (values > low) & (values < high)
        if inside.sum() < 2:
            return np.nan
        last = int(np.flatnonzero(inside)[-1])
        outside = np.flatnonzero(~inside[:last])
        first = int(outside[-1]) + 1 if outside.size else 0
        if first == last:
            return np.nan
        return float(np.log(values[last] / values[first]) / (at[last] - at[first]))

    rate = xr.apply_ufunc(slope, loss, input_core_dims=[[dim]], vectorize=True)
    text = "rate at which the loss grows (negative: decays) near a fixed point"
    dims = [str(name) for name in rate.dims]
    return xr.DataArray(labels.variable(dims, rate.values, f"1 / {dim}", text), rate.coords)
