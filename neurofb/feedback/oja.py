"""Local learning: Oja's subspace rule for the channels, Kolen-Pollack for the other factor."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.feedback.factors import grouped
from neurofb.feedback.learning import Learning, Signals, kolen_pollack
from neurofb.feedback.shared import means_of_all, num_processes

#: Up to this number of units the second moment of the error is formed as a matrix.
FEW_UNITS = 64


@dataclass(frozen=True, kw_only=True)
class Driven(Learning):
    """What `Oja` and its half `Subspace` share: what drives the subspace, and how it is scaled.

    Parameters
    ----------
    normalise, drive
        As for `Oja`.

    Examples
    --------
    >>> Driven(drive="target").needs_targets
    True
    """

    normalise: bool = True
    drive: Literal["error", "target"] = "error"

    def __post_init__(self) -> None:
        if self.drive not in ("error", "target"):
            raise ValueError(f"drive={self.drive!r} must be 'error' or 'target'")

    @property
    def needs_targets(self) -> bool:
        """Whether the one-hot targets drive the subspace."""
        return self.drive == "target"


@dataclass(frozen=True, kw_only=True)
class Oja(Driven):
    """Learn the error's principal subspace by Oja and the other factor by Kolen-Pollack.

    The first-generation rule of Hanut & Kadmon (2025, arXiv:2502.20580 v1), reconstructed from
    their code: with e the normalised error and z = P e,

    - dP = z eᵀ − z zᵀ P (Oja's subspace rule, rows of P go to the leading directions of e eᵀ);
    - dQ = −h (P δ)ᵀ (Kolen-Pollack: pre times post at the feedback synapse, as dW = −δ hᵀ).

    Neither reads W. For a convolution Oja learns the 1×1 factor. That is P, driven by the error at
    the layer's output, if the kernel sits in Q. If the kernel sits in P, the 1×1 factor is Q; it is
    driven by the error that arrives at the layer's input and passes its rectifier, g·(h ≠ 0), and
    P learns by dP = −(Qᵀ h) δᵀ. (Without a rectifier, or with noise added behind it, g never leaves
    the span of Q, and Q keeps its span.) The last form is ours, not the authors'.

    On the readout the first generation drives P by the targets: e is then the one-hot target of the
    sample, so P's rows go to the leading directions of the targets' second moment, while z for Q
    remains P δ.

    Parameters
    ----------
    normalise
        Centre the error over the batch and divide it by the largest standard deviation of its
        units, as the authors do; without it the rule runs on the raw error.
    drive
        "error", or "target": the one-hot targets take the error's place in P's rule. For a layer
        whose error is (batch, classes), P (r, classes); `neurofb.feedback.present_targets` must
        hand on the labels before every backward pass.

    Raises
    ------
    ValueError
        If `drive` is neither "error" nor "target".

    Notes
    -----
    The second moment is a mean over samples and pixels, where the authors sum. Oja's matrix form
    needs P twice, so its strict locality is disputed. In a distributed training the moments are
    those of the joined batch inside `neurofb.feedback.shared_batches`.

    Examples
    --------
    >>> Oja().transports_weights
    False
    """

    rule: Literal["oja"] = "oja"

    def gradients(self, signals: Signals) -> tuple[Tensor | None, Tensor | None]:
        """Return the pseudo-gradients of Q and P (descent sign: the optimiser subtracts them)."""
        gradient = channel_gradient(signals, self.normalise)
        if signals.factors.channel_factor == "P":
            return kolen_pollack(signals, "Q"), gradient
        return gradient, kolen_pollack(signals, "P")


def channel_gradient(signals: Signals, normalise: bool) -> Tensor:
    """Return Oja's pseudo-gradient of the channel factor: P, or Q if the kernel sits in P.

    It is driven by the targets if there are any, else by the error.
    """
    factors = signals.factors
    if factors.channel_factor == "P":
        error, components, factor = signals.delta, signals.z, signals.p
        if signals.target is not None:
            _, outer = factors.kernels(signals.q, signals.p)
            error, components = signals.target, signals.target @ outer
        error, components = factors.outer.rows(error), factors.outer.rows(components)
    else:
        # g·(h ≠ 0); a product with a Boolean tensor is several times slower
        arriving = torch.ops.aten.threshold_backward(signals.g, signals.h.abs(), 0)
        inner, _ = factors.kernels(signals.q, signals.p)
        error = factors.inner.rows(arriving)
        components = factors.inner.rows(factors.inner.apply(arriving, inner))
        factor = signals.q
    gradient = oja_gradient(error, components, factors.basis(factor), normalise)
    if num_processes() > 1 and not normalise and signals.target is None:
        # The loss is the mean over a share of the batch, so its errors are that much larger.
        gradient = gradient / num_processes() ** 2
    return factors.from_basis(gradient)


#: numbers of the error that are squared at a time
SQUARED_AT_ONCE = 2**17


def oja_gradient(
    error: Float[Tensor, "row channel"],
    components: Float[Tensor, "row component"],
    basis: Float[Tensor, "group n rank"],
    normalise: bool,
) -> Float[Tensor, "group n rank"]:
    """Return −(C V − V Vᵀ C V), with C the second moment of the (normalised) error.

    Parameters
    ----------
    error
        One error a row; channel = group·n.
    components
        error V for every group; component = group·rank.
    basis
        V, the directions as columns.
    normalise
        Use the covariance, divided by the largest variance of a channel, instead of the raw moment.

    Examples
    --------
    >>> import torch
    >>> error = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> basis = torch.tensor([[[1.0], [0.0]]])  # the principal direction: nothing to learn
    >>> oja_gradient(error, error @ basis[0], basis, True).abs().max()
    tensor(0.)
    """
    groups, channels, rank = basis.shape
    num_rows = error.shape[0]
    if num_rows == 0:  # no early return: other processes may wait for this one's moments
        error, components = (x.new_zeros(1, x.shape[1]) for x in (error, components))
    rows = error.shape[0]
    wide = torch.promote_types(error.dtype, torch.float32)
    v = basis.to(wide)
    error = error.reshape(rows, groups, channels).transpose(0, 1)
    if channels <= FEW_UNITS:  # C itself takes one pass over the errors
        second = grouped(error.mT, error).to(wide) / rows
        cross = grouped(second, v)
        inner = grouped(v.mT, cross)
        moment = second.diagonal(dim1=1, dim2=2)
    else:
        components = components.reshape(rows, groups, rank).transpose(0, 1)
        cross = grouped(components.mT, error).mT.to(wide) / rows
        inner = grouped(components.mT, components).to(wide) / rows
        moment = _mean_square(error).to(wide) if normalise else cross
    if not normalise:
        cross, inner = means_of_all((cross, inner), num_rows)
    else:
        mean = _mean(error).to(wide)
        cross, inner, moment, mean = means_of_all((cross, inner, moment, mean), num_rows)
        mean_component = grouped(mean[:, None], v)
        cross = cross - mean[:, :, None] * mean_component
        inner = inner - mean_component.mT * mean_component
        # Without variance (a batch of one) what is left is rounding; it must not be blown up.
        eps = max(4 * torch.finfo(error.dtype).eps, 64 * torch.finfo(wide).eps)
        floor = eps * moment.max()
        scale = (moment - mean**2).max().maximum(floor).clamp(min=1e-30)
        cross, inner = cross / scale, inner / scale
    return (grouped(v, inner) - cross).to(basis.dtype)


def _mean_square(x: Float[Tensor, "group row n"]) -> Float[Tensor, "group n"]:
    """Return the mean square over rows, some rows at a time: no second copy of the error."""
    parts = x.split(max(SQUARED_AT_ONCE // x.shape[2], 1), dim=1)
    total = sum(_mean(part * part) * part.shape[1] for part in parts)
    assert isinstance(total, Tensor)
    return total / x.shape[1]


def _mean(x: Float[Tensor, "group row n"]) -> Float[Tensor, "group n"]:
    """Return the mean over rows, as a product: torch's sum casts a whole bf16 tensor first."""
    ones = x.new_ones(1, 1, x.shape[1]).expand(x.shape[0], -1, -1)
    return grouped(ones, x)[:, 0] / x.shape[1]
