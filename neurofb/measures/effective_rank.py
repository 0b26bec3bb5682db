"""How many dimensions a matrix uses: five definitions of effective rank."""

import math
from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.choices import check_choice
from neurofb.measures.gram import gram_power

RankKind = Literal["entropy", "entropy2", "participation", "stable", "numerical"]


@overload
def effective_rank(
    x: Tensor, kind: RankKind = ..., *, center: bool = ..., row_normalise: bool = ...
) -> Tensor: ...
@overload
def effective_rank(
    x: np.ndarray, kind: RankKind = ..., *, center: bool = ..., row_normalise: bool = ...
) -> np.ndarray: ...
def effective_rank(
    x: Float[Tensor, "*shape"] | Float[np.ndarray, "*shape"],
    kind: RankKind = "entropy",
    *,
    center: bool = False,
    row_normalise: bool = False,
) -> Float[Tensor, "*batch"] | Float[np.ndarray, "*batch"]:
    """Return the effective rank of a matrix, or of each in a batch, from its singular values s.

    - ``"entropy"``: exp(−Σ p ln p) with p = s / Σ s (Roy & Vetterli 2007, EUSIPCO, "The effective
      rank: a measure of effective dimensionality").
    - ``"entropy2"``: the same with p = λ / Σ λ, λ = s².
    - ``"participation"``: (Σ λ)² / Σ λ² (the participation ratio of the second moments of the rows;
      of their covariance with `center`). It needs no singular values, and is the fastest.
    - ``"stable"``: Σ λ / max λ (squared Frobenius over squared spectral norm; Rudelson & Vershynin
      2007, doi:10.1145/1255443.1255449).
    - ``"numerical"``: the number of s above max(rows, columns) · ε · max s, with ε of x's own dtype
      (that of float32 for less precise ones).

    All are 1 for a matrix of rank 1 and k for k equal singular values, do not change when x is
    scaled, transposed or rotated from either side, and are ordered always: 1 ≤ stable ≤
    participation ≤ entropy2 ≤ entropy ≤ rank. They do change when single rows are scaled or the
    mean is removed. Their ceiling is min(rows, columns): compare x of the same number of rows.

    Parameters
    ----------
    x
        Real matrices (*batch, row, column) of any units; a vector is one row. A torch tensor or a
        numpy array. float64 inside (`neurofb.measures.gram` says where products are not).
    kind
        The definition.
    center
        Remove the mean of the rows first.
    row_normalise
        Then divide each row by its norm (rows of zeros stay): every row counts the same.

    Returns
    -------
    Tensor or ndarray
        float64 of shape (*batch), 0-d for one matrix; 0 for a matrix of zeros.

    Raises
    ------
    ValueError
        If `kind` is none of these, or x is not real floating point, has no dim, no row or no
        column, or holds NaN or infinity.

    Examples
    --------
    >>> x = torch.diag(torch.tensor([2.0, 1.0]))
    >>> round(effective_rank(x).item(), 4), effective_rank(x, "stable").item()
    (1.8899, 1.25)
    >>> effective_rank(np.stack([np.eye(3), np.ones((3, 3))]), "numerical")
    array([3., 1.])
    """
    check_choice("kind", kind, RankKind)
    is_array = isinstance(x, np.ndarray)
    if not (np.issubdtype(x.dtype, np.floating) if is_array else x.is_floating_point()):
        raise ValueError(f"x of {x.dtype} must hold real floating-point numbers")
    if is_array:
        copy = torch.from_numpy(np.array(x, order="C"))
        rank = effective_rank(copy, kind, center=center, row_normalise=row_normalise)
        return rank.numpy()
    matrix = prepare(x, center=center, row_normalise=row_normalise)
    if kind == "participation":
        square, fourth = gram_power(matrix)
        return torch.where(square > 0, square.square() / fourth, 0.0)
    return spectrum_rank(singular_values(matrix), kind, tolerance=rank_tolerance(x))


def prepare(
    x: Float[Tensor, "*shape"], *, center: bool = False, row_normalise: bool = False
) -> Float[Tensor, "*batch row column"]:
    """Return x as checked matrices, centred and with rows of norm 1 if asked for.

    Parameters
    ----------
    x, center, row_normalise
        As in `effective_rank`.

    Returns
    -------
    Tensor
        Detached; x itself (any dtype of at least single precision) if there is nothing to do.

    Raises
    ------
    ValueError
        As `effective_rank`.

    Examples
    --------
    >>> prepare(torch.tensor([3.0, 4.0]), row_normalise=True)
    tensor([[0.6000, 0.8000]], dtype=torch.float64)
    """
    if x.ndim == 0 or 0 in x.shape[-2:]:
        raise ValueError(f"x of shape {tuple(x.shape)} must have at least one row and one column")
    matrix = x.detach()
    matrix = matrix[None] if matrix.ndim == 1 else matrix
    if torch.finfo(matrix.dtype).eps > torch.finfo(torch.float32).eps or center or row_normalise:
        matrix = matrix.double()
    # the extremes are not finite if any number is not; this reads x once and writes nothing
    if matrix.numel() and not all(math.isfinite(end) for end in torch.aminmax(matrix)):
        raise ValueError("x holds NaN or infinity; effective rank needs finite numbers")
    if center:
        matrix = matrix - matrix.mean(-2, keepdim=True)
    if row_normalise:
        largest = matrix.abs().amax(-1, keepdim=True)  # first, or squares vanish or overflow
        matrix = matrix / torch.where(largest > 0, largest, 1.0)
        norm = torch.linalg.vector_norm(matrix, dim=-1, keepdim=True)
        matrix = matrix / torch.where(norm > 0, norm, 1.0)
    return matrix


def singular_values(
    matrix: Float[Tensor, "*batch row column"],
) -> Float[Tensor, "*batch component"]:
    """Return the singular values in float64, largest first.

    Examples
    --------
    >>> singular_values(torch.diag(torch.tensor([1.0, 3.0])))
    tensor([3., 1.], dtype=torch.float64)
    """
    # A tall matrix takes LAPACK half the time of its transpose, or less.
    tall = matrix if matrix.shape[-2] >= matrix.shape[-1] else matrix.mT
    return torch.linalg.svdvals(tall.double())


def rank_tolerance(x: Float[Tensor, "*shape"]) -> float:
    """Return max(rows, columns) · ε: singular values up to this share of the largest are rounding.

    Examples
    --------
    >>> rank_tolerance(torch.ones(100, 4, dtype=torch.float64)) == 100 * 2.0**-52
    True
    """
    eps = min(torch.finfo(x.dtype).eps, torch.finfo(torch.float32).eps)
    return max(x.shape[-2:]) * eps


def spectrum_rank(
    singular_values: Float[Tensor, "*batch component"],
    kind: RankKind = "entropy",
    *,
    tolerance: float = torch.finfo(torch.float64).eps,
) -> Float[Tensor, "*batch"]:
    """Return the effective rank of matrices with these singular values (see `effective_rank`).

    Parameters
    ----------
    singular_values
        Non-negative, in any order.
    kind
        The definition.
    tolerance
        Share of the largest singular value up to which one counts as zero, for ``"numerical"``.

    Raises
    ------
    ValueError
        If `kind` is unknown.

    Examples
    --------
    >>> spectrum_rank(torch.tensor([1.0, 1.0, 1.0, 0.0]), "participation").item()
    3.0
    """
    check_choice("kind", kind, RankKind)
    s = singular_values.double()
    largest = s.amax(-1, keepdim=True)
    s = s / torch.where(largest > 0, largest, 1.0)  # no overflow, no underflow of the squares
    if kind == "numerical":
        return (s > tolerance).sum(-1).double()
    power = s if kind == "entropy" else s.square()
    total = power.sum(-1)
    if kind == "stable":
        return total
    if kind == "participation":
        rank = total.square() / power.square().sum(-1)
    else:
        p = power / total[..., None]
        rank = torch.special.entr(p).sum(-1).exp()
    return torch.where(total > 0, rank, 0.0)
