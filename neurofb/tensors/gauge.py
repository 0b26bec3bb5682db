"""Scales between axes, which the data leave free and the priors settle slowly: solved for."""

from collections.abc import Sequence
from math import exp

import numpy as np
import torch
from torch import Tensor

from neurofb.tensors.protocol import Prior

_PURE = 0.3  # largest share of a change that is no change of scale, in root mean square
_STEP = 0.01  # of the logarithm of a scale, to find how an axis responds
_LARGEST = 1.0  # of a jump, as a logarithm


def change_of_scales(old: Sequence[Tensor], new: Sequence[Tensor]) -> np.ndarray | None:
    """Return logarithms (axis, component) by which scales changed, or None if more than they did.

    Examples
    --------
    >>> old = [torch.ones(3, 1), torch.ones(4, 1)]
    >>> change_of_scales(old, [2 * old[0], old[1]]).round(3).tolist()
    [[0.693], [0.0]]
    >>> change_of_scales(old, [torch.eye(3)[:, :1], old[1]]) is None
    True
    """
    norms, new_norms = (
        torch.stack([factor.norm(dim=0) for factor in each]).double() for each in (old, new)
    )
    there = (norms > 0) & (new_norms > 0)  # a component of zeros has no scale
    change = torch.where(there, new_norms / norms, 1.0).log()
    moved = torch.stack([(b - a).norm(dim=0) for a, b in zip(old, new, strict=True)]).double()
    apart = moved.square().sum() - (change.expm1() * norms).square().sum()
    pure = apart <= _PURE**2 * moved.square().sum()  # not if anything is nan
    return change.cpu().numpy() if pure else None


def settled_scales(
    change: np.ndarray, responses: np.ndarray, *, sequential: bool = True, damping: float = 0.0
) -> np.ndarray | None:
    """Return scales (axis, component) that bring factors to where sweeps would bring them.

    Multiplying the factors of axes by scales whose product is 1 leaves the tensor as it is; only
    the priors tell such scales apart, so that under precision A and variance s² a sweep leaves a
    share A s² / (1 + A s²) of what is missing: slow, at little noise. Logarithms u of the scales
    move by a linear map R made of how each axis responds to the others, ``u - u* → R (u - u*)``;
    what a sweep changed, (R - 1)(u - u*), is solved for the fixed point u* (our derivation).

    Parameters
    ----------
    change
        See `change_of_scales`.
    responses
        See `scale_response` (axis, component).
    sequential, damping
        How sweeps are made.

    Returns
    -------
    np.ndarray or None
        Scales, of product 1 over axes; None if there is no such fixed point.

    Examples
    --------
    Axes at 2 and 1/2 on their way to 1 and 1, each of which keeps 0.9 of what the other lacks:

    >>> response = np.full((2, 1), -0.9)
    >>> moved = np.log([[2**0.9], [2**-0.81]]) - np.log([[2.0], [0.5]])
    >>> scales = settled_scales(moved, response)
    >>> float(scales.prod().round(6)), bool(scales[0] < 1)
    (1.0, True)
    """
    jumps = np.zeros(responses.shape)
    for component, column in enumerate(change.T):
        linear = _linear_map(responses[:, component], sequential, damping)
        try:
            missing = linear @ np.linalg.solve(np.eye(len(linear)) - linear, column)
        except np.linalg.LinAlgError:
            return None
        jumps[:, component] = missing - missing.mean()
    if not np.all(np.isfinite(jumps)):
        return None
    return np.exp(jumps * min(_LARGEST / max(float(np.abs(jumps).max()), 1e-300), 1.0))


def scale_response(prior: Prior, precision: Tensor, field: Tensor) -> np.ndarray:
    """Return d log‖x‖ / d log(scale of the other axes), by component, of a posterior mean.

    Examples
    --------
    >>> from neurofb.tensors import GaussianPrior
    >>> response = scale_response(GaussianPrior(), 9 * torch.eye(1).double(), torch.ones(5, 1))
    >>> response.round(4)  # 1 of the field, less 2 * 0.9 of the precision
    array([-0.8])
    """
    field = field.double()
    norms = [
        prior.denoise(precision * exp(2 * step), field * exp(step))[0].norm(dim=0).log()
        for step in (-_STEP, _STEP)
    ]
    response = (norms[1] - norms[0]) / (2 * _STEP)
    return response.nan_to_num(nan=0.0).cpu().numpy()  # a component of zeros has none


def _linear_map(responses: np.ndarray, sequential: bool, damping: float) -> np.ndarray:
    """Return R (axis, axis), by which a sweep moves logarithms of scales."""
    identity = np.eye(len(responses))
    rows = (1 - damping) * responses[:, None] * (1 - identity) + damping * identity
    if not sequential:
        return rows
    linear = identity
    for axis, row in enumerate(rows):
        update = identity.copy()
        update[axis] = row
        linear = update @ linear
    return linear
