"""How a random feedback matrix of full rank starts: three laws of the same size."""

from typing import Literal

import torch
from torch import Tensor

from neurofb.feedback.pathway import uniform

#: The laws that `draw_like` knows.
RandomStart = Literal["uniform", "normal", "orthogonal"]


def draw_like(
    weight: Tensor, start: RandomStart, generator: torch.Generator, *, groups: int = 1
) -> Tensor:
    """Draw a matrix of a weight's shape, dtype, device and root mean square ρ.

    Parameters
    ----------
    weight
        Shape (out, in) or (out, in / groups, ky, kx).
    start
        ``"uniform"``: U(−√3 ρ, √3 ρ). ``"normal"``: N(0, ρ²), the law of the weights themselves
        where these start normal. ``"orthogonal"``: all singular values are equal; the directions
        are uniform over the rotations (Haar). A kernel counts as the matrix of
        shape (out, in / groups · ky · kx), of each group by itself. A product of such square
        matrices is as well conditioned as one, a product of random ones is not (Saxe, McClelland &
        Ganguli 2014, arXiv:1312.6120).
    generator
        On the CPU; the numbers are drawn in float64 there.
    groups
        Of a convolution.

    Examples
    --------
    >>> b = draw_like(torch.ones(2, 3), "orthogonal", torch.Generator().manual_seed(0))
    >>> torch.allclose(b @ b.T, 3 * torch.eye(2), atol=1e-6)
    True
    """
    if start == "uniform":
        return uniform(tuple(weight.shape), uniform_bound(weight), generator, weight)
    rows, columns = weight.shape[0] // groups, weight[0].numel()
    b = torch.randn(groups, rows, columns, generator=generator, dtype=torch.float64)
    if start == "orthogonal":
        b = _orthonormal(b) * max(rows, columns) ** 0.5
    return (b * root_mean_square(weight)).reshape(weight.shape).to(weight)


def uniform_bound(weight: Tensor) -> float:
    """Return the b for which U(−b, b) has the root mean square of a weight.

    Examples
    --------
    >>> round(uniform_bound(torch.full((3, 2), 2.0)), 3)
    3.464
    """
    return 3**0.5 * root_mean_square(weight)


def root_mean_square(weight: Tensor) -> float:
    """Return the root mean square of a weight's entries.

    Examples
    --------
    >>> root_mean_square(torch.tensor([[2.0, -2.0]]))
    2.0
    """
    return float(weight.double().square().mean().sqrt())


def _orthonormal(b: Tensor) -> Tensor:
    """Make the shorter side of Gaussian matrices orthonormal, uniformly over the rotations."""
    wide = b.shape[-2] < b.shape[-1]
    q, r = torch.linalg.qr(b.mT if wide else b)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]  # or it hung on the algorithm
    return q.mT if wide else q
