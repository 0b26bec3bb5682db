"""Balanced network of finite size: how far the readout is from the signal.

The fluctuations of the rates of N neurons average to a readout noise of order 1/√N, which the
feedback divides by 1 + B e^(-iωd) / (1 + iω). To them come the bias of the mean field and, with
disorder or a random readout, a frozen error that differs from network to network. All of this is
our derivation (see `neurofb.theory.balanced_mean_field`).
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline
from scipy.special import lambertw

from neurofb.theory.arguments import Numbers, at_least, positive
from neurofb.theory.balanced_autocovariance import correlation, descend, series
from neurofb.theory.balanced_delay import (
    correlation_transform,
    critical_balance,
    delay_integral,
)
from neurofb.theory.balanced_mean_field import MeanField

#: How many neurons: a number, or an array of numbers.
Counts = Numbers | Int[np.ndarray, "..."]

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(6)
#: Branches of the characteristic equation around whose frequencies the integral is refined.
_NUM_BRANCHES = 12


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
    white, coloured = _input_spectrum(mean_field)
    power = white + coloured(angular_frequency)
    return power / _loop(angular_frequency, mean_field.loop_gain, float(delay)) / float(num)


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
    white, coloured = _input_spectrum(mean_field)
    omega, width = _frequencies(loop_gain, delay)
    power = coloured(omega) / _loop(omega, loop_gain, delay)
    return white * variance + float(width @ power) / np.pi


def _frozen(mean_field: MeanField) -> float:
    """Return N times the variance of what does not change in time."""
    end = mean_field.frozen_variance / mean_field.variance if mean_field.variance > 0 else 1.0
    squared = float(series(mean_field.readout_coefficients, np.array(end)))
    between = max(squared - mean_field.estimate**2, 0.0)
    return between / (1 + mean_field.loop_gain) ** 2


def _input_spectrum(mean_field: MeanField) -> tuple[float, Any]:
    """Return (1 + ω²) S(ω): its limit for large ω, and a function of ω for the rest.

    It is the transform of C - C'' with the derivatives by the chain rule: the kink of C at 0 gives
    the constant, the next kink a tail 1/ω² that is taken out of the sum over lags.
    """
    squares, variance = mean_field.readout_coefficients, mean_field.variance
    power = np.arange(len(squares))
    if variance == mean_field.frozen_variance:
        return 0.0, np.zeros_like
    if mean_field.disorder == 0:
        rate = power[1:].astype(float)
        white = float(2 * rate @ squares[1:])
        weight = -2 * rate * squares[1:] * (rate**2 - 1)

        def lorentzians(omega: np.ndarray) -> np.ndarray:
            total = np.zeros_like(omega)
            for k in np.flatnonzero(np.abs(weight) > 1e-16 * white):
                total += weight[k] / (rate[k] ** 2 + omega**2)
            return total

        return white, lorentzians
    way = descend(mean_field.rate_coefficients, mean_field.disorder, variance)
    if np.isnan(way.end):
        return 0.0, np.zeros_like
    rho, slope = correlation(way, mean_field.lag)
    drift = rho - mean_field.disorder**2 * series(mean_field.rate_coefficients, rho) / variance
    first = power[1:] * squares[1:]
    second = power[1:-1] * first[1:]
    curvature = series(second, rho) * slope**2 + series(first, rho) * drift
    driven = series(squares, rho) - series(squares, np.array(way.end)) - curvature
    white = float(first.sum() * mean_field.noise**2 / variance)
    step = float(mean_field.lag[1])
    kink = float(CubicSpline(mean_field.lag[:9], driven[:9])(0.0, 1)) if mean_field.noise else 0.0
    smooth = driven - kink * mean_field.lag * np.exp(-mean_field.lag)
    num = 2 * (len(smooth) - 1)
    highest = np.pi / step
    grid = np.linspace(0.0, highest, num // 2 + 1)
    spline = CubicSpline(grid, step * np.fft.hfft(smooth, num)[: len(grid)])

    def coloured(omega: np.ndarray) -> np.ndarray:
        tail = 2 * kink * (1 - omega**2) / (1 + omega**2) ** 2
        omega = np.abs(omega)
        return tail + np.where(omega < highest, spline(np.minimum(omega, highest)), 0.0)

    return white, coloured


def _loop(omega: np.ndarray, loop_gain: float, delay: float) -> np.ndarray:
    """Return |1 + iω + B e^(-iωd)|²."""
    return np.abs(1 + 1j * omega + loop_gain * np.exp(-1j * omega * delay)) ** 2


def _frequencies(loop_gain: float, delay: float) -> tuple[np.ndarray, np.ndarray]:
    """Return positive frequencies and their widths: panels that are narrow around resonances."""
    highest = max(100.0, 10 * (1 + loop_gain))
    edges = [np.linspace(0.0, 20.0, 201)]
    edges.append(np.arange(20.0, highest, min(0.5, 0.5 / delay) if delay > 0 else 0.5))
    if delay > 0 and loop_gain > 0:
        branches = np.arange(_NUM_BRANCHES)
        argument = np.full(_NUM_BRANCHES, -loop_gain * delay * np.exp(delay))
        root = np.asarray(lambertw(argument, branches)) / delay - 1  # pyright: ignore
        widths = np.geomspace(0.25, 1000.0, 25)
        for each in root[root.imag > 0]:
            edges.append(each.imag + abs(each.real) * np.concatenate([-widths, [0.0], widths]))
    edge = np.unique(np.concatenate(edges))
    edge = edge[(edge >= 0) & (edge <= highest)]
    half = np.diff(edge) / 2
    omega = (edge[:-1] + half)[:, None] + half[:, None] * _NODES
    return omega.ravel(), (half[:, None] * _NODE_WEIGHTS).ravel()
