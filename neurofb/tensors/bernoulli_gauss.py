"""Sparse prior: entries that are zero, or drawn from a Gaussian."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import isfinite, log, sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.tensors.protocol import Covariance, Field, Mean, Precision, check_rank


@dataclass(frozen=True)
class BernoulliGaussPrior:
    """Entries of one component, drawn from N(mean, variance) with probability `density`, else 0.

    Parameters
    ----------
    density
        Share of entries that are not 0: above 0, at most 1.
    mean, variance
        Of these entries; the variance is above 0.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    Under no data the mean is the prior's:

    >>> prior = BernoulliGaussPrior(density=0.5, mean=3.0)
    >>> prior.denoise(torch.zeros(1, 1), torch.zeros(1, 1))[0]
    tensor([[1.5000]])
    """

    density: float | int = 0.1
    mean: float | int = 0.0
    variance: float | int = 1.0

    def __post_init__(self) -> None:
        if not (isfinite(self.density) and 0 < self.density <= 1):
            raise ValueError(f"density={self.density} must be above 0 and at most 1")
        if not isfinite(self.mean):
            raise ValueError(f"mean={self.mean} must be finite")
        if not (isfinite(self.variance) and self.variance > 0):
            raise ValueError(f"variance={self.variance} must be above 0 and finite")
        for name in ("density", "mean", "variance"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def largest_rank(self) -> int:
        """Return 1."""
        return 1

    @property
    def learnable(self) -> tuple[str, ...]:
        """Return the names of what `learn` knows (covariance: the variance)."""
        return ("mean", "covariance", "density")

    def mean_of(self, rank: int) -> Float[Tensor, "component"]:
        """Return E[x] of a row."""
        check_rank(self, rank)
        return torch.tensor([self.density * self.mean], dtype=torch.float64)

    def second_moment_of(self, rank: int) -> Precision:
        """Return E[x xᵀ] of a row."""
        check_rank(self, rank)
        return torch.tensor([[self.density * (self.variance + self.mean**2)]], dtype=torch.float64)

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
        check_rank(self, rank)
        present = generator.random((num_rows, 1)) < self.density
        values = self.mean + sqrt(self.variance) * generator.standard_normal((num_rows, 1))
        return torch.from_numpy(np.where(present, values, 0.0)).to(device, dtype)

    def standardise(self, factor: Field) -> Field:
        """Return rows with the prior's share of zeros, the others of exactly its mean and variance.

        The fewest entries are set to 0, or copied from others, to reach the share.

        Raises
        ------
        ValueError
            If fewer than two entries would not be 0, or those that are not are all alike.
        """
        factor = factor.clone()
        column = factor[:, 0]
        target = round(len(column) * self.density)
        present = torch.nonzero(column)[:, 0]
        if target < 2 or len(present) < 2 or float(column[present].std()) == 0:
            raise ValueError(
                f"{len(column)} rows at density={self.density} cannot be standardised: fewer than "
                "two entries would differ from 0 and from each other"
            )
        absent = torch.nonzero(column == 0)[:, 0]
        column[present[target:]] = 0.0
        missing = max(target - len(present), 0)
        copied = present[torch.arange(missing, device=present.device) % len(present)]
        column[absent[:missing]] = column[copied]
        present = torch.nonzero(column)[:, 0]
        values = column[present].double()
        scaled = (values - values.mean()) / values.std(correction=0)
        column[present] = (self.mean + sqrt(self.variance) * scaled).to(column)
        return factor

    def denoise(self, precision: Precision, field: Field) -> tuple[Mean, Covariance]:
        """Return mean and variance of each entry."""
        check_rank(self, field.shape[1])
        share, mean, variance = self._posterior(precision, field)
        # share * (variance + mean²) - (share * mean)², without cancellation
        spread = share * variance + share * (1 - share) * mean**2
        return share * mean, spread[..., None]

    def learn(
        self, precision: Precision, field: Field, names: Collection[str]
    ) -> "BernoulliGaussPrior":
        """Return the prior with the share, mean and variance that the posterior has."""
        share, mean, variance = self._posterior(precision.double(), field.double())
        total = share.sum().clamp(min=1e-12)
        parameters = {}
        if "density" in names:
            parameters["density"] = min(max(float(share.mean()), 1e-6), 1.0)
        new_mean = float((share * mean).sum() / total) if "mean" in names else self.mean
        if "mean" in names:
            parameters["mean"] = new_mean
        if "covariance" in names:
            spread = (share * (variance + (mean - new_mean) ** 2)).sum() / total
            parameters["variance"] = max(float(spread), 1e-12)
        return replace(self, **parameters)

    def _posterior(self, precision: Precision, field: Field) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probability that an entry is not 0, and its mean and variance if so."""
        variance = 1 / (precision[0, 0] + 1 / self.variance)
        mean = variance.to(field) * (field + self.mean / self.variance)
        if self.density == 1:
            return torch.ones_like(field), mean, variance.to(field)
        log_odds = log(self.density) - log(1 - self.density) - self.mean**2 / (2 * self.variance)
        log_odds = log_odds + torch.log(variance / self.variance) / 2
        share = torch.sigmoid(log_odds.to(field) + mean**2 / (2 * variance.to(field)))
        return share, mean, variance.to(field)
