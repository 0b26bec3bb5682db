"""Curl descent: which share of wrong-signed synapses a linear network's solutions survive.

A network y = W2 W1 x of M inputs, N hidden neurons and one output learns by gradient descent in
which some presynaptic columns have the wrong sign (arXiv:2510.02765): dW1 = -∂L/∂W1 D1 and
dW2 = -∂L/∂W2 D2, with D1 and D2 diagonal, -1 for a flipped neuron and 1 for all others. Near a
solution the error relaxes by -X, X = ‖W2‖² D1 + W1ᵀ D2 W1 (`neurofb.theory.reduced_matrix`), so a
solution is stable if and only if X is positive definite. For large networks with independent
weights the spectrum of -X is a free convolution, whose upper edge is found here. The random matrix
is that of the authors' code; the one-variable formulas are our derivation.

"Hidden" flips are those of D1: a fraction of the M *inputs*, whose synapses onto the hidden layer
have the wrong sign. "Readout" flips are those of D2: a fraction of the N *hidden neurons*, whose
synapses onto the output have it.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from neurofb.theory.arguments import Numbers, bisect, positive, within_one


def critical_hidden_fraction(
    ratio: Numbers, *, weight_ratio: Numbers = 1.0
) -> Float[np.ndarray, "..."]:
    """Return α_h*, the fraction of flipped inputs above which the solutions are unstable.

    α_h* = ½ max over b > 1 of (b² - 1)(1/(c b) - 1/r) - (b - 1), at most 1, without readout flips
    (our derivation). For r = 1 it is 1 up to c = 1/4, then falls, and is 0 from c = 2/3: there one
    flipped input is too many.

    Parameters
    ----------
    ratio
        Inputs per hidden neuron, c = M / N.
    weight_ratio
        r = s1 / s, with s1 = M Var(W1) and s = ‖W2‖²; 1 for the authors' weights.

    Returns
    -------
    ndarray
        Fraction of the inputs, 0 to 1; 0-d for numbers.

    Raises
    ------
    ValueError
        If an argument is not positive and finite.

    Examples
    --------
    >>> critical_hidden_fraction(np.array([0.25, 0.3, 0.5, 0.7])).round(4)
    array([1.    , 0.5585, 0.0467, 0.    ])
    """
    c, r = positive(ratio=ratio, weight_ratio=weight_ratio)
    highest = np.maximum(r / c, 1.0)  # beyond it the slope is negative
    b = bisect(lambda b: 1 / c + 1 / (c * b**2) - 2 * b / r - 1 > 0, np.ones_like(c), highest)
    value = ((b**2 - 1) * (1 / (c * b) - 1 / r) - (b - 1)) / 2
    return np.asarray(np.clip(value, 0.0, 1.0) + 0.0)  # no negative zero


def critical_readout_fraction(
    ratio: Numbers, *, weight_ratio: Numbers = 1.0
) -> Float[np.ndarray, "..."]:
    """Return α_r*, the fraction of flipped hidden neurons above which the solutions are unstable.

    α_r* = ½ max over 0 < q < 1 of (1 - q)(1 - c (1 + q)(1/q - 1/r)), without hidden flips (our
    derivation). For r = 1 it goes from ½ - √c at small c to 1 / (16 c) at large c. It says where a
    *typical* solution loses its stability; learning then settles on another, stable one.

    Parameters
    ----------
    ratio, weight_ratio
        As in `critical_hidden_fraction`.

    Returns
    -------
    ndarray
        Fraction of the hidden neurons, 0 to 1; 0-d for numbers.

    Raises
    ------
    ValueError
        If an argument is not positive and finite.

    Examples
    --------
    >>> critical_readout_fraction(np.array([0.1, 1.0, 10.0])).round(4)
    array([0.2446, 0.0551, 0.0062])
    """
    c, r = positive(ratio=ratio, weight_ratio=weight_ratio)
    zero, one = np.zeros_like(c), np.ones_like(c)
    q = bisect(lambda q: c * (1 / q**2 + 1 - 2 * q / r) > 1, zero, one)
    value = (1 - q) * (1 - c * (1 + q) * (1 / q - 1 / r)) / 2
    return np.asarray(np.clip(value, 0.0, 1.0) + 0.0)


def largest_eigenvalue(
    ratio: Numbers,
    hidden_flips: Numbers = 0.0,
    readout_flips: Numbers = 0.0,
    *,
    hidden_variance: Numbers = 1.0,
    readout_norm: Numbers = 1.0,
    strength: Numbers = 1.0,
) -> Float[np.ndarray, "..."]:
    """Return the upper edge of the spectrum of -X for large networks; unstable if positive.

    It is the minimum over w > 0 of z(w) + R(w): z is the inverse of the Stieltjes transform of
    -s D1, and R(w) = -(s1/c) Σ pⱼ dⱼ / (1 + dⱼ s1 w) the R-transform of -W1ᵀ D2 W1, over the values
    dⱼ of D2 and their shares pⱼ (our derivation). The slope changes its sign only once, by the
    inequality of Cauchy and Schwarz, so that bisection finds the minimum. Finite networks lie
    below the edge, by fluctuations of order M^(-2/3).

    Parameters
    ----------
    ratio
        Inputs per hidden neuron, c = M / N.
    hidden_flips, readout_flips
        Fractions α_h of the inputs and α_r of the hidden neurons, 0 to 1.
    hidden_variance
        s1 = M Var(W1): the squared norm of a hidden neuron's weights.
    readout_norm
        s = ‖W2‖².
    strength
        ρ: D is 1 - 2 ρ for a flipped neuron, from 0 (as all others) over ½ (frozen) to 1.

    Returns
    -------
    ndarray
        Rate of the fastest growing error, per time (steps times learning rate) and unit of input
        variance; 0-d for numbers.

    Raises
    ------
    ValueError
        If a fraction or the strength is outside [0, 1], or another argument not positive.

    Examples
    --------
    >>> largest_eigenvalue(0.3, np.array([0.3, 0.8])).round(4)
    array([-0.2841,  0.1908])
    >>> largest_eigenvalue(10, 0.3).item()  # more flipped inputs than hidden neurons
    1.0
    """
    c, ah, ar, s1, s, rho = _checked(
        ratio, hidden_flips, readout_flips, hidden_variance, readout_norm, strength
    )
    # all in units of s; flipped inputs have -D1 = -flipped, the others -1
    r, flipped, d2 = s1 / s, np.where(ah > 0, 1 - 2 * rho, 1.0), 1 - 2 * rho
    top = -flipped
    # D2 < 0 needs q = r w < 1 / |d2|: w reaches that at the larger root of a quadratic
    limit = r * np.where(ar > 0, np.maximum(-d2, 0.0), 0.0)
    half = (1 + flipped - limit) / 2
    root = half**2 - flipped + limit * (ah + (1 - ah) * flipped)
    lowest = np.where(limit > 0, np.maximum(np.sqrt(np.maximum(root, 0.0)) - half, top), top)

    def is_rising(u: Numbers) -> Any:
        z = lowest + np.exp(u)
        q = r * (ah / (z + flipped) + (1 - ah) / (z + 1))
        minus_slope = ah / (z + flipped) ** 2 + (1 - ah) / (z + 1) ** 2  # of q / r
        gain = (1 - ar) / (1 + q) ** 2 + np.where(ar > 0, ar * (d2 / (1 + d2 * q)) ** 2, 0.0)
        outside = (ar > 0) & (1 + d2 * q <= 0)
        return outside | (r**2 / c * gain * minus_slope > 1)

    def edge(u: Numbers) -> Any:
        z = lowest + np.exp(u)
        q = r * (ah / (z + flipped) + (1 - ah) / (z + 1))
        return z - r / c * ((1 - ar) / (1 + q) + np.where(ar > 0, ar * d2 / (1 + d2 * q), 0.0))

    # shares of the largest entry of -D1, and of the neurons that reach it: a surplus stays put
    share = np.where((ah > 0) & (flipped < 1), ah, 1.0)
    reached = (1 - ar + ar * (d2 != 0)) / c
    stays = (limit == 0) & (share >= reached)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u = bisect(is_rising, np.full_like(c, -60.0), np.full_like(c, 100.0))
        return np.asarray(s * np.where(stays, top, edge(u)))


def largest_eigenvalue_many_outputs(
    ratio: Numbers,
    output_ratio: Numbers,
    hidden_flips: Numbers = 0.0,
    readout_flips: Numbers = 0.0,
    *,
    hidden_variance: Numbers = 1.0,
    readout_norm: Numbers = 1.0,
    strength: Numbers = 1.0,
) -> Float[np.ndarray, "..."]:
    """Return the upper edge of the linearised spectrum for K outputs, κ = K / N.

    The spectrum is the union of those of -(sₖ D1 + W1ᵀ D2 W1) over the eigenvalues sₖ of W2 W2ᵀ,
    which lie between s (1 - √κ)² and s (1 + √κ)² (our derivation). The largest eigenvalue of a
    matrix that is linear in sₖ is convex in sₖ: one of the two ends has the largest. The upper one
    is the worst for hidden flips, the lower one for readout flips.

    Parameters
    ----------
    ratio, hidden_flips, readout_flips, hidden_variance, strength
        As in `largest_eigenvalue`.
    output_ratio
        κ = K / N, between 0 and 1.
    readout_norm
        s = mean squared norm of an output's weights, N Var(W2).

    Returns
    -------
    ndarray
        As for `largest_eigenvalue`.

    Raises
    ------
    ValueError
        As `largest_eigenvalue`, or if `output_ratio` is not in (0, 1).

    Examples
    --------
    >>> round(largest_eigenvalue_many_outputs(0.2, 0.25, 0.5).item(), 3)
    0.107
    >>> round(largest_eigenvalue(0.2, 0.5).item(), 3)  # one output
    -1.0
    """
    (kappa,) = positive(output_ratio=output_ratio)
    if np.any(kappa >= 1):
        raise ValueError(f"output_ratio={output_ratio} must be below 1: outputs per hidden neuron")
    ends = [
        largest_eigenvalue(
            ratio,
            hidden_flips,
            readout_flips,
            hidden_variance=hidden_variance,
            readout_norm=np.asarray(readout_norm) * (1 + sign * np.sqrt(kappa)) ** 2,
            strength=strength,
        )
        for sign in (-1, 1)
    ]
    return np.asarray(np.maximum(*ends))


def _checked(
    ratio: Numbers,
    hidden_flips: Numbers,
    readout_flips: Numbers,
    hidden_variance: Numbers,
    readout_norm: Numbers,
    strength: Numbers,
) -> tuple[np.ndarray, ...]:
    """Return all six as arrays of one shape."""
    fractions = {"hidden_flips": hidden_flips, "readout_flips": readout_flips, "strength": strength}
    ah, ar, rho = within_one(**fractions)
    c, s1, s = positive(ratio=ratio, hidden_variance=hidden_variance, readout_norm=readout_norm)
    return tuple(np.array(each) for each in np.broadcast_arrays(c, ah, ar, s1, s, rho))
