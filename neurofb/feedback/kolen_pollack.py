"""Kolen-Pollack learning: of a matrix B, or of Q with P fixed."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from neurofb.feedback.learning import DenseSignals, Learning, Signals, kolen_pollack


@dataclass(frozen=True, kw_only=True)
class KolenPollack(Learning):
    """Teach the feedback by pre times post at its own synapse, as the weight is taught.

    The Kolen-Pollack rule (Akrout et al. 2019, arXiv:1904.05391, after Kolen & Pollack 1994):

    - a matrix B of full rank receives the update of W, dB = −h δᵀ, so with equal rate η and decay
      λ the difference B − Wᵀ shrinks by (1 − ηλ) at every step of gradient descent;
    - of a low-rank map Q P only Q learns, dQ = −h zᵀ, W's update seen through P, so at equal rate
      and decay Q → Wᵀ Pᵀ and Q P → Wᵀ Pᵀ P, the projection on P's rows.

    From a named source, with e in the place of δ, it is direct Kolen-Pollack (Webster et al. 2021),
    in the low-rank case up to the rotation P. Local: W is never read. The equality of rate and
    decay is the optimiser's affair; with Adam the difference shrinks only roughly so.

    Examples
    --------
    >>> KolenPollack().learns
    ('Q',)
    """

    rule: Literal["kolen_pollack"] = "kolen_pollack"
    learns: ClassVar[tuple[str, ...]] = ("Q",)

    def gradients(self, signals: Signals) -> tuple[Tensor | None, Tensor | None]:
        """Return h zᵀ for Q, summed over the batch."""
        return kolen_pollack(signals, "Q"), None

    def dense_gradient(self, signals: DenseSignals) -> Tensor:
        """Return the gradient of the weight itself, in memory of its own."""
        if signals.grad_weight is not None:
            return signals.grad_weight.clone()
        return signals.stage.product(signals.h, signals.delta, signals.b.shape)
