"""Where a transition lies: first failing setting, and the distance of points to a theory line."""

import numpy as np
import xarray as xr

from neurofb import labels


def failing_boundary(failed: xr.DataArray, dim: str) -> xr.Dataset:
    """Find along a dim where runs begin to fail: midway between the last success and the next.

    Parameters
    ----------
    failed
        Whether a run failed, True or False, over `dim` and any other dims.
    dim
        Its coordinate rises strictly, as the fraction of flipped neurons.

    Returns
    -------
    xr.Dataset
        Over the other dims, in the units of the coordinate: ``boundary``; ``boundary_low`` and
        ``boundary_high``, the two settings between which it lies. If nothing fails all three are
        the last setting, if the first fails the first.

    Raises
    ------
    ValueError
        If `dim` has no coordinate, or one that does not rise.

    Examples
    --------
    >>> failed = xr.DataArray([False, False, True, False, True], dims="fraction")
    >>> found = failing_boundary(failed.assign_coords(fraction=[0, 0.1, 0.2, 0.3, 0.4]), "fraction")
    >>> float(found.boundary.round(3)), float(found.boundary_low), float(found.boundary_high)
    (0.15, 0.1, 0.2)
    """
    if dim not in failed.coords or not (np.diff(failed[dim].values) > 0).all():
        raise ValueError(f"dim={dim!r} needs a coordinate that rises strictly")
    at = failed[dim].values.astype(float)
    first = failed.argmax(dim)
    fails = failed.any(dim)
    last = at.size - 1
    high = xr.where(fails, first, last)
    low = xr.where(fails, np.maximum(first - 1, 0), last)
    units = str(failed[dim].attrs.get("units", "1"))
    name = str(failed[dim].attrs.get("long_name", dim))
    dims, found = [str(name) for name in first.dims], xr.Dataset()
    for key, values, text in (
        ("boundary", (at[low.values] + at[high.values]) / 2, "where runs begin to fail"),
        ("boundary_low", at[low.values], "last setting before the first failure"),
        ("boundary_high", at[high.values], "first setting that fails"),
    ):
        found[key] = labels.variable(dims, values, units, f"{text}: {name}")
    return found.assign_coords(first.coords)


def distance_to_line(
    x: np.ndarray, y: np.ndarray, line_x: np.ndarray, line_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far points lie from a falling line, along x and along y.

    Parameters
    ----------
    x, y
        The points, (point,).
    line_x, line_y
        The line as a polygon, (vertex,): x rises strictly, y never rises. A level part, as where a
        critical fraction is 1, has many x at one y: the nearest of them counts.

    Returns
    -------
    tuple
        (point,) each, with sign: the point's x minus the line's at the point's y, and y likewise.
        NaN beyond the ends of the line.

    Raises
    ------
    ValueError
        If the line is not one of a function that falls.

    Examples
    --------
    >>> points = np.array([0.2, 0.6]), np.array([1.0, 0.25])
    >>> along_x, along_y = distance_to_line(*points, np.array([0, 0.5, 1]), np.array([1, 1, 0.0]))
    >>> along_x.round(3).tolist(), along_y.round(3).tolist()
    ([0.0, -0.275], [0.0, -0.55])
    """
    x, y, line_x, line_y = (np.asarray(a, dtype=float) for a in (x, y, line_x, line_y))
    if not (np.diff(line_x) > 0).all() or (np.diff(line_y) > 0).any():
        raise ValueError("the line must have a rising line_x and a line_y that never rises")
    along_y = y - np.interp(x, line_x, line_y, left=np.nan, right=np.nan)
    along_x = np.full(x.shape, np.nan)
    for i, (px, py) in enumerate(zip(x, y, strict=True)):
        crossed = _x_at(line_x, line_y, py)
        if crossed is not None:
            along_x[i] = px - np.clip(px, *crossed)
    return along_x, along_y


def _x_at(line_x: np.ndarray, line_y: np.ndarray, y: float) -> tuple[float, float] | None:
    """Return the smallest and the largest x at which a falling polygon has the value y."""
    if not line_y[-1] <= y <= line_y[0]:
        return None
    ends = []
    for i in range(line_x.size - 1):
        (x0, x1), (y0, y1) = line_x[i : i + 2], line_y[i : i + 2]
        if y1 <= y <= y0:
            ends += [x0, x1] if y0 == y1 else [x0 + (x1 - x0) * (y0 - y) / (y0 - y1)]
    return float(min(ends)), float(max(ends))
