"""Labels of a decomposition: its trace over sweeps, and its factors with their variances."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neurofb.labels import coordinate, provenance, variable
from neurofb.tensors.amp_sweeps import Sweeps
from neurofb.tensors.problem import signal_scale
from neurofb.tensors.scores import mode_overlaps, tensor_error

_REFERENCE = "arXiv:1810.10065"
_NAMES = {
    "change": "largest change of a factor in a sweep, root mean square relative to its prior's",
    "noise_variance": "noise variance of an entry",
    "residual_variance": "posterior mean of the squared residual of an entry",
    "num_sweeps": "sweeps over all axes that were made",
    "converged": "whether the last sweep changed less than the tolerance",
}


class Trace:
    """What is recorded after each sweep, with scores if the truth is known."""

    def __init__(self, truth: Sequence[Tensor] | None) -> None:
        self._truth = truth
        self._records: dict[str, list[float]] = {"noise_variance": [], "residual_variance": []}
        self._errors: list[float] = []
        self._overlaps: list[np.ndarray] = []

    def add(self, sweeps: Sweeps) -> None:
        """Record a sweep."""
        self._records["noise_variance"].append(sweeps.noise_variance)
        self._records["residual_variance"].append(sweeps.residual)
        if self._truth is not None:
            self._errors.append(tensor_error(sweeps.factors, self._truth))
            overlaps = mode_overlaps(sweeps.factors, self._truth)
            self._overlaps.append(np.stack([_diagonal(each) for each in overlaps]))

    def to_dataset(self, change: Sequence[float]) -> xr.Dataset:
        """Return the records over sweeps, the first of which is number 1."""
        count = len(change)
        records = {"change": change} | self._records
        variables = {
            name: variable("sweep", _padded(np.array(values, float), count), "1", _NAMES[name])
            for name, values in records.items()
        }
        coordinates = {"sweep": coordinate("sweep", np.arange(1, count + 1))}
        if self._truth is not None:
            num_axes, num_components = len(self._truth), self._truth[0].shape[1]
            errors = np.array(self._errors, float)
            overlaps = np.array(self._overlaps, float).reshape(-1, num_axes, num_components)
            variables["tensor_error"] = variable(
                "sweep",
                _padded(errors, count),
                "1",
                "squared error of the tensor over the squared norm of the true one",
            )
            variables["overlap"] = variable(
                ("sweep", "axis", "component"),
                _padded(overlaps, count),
                "1",
                "overlap of a factor with the true one, mean over rows",
            )
            coordinates["axis"] = coordinate("axis", np.arange(num_axes))
            coordinates["component"] = coordinate("component", np.arange(num_components))
        attributes = provenance(
            title="sweeps of approximate message passing over a tensor", references=_REFERENCE
        )
        return xr.Dataset(variables, coordinates, attributes)


def decomposition_dataset(
    factors: Sequence[Tensor],
    covariances: Sequence[Tensor],
    numbers: Mapping[str, float | int | bool],
    *,
    dims: Sequence[str] | None,
    like: xr.DataArray | None,
    config: str,
    seed: int,
) -> xr.Dataset:
    """Return factors with their posterior variances, labelled: see `TensorAMP.to_dataset`.

    Raises
    ------
    ValueError
        If dims are not one per axis, repeat, or are called ``component``.

    Examples
    --------
    >>> factors = [torch.ones(2, 1), torch.ones(3, 1)]
    >>> covariances = [torch.eye(1), torch.eye(1)]
    >>> result = decomposition_dataset(
    ...     factors, covariances, {}, dims=("unit", "time"), like=None, config="{}", seed=0
    ... )
    >>> dict(result.sizes)
    {'unit': 2, 'component': 1, 'time': 3}
    """
    if dims is None:
        names = [f"axis_{axis}" for axis in range(len(factors))]
        dims = names if like is None else [str(dim) for dim in like.dims]
    if len(dims) != len(factors) or len({*dims, "component"}) != len(factors) + 1:
        raise ValueError(
            f"dims={tuple(dims)} must be {len(factors)} different names, none 'component'"
        )
    scale = signal_scale([len(factor) for factor in factors])
    num_components = factors[0].shape[1]
    variables = {"scale": variable((), scale, "1", "factor of the sum of outer products")}
    for name, number in numbers.items():
        variables[name] = variable((), number, "1", _NAMES[name])
    for dim, factor, covariance in zip(dims, factors, covariances, strict=True):
        spread = torch.diagonal(covariance, dim1=-2, dim2=-1).expand(len(factor), -1)
        variables[f"{dim}_factor"] = variable(
            (dim, "component"), factor, "1", f"posterior mean of the factor of {dim}"
        )
        variables[f"{dim}_variance"] = variable(
            (dim, "component"), spread, "1", f"posterior variance of the factor of {dim}"
        )
    coordinates = {"component": coordinate("component", np.arange(num_components))}
    if like is not None and tuple(like.dims) == tuple(dims):
        coordinates |= {str(dim): like.coords[dim].variable for dim in dims if dim in like.coords}
    attributes = provenance(
        title="low-rank decomposition of a tensor by approximate message passing",
        config=config,
        seed=seed,
        device=str(factors[0].device),
        references=_REFERENCE,
    )
    return xr.Dataset(variables, coordinates, attributes)


def _diagonal(overlap: Tensor) -> np.ndarray:
    """Return a component's overlap with itself; of missing components it is nan."""
    found = np.full(overlap.shape[1], np.nan)
    diagonal = overlap.diagonal().cpu().numpy()
    found[: len(diagonal)] = diagonal
    return found


def _padded(values: np.ndarray, count: int) -> np.ndarray:
    """Fill what a diverged sweep has not with nan."""
    missing = np.full((count - len(values), *values.shape[1:]), np.nan)
    return np.concatenate([values, missing])
