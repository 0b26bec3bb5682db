"""Direct random feedback: DFA and its relatives, a dense map from a later module."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Discriminator
from torch import Tensor, nn

from neurofb.feedback.fixed import Fixed
from neurofb.feedback.kolen_pollack import KolenPollack
from neurofb.feedback.learning import DenseSignals, check_learning
from neurofb.feedback.pathway import Pathway, Site, uniform
from neurofb.feedback.phase import PATHWAY_LEARNING
from neurofb.feedback.route import DirectRoute
from neurofb.feedback.route_map import RouteMap, route_map
from neurofb.feedback.stage import Convolution

#: The learning rules of a dense direct map.
Rules = Fixed | KolenPollack


@dataclass(frozen=True, kw_only=True)
class DirectRandom:
    """DFA: g = B s, with B dense and random and s made of the error at a later module.

    The family of direct feedback alignment (Nøkland 2016, arXiv:1609.01596). Like `Direct` it may
    lie on any module; maps are flattened (from a map to a convolution's input, B has the layer's
    kernel). B starts uniform in ±1/√n_source.

    Parameters
    ----------
    source
        Name of the module from whose output the error comes.
    signal
        What is sent: "error" e (DFA); "sign", sign(e)/N (sDFA); "target", the one-hot class y*/N
        (DRTP, Frenkel et al. 2021, arXiv:1909.01311; its minus sign is absorbed in B). N is the
        number of samples, as for a loss that is their mean. "target" needs `present_targets`.
    density
        Share of the entries of B that are not zero (sparse DFA, Crafton et al. 2019,
        arXiv:1903.02083); the others are larger by 1/√density.
    learning
        `Fixed`, or `KolenPollack`: dB = −h sᵀ, direct Kolen-Pollack (DKP, Webster et al. 2021,
        arXiv:2011.15040).

    Raises
    ------
    ValueError
        If the density is not in (0, 1] or the rule none of these (here); for an unknown or
        upstream source (at attachment).

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    >>> from neurofb.feedback import attach
    >>> net = attach(net, {"2": DirectRandom(source="4")}, example_input=torch.zeros(1, 5))
    >>> net[2].pathway.B.shape
    torch.Size([3, 4])
    """

    rule: Literal["direct_random"] = "direct_random"
    source: str = "readout"
    signal: Literal["error", "sign", "target"] = "error"
    density: float = 1.0
    learning: Annotated[Rules, Discriminator("rule")] = Fixed()

    def __post_init__(self) -> None:
        check_learning(self.learning, Rules)
        if not 0 < self.density <= 1:
            raise ValueError(f"density={self.density} must be above 0 and at most 1")

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a module."""
        dense, generator = route_map(site, self.source), site.generator
        n_source = dense.kernel_shape[0]
        matrix = uniform(dense.kernel_shape, n_source**-0.5, generator, site.like)
        mask = None
        if self.density < 1:
            mask = torch.rand(dense.kernel_shape, generator=generator) < self.density
            mask = mask.to(matrix.device)
            matrix = matrix * mask / self.density**0.5
        return DirectRandomPathway(site.name, self, dense, matrix, mask)


class DirectRandomPathway(DirectRoute):
    """Takes what the source sends through B, kept as (n_source, n_in), to the module's input."""

    B: Tensor
    mask: Tensor

    def __init__(
        self, name: str, spec: DirectRandom, dense: RouteMap, matrix: Tensor, mask: Tensor | None
    ) -> None:
        super().__init__(name)
        self.source, self.signal, self.dense = spec.source, spec.signal, dense
        kind = {"error": "DFA", "sign": "sDFA", "target": "DRTP"}[spec.signal]
        learns = bool(spec.learning.learns)
        sparse = "" if mask is None else f", density {spec.density:g}"
        self.rule = f"direct random ({kind}{sparse}) [{spec.learning.rule}]"
        self.hold("B", matrix, learns)
        if mask is not None:
            self.hold("mask", mask, learned=False)
        self.is_sparse, self.learning = mask is not None, spec.learning

    @property
    def learned(self) -> tuple[nn.Parameter, ...]:
        """B, if it learns."""
        return (self.get_parameter("B"),) if self.learning.learns else ()

    @property
    def needs_targets(self) -> bool:
        """Whether the classes are what is sent."""
        return self.signal == "target"

    def receive(self, h: Tensor, error: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return B s in the shape of h, and the pseudo-gradient of B if it learns."""
        stage, sent = self.dense.stage, self._sent(error)
        x = h.to(sent.dtype)
        if not isinstance(stage, Convolution):
            x, sent = self.flat(h, sent, (self.B.shape[1], self.B.shape[0]))
        b = self.cast("B", sent.dtype)
        g = stage.back(sent, b, x)
        g = g.reshape(h.shape).to(h.dtype)
        if not self.learning.learns:
            return g, ()
        with PATHWAY_LEARNING:
            gradient = self.learning.dense_gradient(DenseSignals(x, sent, b, stage))
            return g, (gradient * self.mask if self.is_sparse else gradient,)

    def _sent(self, error: Tensor) -> Tensor:
        """Return s: the error, its sign, or the classes as one-hot vectors."""
        if self.signal == "error":
            return error
        samples = max(len(error), 1)
        if self.signal == "sign":
            return error.sign() / samples
        return self.one_hot(error) / samples
