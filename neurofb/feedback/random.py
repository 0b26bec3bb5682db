"""Random feedback: feedback alignment."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neurofb.feedback.pathway import Pathway, Site, uniform
from neurofb.feedback.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Random:
    """Feedback alignment: g = B δ with B fixed and random (Lillicrap et al. 2016, FA).

    B is uniform with the root mean square of the layer's weight at attachment, so that the error
    starts as strong as under backpropagation (doi:10.1038/ncomms13276).

    Examples
    --------
    >>> Random().rule
    'random'
    """

    rule: Literal["random"] = "random"

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a layer."""
        return RandomPathway(site.name, site.weight, site.generator)


class RandomPathway(Pathway):
    """Takes the error back through a fixed random matrix of the weight's shape (buffer `B`)."""

    rule = "random (FA)"
    B: Tensor

    def __init__(self, name: str, weight: Tensor, generator: torch.Generator) -> None:
        super().__init__(name)
        bound = 3**0.5 * float(weight.double().square().mean().sqrt())
        self.hold("B", uniform(tuple(weight.shape), bound, generator, weight), learned=False)

    def backward(
        self,
        h: Tensor,
        delta: Tensor,
        weight: Tensor,
        stage: Stage,
        grad_weight: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return Bᵀ δ: B is kept in the layout of W."""
        return stage.back(delta, self.B.to(delta.dtype), h.shape), ()
