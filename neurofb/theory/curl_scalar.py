"""Curl descent with one input, solved exactly: pairs of weights on hyperbolas and on circles.

y = Σ vⱼ wⱼ x with readout weights v and input weights w learns t by dvⱼ/dt = dⱼ e wⱼ and
dwⱼ/dt = e vⱼ with the error e = t - Σ vⱼ wⱼ (input variance 1; dⱼ = -1 for a flipped neuron). In
the time τ = ∫ e dt the motion is linear: unflipped pairs move on hyperbolas w² - v² = const,
flipped ones on circles w² + v² = const. All of it is our derivation.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar

Weights = Float[np.ndarray, " hidden"]

#: intervals of τ in which a crossing is looked for, in a turn of a flipped pair
_PER_TURN = 64


def scalar_motion(
    tau: float | int, v: Weights, w: Weights, signs: Weights
) -> tuple[Weights, Weights]:
    """Return the weights (v, w) at τ = ∫ e dt.

    Parameters
    ----------
    tau
        From minus to plus infinity; its sign is that of the error.
    v, w
        Readout and input weights at the start.
    signs
        dⱼ: -1 for a hidden neuron whose readout synapse is flipped, else 1.

    Raises
    ------
    ValueError
        If the three are not equally long, a sign is not 1 or -1, or a number not finite.

    Examples
    --------
    >>> v, w = scalar_motion(np.pi / 2, np.array([0.0]), np.array([2.0]), np.array([-1.0]))
    >>> v.round(6), w.round(6)  # a quarter of a circle
    (array([-2.]), array([0.]))
    """
    _check(v, w, signs, tau=tau)
    with np.errstate(over="ignore", invalid="ignore"):
        even = np.where(signs > 0, np.cosh(tau), math.cos(tau))
        odd = np.where(signs > 0, np.sinh(tau), math.sin(tau))
    return v * even + signs * w * odd, w * even + v * odd


def first_crossing(v: Weights, w: Weights, signs: Weights, target: float | int) -> float:
    """Return τ*, the τ at which the output first reaches its target; infinite if it never does.

    Learning ends there (after infinite time), and the solution is stable where the slope
    of the output in τ, Σ vⱼ² + dⱼ wⱼ², is positive. One unflipped neuron (not just on the way into
    the saddle at 0) makes sure that it is reached. If all are flipped, the output never exceeds
    ½ Σ (vⱼ² + wⱼ²).

    Parameters
    ----------
    v, w, signs
        As in `scalar_motion`.
    target
        t.

    Returns
    -------
    float
        Negative if the output starts above the target.

    Raises
    ------
    ValueError
        As `scalar_motion`.

    Examples
    --------
    >>> v, w, signs = np.array([0.3, 0.8]), np.array([0.2, 0.6]), np.array([1.0, -1.0])
    >>> round(first_crossing(v, w, signs, 1.0), 5)
    1.5835
    """
    _check(v, w, signs, target=target)
    direction = float(np.sign(target - v @ w))
    if direction == 0:
        return 0.0

    def missing(tau: float) -> float:
        return direction * (target - _output(direction * tau, v, w, signs))

    growing = ((v + direction * w)[signs > 0] ** 2).sum() / 4
    # until growing pairs outweigh all others; without them until transients have died away
    size = abs(target) + (v**2 + w**2).sum()
    last = 6 * math.pi if growing == 0 else math.log(max(size / growing, 1.0)) / 2 + 0.1
    grid = np.linspace(0.0, last, max(4, math.ceil(_PER_TURN * last / math.pi)))
    values = np.array([missing(tau) for tau in grid])
    for i in range(1, len(grid)):
        end = float(grid[i])
        if values[i] > 0 and i + 1 < len(grid) and values[i] < min(values[i - 1], values[i + 1]):
            # it may dip below zero between two points of the grid
            ends = grid[i - 1], grid[i + 1]
            options = {"xatol": 1e-10}
            dip: Any = minimize_scalar(missing, bounds=ends, method="bounded", options=options)
            end = float(dip.x)
        if missing(end) <= 0:
            root: Any = brentq(missing, grid[i - 1], end, xtol=1e-14)
            return direction * root
    return direction * math.inf


def escape_time(
    v: Weights, w: Weights, signs: Weights, target: float | int, *, loss: float = 1e-3
) -> float:
    """Return the time until the loss ½ e² first falls to a value; infinite if it never does.

    By quadrature of ∫ dτ / |e|. Plain descent from near the stable manifold of the saddle at 0,
    v = -w (1 - ε), needs a time that grows as log(1/ε) / t; a flipped neuron goes round on its
    circle and never comes near the saddle.

    Parameters
    ----------
    v, w, signs, target
        As in `first_crossing`.
    loss
        Threshold, above 0.

    Returns
    -------
    float
        Time in steps times learning rate (times the input variance).

    Raises
    ------
    ValueError
        As `scalar_motion`, or if `loss` is not positive.

    Examples
    --------
    >>> v, w = np.array([-0.9999]), np.array([1.0])
    >>> [round(escape_time(v, w, np.array([d]), 0.5), 3) for d in (1.0, -1.0)]
    [20.336, 2.045]
    """
    if not 0 < loss < math.inf:
        raise ValueError(f"loss={loss} must be positive and finite")
    _check(v, w, signs, target=target)
    error = float(target - v @ w)
    if error**2 / 2 <= loss:
        return 0.0
    goal = target - math.copysign(math.sqrt(2 * loss), error)
    end = first_crossing(v, w, signs, goal)
    if math.isinf(end):
        return math.inf
    integral = quad(lambda tau: 1 / (target - _output(tau, v, w, signs)), 0.0, end, limit=500)
    return float(integral[0])


def conserved_blocks(
    w1: Float[np.ndarray, "hidden input"],
    w2: Float[np.ndarray, "output hidden"],
    d1: Float[np.ndarray, " input"],
    d2: Float[np.ndarray, " hidden"],
) -> Float[np.ndarray, "hidden hidden"]:
    """Return C = W1 D1 W1ᵀ - W2ᵀ W2 D2, of which learning in continuous time keeps two blocks.

    These are the entries between hidden neurons of one sign in D2; the others change, and are NaN
    here. For a linear network of any size, any input covariance, without a constraint on norms. A
    step of size η changes them in order η².

    Parameters
    ----------
    w1, w2
        Weights.
    d1, d2
        Diagonals of D1 and D2, entries 1 or -1.

    Raises
    ------
    ValueError
        If the shapes do not fit, or an entry of D1 or D2 is not 1 or -1.

    Examples
    --------
    >>> w1, w2 = np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]])
    >>> conserved_blocks(w1, w2, np.array([1.0]), np.array([1.0, -1.0]))
    array([[-8., nan],
           [nan, 20.]])
    """
    if w1.shape != (len(d2), len(d1)) or w2.shape[1] != len(d2):
        raise ValueError(
            f"w1 of shape {w1.shape} and w2 of shape {w2.shape} must be ({len(d2)}, {len(d1)}) "
            f"and (outputs, {len(d2)}), as d2 and d1 say"
        )
    _check_signs(d1=d1, d2=d2)
    block = w1 @ (d1[:, None] * w1.T) - w2.T @ w2 * d2
    return np.where(d2[:, None] == d2, block, np.nan)


def _output(tau: float, v: np.ndarray, w: np.ndarray, signs: np.ndarray) -> float:
    """Return Σ v w at τ, in coordinates in which growing and decaying parts do not cancel."""
    unflipped = signs > 0
    growing, decaying = (v + w)[unflipped] ** 2 / 4, (v - w)[unflipped] ** 2 / 4
    product, difference = (v * w)[~unflipped].sum(), (v**2 - w**2)[~unflipped].sum() / 2
    turned = product * math.cos(2 * tau) + difference * math.sin(2 * tau)
    return float(growing.sum() * math.exp(2 * tau) - decaying.sum() * math.exp(-2 * tau) + turned)


def _check(v: np.ndarray, w: np.ndarray, signs: np.ndarray, **numbers: float | int) -> None:
    """Refuse neurons that are not complete, and numbers that are not finite."""
    if not len(v) == len(w) == len(signs) > 0:
        raise ValueError(f"v, w and signs have {len(v)}, {len(w)} and {len(signs)} entries")
    if not (np.isfinite(v).all() and np.isfinite(w).all()):
        raise ValueError(f"v={v} and w={w} must hold finite numbers")
    _check_signs(signs=signs)
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise ValueError(f"{name}={value} must be finite")


def _check_signs(**arguments: np.ndarray) -> None:
    """Refuse signs other than 1 and -1."""
    for name, signs in arguments.items():
        if not np.isin(signs, (1.0, -1.0)).all():
            raise ValueError(f"{name}={signs} must be 1 or -1")
