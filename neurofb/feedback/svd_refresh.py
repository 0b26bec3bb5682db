"""SVD refresh: Q P is reset to the best rank-r approximation of the weight every n steps."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from neurofb.feedback.factors import truncated_svd
from neurofb.feedback.learning import Learning, Matrices, Signals
from neurofb.feedback.phase import Phase


@dataclass(frozen=True, kw_only=True)
class SvdRefresh(Learning):
    """Set Q P to the truncated SVD of Wᵀ at every `every`-th backward pass, nothing in between.

    The equilibrium of the normative rule, and the refactorisation of Hanut & Kadmon's (2025)
    training scripts. It reads W: weight transport.

    Parameters
    ----------
    every
        Backward passes from one refresh to the next.

    Raises
    ------
    ValueError
        If `every` is below 1.

    Examples
    --------
    >>> SvdRefresh(every=10).transports_weights
    True
    """

    rule: Literal["svd_refresh"] = "svd_refresh"
    every: int = 10
    transports_weights: ClassVar[bool] = True
    learns: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every={self.every} must be at least 1 backward pass")

    def prepare(self, pathway: Matrices, weight: Tensor | None) -> None:
        """Refresh the matrices if it is time."""
        assert weight is not None, "refused by the pathway when it is built"
        if pathway.fired % self.every == 0:
            factors = pathway.factors
            with Phase("svd_refresh", every=self.every):
                left, right = truncated_svd(factors.matrix(weight), pathway.rank)
                pathway.set_matrices(*factors.split(left, right))

    def gradients(self, signals: Signals) -> tuple[Tensor | None, Tensor | None]:
        """Return no pseudo-gradients."""
        del signals
        return None, None
