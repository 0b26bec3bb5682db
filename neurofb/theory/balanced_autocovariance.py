"""Autocovariance of the currents of a random network: Δ - Δ'' = g² C(Δ) + σ² δ(τ).

C is a power series of ρ = Δ / Δ(0) with positive coefficients (`neurofb.theory.hermite`), so the
equation is that of a particle in a potential: ½ Δ'² + V(Δ) is conserved, with Δ'(0+) = -σ²/2 at the
start and Δ' = 0 where the covariance ends, at a fixed point Δ∞ = g² C(Δ∞). Only Δ(0) is unknown,
and the lag is an integral over Δ. The argument is that of Sompolinsky, Crisanti and Sommers (1988)
with noise and frozen covariance added (our derivation). `fourier_step` is the usual alternative.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.integrate import cumulative_simpson
from scipy.interpolate import CubicHermiteSpline

_NUM_NEWTON = 200
_NUM_NODES = 4001
#: Decades (natural logarithms) of the decay that are integrated.
_DECAY = 40.0


@dataclass(frozen=True, eq=False)
class Descent:
    """Way of ρ from 1 to its end: ρ' = -(ρ - end) √κ²(ρ), κ² a polynomial.

    Attributes
    ----------
    end
        ρ∞, share of the variance that is frozen; NaN if the covariance does not decay.
    squared_rate
        Coefficients of κ², lowest power first.
    """

    end: float
    squared_rate: np.ndarray


def descend(
    coefficients: Float[np.ndarray, " term"], disorder: float | int, variance: float
) -> Descent:
    """Return how the covariance decays for a given variance Δ(0).

    The force h(ρ) = g² C(ρ) - Δ(0) ρ is convex. Newton's method from 0 finds its first zero, the
    end; the work of the force divided by (ρ - end)², both zeros taken out of the polynomial so
    that nothing cancels, is the squared rate of decay.

    Parameters
    ----------
    coefficients
        a_k of C = Σ a_k ρ^k, shape (term,), none negative.
    disorder
        g.
    variance
        Δ(0), positive.

    Returns
    -------
    Descent
        With an end that is NaN if the force has no zero below 1: the variance is too small.

    Examples
    --------
    >>> descend(np.array([0.0, 0.5]), 0.0, 0.5)  # no disorder: an exponential
    Descent(end=0.0, squared_rate=array([1.]))
    """
    force = disorder**2 * np.asarray(coefficients, dtype=float)
    force[1] -= variance
    end = _first_zero(force)
    if np.isnan(end):
        return Descent(end, np.full(len(force) - 1, np.nan))
    work = np.concatenate([[0.0], force / np.arange(1, len(force) + 1)])
    quotient = _divide(_divide(work, end), end)
    return Descent(end, -2 * quotient / variance)


def end_slope(descent: Descent, variance: float) -> float:
    """Return the squared slope Δ'(0+)² that leads to the end; σ⁴/4 for the right variance.

    Examples
    --------
    >>> end_slope(descend(np.array([0.0, 0.5]), 0.0, 0.5), 0.5)  # σ = 1
    0.25
    """
    return float((variance * (1 - descent.end)) ** 2 * descent.squared_rate.sum())


def correlation(
    descent: Descent, lag: Float[np.ndarray, " lag"]
) -> tuple[Float[np.ndarray, " lag"], Float[np.ndarray, " lag"]]:
    """Return ρ(τ) and its slope, from the lag as an integral over the decay.

    With ρ = ρ∞ + (1 - ρ∞) e^(-θ), dτ = dθ / κ. Noise-free chaos has κ = 0 at the start; the
    substitution θ = p² + 2 p p₀ with p₀² = κ²/(dκ²/dθ) at the start makes the integrand smooth.

    Parameters
    ----------
    descent
        From `descend`.
    lag
        τ, shape (lag,), not negative.

    Returns
    -------
    correlation, slope : ndarray
        Shape (lag,) each.

    Examples
    --------
    >>> values, _ = correlation(descend(np.array([0.0, 0.5]), 0.0, 0.5), np.array([0.0, 1.0]))
    >>> values.round(8)
    array([1.        , 0.36787944])
    """
    end, squared_rate = descent.end, descent.squared_rate
    start = float(squared_rate.sum())
    if start < 1e-11 * squared_rate[0]:
        start = 0.0  # no noise, up to rounding
    rise = -(1 - end) * float(np.arange(len(squared_rate)) @ squared_rate)
    offset = np.sqrt(start / max(rise, 0.01 * start, 1e-12))
    p = np.linspace(0.0, _DECAY / (offset + np.sqrt(offset**2 + _DECAY)), _NUM_NODES)
    decayed = np.exp(-p * (p + 2 * offset))
    rate = np.sqrt(np.maximum(series(squared_rate, end + (1 - end) * decayed), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        integrand = 2 * (p + offset) / rate
    if start == 0:
        integrand[0] = 2 / np.sqrt(rise)
    passed = cumulative_simpson(integrand, x=p, initial=0)
    inverse = CubicHermiteSpline(passed, p, 1 / integrand)
    at = inverse(np.minimum(lag, passed[-1]))
    above = np.where(lag > passed[-1], 0.0, (1 - end) * np.exp(-at * (at + 2 * offset)))
    rate = np.sqrt(np.maximum(series(squared_rate, end + above), 0.0))
    return end + above, -above * rate


def fourier_step(
    coefficients: Float[np.ndarray, " term"],
    autocovariance: Float[np.ndarray, " lag"],
    lag_step: float | int,
    disorder: float | int,
    noise: float | int,
) -> Float[np.ndarray, " lag"]:
    """Return the right side of the equation on a periodic grid: one step of fixed-point iteration.

    Parameters
    ----------
    coefficients
        a_k of C, for the variance of `autocovariance`.
    autocovariance
        Δ at the lags 0 to T/2 of a grid of T lags; shape (lag,).
    lag_step
        Distance of the lags.
    disorder, noise
        g and σ.

    Returns
    -------
    ndarray
        g² C filtered by 1 / (1 + ω²), and σ²/2 e^(-τ).

    Examples
    --------
    >>> fourier_step(np.array([0.0, 0.5]), np.full(101, 0.5), 0.1, 0.0, 1.0)[:3].round(6)
    array([0.5     , 0.452419, 0.409365])
    """
    num = len(autocovariance)
    lag = lag_step * np.arange(num)
    rates = series(coefficients, autocovariance / autocovariance[0])
    spectrum = np.fft.hfft(rates, 2 * (num - 1))
    omega = 2 * np.pi * np.fft.fftfreq(2 * (num - 1), lag_step)
    filtered = np.fft.ihfft(spectrum / (1 + omega**2)).real
    return disorder**2 * filtered + noise**2 / 2 * np.exp(-lag)


def series(coefficients: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return Σ c_k at^k (Horner's scheme in place, without the terms that vanish at the end)."""
    value = np.zeros_like(at)
    nonzero = np.flatnonzero(coefficients)
    for each in coefficients[: nonzero[-1] + 1 if len(nonzero) else 0][::-1]:
        value *= at
        value += each
    return value


def _first_zero(force: np.ndarray) -> float:
    """Return the first zero of a convex polynomial that is not negative at 0; below 1, or NaN."""
    powers = np.arange(len(force))
    at = 0.0
    for _ in range(_NUM_NEWTON):
        values = at ** powers[:-1]
        slope = float(powers[1:] * force[1:] @ values)
        height = float(force[0] + at * (force[1:] @ values))
        if slope >= 0:
            return at if height <= 1e-15 * abs(force[1]) and at > 0 else np.nan
        step = -height / slope
        at += step
        if at >= 1:
            return np.nan
        if step <= 1e-16 * (1 + at):
            return at
    return at


def _divide(polynomial: np.ndarray, root: float) -> np.ndarray:
    """Return a polynomial (lowest power first) divided by (ρ - root), without the remainder."""
    quotient = polynomial[1:].copy()
    for k in range(len(quotient) - 2, -1, -1):
        quotient[k] += root * quotient[k + 1]
    return quotient
