"""Sums of a Gram matrix's squares: what the participation ratio needs in place of an SVD."""

import torch
from jaxtyping import Float
from torch import Tensor

#: columns of the Gram matrix at a time; what lies below its diagonal blocks is not computed
_BLOCK = 64
#: rows at a time: they stay in the processor's cache for all blocks
_ROWS = 256
#: rows over which products of single precision are summed in single precision
_SINGLE = 8192


def gram_power(
    matrix: Float[Tensor, "*batch row column"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Return ‖M‖_F² and ‖Mᵀ M‖_F², up to a scale that cancels in their participation ratio.

    With the singular values s of M these are Σ s² and Σ s⁴, so ‖M‖_F⁴ / ‖Mᵀ M‖_F² is the
    participation ratio of s². The smaller of Mᵀ M and M Mᵀ is taken, and only half of it, as it is
    symmetric.

    Products are summed in float64; on a CPU those of a float32 matrix in float32 over up to 8192
    rows, then in float64. Both sums add numbers that are not negative, so the ratio has a relative
    error below 10⁻⁶, less than what rounding the entries to float32 may do.

    Parameters
    ----------
    matrix
        Finite numbers of any units.

    Returns
    -------
    tuple
        Both sums in float64, of M over its largest entry where squares would leave the range; 0 and
        0 for a matrix of zeros.

    Examples
    --------
    >>> square, fourth = gram_power(torch.diag(torch.tensor([2.0, 1.0])))
    >>> square.item(), fourth.item()
    (5.0, 17.0)
    """
    batch = matrix.reshape(-1, *matrix.shape[-2:])
    tall = batch if matrix.shape[-2] >= matrix.shape[-1] else batch.mT
    # over all dims this is several times faster than over two of them
    low, high = torch.aminmax(batch) if len(batch) == 1 else torch.aminmax(batch.flatten(1), dim=1)
    largest = torch.maximum(high, -low).reshape(-1, 1, 1)
    if not bool(((largest > 1e-6) & (largest < 1e6) | (largest == 0)).all()):
        tall = tall / torch.where(largest > 0, largest, 1.0)
    exact_products = torch.get_float32_matmul_precision() == "highest" and not tall.is_cuda
    if not exact_products:
        tall = tall.double()
    square = torch.zeros(len(tall), dtype=torch.float64, device=tall.device)
    fourth = square.clone()
    for strip in _gram_strips(tall):
        own = strip[..., : strip.shape[1]]
        square += own.diagonal(dim1=1, dim2=2).sum(1)
        fourth += 2 * strip.square().sum((1, 2)) - own.square().sum((1, 2))
    shape = matrix.shape[:-2]
    return square.reshape(shape), fourth.reshape(shape)


def _gram_strips(tall: Float[Tensor, "batch row column"]) -> list[Tensor]:
    """Return strips of Mᵀ M, each from a block at the diagonal to the right edge, in float64."""
    starts = range(0, tall.shape[2], _BLOCK)
    totals: list[Tensor] = []
    for many in tall.split(_SINGLE, dim=1):
        sums = [
            tall.new_zeros(len(tall), min(_BLOCK, tall.shape[2] - i), tall.shape[2] - i)
            for i in starts
        ]
        for rows in many.split(_ROWS, dim=1):
            for start, total in zip(starts, sums, strict=True):
                total.baddbmm_(rows[:, :, start : start + _BLOCK].mT, rows[:, :, start:])
        wide = [total.double() for total in sums]
        totals = [a + b for a, b in zip(totals, wide, strict=True)] if totals else wide
    return totals
