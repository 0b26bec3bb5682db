"""Direct low-rank feedback: dLDFA, an error sent from a later module to an earlier one's input."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Discriminator
from torch import Tensor

from neurofb.feedback.factored_kolen_pollack import FactoredKolenPollack
from neurofb.feedback.factors import ConvolutionFactors, DenseFactors
from neurofb.feedback.fixed import Fixed
from neurofb.feedback.kolen_pollack import KolenPollack
from neurofb.feedback.learning import check_learning
from neurofb.feedback.low_rank import LowRankPathway, allowed_rank, check_rank, random_factors
from neurofb.feedback.oja import Oja
from neurofb.feedback.pathway import Pathway, Site
from neurofb.feedback.route import DirectRoute
from neurofb.feedback.route_map import route_map
from neurofb.feedback.stage import Convolution
from neurofb.feedback.subspace import Subspace

#: The learning rules of a direct low-rank map: those that read no weight.
Rules = Fixed | Oja | Subspace | KolenPollack | FactoredKolenPollack


@dataclass(frozen=True, kw_only=True)
class Direct:
    """dLDFA: g = Q P e, with e the error at a named later layer (Hanut & Kadmon 2025, Eq. 16).

    It may lie on any module, a layer or a whole block: what reaches the module's *input* is Q P e.
    The error δ that reaches the module's own output still teaches what is inside; the gradient at
    its input is never computed. Q is (n_in, r), P is (r, n_source). With a convolution's map as the
    source of a convolution, P is 1×1 and Q has the layer's kernel (or the reverse); source and
    layer output must then have equal height and width. In every other case maps are flattened.
    (The equation is reconstructed from the authors' code.)

    Parameters
    ----------
    source
        Name of the source layer: "readout" for the output error, the penultimate layer, a map.
        e is the gradient at the *output* of that module, so its pre-activation.
    rank
        r; the source's number of units makes the feedback matrix dense.
    learning
        `Oja` (P on e by Oja, Q by Kolen-Pollack), its halves `Subspace` (P only) and `KolenPollack`
        (Q only), `FactoredKolenPollack` or `Fixed`. (Oja divides e by its largest standard
        deviation; the authors' direct code by each unit's own.)
    spatial_factor, clip_rank
        As for `LowRank`.

    Raises
    ------
    ValueError
        If the rank is below 1 (here) or too large, the source is unknown, not downstream of the
        layer, or has a map that does not fit (at attachment).

    Examples
    --------
    >>> Direct(source="hidden", rank=64).source
    'hidden'
    """

    rule: Literal["direct"] = "direct"
    source: str
    rank: int
    learning: Annotated[Rules, Discriminator("rule")] = Oja()
    spatial_factor: Literal["Q", "P"] = "Q"
    clip_rank: bool = False

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_learning(self.learning, Rules)

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a module."""
        dense = route_map(site, self.source)
        if isinstance(dense.stage, Convolution):
            c_out, c_in, ky, kx = dense.kernel_shape
            shape = (c_out, c_in, ky, kx)
            factors = ConvolutionFactors(shape, dense.stage, self.spatial_factor)
        else:
            n_out, n_in = dense.kernel_shape
            factors = DenseFactors(n_in=n_in, n_out=n_out)
        rank = allowed_rank(site.name, self.rank, factors.max_rank, self.clip_rank)
        q, p = random_factors(factors, rank, site.generator, site.like)
        label = f"direct r={rank} [{self.learning.rule}]"
        pathway = DirectPathway(site.name, label, factors, rank, self.learning, q, p)
        pathway.source = self.source
        return pathway


class DirectPathway(DirectRoute, LowRankPathway):
    """Takes the source's error through Q P to the module's input."""

    def receive(self, h: Tensor, error: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return Q P e in the shape of h, and the pseudo-gradients of Q and P."""
        x, stage, factors = h.to(error.dtype), self.factors.outer, self.factors
        if isinstance(factors, DenseFactors):
            x, error = self.flat(h, error, (factors.n_in, factors.n_out))
        g, learned = self.backward(x, error, None, stage)
        return g.reshape(h.shape).to(h.dtype), learned
