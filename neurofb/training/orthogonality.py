"""Keeping the columns of a factor orthonormal: retractions to the Stiefel manifold, its tangent."""

import torch
from torch import Tensor

from neurofb.training.newton_schulz import decompose


@torch.no_grad()
def orthonormal_factor(matrix: Tensor) -> Tensor:
    """Return qf(A): the Q of the thin QR decomposition A = Q R with a positive diagonal of R.

    The usual retraction to the Stiefel manifold (Absil, Mahony & Sepulchre 2008, example 4.1.3).
    The columns span what those of A span, and a matrix that is orthonormal already stays as it is:
    without the rule on signs LAPACK's Q would turn columns round.

    Parameters
    ----------
    matrix
        (n, r) with r <= n. Columns that depend on others give some orthonormal completion;
        entries that are not finite give NaN.

    Raises
    ------
    ValueError
        If there are more columns than rows.

    Examples
    --------
    >>> orthonormal_factor(torch.tensor([[3.0], [4.0]]))
    tensor([[0.6000],
            [0.8000]])
    """
    _check_tall(matrix)
    half = matrix.dtype in (torch.bfloat16, torch.float16)  # for which there is none
    q, r = torch.linalg.qr(matrix.float() if half else matrix)
    return (q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(q)).to(matrix)


@torch.no_grad()
def nearest_orthonormal(matrix: Tensor) -> Tensor:
    """Return A (Aᵀ A)^(−1/2), of all matrices with orthonormal columns the nearest to A.

    Nearest in the Frobenius norm; computed as P Qᵀ from A = P diag(σ) Qᵀ (Higham 1986,
    10.1137/0907079). It turns no column more than needed, while `orthonormal_factor` keeps the
    direction of the first column and lets the later ones give way. Columns that depend on others
    are completed to an orthonormal set, which a retraction needs; Muon's `polar_factor` leaves them
    at zero.

    Parameters
    ----------
    matrix
        (n, r) with r <= n; one with entries that are not finite is returned as it is.

    Raises
    ------
    ValueError
        If there are more columns than rows.

    Examples
    --------
    >>> nearest_orthonormal(2 * torch.eye(3)).allclose(torch.eye(3))
    True
    """
    _check_tall(matrix)
    if not bool(torch.isfinite(matrix).all()):
        return matrix.clone()
    left, _, right = decompose(matrix)
    return (left @ right).to(matrix)


@torch.no_grad()
def tangent(gradient: Tensor, matrix: Tensor) -> Tensor:
    """Return G − U sym(Uᵀ G): the part of G along which U stays orthonormal to first order.

    The orthogonal projection on the tangent space of the Stiefel manifold at U, in the metric of
    the surrounding space (Absil, Mahony & Sepulchre 2008, equation 3.35).

    Parameters
    ----------
    gradient, matrix
        G and U, both (n, r); the columns of U are orthonormal.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> tangent(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [0.0]]))
    tensor([[0.],
            [2.]])
    """
    if gradient.shape != matrix.shape:
        raise ValueError(
            f"gradient has shape {tuple(gradient.shape)}; it must be that of the matrix, "
            f"{tuple(matrix.shape)}"
        )
    inner = matrix.mT @ gradient
    return gradient - matrix @ ((inner + inner.mT) / 2)


def _check_tall(matrix: Tensor) -> None:
    """Refuse what cannot have orthonormal columns."""
    if matrix.ndim != 2 or matrix.shape[1] > matrix.shape[0]:
        raise ValueError(
            f"matrix has shape {tuple(matrix.shape)}; it must have two dimensions and no more "
            "columns than rows"
        )
