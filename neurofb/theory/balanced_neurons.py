"""Balanced network: averages over its neurons, given the variance of their currents.

What `neurofb.theory.mean_field` asks for while it looks for that variance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import root_scalar

from neurofb.theory.arguments import at_least
from neurofb.theory.hermite import (
    Nonlinearity,
    gaussian_nodes,
    hermite_coefficients,
    rate_function,
)

Readout = Literal["signs", "normal"]

#: Above it a network is said to have no stationary state.
LARGEST_VARIANCE = 1e8
#: Deviation at which the slope of a neuron without fluctuations is taken.
_SMALL = 1e-5


@dataclass(frozen=True)
class Neurons:
    """Neurons under a constant drive and a Gaussian current of a given variance.

    Attributes
    ----------
    balance, drive
        b and x.
    function
        φ, of numpy arrays.
    weights, probabilities
        Nodes of the distribution of the readout's |w|, and their probabilities.

    Examples
    --------
    >>> neurons_of(10.0, 0.2).field(0.0).__round__(4)
    0.1837
    """

    balance: float
    drive: float
    function: Any
    weights: np.ndarray
    probabilities: np.ndarray

    def estimate(self, field: float, deviation: float) -> float:
        """Return x̂ = E[w φ(w m + deviation z)]."""
        if field == 0:
            return 0.0  # φ is odd
        nodes, density = gaussian_nodes()
        means = self.function(self.weights[:, None] * field + deviation * nodes) @ density
        return float((self.probabilities * self.weights) @ means)

    def field(self, deviation: float) -> float:
        """Return m, the zero of m - b (x - x̂(m)), which rises with m."""
        if self.balance == 0 or self.drive == 0:
            return 0.0

        def excess(field: float) -> float:
            return field - self.balance * (self.drive - self.estimate(field, deviation))

        return find_root(excess, 0.0, self.balance * self.drive)[0]

    def coefficients(self, variance: float) -> tuple[float, np.ndarray, np.ndarray]:
        """Return m and the series of E[φ φ'] and E[w² φ φ']."""
        deviation = np.sqrt(variance)
        field = self.field(deviation)
        with np.errstate(over="ignore"):
            squares = hermite_coefficients(self.function, self.weights * field, deviation) ** 2
        if field == 0:
            squares[:, ::2] = 0.0  # φ is odd
        return field, self.probabilities @ squares, self.probabilities * self.weights**2 @ squares

    def rates(self, variance: float) -> np.ndarray:
        """Return the series of E[φ φ']."""
        return self.coefficients(variance)[1]

    def gain(self, field: float, variance: float) -> float:
        """Return E[w² φ'], the first Hermite coefficient per deviation (Stein's lemma)."""
        deviation = max(np.sqrt(variance), _SMALL)
        first = hermite_coefficients(self.function, self.weights * field, deviation)[:, 1]
        return float((self.probabilities * self.weights**2) @ first / deviation)

    def slope_variance(self, variance: float) -> float:
        """Return E[φ'²]."""
        if variance > 0:
            rates = self.rates(variance)
            return float(np.arange(len(rates)) @ rates / variance)
        centre = self.weights * self.field(0.0)
        slope = hermite_coefficients(self.function, centre, _SMALL)[:, 1] / _SMALL
        return float(self.probabilities @ slope**2)

    def frozen_variance(self, disorder: float | int) -> float:
        """Return the variance Δ = g² C of a state that does not change in time, stable or not."""

        def excess(variance: float) -> float:
            nodes, density = gaussian_nodes()
            deviation = np.sqrt(variance)
            field = self.field(deviation)
            with np.errstate(over="ignore"):
                power = self.function(self.weights[:, None] * field + deviation * nodes) ** 2
            return disorder**2 * float(self.probabilities @ (power @ density)) - variance

        highest = 1.0
        while not excess(highest) <= 0:  # not a number where φ overflows
            highest *= 2
            if highest > LARGEST_VARIANCE:
                raise ValueError(no_state(disorder))
        lowest = 1e-12 * highest
        return 0.0 if excess(lowest) <= 0 else find_root(excess, lowest, highest)[0]


def neurons_of(
    balance: float | int,
    drive: float | int,
    nonlinearity: Nonlinearity = "tanh",
    readout: str = "signs",
) -> Neurons:
    """Return neurons after a check of the arguments of `neurofb.theory.mean_field`.

    Raises
    ------
    ValueError
        With the name and value of what is out of range.

    Examples
    --------
    >>> neurons_of(1.0, 0.5, "linear").field(0.0).__round__(6)
    0.25
    """
    at_least(0, balance=balance)
    if not np.isfinite(drive):
        raise ValueError(f"drive={drive} must be finite")
    if readout not in ("signs", "normal"):
        raise ValueError(f"readout={readout!r} must be 'signs' or 'normal'")
    weights, probabilities = _weights(readout)
    function = rate_function(nonlinearity)
    return Neurons(float(balance), float(drive), function, weights, probabilities)


def find_root(
    function: Callable[[float], float], low: float, high: float
) -> tuple[float, int, bool]:
    """Return where a function changes its sign, the number of steps and whether it was found.

    Examples
    --------
    >>> find_root(lambda x: x**2 - 2, 1.0, 2.0)[0].__round__(12)
    1.414213562373
    """
    scale = 1e-15 * max(abs(low), abs(high))
    found = root_scalar(function, bracket=(low, high), method="brentq", xtol=scale, rtol=1e-14)
    return float(found.root), int(found.iterations), bool(found.converged)


def no_state(disorder: float | int) -> str:
    """Return the message for a network whose rates grow without bound.

    Examples
    --------
    >>> no_state(2.0)[:36]
    'disorder=2.0 has no stationary state'
    """
    return f"disorder={disorder} has no stationary state with this nonlinearity: activity diverges"


def _weights(readout: str) -> tuple[np.ndarray, np.ndarray]:
    """Return readout weights and their probabilities; their sign makes no difference."""
    if readout == "signs":
        return np.ones(1), np.ones(1)
    weights = np.arange(0.0, 8.1, 0.2)
    density = np.exp(-(weights**2) / 2)
    density[0] /= 2
    return weights, density / density.sum()
