"""What state evolution says of a decomposition problem, labelled: errors, overlaps, thresholds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from neurofb import labels
from neurofb.theory import StateEvolution

#: where theory starts
STARTS = ("prior", "truth")
THRESHOLDS = {
    "algorithmic": "noise variance below which the prior's basin leads to the signal, theory",
    "information": "noise variance up to which the signal is the better explanation, theory",
    "spinodal": "noise variance up to which a solution near the signal exists, theory",
}


def theory_errors(
    shape: Sequence[float | int], priors: Any, noise_variances: Any, *, rank: int = 1
) -> xr.Dataset:
    """Return what state evolution says of a problem at each noise variance.

    Returns
    -------
    xr.Dataset
        ``error_theory`` (noise_variance, start) from ``prior`` and ``truth``, ``overlap_theory``
        (also axis; mean over components); ``mean_error``, that of the tensor of prior means;
        ``algorithmic``, ``information`` and ``spinodal`` noise, NaN where there is no hard phase.

    Examples
    --------
    >>> from neurofb.tensors import GaussianPrior
    >>> found = theory_errors((1, 1, 1), GaussianPrior(0.2), np.array([0.1, 0.2]))
    >>> found["error_theory"].values.round(3).tolist(), round(float(found["algorithmic"]), 3)
    ([[0.266, 0.266], [1.0, 0.539]], 0.153)
    """
    theory = StateEvolution(priors, ratios=tuple(shape), rank=rank)
    deltas = np.asarray(noise_variances, dtype=float)
    points = np.stack([theory.fixed_point(deltas, start) for start in STARTS], axis=1)
    diagonal = np.diagonal(points, axis1=-2, axis2=-1).mean(-1)
    mean_error = theory.tensor_error(theory.prior_overlaps)
    dims = ("noise_variance", "start")
    text = "squared error of the tensor by state evolution"
    found = {
        "error_theory": labels.variable(dims, theory.tensor_error(points), "1", text),
        "overlap_theory": labels.variable((*dims, "axis"), diagonal, "1", "overlap, theory"),
        "mean_error": labels.variable((), mean_error, "1", "error of the tensor of prior means"),
    }
    for (name, text), value in zip(THRESHOLDS.items(), theory.thresholds(), strict=True):
        found[name] = labels.variable((), value, "1", text)
    places = {"noise_variance": deltas, "start": list(STARTS), "axis": np.arange(len(shape))}
    return xr.Dataset(found, {dim: labels.coordinate(dim, at) for dim, at in places.items()})


def theory_line(
    shape: Sequence[float | int], priors: Any, noise_variances: Any, *, rank: int = 1
) -> xr.Dataset:
    """Return theory's errors as curves: at a hundred noise variances up to the largest given.

    Returns
    -------
    xr.Dataset
        ``line_error`` (vertex, start) at ``line_noise`` (vertex).

    Examples
    --------
    >>> from neurofb.tensors import GaussianPrior
    >>> theory_line((1, 1, 1), GaussianPrior(0.2), [0.1, 0.2]).sizes["vertex"]
    100
    """
    highest = float(np.max(noise_variances))
    at = np.linspace(highest / 100, 1.02 * highest, 100)
    error = theory_errors(shape, priors, at, rank=rank)["error_theory"]
    line = error.rename(noise_variance="vertex").drop_vars("vertex").rename("line_error")
    text = labels.COORDINATES["noise_variance"][1]
    return line.to_dataset().assign(line_noise=labels.variable("vertex", at, "1", text))
