"""Balanced network: what its feedback does to fluctuations and signals, frequency by frequency.

The linear loop of `neurofb.theory.delay_integral`, with the loop gain B = b β and the delay d; our
derivation.
"""

import numpy as np
from jaxtyping import Complex, Float

from neurofb.theory.arguments import Numbers, at_least


def noise_gain(
    angular_frequency: Numbers, loop_gain: Numbers, delay: Numbers = 0.0
) -> Float[np.ndarray, "..."]:
    """Return how much the feedback multiplies the power of fluctuations at a frequency.

    |1 + iω|² / |1 + iω + B e^(-iωd)|²: below 1 the feedback suppresses them; with a delay it
    exceeds 1 around ω_c, once B is not far below its critical value.

    Parameters
    ----------
    angular_frequency
        ω, in radians per membrane time constant.
    loop_gain, delay
        As in `delay_integral`.

    Returns
    -------
    ndarray
        Ratio of powers; broadcast over the arguments.

    Raises
    ------
    ValueError
        As `delay_integral`, or if a frequency is not finite.

    Examples
    --------
    >>> noise_gain(np.array([0.0, 16.32]), 8.0, 0.1).round(3).tolist()
    [0.012, 3.834]
    """
    w = _frequency(angular_frequency)
    return np.asarray((1 + w**2) / np.abs(_denominator(w, loop_gain, delay)) ** 2)


def tracking_transfer(
    angular_frequency: Numbers, loop_gain: Numbers, delay: Numbers = 0.0
) -> Complex[np.ndarray, "..."]:
    """Return the estimate over the signal, x̂/x, for a small sinusoidal signal.

    B / (1 + iω + B e^(-iωd)): a low pass with the bandwidth B.

    Parameters
    ----------
    angular_frequency, loop_gain, delay
        As in `noise_gain`.

    Returns
    -------
    ndarray
        Complex: its modulus is the ratio of amplitudes, its angle (negative) the lag.

    Raises
    ------
    ValueError
        As `noise_gain`.

    Examples
    --------
    >>> tracking_transfer(1.0, 9.0).round(3).item()
    (0.891-0.089j)
    """
    w = _frequency(angular_frequency)
    return np.asarray(np.asarray(loop_gain) / _denominator(w, loop_gain, delay))


def tracking_error(
    angular_frequency: Numbers, loop_gain: Numbers, delay: Numbers = 0.0
) -> Float[np.ndarray, "..."]:
    """Return the error of the estimate, |x - x̂| / |x|, for a small sinusoidal signal.

    |1 + iω + B (e^(-iωd) - 1)| / |1 + iω + B e^(-iωd)|. Above 1, no estimate at all is better.

    Parameters
    ----------
    angular_frequency, loop_gain, delay
        As in `noise_gain`.

    Returns
    -------
    ndarray
        Ratio of amplitudes.

    Raises
    ------
    ValueError
        As `noise_gain`.

    Examples
    --------
    >>> tracking_error(np.array([0.0, 1.0, 10.0]), 9.0).round(3).tolist()
    [0.1, 0.141, 0.711]
    """
    return np.asarray(np.abs(1 - tracking_transfer(angular_frequency, loop_gain, delay)))


def _denominator(w: np.ndarray, loop_gain: Numbers, delay: Numbers) -> np.ndarray:
    """Return 1 + iω + B e^(-iωd)."""
    at_least(0, loop_gain=loop_gain, delay=delay)
    feedback = np.asarray(loop_gain) * np.exp(-1j * w * np.asarray(delay))
    return np.asarray(1 + 1j * w + feedback)


def _frequency(angular_frequency: Numbers) -> np.ndarray:
    """Return frequencies as an array, refusing those that are not finite."""
    w = np.asarray(angular_frequency, dtype=float)
    if not np.all(np.isfinite(w)):
        raise ValueError(f"angular_frequency={angular_frequency} must be finite")
    return w
