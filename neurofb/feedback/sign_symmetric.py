"""Sign-symmetric feedback: the signs of the weights, with magnitudes of its own."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neurofb.choices import check_choice
from neurofb.feedback.pathway import Pathway, Site, uniform
from neurofb.feedback.random_start import uniform_bound
from neurofb.feedback.seeded import SeededPathway, generator_of_pass
from neurofb.feedback.stage import Stage

_NAMES = {"uniform": "uSF", "batch_random": "brSF", "fixed_random": "frSF"}


@dataclass(frozen=True, kw_only=True)
class SignSymmetric:
    """g = (M ∘ sign W)ᵀ δ with magnitudes M ≥ 0 (Liao, Leibo & Poggio 2016, arXiv:1510.05067).

    The signs follow those of W at every pass: a weight transport of one bit a weight. M has the
    root mean square of W at attachment, so that the error starts as strong as under
    backpropagation. (BioTorch takes √(2 / (n_in + n_out)), of the layer's shape alone.)

    Parameters
    ----------
    magnitude
        "uniform" (uSF: one constant for all weights), "fixed_random" (frSF: absolute values of a
        uniform distribution about 0, drawn once) or "batch_random" (brSF: drawn again at every
        backward pass).

    Raises
    ------
    ValueError
        If `magnitude` is none of these (here), or the weight is zero everywhere (at attachment).

    Examples
    --------
    >>> SignSymmetric(magnitude="fixed_random").rule
    'sign_symmetric'
    """

    rule: Literal["sign_symmetric"] = "sign_symmetric"
    magnitude: Literal["uniform", "batch_random", "fixed_random"] = "uniform"

    def __post_init__(self) -> None:
        check_choice("magnitude", self.magnitude, _NAMES)

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a layer."""
        site.check_weight()
        return SignSymmetricPathway(site, self.magnitude)


class SignSymmetricPathway(SeededPathway):
    """Takes the error back through the weight's signs.

    Buffer `M` holds the magnitudes: one number (uSF), one for every weight (frSF), or the largest
    one that is drawn (brSF).
    """

    transports_weights = "signs"
    M: Tensor

    def __init__(
        self, site: Site, magnitude: Literal["uniform", "batch_random", "fixed_random"]
    ) -> None:
        super().__init__(site.name, site.seed)
        self.rule = f"sign-symmetric ({_NAMES[magnitude]})"
        self.redrawn = magnitude == "batch_random"
        bound = uniform_bound(site.weight)
        if magnitude == "fixed_random":
            m = uniform(tuple(site.weight.shape), bound, site.generator, site.weight).abs()
        else:
            m = site.weight.new_tensor(bound if self.redrawn else bound / 3**0.5)
        self.hold("M", m, learned=False)

    def magnitudes(self, shape: torch.Size) -> Tensor:
        """Return M of the pass that comes next, one number or of the weight's `shape`."""
        if not self.redrawn:
            return self.M
        generator = generator_of_pass(self.seed, self.fired, self.M.device)
        return self.M * torch.rand(shape, generator=generator, device=self.M.device).to(self.M)

    def kernel(self, weight: Tensor) -> Tensor:
        """Return M ∘ sign W, with the magnitudes of the pass that comes next."""
        return self.magnitudes(weight.shape).to(weight.dtype) * weight.sign()

    def backward(
        self,
        h: Tensor,
        delta: Tensor,
        weight: Tensor,
        stage: Stage,
        grad_weight: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return (M ∘ sign W)ᵀ δ."""
        return stage.back(delta, self.kernel(weight), h), ()
