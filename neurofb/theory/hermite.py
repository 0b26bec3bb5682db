"""Averages of a neuron's rate over Gaussian currents, by its Hermite coefficients.

For a current a + s z, z standard normal, the rate is Σ_k c_k He_k(z)/√k! and two moments of time
whose currents have the correlation ρ have E[φ φ'] = Σ_k c_k² ρ^k: one set of coefficients answers
for every lag.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import erf

#: A name, or an odd function of an array that returns an array of the same shape.
Nonlinearity = str | Callable[[Any], Any]

NUM_TERMS = 128
_NONLINEARITIES: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "linear": lambda h: np.asarray(h, dtype=float),
    "erf": lambda h: erf(np.sqrt(np.pi) / 2 * h),
}


def rate_function(nonlinearity: Nonlinearity) -> Callable[[Any], Any]:
    """Return the function of a name, or a function that has been found to be odd.

    Raises
    ------
    ValueError
        If the name is unknown, or the function not odd, not finite or of another shape.

    Examples
    --------
    >>> rate_function("linear")(2.0).item()
    2.0
    """
    if isinstance(nonlinearity, str):
        if nonlinearity not in _NONLINEARITIES:
            names = ", ".join(sorted(_NONLINEARITIES))
            raise ValueError(f"nonlinearity={nonlinearity!r} must be one of {names}, or a function")
        return _NONLINEARITIES[nonlinearity]
    probe = np.linspace(0.0, 10.0, 41)
    values, mirrored = np.asarray(nonlinearity(probe)), np.asarray(nonlinearity(-probe))
    if values.shape != probe.shape or not np.all(np.isfinite(values)):
        raise ValueError(
            f"nonlinearity={nonlinearity!r} must return finite numbers in the shape of its argument"
        )
    if not np.allclose(values, -mirrored, rtol=1e-9, atol=1e-12):
        worst = probe[np.argmax(np.abs(values + mirrored))]
        raise ValueError(
            f"nonlinearity={nonlinearity!r} must be odd: at {worst:g} it is {nonlinearity(worst)}, "
            f"at {-worst:g} it is {nonlinearity(-worst)}"
        )
    return nonlinearity


@cache
def gaussian_nodes() -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, " node"]]:
    """Return nodes and probabilities of a standard normal: the trapezoidal rule, 481 nodes.

    For analytic functions it converges faster than every power of the step; unlike the rule of
    Gauss and Hermite it also does for the steep sigmoid of a strong current.

    Examples
    --------
    >>> nodes, probabilities = gaussian_nodes()
    >>> round(float(probabilities @ nodes**4), 12)
    3.0
    """
    nodes = np.linspace(-12.0, 12.0, 481)
    density = np.exp(-(nodes**2) / 2)
    return nodes, density / density.sum()


@cache
def hermite_basis() -> Float[np.ndarray, "term node"]:
    """Return the orthonormal Hermite polynomials times the probabilities of the nodes.

    Examples
    --------
    >>> hermite_basis().shape
    (128, 481)
    """
    nodes, probabilities = gaussian_nodes()
    basis = np.empty((NUM_TERMS, len(nodes)))
    basis[0], basis[1] = 1.0, nodes
    for k in range(1, NUM_TERMS - 1):
        basis[k + 1] = (nodes * basis[k] - np.sqrt(k) * basis[k - 1]) / np.sqrt(k + 1)
    return basis * probabilities


def hermite_coefficients(
    function: Callable[[Any], Any], centre: Float[np.ndarray, " weight"], deviation: float
) -> Float[np.ndarray, "weight term"]:
    """Return the coefficients of φ(centre + deviation · z) for each centre.

    Parameters
    ----------
    function
        φ, of arrays.
    centre
        Means of the current, shape (weight,).
    deviation
        Its standard deviation.

    Returns
    -------
    ndarray
        Shape (weight, 128). The sum of the squares is E[φ²]: what lies beyond the last term is
        counted to it.

    Examples
    --------
    >>> hermite_coefficients(lambda h: h**2, np.array([0.0]), 2.0)[0, :4].round(9) + 0.0
    array([4.        , 0.        , 5.65685425, 0.        ])
    """
    nodes, probabilities = gaussian_nodes()
    with np.errstate(over="ignore", invalid="ignore"):
        rates = function(centre[:, None] + deviation * nodes)
        coefficients = rates @ hermite_basis().T
        missing = rates**2 @ probabilities - (coefficients**2).sum(axis=1)
    last = coefficients[:, -1]
    coefficients[:, -1] = np.sqrt(np.maximum(last**2 + missing, 0.0))
    return coefficients
