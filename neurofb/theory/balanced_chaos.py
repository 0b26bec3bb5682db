"""Chaos in a random network: its variance without drive, its onset, its Lyapunov exponent.

The argument is that of Sompolinsky, Crisanti and Sommers (1988) for dh/dt = -h + g J φ(h), with the
drive and the feedback of a balanced network added (our derivation): the feedback, of rank one, acts
on these only by the mean current that it leaves.
"""

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import root_scalar

from neurofb.theory.arguments import at_least
from neurofb.theory.balanced_autocovariance import correlation, descend, series
from neurofb.theory.balanced_mean_field import MeanField
from neurofb.theory.balanced_neurons import Readout, neurons_of
from neurofb.theory.hermite import Nonlinearity, gaussian_nodes

#: Grid points of the eigenvalue problem, and again twice as many.
_NUM_POINTS = 8000
_LARGEST_DISORDER = 1e4


def scs_variance(disorder: float | int) -> float:
    """Return Δ(0) of noise-free chaos without drive, φ = tanh: the closed condition of energy.

    With Φ = log cosh, the primitive of tanh, Δ(0)²/2 = g² Var Φ(√Δ(0) z): the energy at lag 0 is
    that at infinite lag. It shares no step with `neurofb.theory.mean_field`.

    Parameters
    ----------
    disorder
        g, at least 0.

    Returns
    -------
    float
        Δ(0); 0 up to g = 1.

    Raises
    ------
    ValueError
        If the disorder is negative or not finite.

    Examples
    --------
    >>> [round(scs_variance(each), 5) for each in (0.9, 1.2, 1.6, 2.0)]
    [0.0, 0.24263, 0.95054, 1.92481]
    """
    at_least(0, disorder=disorder)
    if disorder <= 1:
        return 0.0
    nodes, probabilities = gaussian_nodes()

    def excess(variance: float) -> float:
        current = np.abs(np.sqrt(variance) * nodes)
        primitive = current + np.log1p(np.exp(-2 * current))
        centred = primitive - probabilities @ primitive
        return disorder**2 * float(probabilities @ centred**2) - variance**2 / 2

    lowest = 1e-3 * (disorder - 1)
    found = root_scalar(excess, bracket=(lowest, disorder**2), xtol=1e-15, rtol=1e-14)
    return float(found.root)


def chaos_boundary(
    drive: float | int = 0.0,
    balance: float | int = 0.0,
    *,
    nonlinearity: Nonlinearity = "tanh",
    readout: Readout = "signs",
) -> float:
    """Return the disorder above which a network without noise is chaotic: g² E[φ'²] = 1.

    The averages are those of the state that does not change in time, Δ = g² E[φ²]. A drive delays
    chaos: it pushes the neurons to where they saturate, the more so the larger the balance.

    Parameters
    ----------
    drive
        x.
    balance
        b, at least 0: the network's input is b w (x - x̂), so that 0 means no input.
    nonlinearity, readout
        As in `neurofb.theory.mean_field`.

    Returns
    -------
    float
        g; infinite if no disorder makes it chaotic (a linear network diverges instead).

    Raises
    ------
    ValueError
        As `neurofb.theory.mean_field`.

    Examples
    --------
    >>> round(chaos_boundary(), 6)
    1.0
    >>> round(chaos_boundary(drive=0.5, balance=10.0), 4)
    1.8434
    """
    neurons = neurons_of(balance, drive, nonlinearity, readout)

    def excess(disorder: float) -> float:
        return disorder**2 * neurons.slope_variance(neurons.frozen_variance(disorder)) - 1

    low, high = 0.0, 1.0
    while True:
        try:
            if excess(high) >= 0:
                break
        except ValueError as error:
            if "no stationary state" in str(error):
                return np.inf
            raise
        low, high = high, 1.5 * high
        if high > _LARGEST_DISORDER:
            return np.inf
    return float(root_scalar(excess, bracket=(low, high), xtol=1e-13, rtol=1e-12).root)


def lyapunov_of_mean_field(mean_field: MeanField) -> float:
    """Return the largest Lyapunov exponent of a random network: positive in chaos.

    λ = -1 + √(1 - E0), with the lowest eigenvalue E0 of -∂²/∂τ² + 1 - g² E[φ'(h(t)) φ'(h(t + τ))]
    on the line. The wave is even, so that half of the line with a flat start has it; second-order
    differences on two grids are extrapolated. The feedback along the readout is left out: it is one
    direction among N.

    Parameters
    ----------
    mean_field
        From `neurofb.theory.mean_field`.

    Returns
    -------
    float
        Per membrane time constant.

    Examples
    --------
    >>> from neurofb.theory import mean_field
    >>> round(lyapunov_of_mean_field(mean_field(0.0, disorder=2.0)), 3)
    0.112
    >>> round(lyapunov_of_mean_field(mean_field(0.0, disorder=0.5)), 3)
    -0.5
    """
    lowest, _ = _levels(mean_field)
    return float(np.sqrt(max(1 - lowest, 0.0)) - 1)


def _levels(mean_field: MeanField, *, odd: bool = False) -> tuple[float, float]:
    """Return the lowest even (or odd) eigenvalue and the bottom of the continuum."""
    variance, g = mean_field.variance, mean_field.disorder
    rates = mean_field.rate_coefficients
    slopes = np.arange(1, len(rates)) * rates[1:] / variance if variance > 0 else rates[1:]
    if variance in (0.0, mean_field.frozen_variance):
        bottom = 1 - g**2 * mean_field.slope_variance
        return bottom, bottom
    end = mean_field.frozen_variance / variance
    bottom = 1 - g**2 * float(series(slopes, np.array(end)))
    longest = float(mean_field.lag[-1])
    way = descend(rates, g, variance) if g > 0 else None

    def level(num: int) -> float:
        step = longest / num
        # midpoints: a flat start is a mirror image half a step before the first point
        lag = step * (np.arange(num) + 0.5)
        rho = np.exp(-lag) if way is None else correlation(way, lag)[0]
        diagonal = 2 / step**2 + 1 - g**2 * series(slopes, rho)
        diagonal[0] += (1 if odd else -1) / step**2
        beside = np.full(num - 1, -1 / step**2)
        levels = eigh_tridiagonal(
            diagonal, beside, eigvals_only=True, select="i", select_range=(0, 0)
        )
        return float(levels[0])

    coarse, fine = level(_NUM_POINTS), level(2 * _NUM_POINTS)
    return min((4 * fine - coarse) / 3, bottom), bottom
