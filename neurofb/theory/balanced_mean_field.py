"""Balanced network: stationary mean field for many neurons, with noise, chaos and constant drive.

dh_i/dt = -h_i + g Σ_j J_ij φ(h_j) + b w_i (x - x̂) + σ ξ_i with x̂ = Σ_j w_j φ(h_j) / N, in units of
the membrane time. J_ij has the variance 1/N and ⟨ξ ξ'⟩ = δ(t - t'), so that the noise alone gives h
the variance σ²/2. For N → ∞, h_i = w_i m + δ_i with m = b (x - x̂) and a Gaussian δ of
autocovariance Δ(τ): Δ - Δ'' = g² E[φ φ'] + σ² δ(τ). A delay of the feedback changes none of it, as
long as the network does not oscillate. The model is that of arXiv:2006.14178 as far as its abstract
and the caption of Figure 1 tell it; the equations are our derivation.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import root_scalar

from neurofb.theory.arguments import at_least
from neurofb.theory.balanced_autocovariance import (
    correlation,
    descend,
    end_slope,
    fourier_step,
    series,
)
from neurofb.theory.hermite import (
    Nonlinearity,
    gaussian_nodes,
    hermite_coefficients,
    rate_function,
)

Readout = Literal["signs", "normal"]
Solver = Literal["energy", "fourier"]

#: Deviation at which the slope of a neuron without fluctuations is taken.
_SMALL = 1e-5
_LARGEST_VARIANCE = 1e8
_FOURIER_STEPS = 20_000


@dataclass(frozen=True, eq=False)
class MeanField:
    """Stationary state of an infinite balanced network.

    Attributes
    ----------
    balance, disorder, noise, drive
        b, g, σ and x, as they were passed.
    field
        m = b (x - x̂): mean current along the readout.
    estimate
        x̂, mean of the readout.
    bias
        x - x̂.
    variance
        Δ(0), variance of the currents around w m.
    frozen_variance
        Δ(∞): its part that does not change in time.
    gain
        β = E[w² φ'(h)]: the loop gain of the feedback is b β.
    slope_variance
        E[φ'(h)²].
    lag
        Lags τ in membrane time constants, from 0; shape (lag,).
    autocovariance
        Δ(τ), shape (lag,).
    rate_covariance
        C(τ) = E[φ(h(t)) φ(h(t + τ))], shape (lag,); the square of a mean is not subtracted.
    rate_coefficients, readout_coefficients
        Of the power series of E[φ φ'] and of E[w² φ φ'] in Δ(τ)/Δ(0), shape (term,).
    converged, num_iterations
        Of the search for Δ(0).

    Examples
    --------
    >>> solution = mean_field(10.0, noise=0.75, drive=0.2)
    >>> round(solution.loop_gain, 4)
    7.8877
    """

    balance: float
    disorder: float
    noise: float
    drive: float
    field: float
    estimate: float
    bias: float
    variance: float
    frozen_variance: float
    gain: float
    slope_variance: float
    lag: Float[np.ndarray, " lag"]
    autocovariance: Float[np.ndarray, " lag"]
    rate_covariance: Float[np.ndarray, " lag"]
    rate_coefficients: Float[np.ndarray, " term"]
    readout_coefficients: Float[np.ndarray, " term"]
    converged: bool
    num_iterations: int

    @property
    def loop_gain(self) -> float:
        """B = b β."""
        return self.balance * self.gain


@dataclass(frozen=True)
class _Neurons:
    """What a variance Δ(0) determines: field, estimate and the series of the rates."""

    balance: float
    drive: float
    function: Any
    weights: np.ndarray
    probabilities: np.ndarray

    def estimate(self, field: float, deviation: float) -> float:
        """Return x̂ = E[w φ(w m + deviation z)]."""
        nodes, density = gaussian_nodes()
        means = self.function(self.weights[:, None] * field + deviation * nodes) @ density
        return float((self.probabilities * self.weights) @ means)

    def field(self, deviation: float) -> float:
        """Return m, the zero of m - b (x - x̂(m)), which rises with m."""
        if self.balance == 0 or self.drive == 0:
            return 0.0

        def excess(field: float) -> float:
            return field - self.balance * (self.drive - self.estimate(field, deviation))

        return _root(excess, 0.0, self.balance * self.drive)[0]

    def coefficients(self, variance: float) -> tuple[float, np.ndarray, np.ndarray]:
        """Return m and the series of E[φ φ'] and E[w² φ φ']."""
        deviation = np.sqrt(variance)
        field = self.field(deviation)
        squares = hermite_coefficients(self.function, self.weights * field, deviation) ** 2
        if field == 0:
            squares[:, ::2] = 0.0  # φ is odd
        return field, self.probabilities @ squares, self.probabilities * self.weights**2 @ squares

    def rates(self, variance: float) -> np.ndarray:
        """Return the series of E[φ φ']."""
        return self.coefficients(variance)[1]


def mean_field(
    balance: float | int,
    disorder: float | int = 0.0,
    noise: float | int = 0.0,
    drive: float | int = 0.0,
    *,
    nonlinearity: Nonlinearity = "tanh",
    readout: Readout = "signs",
    num_lags: int = 8192,
    lag_step: float | int = 0.05,
    solver: Solver = "energy",
) -> MeanField:
    """Return the stationary state of a balanced network of infinitely many neurons.

    Parameters
    ----------
    balance
        b, at least 0.
    disorder
        g, at least 0; chaos sets in near g = 1 without noise and drive.
    noise
        σ, at least 0.
    drive
        x, constant input.
    nonlinearity
        φ, an odd function that rises: ``"tanh"``, ``"linear"``, ``"erf"`` (erf(√π h/2)), or a
        function of numpy arrays.
    readout
        Distribution of w: ``"signs"`` (±1) or ``"normal"`` (variance 1).
    num_lags, lag_step
        A periodic grid of so many lags; the result holds the lags 0 to ``num_lags // 2``.
    solver
        ``"energy"`` finds Δ(0) from the conserved energy of Δ(τ), with an error from the Hermite
        series alone (below 1e-12 up to g = 2.5, 3e-7 at g = 5); ``"fourier"`` iterates the equation
        on the grid (the usual way: a hundred times slower, with noise an error of the order of the
        squared step).

    Returns
    -------
    MeanField

    Raises
    ------
    ValueError
        If an argument is out of range, or there is no stationary state (unbounded φ, large g).

    Warns
    -----
    RuntimeWarning
        If the covariance has not decayed within the grid, or the iteration did not converge.

    Examples
    --------
    >>> round(mean_field(10.0, noise=0.75, drive=0.2).bias, 5)
    0.02213
    >>> chaos = mean_field(10.0, disorder=2.0)
    >>> round(chaos.variance, 5), round(chaos.gain, 5), chaos.frozen_variance
    (1.92481, 0.48682, 0.0)
    """
    _check(balance, disorder, noise, drive, readout, num_lags, lag_step, solver)
    weights, probabilities = _weights(readout)
    function = rate_function(nonlinearity)
    neurons = _Neurons(float(balance), float(drive), function, weights, probabilities)
    lag = lag_step * np.arange(num_lags // 2 + 1)
    if solver == "fourier":
        covariance, steps, converged = _iterate(neurons, lag, lag_step, disorder, noise)
        variance, frozen = float(covariance[0]), float(covariance[-1])
        if variance - frozen < 1e-6 * variance:
            frozen = variance
    else:
        variance, frozen, steps, converged = _solve(neurons, disorder, noise)
        covariance = _covariance(neurons, variance, frozen, disorder, lag)
    field, rates, readouts = neurons.coefficients(variance)
    estimate = neurons.estimate(field, np.sqrt(variance))
    if variance - frozen > 0 and abs(covariance[-1] - frozen) > 1e-3 * (variance - frozen):
        warnings.warn(
            f"the covariance has not decayed within {lag[-1]:g} membrane time constants "
            f"({(covariance[-1] - frozen) / (variance - frozen):.2g} of it is left): "
            f"raise num_lags={num_lags}",
            RuntimeWarning,
            stacklevel=2,
        )
    return MeanField(
        balance=float(balance),
        disorder=float(disorder),
        noise=float(noise),
        drive=float(drive),
        field=field,
        estimate=estimate,
        bias=field / balance if balance > 0 else drive - estimate,
        variance=variance,
        frozen_variance=frozen,
        gain=_gain(neurons, field, variance),
        slope_variance=_slope_variance(neurons, variance),
        lag=lag,
        autocovariance=covariance,
        rate_covariance=series(rates, covariance / variance if variance else np.ones_like(lag)),
        rate_coefficients=rates,
        readout_coefficients=readouts,
        converged=converged,
        num_iterations=steps,
    )


def frozen_state(
    balance: float | int,
    disorder: float | int,
    drive: float | int,
    *,
    nonlinearity: Nonlinearity = "tanh",
    readout: Readout = "signs",
) -> tuple[float, float]:
    """Return Δ and E[φ'²] of the state without noise that does not change in time, stable or not.

    Parameters
    ----------
    balance, disorder, drive, nonlinearity, readout
        As in `mean_field`.

    Returns
    -------
    variance, slope_variance : float
        Δ = g² E[φ²], and E[φ'²]: the state is stable if g² E[φ'²] < 1.

    Raises
    ------
    ValueError
        As `mean_field`.

    Examples
    --------
    >>> variance, slope_variance = frozen_state(0.0, 2.0, 0.0)
    >>> round(variance, 4), round(slope_variance, 4)
    (2.1215, 0.3407)
    """
    _check(balance, disorder, 0.0, drive, readout)
    weights, probabilities = _weights(readout)
    function = rate_function(nonlinearity)
    neurons = _Neurons(float(balance), float(drive), function, weights, probabilities)
    variance = _frozen_variance(neurons, disorder)
    return variance, _slope_variance(neurons, variance)


def _weights(readout: Readout) -> tuple[np.ndarray, np.ndarray]:
    """Return readout weights and their probabilities; their sign makes no difference."""
    if readout == "signs":
        return np.ones(1), np.ones(1)
    weights = np.arange(0.0, 8.1, 0.2)
    density = np.exp(-(weights**2) / 2)
    density[0] /= 2
    return weights, density / density.sum()


def _gain(neurons: _Neurons, field: float, variance: float) -> float:
    """Return E[w² φ'], the first Hermite coefficient per deviation (Stein's lemma)."""
    deviation = max(np.sqrt(variance), _SMALL)
    first = hermite_coefficients(neurons.function, neurons.weights * field, deviation)[:, 1]
    return float((neurons.probabilities * neurons.weights**2) @ first / deviation)


def _slope_variance(neurons: _Neurons, variance: float) -> float:
    """Return E[φ'²]."""
    if variance > 0:
        rates = neurons.rates(variance)
        return float(np.arange(len(rates)) @ rates / variance)
    centre = neurons.weights * neurons.field(0.0)
    slope = hermite_coefficients(neurons.function, centre, _SMALL)[:, 1] / _SMALL
    return float(neurons.probabilities @ slope**2)


def _solve(
    neurons: _Neurons, disorder: float | int, noise: float | int
) -> tuple[float, float, int, bool]:
    """Return Δ(0), Δ(∞), the number of steps, and whether the search converged."""
    if disorder == 0:
        return noise**2 / 2, 0.0, 0, True
    highest = _frozen_variance(neurons, disorder) if noise == 0 else None
    if highest is not None and disorder**2 * _slope_variance(neurons, highest) <= 1 + 1e-9:
        return highest, highest, 0, True

    def deficit(variance: float) -> float:
        way = descend(neurons.rates(variance), disorder, variance)
        return 1.0 if np.isnan(way.end) else noise**4 / 4 - end_slope(way, variance)

    if highest is None:
        highest = max(noise**2, disorder**2)
        while deficit(highest) > 0:
            highest *= 2
            if highest > _LARGEST_VARIANCE:
                raise ValueError(_no_state(disorder))
    lowest = max(noise**2 / 2, 1e-9 * highest)
    while deficit(lowest) < 0:
        lowest /= 10
        if lowest < 1e-15 * highest:  # chaos about to begin
            return 0.0, 0.0, 0, True
    variance, steps, converged = _root(deficit, lowest, highest)
    end = descend(neurons.rates(variance), disorder, variance).end
    return variance, end * variance, steps, converged


def _frozen_variance(neurons: _Neurons, disorder: float | int) -> float:
    """Return the variance Δ = g² C of a state that does not change in time."""

    def excess(variance: float) -> float:
        return disorder**2 * float(neurons.rates(variance).sum()) - variance

    highest = 1.0
    while excess(highest) > 0:
        highest *= 2
        if highest > _LARGEST_VARIANCE:
            raise ValueError(_no_state(disorder))
    lowest = 1e-12 * highest
    if excess(lowest) <= 0:
        return 0.0
    return _root(excess, lowest, highest)[0]


def _covariance(
    neurons: _Neurons, variance: float, frozen: float, disorder: float | int, lag: np.ndarray
) -> np.ndarray:
    """Return Δ at the lags."""
    if variance == frozen:
        return np.full_like(lag, variance)
    if disorder == 0:
        return variance * np.exp(-lag)
    way = descend(neurons.rates(variance), disorder, variance)
    return variance * correlation(way, lag)[0]


def _iterate(
    neurons: _Neurons,
    lag: np.ndarray,
    lag_step: float | int,
    disorder: float | int,
    noise: float | int,
) -> tuple[np.ndarray, int, bool]:
    """Return Δ at the lags by damped iteration from a covariance that decays."""
    covariance = (noise**2 / 2 + disorder**2) * np.exp(-lag)
    change = np.inf
    step = partial(fourier_step, lag_step=lag_step, disorder=disorder, noise=noise)
    for count in range(1, _FOURIER_STEPS + 1):
        if covariance[0] > _LARGEST_VARIANCE:
            raise ValueError(_no_state(disorder))
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
        stacklevel=3,
    )
    return covariance, _FOURIER_STEPS, False


def _root(function: Callable[[float], float], low: float, high: float) -> tuple[float, int, bool]:
    """Return where a function changes its sign, the number of steps and whether it was found."""
    found = root_scalar(function, bracket=(low, high), method="brentq", xtol=1e-15, rtol=1e-14)
    return float(found.root), int(found.iterations), bool(found.converged)


def _no_state(disorder: float | int) -> str:
    """Return the message for a network whose rates grow without bound."""
    return f"disorder={disorder} has no stationary state with this nonlinearity: activity diverges"


def _check(
    balance: float | int,
    disorder: float | int,
    noise: float | int,
    drive: float | int,
    readout: str,
    num_lags: int = 4,
    lag_step: float | int = 1.0,
    solver: str = "energy",
) -> None:
    """Refuse what is out of range."""
    at_least(0, balance=balance, disorder=disorder, noise=noise)
    if not np.isfinite(drive):
        raise ValueError(f"drive={drive} must be finite")
    if readout not in ("signs", "normal"):
        raise ValueError(f"readout={readout!r} must be 'signs' or 'normal'")
    if solver not in ("energy", "fourier"):
        raise ValueError(f"solver={solver!r} must be 'energy' or 'fourier'")
    if num_lags < 4 or num_lags % 2:
        raise ValueError(f"num_lags={num_lags} must be even and at least 4")
    if not 0 < lag_step < np.inf:
        raise ValueError(f"lag_step={lag_step} must be positive and finite")
