"""Balanced network: two ways to the variance of its currents, by energy and by iteration.

Without noise the state that does not change in time is a solution too. It is the right one as long
as it is stable, g² E[φ'²] < 1; beyond, the chaotic solution has a smaller variance.
"""

import warnings
from functools import partial

import numpy as np

from neurofb.theory.balanced_autocovariance import (
    correlation,
    descend,
    end_slope,
    fourier_step,
)
from neurofb.theory.balanced_neurons import LARGEST_VARIANCE, Neurons, find_root, no_state

_FOURIER_STEPS = 20_000


def solve_energy(
    neurons: Neurons, disorder: float | int, noise: float | int
) -> tuple[float, float, int, bool]:
    """Return Δ(0), Δ(∞), the number of steps, and whether the search converged.

    Examples
    --------
    >>> from neurofb.theory.balanced_neurons import neurons_of
    >>> variance, end, _, _ = solve_energy(neurons_of(0.0, 0.0), disorder=1.6, noise=0.0)
    >>> round(variance, 6), end
    (0.950544, 0.0)
    """
    if disorder == 0:
        return noise**2 / 2, 0.0, 0, True
    highest = neurons.frozen_variance(disorder) if noise == 0 else None
    if highest is not None and disorder**2 * neurons.slope_variance(highest) <= 1 + 1e-9:
        return highest, highest, 0, True

    def deficit(variance: float) -> float:
        way = descend(neurons.rates(variance), disorder, variance)
        return 1.0 if np.isnan(way.end) else noise**4 / 4 - end_slope(way, variance)

    if highest is None:
        highest = max(noise**2, disorder**2)
        while deficit(highest) > 0:
            highest *= 2
            if highest > LARGEST_VARIANCE:
                raise ValueError(no_state(disorder))
    lowest = max(noise**2 / 2, 1e-9 * highest)
    while deficit(lowest) < 0:
        lowest /= 10
        if noise == 0 and lowest < 1e-15 * highest:  # chaos about to begin
            return 0.0, 0.0, 0, True
    variance, steps, converged = find_root(deficit, lowest, highest)
    end = descend(neurons.rates(variance), disorder, variance).end
    return variance, end * variance, steps, converged


def covariance_at(
    neurons: Neurons, variance: float, frozen: float, disorder: float | int, lag: np.ndarray
) -> np.ndarray:
    """Return Δ at the lags.

    Examples
    --------
    >>> from neurofb.theory.balanced_neurons import neurons_of
    >>> covariance_at(neurons_of(0.0, 0.0), 0.5, 0.0, 0.0, np.array([0.0, 1.0])).round(4)
    array([0.5   , 0.1839])
    """
    if variance == frozen:
        return np.full_like(lag, variance)
    if disorder == 0:
        return variance * np.exp(-lag)
    way = descend(neurons.rates(variance), disorder, variance)
    return variance * correlation(way, lag)[0]


def solve_fourier(
    neurons: Neurons,
    lag: np.ndarray,
    lag_step: float | int,
    disorder: float | int,
    noise: float | int,
) -> tuple[np.ndarray, int, bool]:
    """Return Δ at the lags by damped iteration, the number of steps and whether it converged.

    Examples
    --------
    >>> from neurofb.theory.balanced_neurons import neurons_of
    >>> lag = 0.1 * np.arange(401)
    >>> found, _, _ = solve_fourier(neurons_of(0.0, 0.0), lag, 0.1, disorder=1.6, noise=0.0)
    >>> round(float(found[0]), 4)
    0.9505
    """
    covariance = (noise**2 / 2 + disorder**2) * np.exp(-lag)
    change = np.inf
    step = partial(fourier_step, lag_step=lag_step, disorder=disorder, noise=noise)
    for count in range(1, _FOURIER_STEPS + 1):
        if covariance[0] > LARGEST_VARIANCE:
            raise ValueError(no_state(disorder))
        if covariance[0] < 1e-14:
            return np.zeros_like(lag), count, True
        new = step(neurons.rates(float(covariance[0])), covariance)
        change = float(np.abs(new - covariance).max())
        covariance = (new + covariance) / 2
        if change < 1e-11 * covariance[0]:
            return covariance, count, True
    warnings.warn(
        f"the iteration still changes the variance by {change:.1g} after {_FOURIER_STEPS} steps",
        RuntimeWarning,
        stacklevel=4,
    )
    return covariance, _FOURIER_STEPS, False
