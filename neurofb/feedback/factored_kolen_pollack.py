"""Factored Kolen-Pollack learning: both factors follow the weight's own update."""

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neurofb.feedback.learning import Learning, Matrices, Signals, kolen_pollack


@dataclass(frozen=True, kw_only=True)
class FactoredKolenPollack(Learning):
    """Push the weight's outer product through both factors: h zᵀ for Q, (Qᵀ h) δᵀ for P.

    The Kolen-Pollack rule (Akrout et al. 2019, arXiv:1904.05391) for a product B = Q P, as in the
    local layers of Hanut & Kadmon (2025). It never reads W, but P needs the activity through Qᵀ.
    The rule is positive feedback: an aligned product grows exponentially in the weight's change.
    So ‖Q‖‖P‖ is held below `norm_limit` times ‖W‖ or its own value at attachment, whichever is
    larger (only the latter for a direct pathway), with a warning when the hold has acted.

    Parameters
    ----------
    norm_limit
        Largest ‖Q‖_F ‖P‖_F as a multiple of the reference. (For balanced SVD factors of a
        full-rank W the product of norms is the nuclear norm, up to √n times ‖W‖_F, and a weight
        may start at zero; so the value at attachment counts too.)

    Raises
    ------
    ValueError
        If `norm_limit` is not positive.

    Examples
    --------
    >>> FactoredKolenPollack().transports_weights
    False
    """

    rule: Literal["factored_kolen_pollack"] = "factored_kolen_pollack"
    norm_limit: float = 10.0

    def __post_init__(self) -> None:
        if not self.norm_limit > 0:
            raise ValueError(f"norm_limit={self.norm_limit} must be positive")

    def prepare(self, pathway: Matrices, weight: Tensor | None) -> None:
        """Scale Q and P back if their norms have run away; warn the first time it is seen."""
        q, p = pathway.Q, pathway.P
        reference = pathway.start_norm
        if weight is not None:
            reference = reference.maximum(weight.norm())
        scale = (self.norm_limit * reference / (q.norm() * p.norm() + 1e-30)).clamp(max=1).sqrt()
        with torch.no_grad():
            q.mul_(scale)
            p.mul_(scale)
            pathway.held += scale < 1
        if pathway.fired % 100 == 99 and not pathway.warned and int(pathway.held) > 0:
            pathway.warned = True
            warnings.warn(
                f"layer {pathway.layer_name!r}: factored Kolen-Pollack feedback is growing without "
                f"bound and was held at norm_limit={self.norm_limit} times its reference in "
                f"{int(pathway.held)} of {pathway.fired + 1} backward passes; lower the pathway's "
                "learning rate or raise its weight decay",
                RuntimeWarning,
                stacklevel=2,
            )

    def gradients(self, signals: Signals) -> tuple[Tensor | None, Tensor | None]:
        """Return h zᵀ and (Qᵀ h) δᵀ, summed over the batch."""
        return kolen_pollack(signals, "Q"), kolen_pollack(signals, "P")
