"""Orientation selectivity of linear receptive fields, from sinusoidal gratings.

Orientation is that of the stripes, counter-clockwise from horizontal on a displayed image (y down).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

#: 180 degrees in steps of 5, stripes counter-clockwise from horizontal.
ORIENTATIONS = tuple(5.0 * i for i in range(36))
#: Cycles per pixel; above 0.4 the pixel grid itself prefers orientations.
FREQUENCIES = tuple(round(0.03 + 0.01 * i, 2) for i in range(38))


class Tuning(NamedTuple):
    """Indices of a tuning surface at the best frequency, one value per unit."""

    gosi: Float[np.ndarray, "unit"]
    osi: Float[np.ndarray, "unit"]
    preferred_orientation: Float[np.ndarray, "unit"]
    preferred_frequency: Float[np.ndarray, "unit"]
    best_response: Float[np.ndarray, "unit"]
    best_frequency_index: Integer[np.ndarray, "unit"]


def linear_grating_response(
    rf: Float[np.ndarray, "unit y x"],
    orientations: tuple[float, ...] = ORIENTATIONS,
    frequencies: tuple[float, ...] = FREQUENCIES,
) -> Float[np.ndarray, "unit orientation frequency"]:
    """Return the amplitude of the response to a drifting grating, |Σ f exp(-2πi k·x)|.

    Orientations in degrees, frequencies in cycles per pixel.

    Examples
    --------
    >>> linear_grating_response(np.ones((1, 9, 9)), (0.0,), (0.0,))
    array([[[81.]]])
    """
    num_units, height, width = rf.shape
    even, odd = _waves(height, width, tuple(orientations), tuple(frequencies))
    flat = rf.astype(float).reshape(num_units, height * width)
    return np.hypot(flat @ even, flat @ odd).reshape(num_units, len(orientations), len(frequencies))


def orientation_tuning(
    response: Float[np.ndarray, "unit orientation frequency"],
    orientations: tuple[float, ...] = ORIENTATIONS,
    frequencies: tuple[float, ...] = FREQUENCIES,
) -> Tuning:
    """Summarise a tuning surface at the frequency of its maximum.

    gOSI = |Σ R exp(2iθ)| / Σ R = 1 - circular variance (Mazurek et al. 2014; Ringach et al. 2002);
    OSI = (R_pref - R_orth) / (R_pref + R_orth), which is high for noise too (0.6), so prefer gOSI.
    Negative responses count as 0; units without any response are NaN. Orientations must be evenly
    spaced over 180 degrees and even in number.

    Examples
    --------
    >>> tuning = orientation_tuning(np.array([[[1.0], [0.0]]]), (0.0, 90.0), (0.1,))
    >>> tuning.gosi, tuning.osi
    (array([1.]), array([1.]))
    """
    response = np.maximum(response, 0.0)
    num_units, num_orientations, num_frequencies = response.shape
    best = response.reshape(num_units, num_orientations * num_frequencies).argmax(1)
    row, column = np.divmod(best, num_frequencies)
    curve = response[np.arange(num_units), :, column]
    preferred = curve[np.arange(num_units), row]
    orthogonal = curve[np.arange(num_units), (row + num_orientations // 2) % num_orientations]
    angle = np.exp(2j * np.deg2rad(np.asarray(orientations)))
    total = curve.sum(1)
    silent = total <= 0
    safe = np.where(silent, 1.0, total)
    safe_pair = np.where(silent, 1.0, preferred + orthogonal)

    def known(values: np.ndarray) -> np.ndarray:
        return np.where(silent, np.nan, values)

    return Tuning(
        gosi=known(np.abs(curve @ angle) / safe),
        osi=known((preferred - orthogonal) / safe_pair),
        preferred_orientation=known(np.asarray(orientations)[row]),
        preferred_frequency=known(np.asarray(frequencies)[column]),
        best_response=preferred,
        best_frequency_index=column,
    )


def wave_vector(orientation: float) -> tuple[float, float]:
    """Return the unit vector (y, x) across the stripes of a grating of an orientation (degrees).

    Examples
    --------
    >>> wave_vector(0.0)
    (1.0, 0.0)
    """
    angle = np.deg2rad(orientation)
    return float(np.cos(angle)), float(np.sin(angle))


@lru_cache(maxsize=4)
def _waves(
    height: int, width: int, orientations: tuple[float, ...], frequencies: tuple[float, ...]
) -> tuple[Float[np.ndarray, "pixel grating"], Float[np.ndarray, "pixel grating"]]:
    """Return cosine and sine of every grating at every pixel."""
    pixels = np.indices((height, width)).reshape(2, height * width).T
    across = np.array([wave_vector(angle) for angle in orientations])
    phase = 2 * np.pi * (pixels @ across.T)[:, :, None] * np.asarray(frequencies)
    phase = phase.reshape(len(pixels), len(orientations) * len(frequencies))
    return np.cos(phase), np.sin(phase)
