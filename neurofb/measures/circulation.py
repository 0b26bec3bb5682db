"""What curl does along a path: work around a closed loop, and a loss that rises on its way down."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurofb.measures.jacobian import Field, check_value


def circulation(
    field: Field,
    theta: Float[Tensor, " p"],
    radius: float | int,
    *,
    seed: int = 0,
    num_points: int = 64,
) -> float:
    """Return the circulation ∮ v · dθ of a field around a small circle in a random plane.

    It is 0 for a gradient, whatever the circle. For a small radius r it is 2 π r² wᵀ A u with the
    antisymmetric part A of the Jacobian and the orthonormal vectors u, w that span the plane
    (Stokes; the sum over equally spaced points is exact for a linear field). Its mean square over
    planes is 4 π² r⁴ ‖A‖² / (p (p − 1)): in many dimensions a single circle says little, so average
    over seeds, or use `neurofb.measures.curl_index`.

    Parameters
    ----------
    field
        θ → v(θ), both of shape (p,).
    theta
        The centre, with p of at least 2.
    radius
        Of the circle, in the units of θ.
    seed
        Of the plane.
    num_points
        On the circle, at least 3.

    Raises
    ------
    ValueError
        If the radius is not positive, there are too few points or parameters, or the field returns
        another shape, NaN or infinity.

    Examples
    --------
    >>> rotation = lambda x: torch.stack([-x[1], x[0]])
    >>> work = circulation(rotation, torch.tensor([1.0, 2.0], dtype=torch.float64), radius=0.5)
    >>> round(abs(work), 6)  # 2 π r²
    1.570796
    """
    if not 0 < radius < math.inf:
        raise ValueError(f"radius={radius} must be positive and finite")
    if num_points < 3:
        raise ValueError(f"num_points={num_points} must be at least 3")
    if theta.ndim != 1 or len(theta) < 2:
        raise ValueError(f"theta of shape {tuple(theta.shape)} must be a vector of at least 2")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(theta), 2, generator=generator, dtype=torch.float64)
    u, w = torch.linalg.qr(drawn).Q.mT.to(theta)
    work = 0.0
    for k in range(num_points):
        angle = 2 * math.pi * k / num_points
        outwards = math.cos(angle) * u + math.sin(angle) * w
        along = math.cos(angle) * w - math.sin(angle) * u
        value = field(theta.detach() + radius * outwards).detach()
        check_value(value, theta)
        work += float(value @ along)
    return work * 2 * math.pi * radius / num_points


def loss_rise(
    losses: Float[Tensor, "*batch step"] | np.ndarray | Sequence,
) -> Float[Tensor, "*batch"]:
    """Return how far a loss climbs above the lowest value before.

    The largest L_t / min L_s (s ≤ t) over steps t: 1 for a loss that never rises, as that of
    gradient descent in small enough steps.

    Parameters
    ----------
    losses
        Positive, over steps (a tensor, an array or lists); NaN from where a run has diverged to the
        end is left out, and a run in which it comes first or between numbers is NaN.

    Raises
    ------
    ValueError
        If there is no step, or a loss is not positive.

    Examples
    --------
    >>> loss_rise(torch.tensor([[4.0, 2.0, 3.0, 1.0], [4.0, 3.0, 2.0, 1.0]]))
    tensor([1.5000, 1.0000])
    """
    losses = losses if isinstance(losses, Tensor) else torch.as_tensor(np.asarray(losses, float))
    if losses.ndim == 0 or losses.shape[-1] == 0:
        raise ValueError(f"losses of shape {tuple(losses.shape)} must have at least one step")
    if bool((losses <= 0).any()):
        raise ValueError("losses must be positive (the rise is a ratio)")
    missing = losses.isnan()
    holes = missing[..., 0] | (missing[..., :-1] & ~missing[..., 1:]).any(-1)
    known = losses.nan_to_num(nan=math.inf, posinf=math.inf)
    lowest = known.cummin(-1).values
    rise = torch.where(missing, 0.0, losses / lowest).amax(-1)
    return torch.where(holes, torch.nan, rise)
