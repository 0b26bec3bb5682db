"""Orientation and frequency tuning of the units of a network, measured with drifting gratings."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from neurofb import labels
from neurofb.measures.gradients import response
from neurofb.measures.orientation import orientation_tuning, wave_vector
from neurofb.measures.probing import (
    at_position,
    choose_units,
    find_layer,
    network_kind,
    trace_layer,
    undisturbed,
    unit_position,
)


def grating_tuning(
    network: nn.Module,
    layer: str,
    *,
    input_shape: Sequence[int] = (1, 24, 24),
    units: Iterable[int] | None = None,
    num_orientations: int = 12,
    frequencies: Sequence[float] = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    num_phases: int = 8,
    contrast: float = 1.0,
    mean: float = 0.0,
) -> xr.Dataset:
    """Measure the responses of centre units to gratings swept through all phases.

    The response is the rectified output of the layer. Over the phases its mean is F0 and its
    amplitude at one cycle is F1; the blank's response is subtracted from F0. gOSI and OSI are
    taken from F0 at the best frequency (Mazurek et al. 2014), the modulation ratio F1 / F0 at
    the best grating (above 1: simple cell). The network is left as it was.

    Parameters
    ----------
    network, layer, input_shape, units
        As in `receptive_field`.
    num_orientations
        Even number of orientations over 180 degrees.
    frequencies
        Cycles per pixel, above 0 and at most 0.4.
    num_phases
        At least 3.
    contrast, mean
        Amplitude of the grating and grey level around which it swings (input units).

    Raises
    ------
    ValueError
        If an argument does not fit, or the layer is not called exactly once.

    Examples
    --------
    >>> conv = torch.nn.Conv2d(1, 1, 5, padding=2, bias=False)
    >>> column = torch.tensor([-1.0, 0.0, 2.0, 0.0, -1.0])
    >>> _ = conv.weight.data.copy_(column.expand(1, 1, 5, 5))
    >>> tuning = grating_tuning(torch.nn.Sequential(conv), "0", input_shape=(1, 15, 15))
    >>> tuning.preferred_orientation.values, tuning.response.dims
    (array([90.]), ('unit', 'orientation', 'frequency'))
    """
    _check(num_orientations, frequencies, num_phases)
    shape = tuple(int(size) for size in input_shape)
    module = find_layer(network, layer)
    device, dtype = network_kind(network)
    orientations = tuple(180.0 * i / num_orientations for i in range(num_orientations))
    with undisturbed(network):
        blank = torch.full((1, *shape), mean, device=device, dtype=dtype)
        trace = trace_layer(network, layer, blank)
        axis, position = unit_position(layer, module, trace.layer_output)
        chosen = choose_units(units, trace.layer_output.shape[axis])
        silent = at_position(trace.layer_output, axis, position)[0, chosen].relu().double()
        mean_response = torch.zeros(len(chosen), num_orientations, len(frequencies)).double()
        modulation = torch.zeros_like(mean_response)
        turn = torch.arange(num_phases, dtype=torch.float64) / num_phases
        wheel = torch.exp(2j * torch.pi * turn)
        for i, orientation in enumerate(orientations):
            for j, frequency in enumerate(frequencies):
                wave = grating(shape, orientation, frequency, turn)
                images = (mean + contrast * wave).to(device, dtype)
                out = response(network, module, images, chosen, axis, position).relu().double()
                mean_response[:, i, j] = (out.mean(0) - silent).cpu()
                modulation[:, i, j] = 2 * (out.cpu().T.to(wheel.dtype) @ wheel).abs() / num_phases
    return _label(
        mean_response.numpy(), modulation.numpy(), silent.cpu(), chosen, orientations, frequencies
    )


def grating(
    shape: Sequence[int], orientation: float, frequency: float, phase: Float[Tensor, "phase"]
) -> Float[Tensor, "phase channel y x"]:
    """Return cosine gratings of amplitude 1, the same in every channel, phases in cycles.

    Orientation of the stripes in degrees, frequency in cycles per pixel; phase 0 peaks at the
    pixel (y // 2, x // 2).

    Examples
    --------
    >>> grating((1, 2, 4), 90.0, 0.25, torch.zeros(1))[0, 0].round(decimals=1).abs()
    tensor([[1., 0., 1., 0.],
            [1., 0., 1., 0.]])
    """
    channels, height, width = shape
    down, right = wave_vector(orientation)
    y = torch.arange(height)[:, None] - height // 2
    x = torch.arange(width)[None] - width // 2
    cycles = frequency * (down * y + right * x)
    wave = torch.cos(2 * torch.pi * (cycles - phase[:, None, None]))
    return wave[:, None].expand(-1, channels, -1, -1).contiguous()


def _check(num_orientations: int, frequencies: Sequence[float], num_phases: int) -> None:
    if num_orientations < 2 or num_orientations % 2:
        raise ValueError(f"num_orientations={num_orientations} must be even and at least 2")
    if not frequencies or min(frequencies) <= 0 or max(frequencies) > 0.4:
        raise ValueError(f"frequencies={tuple(frequencies)} must lie in (0, 0.4] cycles per pixel")
    if num_phases < 3:
        raise ValueError(f"num_phases={num_phases} must be at least 3")


def _label(
    mean_response: np.ndarray,
    modulation: np.ndarray,
    blank: Tensor,
    units: list[int],
    orientations: tuple[float, ...],
    frequencies: Sequence[float],
) -> xr.Dataset:
    """Give the tuning surfaces their indices, names and units."""
    tuning = orientation_tuning(mean_response, orientations, tuple(frequencies))
    row = mean_response.max(2).argmax(1)
    f1 = modulation[np.arange(len(units)), row, tuning.best_frequency_index]
    f0 = tuning.best_response
    dead = f0 <= 0
    ratio = np.where(dead, np.nan, f1 / np.where(dead, 1.0, f0))
    surface = ("unit", "orientation", "frequency")
    variable = labels.variable
    return xr.Dataset(
        {
            "response": variable(surface, mean_response, "1", "mean response above blank (F0)"),
            "modulation": variable(surface, modulation, "1", "response at one cycle (F1)"),
            "blank_response": variable("unit", blank, "1", "response to the blank"),
            "orientation_selectivity": variable("unit", tuning.gosi, "1", "gOSI of the responses"),
            "osi": variable("unit", tuning.osi, "1", "orientation selectivity index"),
            "preferred_orientation": variable(
                "unit", tuning.preferred_orientation, "degree", "orientation of the best grating"
            ),
            "preferred_frequency": variable(
                "unit", tuning.preferred_frequency, "cycle / pixel", "frequency of the best grating"
            ),
            "modulation_ratio": variable("unit", ratio, "1", "F1 / F0 at the best grating"),
            "status": variable("unit", np.where(dead, "dead", "ok"), "1", "status of the unit"),
        },
        coords={
            "unit": labels.coordinate("unit", units),
            "orientation": labels.coordinate("orientation", list(orientations)),
            "frequency": labels.coordinate("frequency", list(frequencies)),
        },
    )
