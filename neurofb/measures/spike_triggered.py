"""Whitened spike-triggered average: what a unit's response correlates with, per image pixel."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurofb.measures.gradients import response

#: Above this number of pixels (with channels) a covariance matrix is not formed.
MOST_PIXELS = 8192


def spike_triggered_average(
    network: nn.Module,
    layer: nn.Module,
    images: Iterable[Float[Tensor, "image channel y x"]],
    units: list[int],
    axis: int,
    position: tuple[int, ...],
    known_variance: float | None,
    ridge: float,
) -> Float[Tensor, "unit channel y x"]:
    """Return (Cov + ridge v 1)⁻¹ Cov(x, z), with v the mean eigenvalue of Cov.

    This is the least-squares linear filter. Images arrive in chunks and are summed, so memory does
    not grow with their number. With more images than pixels the covariance is that of the images
    (less noise); with fewer, white images of known variance use that variance.

    Raises
    ------
    ValueError
        If there are too few images for the pixels and neither ridge nor a known variance helps.
    """
    count, shape, dtype = 0, torch.Size(), torch.float32
    mean_x = mean_z = second = cross = torch.zeros(0)
    for chunk in images:
        shape, dtype = chunk.shape[1:], chunk.dtype
        x = chunk.flatten(1).double()
        z = response(network, layer, chunk, units, axis, position).double()
        pixels = x.shape[1]
        if count == 0:
            mean_x, mean_z = x.new_zeros(pixels), z.new_zeros(len(units))
            cross = x.new_zeros(pixels, len(units))
            second = x.new_zeros((pixels, pixels) if pixels <= MOST_PIXELS else 0)
        count += len(chunk)
        mean_x += x.sum(0)
        mean_z += z.sum(0)
        cross += x.T @ z
        if len(second):
            second += x.T @ x
    mean_x, mean_z = mean_x / count, mean_z / count
    cross = cross / count - torch.outer(mean_x, mean_z)
    pixels = len(mean_x)
    if len(second) and (count > pixels or (known_variance is None and ridge > 0)):
        covariance = second / count - torch.outer(mean_x, mean_x)
        covariance += ridge * covariance.diagonal().mean() * torch.eye(pixels).to(covariance)
        solved, info = torch.linalg.solve_ex(covariance, cross)
        if int(info):
            raise ValueError("the images do not span all pixels; set ridge above 0 (try 0.01)")
    elif known_variance is not None:
        solved = cross / (known_variance * (1 + ridge))
    elif pixels > MOST_PIXELS:
        raise ValueError(f"{pixels} pixels are too many for a covariance (at most {MOST_PIXELS})")
    else:
        raise ValueError(
            f"{count} images are too few for {pixels} pixels; set ridge above 0 (try 0.01)"
        )
    return solved.T.reshape(len(units), *shape).to(dtype)
