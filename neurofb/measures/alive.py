"""Which units are alive on images: active somewhere, for at least one image."""

from collections.abc import Iterable

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from neurofb import labels
from neurofb.measures.probing import (
    at_position,
    choose_units,
    find_layer,
    network_kind,
    run_to_layer,
    trace_layer,
    undisturbed,
    unit_position,
)


def response_to_images(
    network: nn.Module,
    layer: str,
    images: Float[Tensor, "image channel y x"],
    *,
    units: Iterable[int] | None = None,
    batch_size: int = 64,
) -> xr.Dataset:
    """Count how often the rectified output of each unit is above zero.

    Parameters
    ----------
    network, layer, units
        As in `receptive_field`.
    images
        Images to show.
    batch_size
        Images per chunk.

    Returns
    -------
    xr.Dataset
        Per unit: ``active_fraction``, the share of images with activity at the centre position
        (where receptive fields are measured); ``active_anywhere``, the share with activity
        anywhere in the unit's map; ``mean_activity`` at the centre; ``alive``, whether the centre
        was active for any image (a gradient of the rectified unit that is not zero).

    Raises
    ------
    ValueError
        If there are no images, or the layer is not called exactly once.

    Examples
    --------
    >>> relu_dead = torch.nn.Conv2d(1, 2, 3, bias=True)
    >>> _ = relu_dead.bias.data.copy_(torch.tensor([9.0, -9.0]))
    >>> answer = response_to_images(torch.nn.Sequential(relu_dead), "0", torch.rand(4, 1, 8, 8))
    >>> answer.alive.values.tolist(), answer.active_fraction.values.tolist()
    ([True, False], [1.0, 0.0])
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images of shape {tuple(images.shape)} must be (image, channel, y, x)")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    module = find_layer(network, layer)
    device, dtype = network_kind(network)
    with undisturbed(network), torch.no_grad():
        blank = torch.zeros_like(images[:1], device=device, dtype=dtype)
        trace = trace_layer(network, layer, blank)
        axis, position = unit_position(layer, module, trace.layer_output)
        chosen = choose_units(units, trace.layer_output.shape[axis])
        centre, anywhere, total = (torch.zeros(len(chosen)).double() for _ in range(3))
        for start in range(0, len(images), batch_size):
            chunk = images[start : start + batch_size].to(device, dtype)
            output = run_to_layer(network, module, chunk, output=True).relu()
            here = at_position(output, axis, position)[:, chosen].double().cpu()
            whole = output.movedim(axis, 1)[:, chosen].flatten(2) if output.ndim > 2 else None
            most = here if whole is None else whole.amax(2).cpu()
            centre += (here > 0).sum(0)
            anywhere += (most > 0).sum(0)
            total += here.sum(0)
    share = "share of images with activity"
    return xr.Dataset(
        {
            "active_fraction": labels.variable(
                "unit", centre / len(images), "1", f"{share} at the centre"
            ),
            "active_anywhere": labels.variable(
                "unit", anywhere / len(images), "1", f"{share} anywhere in the map"
            ),
            "mean_activity": labels.variable(
                "unit", total / len(images), "1", "mean rectified activity at the centre"
            ),
            "alive": labels.variable("unit", centre > 0, "1", "active at the centre on any image"),
        },
        coords={"unit": labels.coordinate("unit", chosen)},
        attrs={"layer": layer, "num_images": len(images)},
    )
