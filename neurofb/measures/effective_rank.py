"""How many dimensions a matrix uses: three definitions of effective rank."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

RankKind = Literal["entropy", "participation", "stable"]


def effective_rank(x: Float[Tensor, "*row n"], kind: RankKind = "entropy") -> float:
    """Return the effective rank of the rows of x, from its singular values s.

    - ``"entropy"``: exp(−Σ p ln p) with p = s / Σ s (Roy & Vetterli 2007, EUSIPCO, "The effective
      rank: a measure of effective dimensionality").
    - ``"participation"``: (Σ λ)² / Σ λ² with λ = s² (the participation ratio of the second moments
      of the rows; of their covariance if the rows are centred before).
    - ``"stable"``: Σ s² / max s² (squared Frobenius over squared spectral norm; Rudelson &
      Vershynin 2007, doi:10.1145/1255443.1255449).

    All are 1 for a matrix of rank 1, k for k equal singular values, never above the rank, and do
    not change when x is scaled or rotated from either side; stable ≤ participation. The mean of
    the rows is not removed. A zero matrix has 0.

    Parameters
    ----------
    x
        Real matrix of any units; dims before the last are joined to rows. float64 inside.
    kind
        The definition.

    Raises
    ------
    ValueError
        If `kind` is none of these, x is empty, or holds NaN or infinity.

    Examples
    --------
    >>> round(effective_rank(torch.diag(torch.tensor([3.0, 3.0, 0.0]))), 6)
    2.0
    >>> effective_rank(torch.diag(torch.tensor([2.0, 1.0])), "stable")
    1.25
    """
    matrix = x.detach().reshape(-1, x.shape[-1]).double()
    if matrix.numel() == 0:
        raise ValueError(f"x of shape {tuple(x.shape)} is empty; at least one number is needed")
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("x holds NaN or infinity; effective rank needs finite numbers")
    return spectrum_rank(torch.linalg.svdvals(matrix), kind)


def spectrum_rank(
    singular_values: Float[Tensor, " component"], kind: RankKind = "entropy"
) -> float:
    """Return the effective rank of a matrix with these singular values (see `effective_rank`).

    Parameters
    ----------
    singular_values
        Non-negative, in any order.
    kind
        The definition.

    Raises
    ------
    ValueError
        If `kind` is unknown.

    Examples
    --------
    >>> spectrum_rank(torch.tensor([1.0, 1.0, 1.0, 0.0]), "participation")
    3.0
    """
    if kind not in get_args(RankKind):
        raise ValueError(f"kind={kind!r} must be one of {', '.join(get_args(RankKind))}")
    s = singular_values.double()
    largest = s.max()
    if not largest > 0:
        return 0.0
    s = s / largest  # no overflow, no underflow of the squares
    if kind == "entropy":
        p = s / s.sum()
        return float(torch.special.entr(p).sum().exp())
    power = s.square()
    if kind == "stable":
        return float(power.sum())
    return float(power.sum().square() / power.square().sum())
