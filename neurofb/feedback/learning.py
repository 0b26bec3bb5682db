"""How a low-rank pathway learns its own matrices: what every learning rule has in common.

A rule returns *pseudo-gradients*: tensors that an optimiser subtracts, as it does with gradients.
They arrive in ``.grad`` of Q and P, so that any torch optimiser, weight decay and distributed
training work as for weights. One rule a file; the rules never look at the loss.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor

from neurofb.feedback.factors import Factors

if TYPE_CHECKING:
    from neurofb.feedback.low_rank import LowRankPathway


class Signals(NamedTuple):
    """What is present at a pathway's synapses during one backward pass.

    With h the layer's input, δ the error at its output (for a direct pathway: at its source),
    z = P δ and g = Q z. Q and P are in the precision of δ. `weight` is None for a direct pathway.
    """

    h: Tensor
    delta: Tensor
    z: Tensor
    g: Tensor
    q: Tensor
    p: Tensor
    weight: Tensor | None
    factors: Factors


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Base of the learning rules: a frozen setting with two methods and two facts."""

    #: whether the rule reads the forward weights (weight transport), so is not local
    transports_weights: ClassVar[bool] = False
    #: whether Q and P receive pseudo-gradients (parameters) or are constant or set (buffers)
    uses_optimiser: ClassVar[bool] = True

    def prepare(self, pathway: "LowRankPathway", weight: Tensor | None) -> None:
        """Act on the matrices before the error goes through them (default: nothing)."""

    def gradients(self, signals: Signals) -> tuple[Tensor | None, Tensor | None]:
        """Return the pseudo-gradients of Q and P (None: not learned)."""
        raise NotImplementedError
