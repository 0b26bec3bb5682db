"""The frequency at which a trace oscillates."""

import numpy as np
import xarray as xr

from neurofb import labels


def oscillation_frequency(trace: xr.DataArray, *, dim: str = "time") -> xr.DataArray:
    """Return the angular frequency of the highest peak of a trace's spectrum.

    The mean is removed, a Hann window laid over, and the peak of the periodogram placed between its
    points by a parabola through the logarithms of three: for a pure sinusoid of ten or more periods
    to a fiftieth of the spectrum's resolution (2π over the duration).

    Parameters
    ----------
    trace
        Over `dim`, whose coordinate rises in equal steps, and others.
    dim
        The dim of time.

    Returns
    -------
    xr.DataArray
        Over the other dims, in radian per unit of `dim`'s coordinate; NaN for a constant trace.

    Raises
    ------
    ValueError
        If `dim` has no coordinate of at least 8 equal steps.

    Examples
    --------
    >>> time = np.arange(0, 40, 0.01)
    >>> trace = xr.DataArray(np.sin(6.5 * time), {"time": time}, ("time",))
    >>> float(oscillation_frequency(trace).round(2))
    6.5
    """
    at = trace[dim].values.astype(float) if dim in trace.coords else np.zeros(0)
    steps = np.diff(at)
    if at.size < 9 or not (steps > 0).all() or not np.allclose(steps, steps[0], rtol=1e-6):
        raise ValueError(f"dim={dim!r} needs a coordinate of at least 8 equal rising steps")
    others = [str(name) for name in trace.dims if name != dim]
    values = trace.transpose(*others, dim).values.astype(float)
    window = np.hanning(at.size + 1)[:-1]
    power = abs(np.fft.rfft((values - values.mean(-1, keepdims=True)) * window)) ** 2
    peak = power[..., 1:-1].argmax(-1)[..., None] + 1
    before, top, after = (
        np.log(np.maximum(np.take_along_axis(power, peak + shift, -1)[..., 0], 1e-300))
        for shift in (-1, 0, 1)
    )
    curvature = before - 2 * top + after
    shift = np.where(curvature < 0, (before - after) / np.where(curvature < 0, 2 * curvature, 1), 0)
    found = 2 * np.pi * (peak[..., 0] + shift) / (at.size * steps.mean())
    found = np.where(values.std(-1) > 0, found, np.nan)
    units = f"radian / {trace[dim].attrs.get('units', dim)}"
    text = f"angular frequency of the largest peak: {trace.attrs.get('long_name', 'trace')}"
    coords = {name: trace[name] for name in others if name in trace.coords}
    return xr.DataArray(labels.variable(others, found, units, text), coords)
