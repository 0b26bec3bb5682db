"""Kolen-Pollack learning of Q, with P fixed."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from neurofb.feedback.learning import Learning, Signals, kolen_pollack


@dataclass(frozen=True, kw_only=True)
class KolenPollack(Learning):
    """Teach Q by h zᵀ, pre times post at the feedback synapse; P stays as it started.

    The Kolen-Pollack rule (Akrout et al. 2019, arXiv:1904.05391): Q receives the update of W, seen
    through P, so at equal rate and decay Q → Wᵀ Pᵀ and Q P → Wᵀ Pᵀ P, the projection on P's rows.
    With a direct pathway of full rank it is direct Kolen-Pollack (Webster et al. 2021), up to the
    rotation P. Local: W is never read.

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
