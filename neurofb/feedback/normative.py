"""Normative learning: Q P follows the transposed weight."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from neurofb.feedback.factors import grouped
from neurofb.feedback.learning import Learning, Signals


@dataclass(frozen=True, kw_only=True)
class Normative(Learning):
    """Descend F = ½‖Wᵀ − Q P‖² (Hanut & Kadmon 2025, arXiv:2502.20580, normative rule).

    With D = Wᵀ − Q P the pseudo-gradients are −D Pᵀ for Q and −Qᵀ D for P. It reads W: weight
    transport, a reference and not a local rule. For a convolution W is its matrix of
    `neurofb.feedback.factors`. The form of the rule is reconstructed from the authors' code.

    Examples
    --------
    >>> Normative().transports_weights
    True
    """

    rule: Literal["normative"] = "normative"
    transports_weights: ClassVar[bool] = True

    def gradients(self, signals: Signals) -> tuple[Tensor | None, Tensor | None]:
        """Return −D Pᵀ and −Qᵀ D, without forming D."""
        assert signals.weight is not None, "refused by the pathway when it is built"
        matrix = signals.factors.matrix(signals.weight)
        left, right = signals.factors.join(signals.q, signals.p)
        grad_left = grouped(left, grouped(right, right.mT)) - grouped(matrix, right.mT)
        grad_right = grouped(grouped(left.mT, left), right) - grouped(left.mT, matrix)
        return signals.factors.split(grad_left, grad_right)
