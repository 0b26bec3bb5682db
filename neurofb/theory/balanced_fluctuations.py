"""Balanced network of finite size: the fluctuations of its rates, frequency by frequency.

What `neurofb.theory.readout_variance` integrates: the power that drives the readout, the feedback
that divides it, and the frequencies to sum over. Our derivation.
"""

from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import lambertw

from neurofb.theory.balanced_autocovariance import correlation, descend, series
from neurofb.theory.balanced_mean_field import MeanField

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(6)
#: Branches of the characteristic equation around whose frequencies the integral is refined.
_NUM_BRANCHES = 12


def input_spectrum(mean_field: MeanField) -> tuple[float, Any]:
    """Return (1 + ω²) S(ω): its limit for large ω, and a function of ω for the rest.

    It is the transform of C - C'' with the derivatives by the chain rule: the kink of C at 0 gives
    the constant, the next kink a tail 1/ω² that is taken out of the sum over lags.

    Examples
    --------
    >>> from neurofb.theory import mean_field
    >>> white, _ = input_spectrum(mean_field(3.0, noise=0.5, nonlinearity="linear"))
    >>> round(white, 9)  # σ²
    0.25
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


def loop_power(omega: np.ndarray, loop_gain: float, delay: float) -> np.ndarray:
    """Return |1 + iω + B e^(-iωd)|², by which the feedback divides the power.

    Examples
    --------
    >>> loop_power(np.array([0.0, 1.0]), 2.0, 0.0).round(9)
    array([ 9., 10.])
    """
    return np.abs(1 + 1j * omega + loop_gain * np.exp(-1j * omega * delay)) ** 2


def loop_frequencies(loop_gain: float, delay: float) -> tuple[np.ndarray, np.ndarray]:
    """Return positive frequencies and their widths: panels that are narrow around resonances.

    Examples
    --------
    >>> omega, width = loop_frequencies(3.0, 0.1)
    >>> round(float(width @ (1 / loop_power(omega, 3.0, 0.1))) / np.pi, 4)  # and 1/(100 π) beyond
    0.1638
    """
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
