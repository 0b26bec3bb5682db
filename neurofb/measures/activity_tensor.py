"""Activity of a layer as a tensor: units by time in the drift by gratings, trial by trial."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import nn

from neurofb import labels
from neurofb.measures.grating_tuning import grating
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


def grating_activity(
    network: nn.Module,
    layer: str,
    *,
    input_shape: Sequence[int] = (1, 24, 24),
    units: Iterable[int] | None = None,
    num_orientations: int = 12,
    frequencies: Sequence[float] = (0.05, 0.1, 0.15, 0.2, 0.25),
    num_times: int = 12,
    contrast: float | int = 1.0,
    mean: float | int = 0.0,
    noise: float | int = 0.0,
    num_trials: int = 1,
    seed: int = 0,
) -> xr.Dataset:
    """Record the rectified output of centre units while gratings drift by one cycle.

    In every trial each frame has pixel noise of its own. All units see the same frames, so what
    noise does to them is correlated between units, and independent between trials, times, gratings.

    Parameters
    ----------
    network, layer, input_shape, units
        As in `receptive_field`.
    num_orientations, frequencies
        Orientations over 180 degrees, times frequencies (cycles per pixel, above 0 and at most
        0.5), are the stimuli.
    num_times
        Moments of the cycle, at least 3.
    contrast, mean
        Amplitude of the grating and grey level around which it swings (input units).
    noise
        Standard deviation of the pixel noise (input units).
    num_trials, seed
        Trials, and the seed of the noise: a trial's noise does not depend on their number.

    Returns
    -------
    xr.Dataset
        ``activity`` (trial, unit, drift, stimulus), with the coordinates orientation and frequency
        of the stimuli. The network is left as it was.

    Raises
    ------
    ValueError
        If an argument does not fit, or the layer is not called exactly once.

    Examples
    --------
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 5, padding=2))
    >>> found = grating_activity(network, "0", input_shape=(1, 15, 15), noise=0.1, num_trials=2)
    >>> found.activity.dims, found.activity.shape
    (('trial', 'unit', 'drift', 'stimulus'), (2, 4, 12, 60))
    """
    _check(num_orientations, num_times, num_trials, frequencies, noise)
    shape = tuple(int(size) for size in input_shape)
    module = find_layer(network, layer)
    device, dtype = network_kind(network)
    stimuli = [
        (180.0 * i / num_orientations, float(frequency))
        for i in range(num_orientations)
        for frequency in frequencies
    ]
    times = torch.arange(num_times, dtype=torch.float64) / num_times
    with undisturbed(network), torch.no_grad():
        blank = torch.full((1, *shape), float(mean), device=device, dtype=dtype)
        trace = trace_layer(network, layer, blank)
        axis, position = unit_position(layer, module, trace.layer_output)
        chosen = choose_units(units, trace.layer_output.shape[axis])
        activity = np.empty((num_trials, len(chosen), num_times, len(stimuli)))
        for i, (orientation, frequency) in enumerate(stimuli):
            frames = mean + contrast * grating(shape, orientation, frequency, times)
            for trial in range(num_trials):
                # a stream for each trial and stimulus, whatever else is shown
                generator = np.random.default_rng((seed, trial, i))
                noisy = frames + noise * torch.from_numpy(generator.standard_normal(frames.shape))
                output = run_to_layer(network, module, noisy.to(device, dtype), output=True).relu()
                here = at_position(output, axis, position)[:, chosen]
                activity[trial, :, :, i] = here.double().cpu().numpy().T
    orientation, frequency = np.array(stimuli).T
    return xr.Dataset(
        {
            "activity": labels.variable(
                ("trial", "unit", "drift", "stimulus"), activity, "1", "rectified output"
            )
        },
        coords={
            "trial": labels.coordinate("trial", np.arange(num_trials)),
            "unit": labels.coordinate("unit", chosen),
            "drift": labels.coordinate("drift", times.numpy()),
            "stimulus": labels.coordinate("stimulus", np.arange(len(stimuli))),
            "orientation": labels.variable("stimulus", orientation, *_label("orientation")),
            "frequency": labels.variable("stimulus", frequency, *_label("frequency")),
        },
        attrs={"layer": layer, "pixel_noise": float(noise)},
    )


def _label(name: str) -> tuple[str, str]:
    return labels.COORDINATES[name]


def _check(
    num_orientations: int,
    num_times: int,
    num_trials: int,
    frequencies: Sequence[float],
    noise: float | int,
) -> None:
    least = {"num_orientations": 1, "num_times": 3, "num_trials": 1}
    given = {
        "num_orientations": num_orientations,
        "num_times": num_times,
        "num_trials": num_trials,
    }
    for name, number in given.items():
        if number < least[name]:
            raise ValueError(f"{name}={number} must be at least {least[name]}")
    if not frequencies or min(frequencies) <= 0 or max(frequencies) > 0.5:
        raise ValueError(f"frequencies={tuple(frequencies)} must lie in (0, 0.5] cycles per pixel")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise={noise} must be at least 0 and finite")
