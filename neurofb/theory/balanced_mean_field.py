"""Balanced network: stationary mean field for many neurons, with noise, chaos and constant drive.

dh_i/dt = -h_i + g Σ_j J_ij φ(h_j) + b w_i (x - x̂) + σ ξ_i with x̂ = Σ_j w_j φ(h_j) / N, in units of
the membrane time. J_ij has the variance 1/N and ⟨ξ ξ'⟩ = δ(t - t'), so that the noise alone gives h
the variance σ²/2. For N → ∞, h_i = w_i m + δ_i with m = b (x - x̂) and a Gaussian δ of
autocovariance Δ(τ): Δ - Δ'' = g² E[φ φ'] + σ² δ(τ). A delay of the feedback changes none of it, as
long as the network does not oscillate. The model is that of arXiv:2006.14178 as far as its abstract
and the caption of Figure 1 tell it; the equations are our derivation.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from neurofb.theory.arguments import at_least
from neurofb.theory.balanced_autocovariance import series
from neurofb.theory.balanced_neurons import Readout, neurons_of
from neurofb.theory.balanced_solvers import covariance_at, solve_energy, solve_fourier
from neurofb.theory.hermite import Nonlinearity

Solver = Literal["energy", "fourier"]


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
        series alone (1e-13 at g = 2, 2e-11 at 2.5, 3e-7 at 5); ``"fourier"`` iterates the equation
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
    _check(disorder, noise, num_lags, lag_step, solver)
    neurons = neurons_of(balance, drive, nonlinearity, readout)
    lag = lag_step * np.arange(num_lags // 2 + 1)
    if solver == "fourier":
        covariance, steps, converged = solve_fourier(neurons, lag, lag_step, disorder, noise)
        variance, frozen = float(covariance[0]), float(covariance[-1])
        if variance - frozen < 1e-6 * variance:
            frozen = variance
    else:
        variance, frozen, steps, converged = solve_energy(neurons, disorder, noise)
        covariance = covariance_at(neurons, variance, frozen, disorder, lag)
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
        gain=neurons.gain(field, variance),
        slope_variance=neurons.slope_variance(variance),
        lag=lag,
        autocovariance=covariance,
        rate_covariance=series(rates, covariance / variance if variance else np.ones_like(lag)),
        rate_coefficients=rates,
        readout_coefficients=readouts,
        converged=converged,
        num_iterations=steps,
    )


def _check(
    disorder: float | int,
    noise: float | int,
    num_lags: int,
    lag_step: float | int,
    solver: str,
) -> None:
    """Refuse what is out of range."""
    at_least(0, disorder=disorder, noise=noise)
    if solver not in ("energy", "fourier"):
        raise ValueError(f"solver={solver!r} must be 'energy' or 'fourier'")
    if num_lags < 4 or num_lags % 2:
        raise ValueError(f"num_lags={num_lags} must be even and at least 4")
    if not 0 < lag_step < np.inf:
        raise ValueError(f"lag_step={lag_step} must be positive and finite")
