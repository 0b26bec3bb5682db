"""Gaussian prior of a factor's rows, of any rank."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.tensors.protocol import Covariance, Field, Mean, Precision, check_rank

Parameter = float | int | Sequence[Any] | np.ndarray | Tensor


@dataclass(frozen=True)
class GaussianPrior:
    """Rows x ~ N(mean, covariance).

    Parameters
    ----------
    mean
        A number (the same for every component) or one per component.
    covariance
        A number (variance of every component), one per component, or a matrix (component,
        component). A variance of 0 is a component that is known. Both are kept as plain numbers or
        tuples.

    Raises
    ------
    ValueError
        If a parameter is not finite, shapes do not fit, or the covariance is not symmetric with
        eigenvalues of at least 0.

    Examples
    --------
    The posterior of a row under unit precision lies half way between prior mean and data:

    >>> mean, covariance = GaussianPrior(mean=1.0).denoise(torch.eye(1), 3 * torch.ones(2, 1))
    >>> mean, covariance
    (tensor([[2.],
            [2.]]), tensor([[0.5000]]))
    """

    mean: Parameter = 0.0
    covariance: Parameter = 1.0

    def __post_init__(self) -> None:
        for name, most in (("mean", 1), ("covariance", 2)):
            array = np.asarray(getattr(self, name), float)
            if array.ndim > most or not array.size or not np.all(np.isfinite(array)):
                raise ValueError(
                    f"{name}={getattr(self, name)} must be finite, of dims 0 to {most}"
                )
            object.__setattr__(self, name, _plain(array))
        mean, covariance = np.asarray(self.mean), np.asarray(self.covariance)
        sizes = {*mean.shape, *covariance.shape}
        if len(sizes) > 1:
            raise ValueError(
                f"mean={self.mean} and covariance={self.covariance} must be of as many components"
            )
        matrix = covariance if covariance.ndim == 2 else np.diag(np.atleast_1d(covariance))
        scale = np.abs(matrix).max()
        if not (
            np.allclose(matrix, matrix.T, atol=1e-9 * scale)
            and np.linalg.eigvalsh(matrix).min() >= -1e-9 * scale
        ):
            raise ValueError(
                f"covariance={self.covariance} must be symmetric with eigenvalues of at least 0"
            )

    @property
    def largest_rank(self) -> int | None:
        """Return the number of components that the parameters are of, or None if of any."""
        sizes = (*np.shape(self.mean), *np.shape(self.covariance))
        return sizes[0] if sizes else None

    @property
    def learnable(self) -> tuple[str, ...]:
        """Return the names of what `learn` knows."""
        return ("mean", "covariance")

    def mean_of(self, rank: int) -> Float[Tensor, "component"]:
        """Return E[x] of a row."""
        check_rank(self, rank, exactly=self.largest_rank is not None)
        return torch.tensor(np.broadcast_to(np.asarray(self.mean, float), (rank,)).copy())

    def covariance_of(self, rank: int) -> Precision:
        """Return the covariance of a row."""
        check_rank(self, rank, exactly=self.largest_rank is not None)
        covariance = np.asarray(self.covariance, float)
        if covariance.ndim < 2:
            covariance = np.diag(np.broadcast_to(covariance, (rank,)))
        return torch.tensor(covariance.copy())

    def second_moment_of(self, rank: int) -> Precision:
        """Return E[x xᵀ] of a row."""
        mean = self.mean_of(rank)
        return self.covariance_of(rank) + torch.outer(mean, mean)

    def sample(
        self,
        num_rows: int,
        rank: int,
        generator: np.random.Generator,
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Field:
        """Draw rows."""
        normal = generator.standard_normal((num_rows, rank))
        rows = self.mean_of(rank).numpy() + normal @ root_of(self.covariance_of(rank).numpy()).T
        return torch.from_numpy(rows).to(device, dtype)

    def standardise(self, factor: Field) -> Field:
        """Return rows of exactly the prior's mean and covariance, by the affine map closest to 1.

        Raises
        ------
        ValueError
            If there are not more rows than components.
        """
        rank = factor.shape[1]
        if len(factor) <= rank:
            raise ValueError(f"{len(factor)} rows of {rank} components cannot be standardised")
        rows = factor.double().cpu().numpy()
        centred = rows - rows.mean(0)
        root = root_of(self.covariance_of(rank).numpy())
        found = root_of(centred.T @ centred / len(rows))
        rows = self.mean_of(rank).numpy() + centred @ np.linalg.pinv(found).T @ root.T
        return torch.from_numpy(rows).to(factor)

    def denoise(self, precision: Precision, field: Field) -> tuple[Mean, Covariance]:
        """Return V = (precision + covariance⁻¹)⁻¹ and x = mean + (field - precision mean) V."""
        prior_mean, prior_covariance = self._parameters(precision)
        # written without the inverse of the prior's covariance, which may have none
        if len(precision) == 1:
            covariance = prior_covariance / (1 + prior_covariance * precision)
        else:
            system = torch.eye(len(precision)).to(precision) + prior_covariance @ precision
            covariance = torch.linalg.solve(system, prior_covariance)
            covariance = (covariance + covariance.T) / 2
        offset = prior_mean - precision @ prior_mean @ covariance
        return offset.to(field) + field @ covariance.to(field), covariance.to(field)

    def learn(self, precision: Precision, field: Field, names: Collection[str]) -> "GaussianPrior":
        """Return the prior of the posterior's rows: their mean, or covariance about the mean."""
        mean, covariance = self.denoise(precision, field)
        mean, covariance = mean.double(), covariance.double()
        new_mean = mean.mean(0) if "mean" in names else self._parameters(precision)[0]
        centred = mean - new_mean
        parameters: dict[str, Any] = {"mean": new_mean.tolist()}
        if "covariance" in names:
            found = (centred.T @ centred / len(mean) + covariance).cpu().numpy()
            root = root_of(found)  # rounding can leave eigenvalues below 0 where one is nearly 0
            parameters["covariance"] = (root @ root).tolist()
        elif np.ndim(cast(Any, self.covariance)) == 0:
            parameters["covariance"] = [self.covariance] * len(precision)
        return replace(self, **parameters)

    def _parameters(self, like: Precision) -> tuple[Tensor, Tensor]:
        """Return mean and covariance beside a tensor; not to be changed in place."""
        return _beside(self, len(like), like.dtype, like.device)


@lru_cache(maxsize=64)  # a sweep asks for them once for each axis
def _beside(
    prior: GaussianPrior, rank: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return mean and covariance as tensors of a dtype on a device."""
    return prior.mean_of(rank).to(device, dtype), prior.covariance_of(rank).to(device, dtype)


def root_of(covariance: np.ndarray) -> np.ndarray:
    """Return the symmetric square root of a matrix without negative eigenvalues.

    Examples
    --------
    >>> root_of(np.diag([4.0, 0.0]))
    array([[2., 0.],
           [0., 0.]])
    """
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _plain(array: np.ndarray) -> Any:
    """Return a number, or tuples of numbers."""
    values = array.tolist()
    if array.ndim == 2:
        return tuple(tuple(row) for row in values)
    return tuple(values) if array.ndim else values
