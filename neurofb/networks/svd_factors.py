"""The factors U, s and V of a layer's weight: their start, their rank, how they are cut."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def rank_of(rank: int | float, full_rank: int) -> int:
    """Return a rank given as a number, or as a share of the full rank (rounded down, at least 1).

    Parameters
    ----------
    rank
        An integer from 1 to the full rank, or a float in (0, 1].
    full_rank
        min(m, n) of the matrix.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> rank_of(0.1, 256), rank_of(1.0, 256), rank_of(7, 256), rank_of(0.1, 5)
    (25, 256, 7, 1)
    """
    if isinstance(rank, float) and 0 < rank <= 1:
        return max(1, math.floor(rank * full_rank + 1e-9))
    if isinstance(rank, int) and not isinstance(rank, bool) and 1 <= rank <= full_rank:
        return rank
    raise ValueError(
        f"rank={rank!r} must be an integer from 1 to {full_rank}, or a share of that in (0, 1]"
    )


class SVDLayer(nn.Module):
    """What `SVDLinear` and `SVDConv2d` share: W, an m × n matrix of rank r, by its factors.

    Autograd through the factors is SVD-BP: backpropagation that trains U, s and V in the place of W
    (Yang et al. 2020, arXiv:2004.09031). They start orthonormal; nothing here keeps them so.

    Attributes
    ----------
    U, s, V
        Parameters of shapes (m, r), (r,) and (n, r). s may become negative.
    """

    U: nn.Parameter
    s: nn.Parameter
    V: nn.Parameter
    bias: nn.Parameter | None

    def _start(self, weight: Tensor, rank: int | float, num_biases: int) -> None:
        """Make the factors, the truncated SVD of the weight, and a bias of zeros."""
        matrix = self.to_matrix(weight.detach())
        r = rank_of(rank, min(matrix.shape))
        u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
        self.U = nn.Parameter(u[:, :r].to(weight).contiguous())
        self.s = nn.Parameter(s[:r].to(weight))
        self.V = nn.Parameter(vt[:r].mT.to(weight).contiguous())
        bias = nn.Parameter(weight.new_zeros(num_biases)) if num_biases else None
        self.register_parameter("bias", bias)

    @property
    def rank(self) -> int:
        """The rank r, the number of singular values."""
        return self.s.numel()

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Sizes m and n of the matrix that is factored."""
        return self.U.shape[0], self.V.shape[0]

    @property
    def num_dense(self) -> int:
        """Number of weights and biases that the layer has when it is dense: m n + outputs."""
        return math.prod(self.matrix_shape) + (0 if self.bias is None else self.bias.numel())

    @property
    def saves(self) -> bool:
        """Whether two factors, U diag(s) and V, have fewer entries than W: r (m + n) < m n."""
        return self.rank * sum(self.matrix_shape) < math.prod(self.matrix_shape)

    def to_matrix(self, weight: Tensor) -> Float[Tensor, "m n"]:
        """Return a dense weight of this layer's shape as the matrix that is factored."""
        raise NotImplementedError

    def from_matrix(self, matrix: Float[Tensor, "m n"]) -> Tensor:
        """Return a matrix in the layout of the dense weight, the inverse of `to_matrix`."""
        raise NotImplementedError

    def dense_weight(self) -> Tensor:
        """Return W = U diag(s) Vᵀ in the layout of the dense layer, with its graph.

        Examples
        --------
        >>> from neurofb.networks.svd_layers import SVDLinear
        >>> SVDLinear(5, 3, rank=2).dense_weight().shape
        torch.Size([3, 5])
        """
        return self.from_matrix((self.U * self.s) @ self.V.mT)

    def truncate(self, keep: Int[Tensor, " kept"] | Sequence[int]) -> None:
        """Keep these components of U, s and V; the parameters stay the same objects.

        Their `.grad` is dropped: it has the shape of before. A state of the optimiser must be cut
        along the same index, and so must the feedback's factors.

        Parameters
        ----------
        keep
            Indices of the components that stay, in their new order; each at most once.

        Raises
        ------
        ValueError
            If there is none, one is not there, or stands twice.

        Examples
        --------
        >>> from neurofb.networks.svd_layers import SVDLinear
        >>> layer = SVDLinear(5, 3, rank=3)
        >>> layer.truncate([0, 2])
        >>> layer.rank, layer.U.shape, layer.V.shape
        (2, torch.Size([3, 2]), torch.Size([5, 2]))
        """
        index = checked_index(keep, self.rank).to(self.s.device)
        for factor in (self.U, self.s, self.V):
            _put(factor, factor.detach().index_select(-1, index))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **named: Any
    ) -> None:
        """Take the factors of a state, of any rank: the parameters get its shapes first."""
        s = state_dict.get(f"{prefix}s")
        if isinstance(s, Tensor) and s.ndim == 1 and 0 < s.numel() <= min(self.matrix_shape):
            for factor in (self.U, self.s, self.V):
                if factor.shape[-1] != s.numel():
                    _put(factor, factor.new_zeros(*factor.shape[:-1], s.numel()))
        super()._load_from_state_dict(state_dict, prefix, *args, **named)


def checked_index(keep: Int[Tensor, " kept"] | Sequence[int], rank: int) -> Int[Tensor, " kept"]:
    """Return the components to keep as a tensor, or refuse them.

    Raises
    ------
    ValueError
        If there is none, one is not there, or stands twice.

    Examples
    --------
    >>> checked_index([0, 5], rank=3)
    Traceback (most recent call last):
    ValueError: keep=[0, 5] must hold at least one of the components 0 to 2, each at most once
    """
    index = torch.as_tensor(keep, dtype=torch.int64).cpu()
    one_each = index.ndim == 1 and 0 < len(index) == len(index.unique())
    if not one_each or int(index.min()) < 0 or int(index.max()) >= rank:
        raise ValueError(
            f"keep={index.tolist()} must hold at least one of the components 0 to {rank - 1}, "
            "each at most once"
        )
    return index


def _put(parameter: nn.Parameter, value: Tensor) -> None:
    """Give a parameter a value of another shape; a graph that is still alive does not mind."""
    other = torch.float32 if value.dtype == torch.float64 else torch.float64
    parameter.grad = None
    parameter.data = value.to(other)  # a change of dtype makes torch forget the shape of before
    parameter.data = value.contiguous()
