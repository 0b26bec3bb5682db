"""Prior of signs: entries +1 or -1."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import product
from math import isfinite, log

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.tensors.protocol import Covariance, Field, Mean, Precision, check_rank

#: the 2^rank states of a row are summed over
_LARGEST_RANK = 8


@dataclass(frozen=True)
class RademacherPrior:
    """Entries +1 with a probability, or else -1, independently; of at most 8 components.

    Parameters
    ----------
    probability
        Of +1, above 0 and below 1.

    Raises
    ------
    ValueError
        If the probability is none.

    Examples
    --------
    >>> mean, variance = RademacherPrior().denoise(torch.eye(1), torch.tensor([[0.0], [9.0]]))
    >>> mean.T, variance.ravel().round(decimals=3)
    (tensor([[0.0000, 1.0000]]), tensor([1., 0.]))
    """

    probability: float | int = 0.5

    def __post_init__(self) -> None:
        if not (isfinite(self.probability) and 0 < self.probability < 1):
            raise ValueError(f"probability={self.probability} must be above 0 and below 1")
        object.__setattr__(self, "probability", float(self.probability))

    @property
    def largest_rank(self) -> int:
        """Return 8: the 2^rank states of a row are summed over."""
        return _LARGEST_RANK

    @property
    def learnable(self) -> tuple[str, ...]:
        """Return the names of what `learn` knows."""
        return ("mean",)

    def mean_of(self, rank: int) -> Float[Tensor, "component"]:
        """Return E[x] of a row."""
        check_rank(self, rank)
        return torch.full((rank,), 2 * self.probability - 1, dtype=torch.float64)

    def second_moment_of(self, rank: int) -> Precision:
        """Return E[x xᵀ] of a row."""
        mean = self.mean_of(rank)
        return torch.outer(mean, mean).fill_diagonal_(1.0)

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
        signs = np.where(generator.random((num_rows, rank)) < self.probability, 1.0, -1.0)
        return torch.from_numpy(signs).to(device, dtype)

    def standardise(self, factor: Field) -> Field:
        """Return signs of which the fewest were flipped, so that the share of +1 is the prior's."""
        factor = factor.clone()
        target = round(len(factor) * self.probability)
        for column in factor.T:
            surplus = int((column > 0).sum()) - target
            flipped = torch.nonzero(column > 0 if surplus > 0 else column < 0)[: abs(surplus), 0]
            column[flipped] *= -1
        return factor

    def denoise(self, precision: Precision, field: Field) -> tuple[Mean, Covariance]:
        """Return mean and covariance: tanh for one component, else a sum over the states."""
        rank = field.shape[1]
        check_rank(self, rank)
        bias = (log(self.probability) - log(1 - self.probability)) / 2
        if rank == 1:
            mean = torch.tanh(field + bias)
            return mean, ((1 - mean) * (1 + mean))[..., None]
        states = torch.tensor(list(product((1.0, -1.0), repeat=rank))).to(field)
        quadratic = torch.einsum("sa,ab,sb->s", states, precision.to(field), states)
        weights = torch.softmax((field + bias) @ states.T - quadratic / 2, dim=1)
        mean = weights @ states
        centred = states - mean[:, None]
        return mean, torch.einsum("ns,nsa,nsb->nab", weights, centred, centred)

    def learn(
        self, precision: Precision, field: Field, names: Collection[str]
    ) -> "RademacherPrior":
        """Return the prior whose mean is that of the posterior."""
        if "mean" not in names:
            return self
        probability = (1 + float(self.denoise(precision, field)[0].double().mean())) / 2
        return replace(self, probability=min(max(probability, 1e-6), 1 - 1e-6))
