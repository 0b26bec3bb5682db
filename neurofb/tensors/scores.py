"""How near found factors come to the planted ones, without building a tensor."""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Factor = Float[Tensor, "_row _component"] | Float[np.ndarray, "_row _component"]


def tensor_error(factors: Sequence[Factor], truth: Sequence[Factor]) -> float:
    """Return ``‖T - T_true‖² / ‖T_true‖²`` of the tensors that two sets of factors make.

    It is 0 at the truth and 1 at the tensor of zeros, is blind to scales moved between axes, to
    signs and order of components, and is made of Gram matrices in float64 (relative precision about
    1e-15 of the larger norm).

    Raises
    ------
    ValueError
        If shapes do not fit, or the true tensor is zero.

    Examples
    --------
    >>> truth = [torch.ones(3, 1), torch.ones(4, 1)]
    >>> tensor_error([2 * truth[0], truth[1]], truth)
    1.0
    """
    check_same_rows(factors, truth)
    found, planted = _double(factors), _double(truth)
    norm = _inner(planted, planted)
    if norm <= 0:
        raise ValueError("truth: the tensor of these factors is zero; its error has no scale")
    error = _inner(found, found) - 2 * _inner(found, planted) + norm
    return max(error / norm, 0.0)


def factor_match(factors: Sequence[Factor], truth: Sequence[Factor]) -> float:
    """Return the mean over true components of the cosine between matched rank-1 tensors.

    The cosine of two rank-1 tensors is the product over axes of the cosines of their vectors, so
    that signs moved between axes do not count; components are matched by the permutation of the
    largest sum. 1 is perfect; a true component without partner counts 0.

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> truth = [torch.eye(3)[:, :2], torch.eye(4)[:, :2]]
    >>> factor_match([-5 * f.flip(1) for f in truth], truth)
    1.0
    """
    check_same_rows(factors, truth)
    cosines = prod(
        _unit(a).T @ _unit(b) for a, b in zip(_double(factors), _double(truth), strict=True)
    )
    assert isinstance(cosines, Tensor)
    rows, columns = linear_sum_assignment(cosines.cpu().numpy(), maximize=True)
    return float(cosines[rows, columns].sum()) / truth[0].shape[1]


def mode_overlaps(
    factors: Sequence[Factor], truth: Sequence[Factor]
) -> tuple[Float[Tensor, "found true"], ...]:
    """Return ``M_a = X_aᵀ X_a,true / N_a`` of each axis: the order parameters of state evolution.

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> truth = [2 * torch.ones(3, 1), torch.ones(4, 1)]
    >>> [float(overlap) for overlap in mode_overlaps(truth, truth)]
    [4.0, 1.0]
    """
    check_same_rows(factors, truth)
    pairs = zip(_double(factors), _double(truth), strict=True)
    return tuple(found.T @ planted / len(found) for found, planted in pairs)


def check_same_rows(factors: Sequence[Factor], truth: Sequence[Factor]) -> None:
    """Refuse factors of tensors that differ in shape.

    Raises
    ------
    ValueError
        With both shapes.

    Examples
    --------
    >>> check_same_rows([torch.ones(3, 1), torch.ones(2, 1)], [torch.ones(3, 2), torch.ones(2, 2)])
    """
    shapes = [[len(factor) for factor in each] for each in (factors, truth)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"factors of a tensor {shapes[0]} do not fit truth of a tensor {shapes[1]}"
        )


def _inner(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Return the scalar product of the tensors of two sets of factors."""
    grams = torch.stack([a.T @ b for a, b in zip(first, second, strict=True)])
    return float(grams.prod(0).sum())


def _unit(factor: Tensor) -> Tensor:
    """Scale columns to norm 1, and leave those of zeros."""
    return factor / factor.norm(dim=0).clamp(min=1e-300)


def _double(factors: Sequence[Factor]) -> list[Tensor]:
    """Return factors as tensors in float64."""
    return [torch.as_tensor(factor).detach().double() for factor in factors]
