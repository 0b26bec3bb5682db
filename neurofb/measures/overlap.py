"""How alike two tensors are: cosine, angle, ratio of norms, share of energy in a subspace.

Tensors are compared as one long vector each (the Frobenius inner product), summed in float64.
Whatever is undefined because a norm is zero is NaN.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(kw_only=True)
class Overlap:
    """The three sums that compare two tensors a and b, added up piece by piece.

    Examples
    --------
    >>> overlap = Overlap()
    >>> overlap.add(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0]))
    >>> round(overlap.angle, 6), round(overlap.norm_ratio**2, 6)
    (45.0, 0.5)
    """

    dot: float = 0.0
    square_a: float = 0.0
    square_b: float = 0.0
    square_difference: float = 0.0

    def add(self, a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"]) -> None:
        """Add a piece of a and the same piece of b."""
        x, y = a.detach().double().flatten(), b.detach().double().flatten()
        self.dot += float(x @ y)
        self.square_a += float(x @ x)
        self.square_b += float(y @ y)
        self.square_difference += float((x - y).square().sum())

    @property
    def cosine(self) -> float:
        """⟨a, b⟩ / (|a| |b|)."""
        norm = math.sqrt(self.square_a) * math.sqrt(self.square_b)
        return max(-1.0, min(1.0, self.dot / norm)) if norm else math.nan

    @property
    def angle(self) -> float:
        """Angle between a and b in degrees, 0 to 180."""
        return math.degrees(math.acos(self.cosine))

    @property
    def norm_ratio(self) -> float:
        """|a| / |b|."""
        return math.sqrt(self.square_a / self.square_b) if self.square_b else math.nan

    @property
    def relative_distance(self) -> float:
        """|a − b| / |b|."""
        return math.sqrt(self.square_difference / self.square_b) if self.square_b else math.nan


def compare(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"]) -> Overlap:
    """Compare two tensors of the same shape.

    Parameters
    ----------
    a, b
        Any units, the same for both if norms are to be compared.

    Examples
    --------
    >>> round(compare(torch.eye(2), -2 * torch.eye(2)).angle, 3)
    180.0
    """
    overlap = Overlap()
    overlap.add(a, b)
    return overlap


def project(
    rows: Float[Tensor, "row n"], directions: Float[Tensor, "n rank"]
) -> Float[Tensor, "row n"]:
    """Project every row onto the span of the directions, which need not be orthonormal.

    Parameters
    ----------
    rows
        Vectors, one a row.
    directions
        Spanning vectors as columns; directions that others span already add nothing.

    Examples
    --------
    >>> project(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0], [0.0]]))
    tensor([[3., 0.]], dtype=torch.float64)
    """
    u, s, _ = torch.linalg.svd(directions.detach().double(), full_matrices=False)
    floor = s.max() * max(directions.shape) * torch.finfo(directions.dtype).eps
    basis = u * (s > floor)
    return rows.detach().double() @ basis @ basis.T


def captured_energy(rows: Float[Tensor, "row n"], directions: Float[Tensor, "n rank"]) -> float:
    """Return ‖P δ‖² / ‖δ‖² over all rows δ, with the rows of P orthonormalised.

    Parameters
    ----------
    rows
        Errors δ, one a row.
    directions
        The rows of P, as columns.

    Returns
    -------
    float
        0 (nothing gets through P) to 1 (everything does); NaN if all rows are zero.

    Examples
    --------
    >>> round(captured_energy(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0], [0.0]])), 6)
    0.36
    """
    return compare(project(rows, directions), rows.double()).norm_ratio ** 2


def orthonormality_drift(directions: Float[Tensor, "*group n rank"]) -> float:
    """Return ‖P Pᵀ − I‖_F / √r for P with the directions as rows; groups are averaged in square.

    0 for orthonormal rows, 1 for P = 0; at least √((r − n) / r) if there are more rows than
    dimensions (r > n).

    Parameters
    ----------
    directions
        The rows of P, as columns.

    Examples
    --------
    >>> orthonormality_drift(2 * torch.eye(5, 3))
    3.0
    """
    p = directions.detach().double()
    identity = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)
    return float((p.mT @ p - identity).square().sum(-1).mean().sqrt())
