"""What a prior of a factor's rows has to offer, and a prior made of a user's own denoiser."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

#: what may be learnt of a prior (see `Prior`)
LEARNABLE = ("mean", "covariance", "density")

Precision = Float[Tensor, "component component"]
Field = Float[Tensor, "row component"]
Mean = Float[Tensor, "row component"]
Covariance = Float[Tensor, "component component"] | Float[Tensor, "row component component"]


@runtime_checkable
class Prior(Protocol):
    """Distribution of the rows of a factor, of which each is drawn by itself.

    Any object that has what is listed here is a prior; `DenoiserPrior` makes one of functions.
    Three methods are optional: ``learn(precision, field, names) -> Prior`` returns the prior with
    those of its parameters that are named (`LEARNABLE`) moved to where the posterior has them (a
    step of expectation maximisation), with ``learnable``, the names that it knows;
    ``standardise(factor)`` gives a sample the mean and covariance of the prior exactly.
    """

    @property
    def largest_rank(self) -> int | None:
        """Return the largest number of components, or None if there is no limit."""
        ...

    def mean_of(self, rank: int) -> Float[Tensor, "component"]:
        """Return E[x] of a row, in float64."""
        ...

    def second_moment_of(self, rank: int) -> Precision:
        """Return E[x xᵀ] of a row, in float64."""
        ...

    def sample(
        self,
        num_rows: int,
        rank: int,
        generator: np.random.Generator,
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Field:
        """Draw rows: the same numbers, up to rounding, for every dtype and device."""
        ...

    def denoise(self, precision: Precision, field: Field) -> tuple[Mean, Covariance]:
        """Return mean and covariance of each row x under P(x) exp(field·x - x·precision x / 2).

        `precision` is in float64; what is returned has the dtype of `field`. A covariance that all
        rows share is returned once.
        """
        ...


@dataclass(frozen=True)
class DenoiserPrior:
    """Prior made of a user's own denoiser.

    Parameters
    ----------
    denoiser
        ``(precision, field) -> (mean, covariance)``, see `Prior.denoise`.
    mean
        E[x] of a row, one number per component; its length is the rank.
    second_moment
        E[x xᵀ] of a row, a row of numbers per component.
    sampler
        ``(num_rows, generator) -> array (row, component)``; needed by `TensorProblem` alone.

    Raises
    ------
    ValueError
        If the second moment has not the shape of the mean's outer product, or is less than it; from
        `denoise` if the denoiser returns other shapes than it should, or numbers that are not
        finite where it was given finite ones.

    Examples
    --------
    A value of 1 or 3, equally often; weights exp(field - precision/2) and exp(3 field -
    9 precision/2) would overflow, their logistic does not:

    >>> def denoise(precision, field):
    ...     share = torch.sigmoid(2 * field - 4 * precision)  # of 3
    ...     return 1 + 2 * share, (4 * share * (1 - share))[..., None]
    >>> prior = DenoiserPrior(denoise, mean=[2.0], second_moment=[[5.0]])
    >>> prior.denoise(torch.zeros(1, 1), torch.zeros(2, 1))[0]
    tensor([[2.],
            [2.]])
    """

    denoiser: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    mean: Sequence[float | int]
    second_moment: Sequence[Sequence[float | int]]
    sampler: Callable[[int, np.random.Generator], Any] | None = None

    def __post_init__(self) -> None:
        mean, second_moment = np.array(self.mean, float), np.array(self.second_moment, float)
        if second_moment.shape != mean.shape * 2 or mean.ndim != 1 or not mean.size:
            raise ValueError(
                f"mean={self.mean} and second_moment={self.second_moment} must have shapes "
                "(component,) and (component, component)"
            )
        covariance = second_moment - np.outer(mean, mean)
        if not (
            np.all(np.isfinite(covariance))
            and np.allclose(covariance, covariance.T)
            and np.linalg.eigvalsh(covariance).min() > -1e-9
        ):
            raise ValueError(
                f"second_moment={self.second_moment} must be that of a distribution of "
                f"mean={self.mean}: its covariance is {covariance.tolist()}"
            )

    @property
    def largest_rank(self) -> int:
        """Return the number of components that the prior is written for."""
        return len(self.mean)

    def mean_of(self, rank: int) -> Float[Tensor, "component"]:
        """Return E[x] of a row."""
        check_rank(self, rank, exactly=True)
        return torch.tensor(np.array(self.mean, float))

    def second_moment_of(self, rank: int) -> Precision:
        """Return E[x xᵀ] of a row."""
        check_rank(self, rank, exactly=True)
        return torch.tensor(np.array(self.second_moment, float))

    def sample(
        self,
        num_rows: int,
        rank: int,
        generator: np.random.Generator,
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Field:
        """Draw rows by `sampler`."""
        check_rank(self, rank, exactly=True)
        if self.sampler is None:
            raise ValueError("sampler=None: this prior cannot be drawn from; give it a sampler")
        rows = np.asarray(self.sampler(num_rows, generator), float).reshape(num_rows, rank)
        return torch.from_numpy(rows).to(device, dtype)

    def denoise(self, precision: Precision, field: Field) -> tuple[Mean, Covariance]:
        """Return what `denoiser` returns, in the dtype of the field."""
        mean, covariance = self.denoiser(precision.to(field.dtype), field)
        name = getattr(self.denoiser, "__name__", repr(self.denoiser))
        rows, rank = field.shape
        found = [tuple(np.shape(each)) for each in (mean, covariance)]
        if found[0] != (rows, rank) or found[1] not in ((rank, rank), (rows, rank, rank)):
            raise ValueError(
                f"denoiser: {name} returned shapes {found[0]} and {found[1]} for a field of "
                f"{(rows, rank)}; needed are a mean of {(rows, rank)} and a covariance of "
                f"{(rows, rank, rank)} or {(rank, rank)}"
            )
        mean, covariance = torch.as_tensor(mean), torch.as_tensor(covariance)
        if not _finite(mean, covariance) and _finite(precision, field):
            num_bad = int((~torch.isfinite(mean)).sum()) + int((~torch.isfinite(covariance)).sum())
            raise ValueError(
                f"denoiser: {name} returned {num_bad} numbers that are not finite, for fields "
                f"up to {float(field.abs().max()):.3g} (does an exponential overflow? "
                "torch.sigmoid, softmax and logsumexp do not)"
            )
        return mean.to(field), covariance.to(field)


def _finite(*tensors: Tensor) -> bool:
    """Return whether all numbers are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def check_rank(prior: Prior, rank: int, *, exactly: bool = False) -> None:
    """Refuse a rank that a prior is not made for.

    Raises
    ------
    ValueError
        With the rank and the prior's limit.

    Examples
    --------
    >>> from neurofb.tensors import RademacherPrior
    >>> check_rank(RademacherPrior(), 9)
    Traceback (most recent call last):
    ValueError: rank=9 is above 8, the largest of RademacherPrior
    """
    largest, name = prior.largest_rank, type(prior).__name__
    if rank < 1:
        raise ValueError(f"rank={rank} must be at least 1")
    if largest is not None and rank > largest:
        raise ValueError(f"rank={rank} is above {largest}, the largest of {name}")
    if exactly and rank != largest:
        raise ValueError(f"rank={rank}, but this {name} has parameters of {largest} components")
