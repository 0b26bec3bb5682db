"""Sums of a Gram matrix's squares: what the participation ratio needs in place of an SVD."""

import torch
from jaxtyping import Float
from torch import Tensor

#: columns of the Gram matrix at a time; what lies below its diagonal is not computed
_BLOCK = 64
#: rows over which products of single precision are summed in single precision
_ROWS = 8192


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
    tall = matrix if matrix.shape[-2] >= matrix.shape[-1] else matrix.mT
    low, high = torch.aminmax(matrix.flatten(-2), dim=-1)
    largest = torch.maximum(high, -low)[..., None, None]
    if not bool(((largest > 1e-6) & (largest < 1e6) | (largest == 0)).all()):
        tall = tall / torch.where(largest > 0, largest, 1.0)
    exact_products = torch.get_float32_matmul_precision() == "highest" and not tall.is_cuda
    if tall.dtype == torch.float32 and not exact_products:
        tall = tall.double()
    square = torch.zeros(tall.shape[:-2], dtype=torch.float64, device=tall.device)
    fourth = square.clone()
    for start in range(0, tall.shape[-1], _BLOCK):
        strip = _products(tall, start)
        own = strip[..., : strip.shape[-2]]
        square += own.diagonal(dim1=-2, dim2=-1).sum(-1)
        fourth += 2 * strip.square().sum((-2, -1)) - own.square().sum((-2, -1))
    return square, fourth


def _products(tall: Tensor, start: int) -> Tensor:
    """Return a strip of Mᵀ M, from the block at its diagonal to its right edge, in float64."""
    parts = [
        (rows[..., start : start + _BLOCK].mT @ rows[..., start:]).double()
        for rows in tall.split(_ROWS, dim=-2)
    ]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
