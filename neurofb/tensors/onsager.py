"""Precision and field of an axis in message passing, with the Onsager term of what was used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neurofb.tensors.problem import geometric_mean


@dataclass
class AxisMemory:
    """What an axis remembers of its last update: the estimates that entered it, its spread.

    Parameters
    ----------
    used
        Estimates (row, component) of every axis that entered the last update; empty before it.
    spread
        Sum of the rows' posterior covariances over N (component, component), in float64.
    """

    used: Sequence[Tensor] = ()
    spread: Tensor = field(default_factory=lambda: torch.empty(0))


def precision_of(
    factors: Sequence[Tensor], axis: int, noise_variance: float, size: float
) -> Tensor:
    """Return ``A = (1/Δ) ∏_{b≠a} X_bᵀX_b / N`` (elementwise), (component, component) in float64.

    Examples
    --------
    >>> ones = [torch.ones(4, 1)] * 3
    >>> precision_of(ones, axis=0, noise_variance=0.5, size=4.0)
    tensor([[2.]], dtype=torch.float64)
    """
    return elementwise_product(
        gram(factor, factor, size) for b, factor in enumerate(factors) if b != axis
    ).div(noise_variance)


def onsager_term(
    factors: Sequence[Tensor], memories: Sequence[AxisMemory], axis: int
) -> Tensor | None:
    """Return what the estimate of an axis sees of itself through the others, (row, component).

    ``Σ_{b≠a} X_a^{used by b} [ spread_b ∘ ∏_{c≠a,b} X_cᵀ X_c^{used by b} / N ]ᵀ``, to be divided by
    Δ and taken off the field; our derivation. It holds for every order of updates, because it asks
    what entered the last update of each axis instead of assuming it was the sweep before. None
    before any other axis was updated.

    Examples
    --------
    >>> ones = [torch.ones(4, 1)] * 3
    >>> spread = AxisMemory(used=ones, spread=torch.full((1, 1), 0.5, dtype=torch.float64))
    >>> onsager_term(ones, [AxisMemory(), spread, spread], axis=0).T
    tensor([[1., 1., 1., 1.]])
    """
    size = geometric_mean([len(factor) for factor in factors])
    total = None
    for b, memory in enumerate(memories):
        if b == axis or not memory.used:
            continue
        others = (
            gram(factor, memory.used[c], size)
            for c, factor in enumerate(factors)
            if c not in (axis, b)
        )
        response = elementwise_product((memory.spread, *others))
        old = memory.used[axis]
        term = old @ response.T.to(old)
        total = term if total is None else total + term
    return total


def gram(first: Tensor, second: Tensor, size: float) -> Tensor:
    """Return ``firstᵀ second / size`` in float64.

    Examples
    --------
    >>> gram(torch.ones(4, 1), torch.ones(4, 1), size=2.0)
    tensor([[2.]], dtype=torch.float64)
    """
    return (first.T @ second).double() / size


def elementwise_product(matrices: Iterable[Tensor]) -> Tensor:
    """Return the elementwise product of matrices, of which there is at least one.

    Examples
    --------
    >>> elementwise_product([torch.eye(1), 3 * torch.eye(1)])
    tensor([[3.]])
    """
    first, *others = matrices
    for other in others:
        first = first * other
    return first
