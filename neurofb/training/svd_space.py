"""Settings of training in SVD space: what is done to the factors U, s, V beside the optimiser."""

import math
from dataclasses import dataclass, fields
from typing import Literal

from neurofb.training.rank_schedule import RankSchedule


@dataclass(frozen=True, kw_only=True)
class SVDSpaceTraining:
    """How the factors of W = U diag(s) Vᵀ are kept and aligned while they train (SSA).

    SVD-space alignment (Roy, Apolinario, Das Biswas & Roy 2025, arXiv:2510.25594) trains each layer
    by the error that its feedback brings and by local terms of its own factors. The weights of the
    terms, the form of the alignment and the building of the feedback were not available to us:
    these are reconstructions, and the defaults are what worked here.

    It acts on every `SVDLinear` and `SVDConv2d` of a network. Before the optimiser's step the local
    terms' gradients are added to those of U, s and V, which are then projected on the tangent
    space; after it come retraction, the feedback's update, and at the end of an epoch the cut of
    the rank.

    Parameters
    ----------
    orthogonality
        ``"retract"``: after each step U ← qf(U), the Q of the thin QR decomposition whose R has a
        positive diagonal; ``"polar"``: U ← U (Uᵀ U)^(−1/2), the nearest matrix with orthonormal
        columns; ``"soft"``: the term `orthogonality_weight` ‖Uᵀ U − 1‖² is added (as in the paper;
        unstable unless its weight is large); ``"none"``. The same for V.
    orthogonality_weight
        Of the soft term; not used in the other modes.
    tangent
        Project the gradients of U and V before the step: G ← G − U sym(Uᵀ G).
    alignment, alignment_weight
        Local term that draws the forward factors to the feedback's: ``"frobenius"``
        ‖U − B_U‖² + ‖s − B_S‖² + ‖V − B_V‖², or ``"subspace"`` r − ‖Uᵀ B_U‖² (and the same of V),
        which knows spans only. On a direct pathway U is drawn to the B_U on the next layer's input
        and V to that on the layer's own.
    cosine_weight
        Of the mean over samples of 1 + cos(a, δ), with a the layer's output and δ the error that
        reaches it, held constant: activity is drawn to −δ, where the loss falls.
    hoyer_weight
        Of ‖s‖₁ / ‖s‖₂, which is small for few large singular values.
    rank_schedule
        Cuts of the rank at the ends of epochs; None cuts nothing.
    feedback
        ``"fixed"``; ``"track"``: B_X ← B_X + rate (X − B_X) after each step, for X = U, s, V, a
        slow transport of weights; ``"kolen_pollack"``: B_X ← (1 − rate) B_X + (X' − (1 − rate) X),
        with X' the factor after the step: the change that is left when a decay at this rate is
        taken out of it is given to both, so X − B_X shrinks by 1 − rate in each step. It is a local
        rule where the forward factors do decay at this rate; where they do not, or are retracted,
        the part rate · X is read from them, and weights are transported. Only layer-to-layer
        pathways (``rule="svd_space"``) have factors of the weight's shapes; with direct ones it
        must be ``"fixed"``.
    feedback_rate
        In (0, 1]; not used by ``"fixed"``.

    Raises
    ------
    ValueError
        If a choice is unknown or a number is out of its range.

    Examples
    --------
    >>> SVDSpaceTraining(rank_schedule=RankSchedule(factor=0.6, minimum=32)).orthogonality
    'retract'
    """

    orthogonality: Literal["retract", "polar", "soft", "none"] = "retract"
    orthogonality_weight: float = 1.0
    tangent: bool = False
    alignment: Literal["none", "frobenius", "subspace"] = "none"
    alignment_weight: float = 0.003
    cosine_weight: float = 0.0
    hoyer_weight: float = 0.0
    rank_schedule: RankSchedule | None = None
    feedback: Literal["fixed", "track", "kolen_pollack"] = "fixed"
    feedback_rate: float = 0.01

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} must be {', '.join(allowed)}")
        for name in (f.name for f in fields(self) if f.name.endswith("_weight")):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} must be a finite number >= 0")
        if not 0 < self.feedback_rate <= 1:
            raise ValueError(f"feedback_rate={self.feedback_rate!r} must be in (0, 1]")


_CHOICES = {
    "orthogonality": ("retract", "polar", "soft", "none"),
    "alignment": ("none", "frobenius", "subspace"),
    "feedback": ("fixed", "track", "kolen_pollack"),
}
