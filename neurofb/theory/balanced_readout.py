"""Balanced network of finite size: how far the readout is from the signal.

The fluctuations of the rates of N neurons average to a readout noise of order 1/√N, which the
feedback divides by 1 + B e^(-iωd) / (1 + iω). To them come the bias of the mean field and, with
disorder or a random readout, a frozen error that differs from network to network. All of this is
our derivation (see `neurofb.theory.balanced_mean_field`).
"""

import numpy as np
from jaxtyping import Float, Int

from neurofb.theory.arguments import Numbers, at_least, positive
from neurofb.theory.balanced_autocovariance import series
from neurofb.theory.balanced_delay import (
    correlation_transform,
    critical_balance,
    delay_integral,
)
from neurofb.theory.balanced_fluctuations import input_spectrum, loop_frequencies, loop_power
from neurofb.theory.balanced_mean_field import MeanField

#: How many neurons: a number, or an array of numbers.
Counts = Numbers | Int[np.ndarray, "..."]


def readout_variance(
    mean_field: MeanField,
    num_units: Counts,
    delay: Numbers = 0.0,
    *,
    frozen: bool = True,
) -> Float[np.ndarray, "..."]:
    """Return the variance of the readout of a finite network around that of an infinite one.

    Var x̂ = 1/N ∫ dω/2π (1 + ω²) S(ω) / |1 + iω + B e^(-iωd)|² with the spectrum S of
    E[w² φ φ'](τ) - E[w² φ φ'](∞), B = b β; exact for large N if w = ±1 and g = 0, or x = 0. Without
    disorder each power of e^(-|τ|) is done in closed form. The frozen part, of the means over time
    of different networks, is (E[w² φ φ'](∞) - x̂²) / (N (1 + B)²).

    Parameters
    ----------
    mean_field
        From `neurofb.theory.mean_field`.
    num_units
        N, positive.
    delay
        d, in membrane time constants.
    frozen
        Add the variance between networks (it is 0 for w = ±1 without disorder, and without drive).
        False gives the variance over time within one network.

    Returns
    -------
    ndarray
        Broadcast over the arguments; infinite where the network oscillates.

    Raises
    ------
    ValueError
        If a number of units is not positive, or a delay negative.

    Examples
    --------
    >>> from neurofb.theory import mean_field
    >>> solution = mean_field(10.0, noise=0.75, drive=0.2)
    >>> np.sqrt(readout_variance(solution, 1400)).round(6).item()
    0.003856
    """
    (num,) = positive(num_units=np.asarray(num_units, dtype=float))
    at_least(0, delay=delay)
    delays, where = np.unique(np.asarray(delay, dtype=float), return_inverse=True)
    moving = np.array([_moving(mean_field, float(each)) for each in delays])
    total = moving[where].reshape(np.shape(delay))
    if frozen:
        total = total + _frozen(mean_field)
    return np.asarray(total / num)


def total_error(
    mean_field: MeanField, num_units: Counts, delay: Numbers = 0.0
) -> Float[np.ndarray, "..."]:
    """Return the root mean squared error of a finite network, √(bias² + Var x̂).

    Parameters
    ----------
    mean_field, num_units, delay
        As in `readout_variance`.

    Returns
    -------
    ndarray
        In units of the signal.

    Raises
    ------
    ValueError
        As `readout_variance`.

    Examples
    --------
    >>> from neurofb.theory import mean_field
    >>> total_error(mean_field(5.0, noise=0.75, drive=0.2), np.array([50, 1600])).round(4).tolist()
    [0.0483, 0.0401]
    """
    variance = readout_variance(mean_field, num_units, delay)
    return np.asarray(np.sqrt(mean_field.bias**2 + variance))


def readout_spectrum(
    mean_field: MeanField,
    num_units: float | int,
    angular_frequency: Float[np.ndarray, " frequency"],
    delay: float | int = 0.0,
) -> Float[np.ndarray, " frequency"]:
    """Return the power spectrum of the readout's fluctuations.

    Its integral over dω/2π, over negative frequencies too, is the variance without the frozen part.

    Parameters
    ----------
    mean_field, num_units, delay
        As in `readout_variance`.
    angular_frequency
        ω, in radians per membrane time constant; shape (frequency,).

    Returns
    -------
    ndarray
        Shape (frequency,), in squared units of the signal times the membrane time constant.

    Raises
    ------
    ValueError
        As `readout_variance`, or if the network oscillates.

    Examples
    --------
    >>> from neurofb.theory import mean_field
    >>> solution = mean_field(3.0, noise=1.0, nonlinearity="linear")  # σ² / N / (ω² + (1 + b)²)
    >>> readout_spectrum(solution, 100, np.array([0.0, 3.0])) * 100
    array([0.0625, 0.04  ])
    """
    (num,) = positive(num_units=np.asarray(num_units, dtype=float))
    at_least(0, delay=delay)
    critical = float(critical_balance(delay)[0])
    if mean_field.loop_gain >= critical:
        raise ValueError(
            f"delay={delay}: the network oscillates, its loop gain {mean_field.loop_gain:g} is not "
            f"below {critical:g}"
        )
    white, coloured = input_spectrum(mean_field)
    power = white + coloured(angular_frequency)
    return power / loop_power(angular_frequency, mean_field.loop_gain, float(delay)) / float(num)


def _moving(mean_field: MeanField, delay: float) -> float:
    """Return N times the variance over time."""
    loop_gain = mean_field.loop_gain
    variance = float(delay_integral(loop_gain, delay))
    if not np.isfinite(variance):
        return np.inf
    if mean_field.variance == mean_field.frozen_variance:
        return 0.0
    if mean_field.disorder == 0:
        squares = mean_field.readout_coefficients
        rate = np.arange(1.0, len(squares))
        transform = correlation_transform(rate, loop_gain, delay)
        return float(squares[1:] @ (2 * rate * variance - 2 * (rate**2 - 1) * transform))
    white, coloured = input_spectrum(mean_field)
    omega, width = loop_frequencies(loop_gain, delay)
    power = coloured(omega) / loop_power(omega, loop_gain, delay)
    return white * variance + float(width @ power) / np.pi


def _frozen(mean_field: MeanField) -> float:
    """Return N times the variance of what does not change in time."""
    end = mean_field.frozen_variance / mean_field.variance if mean_field.variance > 0 else 1.0
    squared = float(series(mean_field.readout_coefficients, np.array(end)))
    between = max(squared - mean_field.estimate**2, 0.0)
    return between / (1 + mean_field.loop_gain) ** 2
