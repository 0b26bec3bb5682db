"""Phase diagrams of curl descent: where flips begin to matter, beside the theory's line.

A run *leaves* its solution if its loss rises tenfold above its lowest value: linear theory says
from where on (`neurofb.theory`). It *fails* if it has not come back to a small loss at the end.
"""

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.measures.boundary import distance_to_line, failing_boundary
from neurofb.theory import critical_hidden_fraction, critical_readout_fraction

#: largest loss over the lowest one before, from which on a run has left its solution
LEFT = 10.0
#: training loss at the end (outputs are of order one) above which a run has failed
FAILED = 1e-3
_LINES = {"hidden_flips": critical_hidden_fraction, "readout_flips": critical_readout_fraction}
_NEEDED = ("final_loss", "loss_rise", "eigenvalue_start", "growth_start", "growth_end")


def curl_phase(cells: xr.Dataset) -> xr.Dataset:
    """Return a scan's phase diagram: boundaries of every seed, theory's line, distances to it.

    Parameters
    ----------
    cells
        What a scan of ``models/curl_descent.py::phase_hidden`` or ``::phase_readout`` over `ratio`
        returns. Cells that are not done are left out.

    Returns
    -------
    xr.Dataset
        The cells, with the network's own M / N as ``ratio``, and (ratio, seed): ``boundary``, the
        fraction of flips from which runs leave their solution, between ``boundary_low`` and
        ``boundary_high``; ``boundary_failed``, from which they fail; ``boundary_matrix``, from
        which the largest eigenvalue of -X at the start is positive, and ``boundary_norms`` the
        same with kept norms (`neurofb.theory.eigenvalues_with_norms`); ``distance_ratio`` and
        ``distance_fraction``, from the line to the nearer end of the boundary along both axes, 0
        where it runs between them. Further ``critical_fraction`` (ratio), ``line_ratio`` and
        ``line_fraction`` (vertex); ``left`` and ``recovered`` (ratio, fraction, seed), the latter:
        left a solution that was unstable, and ended with a small loss at a stable one.

    Raises
    ------
    ValueError
        If it is no such scan, or none of its cells is done.

    Examples
    --------
    >>> dims = ("ratio", "hidden_flips", "seed")
    >>> rise = xr.DataArray(np.array([1.0, 50.0, 50.0]).reshape(1, 3, 1), dims=dims)
    >>> cells = xr.Dataset({"loss_rise": rise, "final_loss": rise / 1e3})
    >>> cells["eigenvalue_start"] = cells["growth_start"] = cells["growth_end"] = rise - 2
    >>> cells["realised_ratio"] = ("ratio", [0.3])
    >>> cells["flipped_fraction"] = (dims[:2], [[0.0, 0.6, 1.0]])
    >>> places = {"ratio": [0.3], "hidden_flips": [0.0, 0.6, 1.0], "seed": [0]}
    >>> found = curl_phase(cells.assign_coords(places))
    >>> found.boundary.values.tolist(), found.distance_fraction.values.round(3).tolist()
    ([[0.3]], [[0.0]])
    """
    dim = next((name for name in _LINES if name in cells.dims), "")
    for name in ("ratio", "seed"):
        if not dim or name not in cells.dims:
            raise ValueError(
                "the dataset is no phase diagram: it needs the dims ratio, seed, and hidden_flips "
                f"or readout_flips; it has: {', '.join(map(str, cells.dims)) or 'none'}"
            )
    for name in (*_NEEDED, "flipped_fraction", "realised_ratio"):
        if name not in cells:
            raise ValueError(f"the dataset has no {name!r}; it is no scan of a phase diagram")
    done = cells["realised_ratio"].notnull()
    if not bool(done.any()):
        raise ValueError("no cell of the scan is done")
    cells = cells.isel(ratio=np.flatnonzero(done.values)).sortby("realised_ratio")
    ratio = cells["realised_ratio"].values.astype(float)
    found = cells.assign_coords(
        ratio=labels.coordinate("ratio", ratio), seed=labels.coordinate("seed", cells["seed"])
    )
    left = ~(found["loss_rise"] < LEFT)
    failed = ~(found["final_loss"] < FAILED)
    text = "whether the loss rose tenfold: the run left its solution"
    found["left"] = left.assign_attrs(units="1", long_name=text)
    for name, what, text in (
        ("boundary", left, "runs begin to leave their solution"),
        ("boundary_failed", failed, "runs begin to fail"),
        ("boundary_matrix", found["eigenvalue_start"] > 0, "-X begins to be unstable"),
        ("boundary_norms", found["growth_start"] > 0, "solutions with kept norms are unstable"),
    ):
        places = failing_boundary(what, dim)
        for ending in ("", "_low", "_high") if name == "boundary" else ("",):
            values = _as_realised(places[f"boundary{ending}"], found["flipped_fraction"], dim)
            long_name = (
                f"fraction of {dim.replace('_', ' ')} where {text}{ending.replace('_', ', ')}"
            )
            found[f"{name}{ending}"] = labels.variable(("ratio", "seed"), values, "1", long_name)
    recovers = left & (found["growth_start"] > 0) & ~failed & (found["growth_end"] < 0)
    text = "whether a run left an unstable solution and ended at a stable one"
    found["recovered"] = recovers.assign_attrs(units="1", long_name=text)
    return found.merge(_theory(found, dim))


def _as_realised(places: xr.DataArray, fraction: xr.DataArray, dim: str) -> np.ndarray:
    """Return fractions (ratio, seed) as those that they were rounded to."""
    places, fraction = places.transpose("ratio", "seed"), fraction.transpose("ratio", dim)
    rows = zip(places.values, fraction.values, strict=True)
    return np.array([np.interp(row, fraction[dim], realised) for row, realised in rows])


def _theory(found: xr.Dataset, dim: str) -> xr.Dataset:
    """Return the line, and how far the boundaries lie from it."""
    ratio = found["ratio"].values
    grid = np.unique(np.append(np.geomspace(ratio.min() / 20, ratio.max() * 20, 4000), ratio))
    line = _LINES[dim](grid)
    one, shape = labels.variable, found["boundary"].shape
    at = np.broadcast_to(ratio[:, None], shape).ravel()
    low, high = (
        distance_to_line(at, found[f"boundary_{end}"].values.ravel(), grid, line)
        for end in ("low", "high")
    )
    along_ratio, along_fraction = (
        np.where(a * b <= 0, 0.0, np.where(abs(a) < abs(b), a, b)).reshape(shape)
        for a, b in zip(low, high, strict=True)
    )
    dims, what = ("ratio", "seed"), dim.replace("_", " ")
    return xr.Dataset(
        {
            "critical_fraction": one("ratio", _LINES[dim](ratio), "1", f"critical {what}, theory"),
            "line_ratio": one("vertex", grid, "1", "c = M / N of the theory's line"),
            "line_fraction": one("vertex", line, "1", f"critical {what} of the theory's line"),
            "distance_ratio": one(dims, along_ratio, "1", "boundary less theory, along M / N"),
            "distance_fraction": one(dims, along_fraction, "1", f"boundary less theory, {what}"),
        }
    )
