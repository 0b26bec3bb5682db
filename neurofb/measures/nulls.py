"""Null receptive fields: noise with the amplitude spectrum of each unit's field."""

import numpy as np
import xarray as xr
from jaxtyping import Float

from neurofb import labels


def spectrum_matched_noise(rf: xr.Dataset, seed: int) -> xr.Dataset:
    """Replace the phases of every receptive field by those of white noise.

    The amplitude of each (periodic) Fourier component stays. All channels of a unit get the same
    phase shifts, so that their relation stays too. Dead units stay dead. Measure the answer with
    the same `shape_measures` call as the fields themselves.

    Parameters
    ----------
    rf
        Dataset of `receptive_field`.
    seed
        Seed of the noise.

    Examples
    --------
    >>> field = labels.variable(("unit", "channel", "y", "x"), np.ones((1, 1, 3, 3)), "1", "field")
    >>> noise = spectrum_matched_noise(xr.Dataset({"receptive_field": field}), 0)
    >>> noise.attrs["null"], np.abs(noise.receptive_field.values.sum()).round(6)
    ('spectrum-matched noise', np.float64(9.0))
    """
    if "receptive_field" not in rf:
        raise ValueError(f"rf has no variable receptive_field; it has {list(rf)}")
    field = rf["receptive_field"].transpose("unit", "channel", "y", "x")
    noise = scramble_phases(field.values, np.random.default_rng(seed))
    variable = labels.variable(
        ("unit", "channel", "y", "x"),
        noise,
        field.attrs.get("units", "1"),
        "noise with the spectrum of the field",
    )
    answer = rf.assign(receptive_field=variable)
    return answer.assign_attrs(null="spectrum-matched noise", null_seed=seed)


def scramble_phases(
    fields: Float[np.ndarray, "unit channel y x"], generator: np.random.Generator
) -> Float[np.ndarray, "unit channel y x"]:
    """Turn the phase of every spatial Fourier component by that of white noise.

    Examples
    --------
    >>> scramble_phases(np.zeros((1, 1, 2, 2)), np.random.default_rng(0)).any()
    np.False_
    """
    num_units, _, height, width = fields.shape
    spectrum = np.fft.fft2(generator.standard_normal((num_units, 1, height, width)))
    size = np.abs(spectrum)
    turn = np.where(size > 0, spectrum, 1.0) / np.where(size > 0, size, 1.0)
    return np.fft.ifft2(np.fft.fft2(fields) * turn).real.astype(fields.dtype)
