"""The weight mirror: noise sent through the layer teaches its feedback matrix."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from neurofb.feedback.factors import grouped
from neurofb.feedback.learning import DenseSignals, Learning
from neurofb.feedback.phase import Phase
from neurofb.feedback.seeded import generator_of_pass
from neurofb.feedback.stage import Convolution


@dataclass(frozen=True, kw_only=True)
class WeightMirror(Learning):
    """Teach B by the correlation of noise before and behind the layer: dB = mean(x yᵀ) − λ B.

    The weight mirror of Akrout et al. (2019, arXiv:1904.05391): in a mirror phase white Gaussian
    noise x of variance 1 is sent through the layer in place of its input, y = W x, and x yᵀ is
    added to B. Its expectation is Wᵀ, so B → Wᵀ / λ. Local: a synapse of B sees x and y, which the
    circuit makes by running W; none reads W. A phase belongs to a backward pass, so learning and
    mirroring alternate.

    For a convolution the noise is one patch of the kernel's size a sample, whatever its stride,
    padding and dilation, so the expectation is exact at every tap.

    Parameters
    ----------
    num_samples
        n, the number of noise vectors of a phase. For n_in inputs the estimate of W has a relative
        error of about √(n_in / n), which the optimiser's small steps average out.
    decay
        λ, the decay of B within the pseudo-gradient; with 1, B → Wᵀ. An optimiser's weight decay
        on B comes on top.
    every
        Backward passes from one phase to the next. In between the pseudo-gradient is zero (not
        None, since all processes of a distributed training must agree); an optimiser with momentum
        moves B on.

    Raises
    ------
    ValueError
        If `num_samples` or `every` is below 1, or `decay` is negative.

    Notes
    -----
    Two differences from the paper. y is the pre-activation without bias, where the paper has
    y = f(W x + b): f belongs to the network and not to the layer, and with a linear y the noise's
    variance cancels (so it is no setting). And B decays by λ, where the paper leaves the choice of
    a decay or of a norm control open.

    Examples
    --------
    >>> WeightMirror(num_samples=64).transports_weights
    False
    """

    rule: Literal["weight_mirror"] = "weight_mirror"
    num_samples: int = 128
    decay: float = 1.0
    every: int = 1
    learns: ClassVar[tuple[str, ...]] = ("B",)

    def __post_init__(self) -> None:
        for name in ("num_samples", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if not self.decay >= 0:
            raise ValueError(f"decay={self.decay} must be at least 0")

    def dense_gradient(self, signals: DenseSignals) -> Tensor:
        """Return λ B − mean(y xᵀ) in the layout of W, or zeros between phases."""
        weight, b = signals.weight, signals.b
        assert weight is not None, "only pathways of a layer's own error have this rule"
        if signals.fired % self.every:
            return torch.zeros_like(b)
        with Phase("pathway_learning", every=self.every):
            groups = signals.stage.groups if isinstance(signals.stage, Convolution) else 1
            maps = weight.reshape(groups, weight.shape[0] // groups, -1)  # one matrix a group
            x = torch.randn(
                (groups, self.num_samples, maps.shape[2]),
                generator=generator_of_pass(signals.seed, signals.fired, weight.device),
                device=weight.device,
            ).to(weight.dtype)
            y = grouped(x, maps.mT)
            correlation = grouped(y.mT, x) / self.num_samples
            return self.decay * b - correlation.reshape(b.shape)
