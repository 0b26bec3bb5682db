"""Products of a tensor with all factors but one (MTTKRP), without copies of the tensor."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

_SLAB_ENTRIES = 2**22  # the low-rank tensor is added in slabs of about so many entries

Factor = Float[Tensor, "_row component"]


def mttkrp(tensor: Tensor, factors: Sequence[Factor], axis: int) -> Factor:
    """Contract a tensor with every factor but that of one axis, component by component.

    ``out[i_a, ρ] = Σ Y[i_1…i_p] Π_{b≠a} X_b[i_b, ρ]``, for a tensor of any order.

    Parameters
    ----------
    tensor
        Of order p, of at least 2.
    factors
        One matrix (row, component) per axis; that of `axis` is not read.
    axis
        The axis that is left.

    Raises
    ------
    ValueError
        If the factors do not fit the tensor, or it has less than two axes, or not this one.

    Examples
    --------
    >>> ones = [torch.ones(n, 2) for n in (3, 4, 5)]
    >>> mttkrp(torch.ones(3, 4, 5), ones, axis=0)
    tensor([[20., 20.],
            [20., 20.],
            [20., 20.]])
    """
    order, shapes = tensor.ndim, [tuple(factor.shape) for factor in factors]
    if order < 2 or not -order <= axis < order:
        raise ValueError(f"axis={axis} of a tensor of order {order}: it must be one of two or more")
    read = [(b, shape) for b, shape in enumerate(shapes) if b != axis % order]
    ranks = {shape[1] for _, shape in read}
    if len(shapes) != order or len(ranks) > 1 or any(n != tensor.shape[b] for b, (n, _) in read):
        raise ValueError(f"factors of shapes {shapes} do not fit a tensor {tuple(tensor.shape)}")
    return SharedProducts(tensor)(factors, axis % order)


class SharedProducts:
    """MTTKRPs of one tensor that share the contraction with one axis, exactly.

    The contraction of the tensor Y with the factor of one axis, Y·X_k, serves every other axis for
    as long as X_k is the same object. Axes updated in turn then need p passes over Y in p - 1
    sweeps (1.5 a sweep for p = 3, the multi-sweep dimension tree), and axes updated at once 2 a
    sweep, where a product by itself takes one pass each: p a sweep. Nothing is approximated.

    Parameters
    ----------
    tensor
        Contiguous; it is neither copied nor changed. Factors must not be changed in place.

    Examples
    --------
    >>> products = SharedProducts(torch.ones(3, 4, 5))
    >>> factors = [torch.ones(n, 1) for n in (3, 4, 5)]
    >>> [products(factors, axis)[0, 0].item() for axis in range(3)], products.num_passes
    ([20.0, 15.0, 12.0], 2)
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.contiguous()
        self.num_passes = 0
        self._axis = -1
        self._factor: Tensor | None = None
        self._partial = torch.empty(0)

    def __call__(self, factors: Sequence[Factor], axis: int) -> Factor:
        """Return the product of all factors but that of `axis`, (row, component)."""
        if axis == self._axis or self._factor is not factors[self._axis]:
            # of the others the one just updated: it stays the same for longest
            self._axis = (axis - 1) % self.tensor.ndim
            self._factor = factors[self._axis]
            self._partial = torch.empty(0)  # freed before the next is made
            self._partial = contract(self.tensor, self._factor, self._axis)
            self.num_passes += 1
        others = [b for b in range(self.tensor.ndim) if b != self._axis]
        columns = [factors[b] for b in others]
        keep = others.index(axis)
        return torch.stack(
            [
                _reduce(part, [column[:, component] for column in columns], keep)
                for component, part in enumerate(self._partial)
            ],
            dim=1,
        )


def contract(tensor: Tensor, factor: Factor, axis: int) -> Float[Tensor, "component *rest"]:
    """Contract one axis of a contiguous tensor with a factor; a component goes first.

    It is one matrix product (or a batch of them, for an axis in the middle) on views of the tensor.

    Examples
    --------
    >>> contract(torch.ones(3, 4, 5), torch.ones(4, 2), axis=1).shape
    torch.Size([2, 3, 5])
    """
    before, after = tensor.shape[:axis], tensor.shape[axis + 1 :]
    rank = factor.shape[1]
    rows = factor.T.contiguous()  # (component, row): several times faster than factor.T as it lies
    if axis == tensor.ndim - 1:
        flat = tensor.view(-1, tensor.shape[-1])
        parts = (flat @ rows[0])[None] if rank == 1 else rows @ flat.T
    elif axis == 0:
        flat = tensor.view(tensor.shape[0], -1)
        parts = (rows[0] @ flat)[None] if rank == 1 else rows @ flat
    else:
        flat = tensor.view(prod(before), tensor.shape[axis], prod(after))
        # (before, component, after), of which the component is brought forward as a view
        parts = torch.bmm(rows.expand(len(flat), -1, -1), flat).transpose(0, 1)
    return parts.reshape(rank, *before, *after)


def _reduce(part: Tensor, vectors: list[Tensor], keep: int) -> Tensor:
    """Contract every axis of a tensor but one with a vector."""
    for axis in range(part.ndim - 1, keep, -1):
        part = part @ vectors[axis]
    for axis in range(keep):
        part = (vectors[axis] @ part.reshape(len(part), -1)).view(part.shape[1:])
    return part


def outer_sum(
    factors: Sequence[Factor], *, scale: float | int = 1.0, into: Tensor | None = None
) -> Tensor:
    """Return the low-rank tensor ``scale Σ_ρ x₁∘…∘x_p``, or add it to a tensor in place.

    Examples
    --------
    >>> outer_sum([torch.ones(2, 3), torch.ones(4, 3)], scale=2).mean().item()
    6.0
    """
    shape = [len(factor) for factor in factors]
    if into is None:
        into = factors[0].new_zeros(shape)
    rank = factors[0].shape[1]
    columns = factors[-1].new_ones(1, rank)
    for factor in factors[1:]:
        columns = (columns[:, None] * factor).reshape(-1, rank)
    flat, num_rows = into.view(shape[0], -1), max(_SLAB_ENTRIES // len(columns), 1)
    slabs = zip(flat.split(num_rows), factors[0].split(num_rows), strict=True)
    for slab, rows in slabs:
        slab.addmm_(rows, columns.T, alpha=float(scale))
    return into
