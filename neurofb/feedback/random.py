"""Random feedback of full rank: feedback alignment, Kolen-Pollack, weight mirror."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Discriminator
from torch import Tensor, nn

from neurofb.choices import check_choice
from neurofb.feedback.fixed import Fixed
from neurofb.feedback.kolen_pollack import KolenPollack
from neurofb.feedback.learning import DenseSignals, check_learning
from neurofb.feedback.pathway import Pathway, Site
from neurofb.feedback.phase import PATHWAY_LEARNING
from neurofb.feedback.random_start import RandomStart, draw_like
from neurofb.feedback.seeded import SeededPathway
from neurofb.feedback.stage import Stage
from neurofb.feedback.weight_mirror import WeightMirror

#: The learning rules of a matrix of full rank. A new rule is one file and one name here.
DenseLearningRule = Fixed | KolenPollack | WeightMirror


@dataclass(frozen=True, kw_only=True)
class Random:
    """g = B δ with B random at the start (Lillicrap et al. 2016, doi:10.1038/ncomms13276).

    B is kept in the layout of W, so it is Bᵀ that is written there. It starts with the root mean
    square of the layer's weight at attachment, so that the error starts as strong as under
    backpropagation.

    Parameters
    ----------
    learning
        How B changes: `Fixed` (feedback alignment, FA), `KolenPollack` (dB = −h δᵀ, the update of
        W) or `WeightMirror` (dB = mean(x yᵀ) − λ B, from noise). All are local.
    start
        ``"uniform"``, ``"normal"`` or ``"orthogonal"`` (all singular values equal); see
        `neurofb.feedback.random_start.draw_like`.

    Raises
    ------
    ValueError
        If rule or start is none of these (here), or the weight is zero everywhere (at attachment).

    Examples
    --------
    >>> Random().learning.rule
    'fixed'
    """

    rule: Literal["random"] = "random"
    learning: Annotated[DenseLearningRule, Discriminator("rule")] = Fixed()
    start: RandomStart = "uniform"

    def __post_init__(self) -> None:
        check_learning(self.learning, DenseLearningRule)
        check_choice("start", self.start, RandomStart)

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a layer."""
        site.check_weight()
        return RandomPathway(site, self.learning, self.start)


class RandomPathway(SeededPathway):
    """Takes the error back through a random matrix `B` of the weight's shape."""

    B: Tensor

    def __init__(
        self, site: Site, learning: DenseLearningRule, start: RandomStart = "uniform"
    ) -> None:
        super().__init__(site.name, site.seed)
        self.rule = f"random [{learning.rule}]" if learning.learns else "random (FA)"
        self.rule += "" if start == "uniform" else f" {start}"
        self.learning = learning
        groups = getattr(site.layer, "groups", 1)
        b = draw_like(site.weight, start, site.generator, groups=groups)
        self.hold("B", b, learned=bool(learning.learns))

    def kernel(self, weight: Tensor) -> Tensor:
        """Return B."""
        del weight
        return self.B.detach()

    @property
    def learned(self) -> tuple[nn.Parameter, ...]:
        """B, if it learns by an optimiser."""
        return (self.get_parameter("B"),) if self.learning.learns else ()

    def backward(
        self,
        h: Tensor,
        delta: Tensor,
        weight: Tensor,
        stage: Stage,
        grad_weight: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return Bᵀ δ, B in the layout of W, and the learning rule's pseudo-gradient of B."""
        b = self.cast("B", delta.dtype)
        g = stage.back(delta, b, h)
        if not self.learning.learns:
            return g, ()
        signals = DenseSignals(h, delta, b, stage, weight, grad_weight, self.seed, self.fired)
        with PATHWAY_LEARNING:
            return g, (self.learning.dense_gradient(signals),)
