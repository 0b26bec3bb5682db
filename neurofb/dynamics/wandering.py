"""How far weights wander in time, in units of how much they differ among each other."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Wandering:
    """The order parameter ``q = mean_i Var_t(w_i) / Var_i(mean_t w_i)`` of weights w_i, by run.

    It is what the authors of curl descent (arXiv:2510.02765) plot as a sign of chaos: 0 for weights
    at rest, of order 1 and above for weights that wander.

    Parameters
    ----------
    weights
        (run, row, column): sizes, dtype and device of what is added.

    Examples
    --------
    >>> weights = torch.tensor([[[1.0, 3.0]]])
    >>> watch = Wandering(weights)
    >>> for shift in (-0.5, 0.5):
    ...     watch.add(torch.tensor([0]), weights + shift)
    >>> watch.result()  # (0.25 + 0.25) / 2 over (1 + 1) / 2
    tensor([0.2500])
    """

    def __init__(self, weights: Float[Tensor, "run row column"]) -> None:
        self._first = torch.full_like(weights, torch.nan)
        self._sum = torch.zeros_like(weights)
        self._square = torch.zeros_like(weights)
        self._count = torch.zeros_like(weights[:, 0, 0])

    def add(
        self, runs: Int[Tensor, " some_run"], weights: Float[Tensor, "some_run row column"]
    ) -> None:
        """Take in the weights of these runs at one time."""
        new = (self._count[runs] == 0)[:, None, None]
        first = torch.where(new, weights, self._first[runs])
        away = weights - first  # from the first ones, or small changes drown in rounding
        self._first[runs] = first
        self._sum[runs] += away
        self._square[runs] += away.square()
        self._count[runs] += 1

    def result(self) -> Float[Tensor, " run"]:
        """Return q; NaN for runs that were added fewer than twice."""
        count = self._count[:, None, None]
        mean = self._sum / count
        over_time = (self._square / count - mean.square()).clamp_min(0).flatten(1).mean(1)
        among = (self._first + mean).flatten(1).var(1, correction=0)
        return torch.where(self._count > 1, over_time / among, torch.nan)
