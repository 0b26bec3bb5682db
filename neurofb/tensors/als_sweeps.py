"""What happens after each sweep of least squares: scales, changes, the trace, the end."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neurofb import labels
from neurofb.tensors.problem import signal_scale
from neurofb.tensors.scores import mode_overlaps, tensor_error


class LeastSquaresSweeps:
    """What tensorly calls after each sweep: it keeps its numbers, and ends when nothing changes.

    Parameters
    ----------
    tensor
        What is decomposed.
    square
        The mean of its squared entries.
    tolerance
        Change of the factors, over their norm, below which sweeps end.
    truth
        Planted factors, or None.
    """

    def __init__(
        self, tensor: Tensor, square: float, tolerance: float, truth: Sequence[Tensor] | None
    ) -> None:
        self.like, self.square, self.tolerance, self.truth = tensor, square, tolerance, truth
        self.factors: list[Tensor] = []
        self.change: list[float] = []
        self.noise_variances: list[float] = []
        self.errors: list[float] = []
        self.overlaps: list[np.ndarray] = []
        self.end = "as many as max_sweeps"

    @property
    def noise_variance(self) -> float:
        """Return the mean square of what is left of the tensor."""
        return self.noise_variances[-1] if self.noise_variances else self.square

    def __call__(self, decomposition: Any, residual: Any) -> bool:
        """Take weights and factors, and the norm of the residual over that of the tensor."""
        before, self.factors = self.factors, self._balanced(decomposition)
        if not before:  # the start
            return False
        self.noise_variances.append(float(residual) ** 2 * self.square)
        moved = _norm([new - old for new, old in zip(self.factors, before, strict=True)])
        self.change.append(moved / max(_norm(self.factors), np.finfo(float).tiny))
        if self.truth is not None:
            self.errors.append(tensor_error(self.factors, self.truth))
            num_shared = min(self.factors[0].shape[1], self.truth[0].shape[1])
            diagonals = [each.diagonal() for each in mode_overlaps(self.factors, self.truth)]
            self.overlaps.append(np.stack([each[:num_shared].cpu() for each in diagonals]))
        if self.change[-1] <= self.tolerance:
            self.end = "converged"
        return self.change[-1] <= self.tolerance

    def trace(self) -> xr.Dataset:
        """Return the numbers of each sweep, labelled."""
        columns = {
            "change": (self.change, "change of the factors in a sweep, over their norm"),
            "noise_variance": (self.noise_variances, "mean square of what is left of an entry"),
        }
        text = "squared error of the tensor over the squared norm of the true one"
        if self.truth is not None:
            columns["tensor_error"] = (self.errors, text)
        variables = {
            name: labels.variable("sweep", np.array(values, float), "1", text)
            for name, (values, text) in columns.items()
        }
        coordinates = {"sweep": labels.coordinate("sweep", np.arange(1, len(self.change) + 1))}
        if self.truth is not None and self.overlaps:
            text = "overlap of a factor with the true one, mean over rows"
            dims = ("sweep", "axis", "component")
            variables["overlap"] = labels.variable(dims, np.array(self.overlaps), "1", text)
            for dim, size in zip(dims[1:], self.overlaps[0].shape, strict=True):
                coordinates[dim] = labels.coordinate(dim, np.arange(size))
        about = labels.provenance(title="sweeps of alternating least squares over a tensor")
        return xr.Dataset(variables, coordinates, about)

    def _balanced(self, decomposition: Any) -> list[Tensor]:
        """Return factors of the model's scale, every component as large on one axis as another.

        Nothing fixes the signs: the means of columns are positive on all axes but the last.
        """
        weights, factors = decomposition
        sizes = np.array([np.sqrt(np.mean(np.square(each), axis=0)) for each in factors], float)
        weights = np.ones(sizes.shape[1]) if weights is None else np.asarray(weights, float)
        total = np.abs(weights) * sizes.prod(0) / signal_scale(self.like.shape)
        signs = np.array([np.where(each.mean(0) < 0, -1.0, 1.0) for each in factors])
        signs[-1] = signs[:-1].prod(0) * np.where(weights < 0, -1.0, 1.0)
        scales = signs * total ** (1 / len(factors)) / np.where(sizes > 0, sizes, 1)
        return [
            torch.from_numpy(factor * scale).to(self.like)
            for factor, scale in zip(factors, scales, strict=True)
        ]


def _norm(factors: Sequence[Tensor]) -> float:
    """Return the norm of all factors together."""
    return sum(float(each.double().square().sum()) for each in factors) ** 0.5
