"""The error's subspace alone: Oja's rule for the channels, with the other factor fixed."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from neurofb.feedback.factors import Factors
from neurofb.feedback.learning import Signals
from neurofb.feedback.oja import Driven, channel_gradient


@dataclass(frozen=True, kw_only=True)
class Subspace(Driven):
    """Learn the error's principal subspace by Oja; the other factor stays as it started.

    One half of `Oja` (the other half is `KolenPollack`), to tell what the choice of the dimensions
    contributes from what their alignment with W does:

    - dP = z eᵀ − z zᵀ P, Q fixed (Hanut & Kadmon 2025, arXiv:2502.20580 v1).

    For a convolution with its kernel in P the 1×1 factor is Q: it learns by Oja, as under `Oja`,
    and P, which carries the kernel, is fixed.

    Parameters
    ----------
    normalise, drive
        As for `Oja`.

    Raises
    ------
    ValueError
        If `drive` is neither "error" nor "target".

    Examples
    --------
    >>> Subspace().transports_weights
    False
    """

    rule: Literal["subspace"] = "subspace"

    def learned_factors(self, factors: Factors) -> tuple[str, ...]:
        """Return the 1×1 factor: P, or Q if the kernel sits in P."""
        return (factors.channel_factor,)

    def gradients(self, signals: Signals) -> tuple[Tensor | None, Tensor | None]:
        """Return the pseudo-gradient of the channel factor."""
        gradient = channel_gradient(signals, self.normalise)
        in_p = signals.factors.channel_factor == "P"
        return (None, gradient) if in_p else (gradient, None)
