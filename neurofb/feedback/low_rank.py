"""Low-rank feedback: LDFA, low-dimensional feedback alignment."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Discriminator
from torch import Tensor, nn

from neurofb.feedback.factored_kolen_pollack import FactoredKolenPollack
from neurofb.feedback.factors import (
    ConvolutionFactors,
    DenseFactors,
    Factors,
    grouped,
    truncated_svd,
)
from neurofb.feedback.fixed import Fixed
from neurofb.feedback.kolen_pollack import KolenPollack
from neurofb.feedback.learning import Learning, Signals, check_learning
from neurofb.feedback.normative import Normative
from neurofb.feedback.oja import Oja
from neurofb.feedback.pathway import Pathway, Site, uniform
from neurofb.feedback.phase import PATHWAY_LEARNING
from neurofb.feedback.stage import Dense, Stage
from neurofb.feedback.subspace import Subspace
from neurofb.feedback.svd_refresh import SvdRefresh

#: The learning rules of a low-rank map. A new rule is one file and one name here.
Rules = Fixed | Normative | Oja | Subspace | KolenPollack | FactoredKolenPollack | SvdRefresh
LearningRule = Annotated[Rules, Discriminator("rule")]


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """LDFA: g = Q P δ, Q (n_in, r), P (r, n_out) (Hanut & Kadmon 2025, arXiv:2502.20580).

    Only the weight's transport is replaced; every other derivative stays exact. For a convolution
    the kernel sits in Q or in P (see `neurofb.feedback.factors`); only the latter limits the rank
    of the error at every pixel.

    Parameters
    ----------
    rank
        r, the number of dimensions of the error that reach the layer's input (per group).
    learning
        How Q and P change: `Oja` (default), its halves `Subspace` and `KolenPollack`,
        `FactoredKolenPollack` (all local), `Normative`, `SvdRefresh` (weight transport), `Fixed`.
    spatial_factor
        Which factor of a convolution carries the spatial kernel; no meaning for linear layers.
    start
        "random" (P with orthonormal rows for the channel side, everything else uniform; no weight
        transport) or "svd" (best rank-r factors of W at attachment).
    clip_rank
        Lower a rank that the layer's shape does not allow instead of refusing it.
    match_energy
        Scale g at every pass by ‖W‖_F / ‖Q P‖_F, so that maps of different rank have equal gain
        and what differs is the rank. This reads one number of W. The learning rules see z = P δ
        and g = Q z unscaled.

    Raises
    ------
    ValueError
        If the rank is below 1 or the rule not one of these (here), or the rank above what the
        layer allows, or an SVD of a weight of zeros is asked for (at attachment).

    Examples
    --------
    >>> LowRank(rank=4).learning.rule
    'oja'
    """

    rule: Literal["low_rank"] = "low_rank"
    rank: int
    learning: LearningRule = Oja()
    spatial_factor: Literal["Q", "P"] = "Q"
    start: Literal["random", "svd"] = "random"
    clip_rank: bool = False
    match_energy: bool = False

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_learning(self.learning, Rules)

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a layer."""
        weight = site.weight
        if isinstance(site.stage, Dense):
            factors = DenseFactors(n_in=weight.shape[1], n_out=weight.shape[0])
        else:
            c_out, c_group, ky, kx = weight.shape
            factors = ConvolutionFactors((c_out, c_group, ky, kx), site.stage, self.spatial_factor)
        rank = allowed_rank(site.name, self.rank, factors.max_rank, self.clip_rank)
        if self.start == "svd":
            site.check_weight()
            matrices = factors.split(*truncated_svd(factors.matrix(weight), rank))
        else:
            matrices = random_factors(factors, rank, site.generator, weight)
        label = f"low_rank r={rank} [{self.learning.rule}]"
        pathway = LowRankPathway(site.name, label, factors, rank, self.learning, *matrices)
        if self.match_energy:
            pathway.match_energy()
        return pathway


class LowRankPathway(Pathway):
    """Takes the error back through Q P; both learn by the rule given."""

    Q: Tensor
    P: Tensor
    held: Tensor
    start_norm: Tensor

    def __init__(
        self,
        name: str,
        label: str,
        factors: Factors,
        rank: int,
        learning: Learning,
        q: Tensor,
        p: Tensor,
    ) -> None:
        super().__init__(name)
        self.rule, self.factors, self.rank, self.learning = label, factors, rank, learning
        self.transports_weights = learning.transports_weights
        self.learned_names = learning.learned_factors(factors)
        self.matches_energy = False
        self.hold("Q", q.clone(), "Q" in self.learned_names)
        self.hold("P", p.clone(), "P" in self.learned_names)
        self.hold("start_norm", (q.norm() * p.norm()).detach(), learned=False)
        self.hold("held", torch.zeros((), dtype=torch.int64, device=q.device), learned=False)
        self.warned = False

    @property
    def learned(self) -> tuple[nn.Parameter, ...]:
        """Those of Q and P that learn by an optimiser."""
        return tuple(self.get_parameter(name) for name in self.learned_names)

    def match_energy(self) -> None:
        """From now on give the map the Frobenius norm of W."""
        self.matches_energy = True
        self.rule += " norm of W"
        self.transports_weights = self.transports_weights or "norm"

    def kernel(self, weight: Tensor) -> Tensor | None:
        """Return (Q P)ᵀ in the layout of W, with the gain that matches energies."""
        if self.source is not None:
            return None
        left, right = self.factors.join(self.Q.detach(), self.P.detach())
        kernel = self.factors.from_matrix(grouped(left, right))
        if self.matches_energy:
            kernel = kernel * energy_ratio(weight, self.factors, self.Q.detach(), self.P.detach())
        return kernel

    def set_matrices(self, q: Tensor, p: Tensor) -> None:
        """Overwrite Q and P in place."""
        with torch.no_grad():
            self.Q.copy_(q)
            self.P.copy_(p)

    def backward(
        self,
        h: Tensor,
        delta: Tensor,
        weight: Tensor | None,
        stage: Stage,
        grad_weight: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return Q P δ and the learning rule's pseudo-gradients of Q and P."""
        with PATHWAY_LEARNING:
            self.learning.prepare(self, weight)
        factors = self.factors
        q, p = self.cast("Q", delta.dtype), self.cast("P", delta.dtype)
        inner, outer = factors.kernels(q, p)
        z = factors.outer.back(delta, outer, factors.middle(h.shape, self.rank))
        g = factors.inner.back(z, inner, h)
        learned = ()
        if self.learned_names:
            target = self.one_hot(delta) if self.learning.needs_targets else None
            signals = Signals(h, delta, z, g, q, p, weight, factors, grad_weight, target)
            with PATHWAY_LEARNING:
                grad_q, grad_p = self.learning.gradients(signals)
            learned = tuple({"Q": grad_q, "P": grad_p}[name] for name in self.learned_names)
        if self.matches_energy and weight is not None:
            g = g * energy_ratio(weight, factors, self.Q.detach(), self.P.detach()).to(g.dtype)
        return g, learned


def energy_ratio(weight: Tensor, factors: Factors, q: Tensor, p: Tensor) -> Tensor:
    """Return ‖W‖_F / ‖Q P‖_F, from r × r products; 0 if Q P is 0.

    Examples
    --------
    >>> factors = DenseFactors(n_in=2, n_out=3)
    >>> float(energy_ratio(torch.ones(3, 2), factors, torch.ones(2, 1), torch.full((1, 3), 0.5)))
    2.0
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    left, right = factors.join(q.to(wide), p.to(wide))
    energy = (grouped(left.mT, left) * grouped(right, right.mT)).sum().clamp(min=0)
    ratio = torch.linalg.vector_norm(weight, dtype=wide) / energy.sqrt()
    return ratio.where(energy > 0, torch.zeros_like(ratio))


def check_rank(rank: int) -> None:
    """Refuse a rank below 1."""
    if not isinstance(rank, int) or rank < 1:
        raise ValueError(f"rank={rank!r} must be at least 1, and an integer")


def allowed_rank(name: str, rank: int, largest: int, clip: bool) -> int:
    """Return the rank, or refuse (or clip, if asked) one that the layer does not allow."""
    if rank <= largest:
        return rank
    if clip:
        return largest
    raise ValueError(
        f"layer {name!r}: rank={rank} is larger than the layer allows, 1 to {largest} "
        "(clip_rank=True lowers it)"
    )


def random_factors(
    factors: Factors, rank: int, generator: torch.Generator, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Return Q uniform (Glorot, so that g is about as strong as δ) and an orthonormal channel side.

    If the rank exceeds the number of channels the channel side is uniform too.
    """
    q_shape, p_shape = factors.shapes(rank)
    drawn = {
        "Q": uniform(q_shape, _glorot(q_shape), generator, like),
        "P": uniform(p_shape, _glorot(p_shape), generator, like),
    }
    channel = factors.basis(drawn[factors.channel_factor])
    if channel.shape[1] >= channel.shape[2]:
        orthonormal = torch.linalg.qr(channel.double()).Q.to(like)
        drawn[factors.channel_factor] = factors.from_basis(orthonormal).contiguous()
    return drawn["Q"], drawn["P"]


def _glorot(shape: tuple[int, ...]) -> float:
    """Return the bound of Glorot's uniform distribution for a matrix or a kernel."""
    pixels = 1
    for size in shape[2:]:
        pixels *= size
    return (6 / ((shape[0] + shape[1]) * pixels)) ** 0.5
