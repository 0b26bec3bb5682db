"""Exact feedback: backpropagation."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from neurofb.feedback.pathway import Pathway, Site
from neurofb.feedback.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Backpropagation: g = Wᵀ δ (Rumelhart, Hinton & Williams 1986, doi:10.1038/323533a0).

    What a layer without a pathway does too; attach it to have it described and counted.

    Examples
    --------
    >>> Exact().rule
    'exact'
    """

    rule: Literal["exact"] = "exact"

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a layer."""
        return ExactPathway(site.name)


class ExactPathway(Pathway):
    """Takes the error back through the forward weight itself."""

    rule = "exact (BP)"
    transports_weights = True

    def kernel(self, weight: Tensor) -> Tensor:
        """Return W."""
        return weight

    def backward(
        self,
        h: Tensor,
        delta: Tensor,
        weight: Tensor,
        stage: Stage,
        grad_weight: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return Wᵀ δ."""
        return stage.back(delta, weight, h), ()
