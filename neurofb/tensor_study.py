"""Decompositions of planted tensors by several algorithms, beside state evolution."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from neurofb import labels
from neurofb.choices import check_choice
from neurofb.measures.boundary import failing_boundary
from neurofb.tensor_theory import theory_errors
from neurofb.tensors import (
    PlantedTensor,
    TensorALS,
    TensorAMP,
    TensorProblem,
    mode_overlaps,
    tensor_error,
)

#: algorithm -> (kind, where it starts)
ALGORITHMS: dict[str, tuple[str, str]] = {
    "AMP": ("AMP", "prior"),
    "AMP from the truth": ("AMP", "truth"),
    "ALS, random start": ("ALS", "random"),
    "ALS, SVD start": ("ALS", "svd"),
    "ALS, start at the prior mean": ("ALS", "prior"),
    "ALS from the truth": ("ALS", "truth"),
}


def planted_errors(
    shape: Sequence[int],
    priors: Any,
    noise_variances: Sequence[float | int] | np.ndarray,
    *,
    rank: int = 1,
    algorithms: Sequence[str] = ("AMP", "AMP from the truth"),
    seeds: Iterable[int] = range(3),
    standardise: bool = False,
    precision: Literal["float32", "float64"] = "float32",
    max_sweeps: int = 200,
    als_sweeps: int = 100,
    tolerance: float | int = 1e-5,
    start_noise: float | int = 0.01,
    num_starts: int = 1,
    null: bool = False,
    device: str = "cpu",
) -> xr.Dataset:
    """Draw tensors of low rank, decompose them by each algorithm, and ask state evolution.

    A seed has the same factors and the same noise (scaled) at every noise variance. AMP is told
    priors and noise variance; ALS knows neither, unless its start at the prior mean tells it. Runs
    that do not converge are not warned of: ``converged`` says so.

    Parameters
    ----------
    shape, priors, rank
        Of the problem, see `neurofb.tensors.TensorProblem`.
    noise_variances
        Delta; rising.
    algorithms
        Of `ALGORITHMS`.
    seeds
        A tensor each.
    standardise
        Give the planted factors exactly the mean and variance of their priors.
    precision
        Of the tensor and the sweeps.
    max_sweeps, als_sweeps, tolerance
        When AMP and ALS stop.
    start_noise, num_starts
        Of AMP from the prior, see `neurofb.tensors.TensorAMP`.
    null
        Also decompose the noise alone, for ``null_size``: the sum of squares of what is found
        there, over that of the tensor that is not there.
    device
        A torch device.

    Returns
    -------
    xr.Dataset
        Over noise_variance, seed and algorithm ``tensor_error``, ``num_sweeps``, ``converged`` and,
        of AMP, ``overlap`` (also axis; mean over components). Of theory what
        `neurofb.tensor_theory.theory_errors` returns.

    Raises
    ------
    ValueError
        If an algorithm is unknown, or noise variances do not rise.

    Examples
    --------
    >>> from neurofb.tensors import GaussianPrior
    >>> found = planted_errors((20, 20, 20), GaussianPrior(1.0), [0.1], seeds=[0])
    >>> bool((found["tensor_error"] < 0.3).all())
    True
    """
    for algorithm in algorithms:
        check_choice("algorithms", algorithm, ALGORITHMS)
    deltas = np.asarray(noise_variances, dtype=float)
    if deltas.ndim != 1 or not deltas.size or not (np.diff(deltas) > 0).all():
        raise ValueError(f"noise_variances={noise_variances} must be one or more, rising")
    seeds, dtype = list(seeds), getattr(torch, precision)
    dims = {"noise_variance": deltas, "seed": seeds, "algorithm": list(algorithms)}
    sizes = tuple(len(values) for values in dims.values())
    error, sweeps, done, size = (np.full(sizes, np.nan) for _ in range(4))
    overlap = np.full((*sizes, len(shape)), np.nan)
    for i, j in np.ndindex(*sizes[:2]):
        problem = TensorProblem(tuple(shape), priors, float(deltas[i]), rank=rank)
        planted = problem.sample(seeds[j], standardise=standardise, dtype=dtype, device=device)
        alone = problem.noise_only(seeds[j], dtype=dtype, device=device) if null else None
        for k, algorithm in enumerate(algorithms):
            kind, at = ALGORITHMS[algorithm][0], (i, j, k)
            stop: dict[str, Any] = {"tolerance": float(tolerance), "seed": int(seeds[j])}
            stop["max_sweeps"] = max_sweeps if kind == "AMP" else als_sweeps
            if ALGORITHMS[algorithm] == ("AMP", "prior"):
                stop |= {"start_noise": start_noise, "num_starts": num_starts}
            fitted = _fit(algorithm, problem, planted, planted.tensor, stop)
            error[at] = tensor_error(fitted.factors_, planted.factors)
            sweeps[at], done[at] = fitted.num_sweeps_, fitted.converged_
            if kind == "AMP":
                matrices = mode_overlaps(fitted.factors_, planted.factors)
                overlap[at] = [float(each.diagonal().mean()) for each in matrices]
            if alone is not None:
                empty = _fit(algorithm, problem, planted, alone, stop)
                size[at] = _square(empty.factors_) / _square(planted.factors)
    text = "squared error of the tensor, over that of the tensor of zeros"
    found = {
        "tensor_error": labels.variable(dims, error, "1", text),
        "num_sweeps": labels.variable(dims, sweeps, "1", "sweeps done"),
        "converged": labels.variable(dims, done, "1", "whether sweeps ended by the tolerance"),
        "overlap": labels.variable((*dims, "axis"), overlap, "1", "overlap with the truth"),
    }
    if null:
        text = "size of what is found in noise alone, over that of the signal"
        found["null_size"] = labels.variable(dims, size, "1", text)
    places = {dim: labels.coordinate(dim, values) for dim, values in dims.items()}
    title = f"decompositions of planted tensors of the shape {tuple(shape)}"
    about = labels.provenance(title=title, references="arXiv:1810.10065", device=device)
    simulated = xr.Dataset(found, places, about)
    return simulated.merge(theory_errors(shape, priors, deltas, rank=rank))


def signal_found(found: xr.Dataset) -> xr.DataArray:
    """Tell which runs have found the signal: they are nearer to that solution than to the null.

    The error is below the mean of the null's (the tensor of prior means) and that of state
    evolution from the truth, and at least 3 % below the null's.

    Parameters
    ----------
    found
        Of `planted_errors`, over further dims or not.

    Examples
    --------
    >>> found = xr.Dataset({"tensor_error": ("noise_variance", [0.2, 0.9, 1.0]), "mean_error": 1.0})
    >>> found["error_theory"] = (("noise_variance", "start"), [[0.2, 0.2], [1, 0.4], [1, 1]])
    >>> signal_found(found.assign_coords(start=["prior", "truth"])).values.tolist()
    [True, False, False]
    """
    good = found["error_theory"].sel(start="truth", drop=True)
    limit = np.minimum((good + found["mean_error"]) / 2, 0.97 * found["mean_error"])
    return found["tensor_error"] < limit


def failing_noise(found: xr.Dataset) -> xr.DataArray:
    """Return the noise from which on a seed's signal is no more found (`signal_found`).

    NaN where theory has no hard phase: errors rise smoothly there.

    Parameters
    ----------
    found
        Of `planted_errors`, over further dims or not.

    Returns
    -------
    xr.DataArray
        Over the dims of ``tensor_error`` without noise_variance.

    Examples
    --------
    >>> found = xr.Dataset({"tensor_error": ("noise_variance", [0.2, 0.9, 1.0]), "mean_error": 1.0})
    >>> found["error_theory"] = (("noise_variance", "start"), [[0.2, 0.2], [1, 0.4], [1, 1]])
    >>> found = found.assign(algorithmic=0.15).assign_coords(start=["prior", "truth"])
    >>> failing_noise(found.assign_coords(noise_variance=[0.1, 0.2, 0.3])).item().__round__(3)
    0.15
    """
    boundary = failing_boundary(~signal_found(found), "noise_variance")["boundary"]
    boundary = boundary.where(found["algorithmic"].notnull())
    text = "noise variance from which on the signal is not found"
    return boundary.assign_attrs(units="1", long_name=text)


def _fit(
    algorithm: str, problem: TensorProblem, planted: PlantedTensor, tensor: torch.Tensor, stop: Any
) -> Any:
    """Decompose a tensor by an algorithm."""
    kind, where = ALGORITHMS[algorithm]
    start: Any = planted.factors if where == "truth" else where
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="least squares")
        warnings.filterwarnings("ignore", message="message passing")
        if kind == "ALS":
            priors = {"priors": problem.priors} if where == "prior" else {}
            return TensorALS(rank=problem.rank, start=start, **priors, **stop).fit(tensor)
        return TensorAMP(
            rank=problem.rank,
            priors=problem.priors,
            noise_variance=problem.noise_variance,
            start=start,
            **stop,
        ).fit(tensor)


def _square(factors: Sequence[torch.Tensor]) -> float:
    """Return the sum of squares of the tensor of factors, without its normalisation."""
    grams = [each.double().T @ each.double() for each in factors]
    return float(torch.stack(grams).prod(0).sum())
