"""How one weight splits into two factors Q and P: shapes, stages and matrices.

Feedback through a low-rank map is backpropagation through a two-stage linear net that lies beside
the layer: from the input h by Qᵀ to r components, from there by Pᵀ to the output. So
g = Q P δ, with Q of shape (n_in, r) and P of shape (r, n_out).

For a convolution one factor carries the spatial kernel and the other is 1×1:

- ``spatial_factor="Q"`` (P 1×1, then Q k×k): P (c_out, r, 1, 1), Q (groups·r, c_in/groups, ky, kx).
  The published layers of Hanut & Kadmon (2025) have this form. The error has r channels *between*
  the factors; after the k×k kernel a pixel's error can span up to min(c_in, r·k²) directions.
- ``spatial_factor="P"`` (P k×k, then Q 1×1): P (c_out, r, ky, kx), Q (groups·r, c_in/groups, 1, 1).
  The error has rank r at every pixel.

Kernels of both factors have torch's layout for the direction of the forward pass; with groups every
group has its own pair of factors of rank r.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.feedback.stage import Convolution, Dense, Stage


@dataclass(frozen=True)
class DenseFactors:
    """Factors of a (n_out, n_in) weight: Q is (n_in, r), P is (r, n_out).

    Examples
    --------
    >>> DenseFactors(n_in=5, n_out=3).max_rank
    3
    """

    n_in: int
    n_out: int
    inner: Stage = Dense()
    outer: Stage = Dense()
    #: the factor that mixes channels only, the one that a subspace rule learns
    channel_factor: Literal["Q", "P"] = "P"
    #: which of the two is the left one in `join` and `split`
    left_factor: Literal["Q", "P"] = "Q"

    @property
    def max_rank(self) -> int:
        """The rank from which on Q P can be any map."""
        return min(self.n_in, self.n_out)

    def shapes(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of Q and P."""
        return (self.n_in, rank), (rank, self.n_out)

    def kernels(self, q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q and P as kernels of the inner and the outer stage (its own inverse)."""
        return q.T, p.T

    def middle(self, x: torch.Size, rank: int) -> torch.Size:
        """Return the shape of the r components for an input of shape `x`."""
        return torch.Size([*x[:-1], rank])

    def basis(self, factor: Float[Tensor, "rank n"]) -> Float[Tensor, "1 n rank"]:
        """Return the channel factor's directions as columns, one matrix a group."""
        return factor.T[None]

    def from_basis(self, basis: Float[Tensor, "1 n rank"]) -> Float[Tensor, "rank n"]:
        """Return the channel factor from its directions (inverse of `basis`)."""
        return basis[0].T

    def matrix(self, weight: Float[Tensor, "n_out n_in"]) -> Float[Tensor, "1 n_in n_out"]:
        """Return the map that Q P approximates, as a stack of one matrix a group."""
        return weight.T[None]

    def from_matrix(self, matrix: Float[Tensor, "1 n_in n_out"]) -> Float[Tensor, "n_out n_in"]:
        """Return a kernel from its matrix (inverse of `matrix`)."""
        return matrix[0].T

    def join(self, q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return the left and right matrix factors, whose product approximates `matrix`."""
        return q[None], p[None]

    def split(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q and P from the left and right matrix factors (inverse of `join`)."""
        return left[0], right[0]


@dataclass(frozen=True)
class ConvolutionFactors:
    """Factors of a (c_out, c_in/groups, ky, kx) kernel.

    Examples
    --------
    >>> ConvolutionFactors((8, 4, 3, 3), Convolution(), "P").shapes(2)
    ((2, 4, 1, 1), (8, 2, 3, 3))
    """

    kernel_shape: tuple[int, int, int, int]
    stage: Convolution
    spatial_factor: Literal["Q", "P"]

    @property
    def inner(self) -> Convolution:
        """The stage of Q, next to the input."""
        return self.stage if self.spatial_factor == "Q" else Convolution(groups=self.stage.groups)

    @property
    def outer(self) -> Convolution:
        """The stage of P, next to the output."""
        return self.stage if self.spatial_factor == "P" else Convolution(groups=self.stage.groups)

    @property
    def channel_factor(self) -> Literal["Q", "P"]:
        """The 1×1 factor."""
        return "P" if self.spatial_factor == "Q" else "Q"

    @property
    def left_factor(self) -> Literal["Q", "P"]:
        """Which of the two is the left one in `join` and `split`."""
        return self.channel_factor

    @property
    def max_rank(self) -> int:
        """The rank (per group) from which on Q P can be any map."""
        return min(self._matrix_shape())

    def shapes(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of Q and P."""
        c_out, c_group, *kernel = self.kernel_shape
        q_kernel, p_kernel = (kernel, (1, 1)) if self.spatial_factor == "Q" else ((1, 1), kernel)
        return (self.stage.groups * rank, c_group, *q_kernel), (c_out, rank, *p_kernel)

    def kernels(self, q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q and P as kernels of the inner and the outer stage: as they are."""
        return q, p

    def middle(self, x: torch.Size, rank: int) -> torch.Size:
        """Return the shape of the r components for an input of shape `x`."""
        batch, _, *pixels = x
        if self.spatial_factor == "Q":
            _, _, *kernel = self.kernel_shape
            stage = self.stage
            pixels = [
                (n + 2 * pad - gap * (k - 1) - 1) // step + 1
                for n, k, step, pad, gap in zip(
                    pixels, kernel, stage.stride, stage.padding, stage.dilation, strict=True
                )
            ]
        return torch.Size([batch, self.stage.groups * rank, *pixels])

    def basis(self, factor: Tensor) -> Float[Tensor, "group n rank"]:
        """Return the channel factor's directions as columns, one matrix a group."""
        grouped = factor.reshape(self.stage.groups, -1, factor.shape[1])
        return grouped if self.channel_factor == "P" else grouped.mT

    def from_basis(self, basis: Float[Tensor, "group n rank"]) -> Float[Tensor, "a b 1 1"]:
        """Return the channel factor from its directions (inverse of `basis`)."""
        grouped = basis if self.channel_factor == "P" else basis.mT
        return grouped.flatten(0, 1)[:, :, None, None]

    def matrix(self, weight: Tensor) -> Float[Tensor, "group n m"]:
        """Return the kernel as one matrix a group: (c_out × c_in k²) or (c_in × c_out k²)."""
        grouped = weight.reshape(self.stage.groups, -1, *weight.shape[1:])
        if self.spatial_factor == "P":
            grouped = grouped.transpose(1, 2)
        return grouped.flatten(2)

    def from_matrix(self, matrix: Float[Tensor, "group n m"]) -> Float[Tensor, "o i ky kx"]:
        """Return a kernel from its matrices (inverse of `matrix`)."""
        c_out, c_group, ky, kx = self.kernel_shape
        if self.spatial_factor == "P":
            each = c_out // self.stage.groups
            matrix = matrix.unflatten(2, (each, ky * kx)).transpose(1, 2)
        return matrix.reshape(c_out, c_group, ky, kx)

    def join(self, q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return the left and right matrix factors, whose product approximates `matrix`."""
        groups = self.stage.groups
        q_grouped = q.reshape(groups, -1, *q.shape[1:])  # group, r, c_in/groups, ky, kx
        p_grouped = p.reshape(groups, -1, *p.shape[1:])  # group, c_out/groups, r, ky, kx
        if self.spatial_factor == "Q":
            return p_grouped.flatten(2), q_grouped.flatten(2)
        return q_grouped.flatten(2).mT, p_grouped.transpose(1, 2).flatten(2)

    def split(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q and P from the left and right matrix factors (inverse of `join`)."""
        rank = left.shape[2]
        q_shape, p_shape = self.shapes(rank)
        if self.spatial_factor == "Q":
            return right.reshape(q_shape), left.reshape(p_shape)
        c_out, _, *kernel = p_shape
        p = right.reshape(self.stage.groups, rank, c_out // self.stage.groups, *kernel)
        return left.mT.reshape(q_shape), p.transpose(1, 2).reshape(p_shape)

    def _matrix_shape(self) -> tuple[int, int]:
        c_out, c_group, *kernel = self.kernel_shape
        c_out //= self.stage.groups
        if self.spatial_factor == "Q":
            return c_out, c_group * math.prod(kernel)
        return c_group, c_out * math.prod(kernel)


Factors = DenseFactors | ConvolutionFactors


def grouped(
    a: Float[Tensor, "group n m"], b: Float[Tensor, "group m k"]
) -> Float[Tensor, "group n k"]:
    """Return the matrix product of every group (a single group as a plain product, far faster).

    Examples
    --------
    >>> import torch
    >>> grouped(torch.ones(1, 2, 3), torch.ones(1, 3, 4)).shape
    torch.Size([1, 2, 4])
    """
    return (a[0] @ b[0])[None] if a.shape[0] == 1 else a @ b


def truncated_svd(
    matrix: Float[Tensor, "group n m"], rank: int
) -> tuple[Float[Tensor, "group n rank"], Float[Tensor, "group rank m"]]:
    """Return the best rank-r factors, with the singular values shared evenly: U√S and √S Vᵀ.

    Examples
    --------
    >>> import torch
    >>> left, right = truncated_svd(torch.eye(3)[None], 3)
    >>> torch.allclose(left @ right, torch.eye(3)[None], atol=1e-6)
    True
    """
    wide = matrix if matrix.dtype == torch.float64 else matrix.float()
    u, s, vh = torch.linalg.svd(wide, full_matrices=False)
    root = s[:, :rank].sqrt()
    left, right = u[:, :, :rank] * root[:, None], root[:, :, None] * vh[:, :rank]
    return left.to(matrix.dtype), right.to(matrix.dtype)
