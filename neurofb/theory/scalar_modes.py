"""One mode, one hidden unit: where feedback that is no transpose leads, in closed form."""

import math
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from neurofb.theory.arguments import at_least, positive


class ScalarFeedback(NamedTuple):
    """Weights a = w2, b = w1 of a scalar network, and the factors q, p of its feedback."""

    a: np.ndarray
    b: np.ndarray
    q: np.ndarray
    p: np.ndarray


def scalar_fa(
    singular_value: float | int,
    feedback: float | int,
    *,
    a: float | int = 0.0,
    b: float | int = 0.0,
) -> tuple[float, float]:
    """Return the weights (a*, b*) at which feedback alignment of a scalar mode ends.

    a' = e b, b' = β e, e = s − a b keep a − b² / (2 β) constant, so that the end is the first
    root of a(b) b = s on that parabola; from zero b* = (2 β s)^(1/3) (our derivation).

    Parameters
    ----------
    singular_value
        s > 0.
    feedback
        β ≠ 0, fixed.
    a, b
        Initial weights of the second and the first layer.

    Returns
    -------
    tuple[float, float]
        a*, b* with a* b* = s.

    Raises
    ------
    ValueError
        If s is not positive, β is zero (a zero feedback teaches the first layer nothing), or a
        number is not finite.

    Examples
    --------
    >>> a, b = scalar_fa(3.5, 1.0)
    >>> round(b, 4), round(a * b, 9)
    (1.9129, 3.5)
    """
    positive(singular_value=singular_value)
    if feedback == 0:
        raise ValueError("feedback=0 must not be zero")
    at_least(-np.finfo(float).max, feedback=feedback, a=a, b=b)
    cubic = np.array([1 / (2 * feedback), 0.0, a - b**2 / (2 * feedback), -singular_value])
    roots = np.roots(cubic)
    real = roots.real[np.abs(roots.imag) <= 1e-9 * np.abs(roots).max()]
    direction = math.copysign(1.0, feedback * (singular_value - a * b))
    ahead = [root for root in real if direction * (root - b) >= -1e-12 * (1 + abs(b))]
    end = min(ahead, key=lambda root: abs(root - b))
    for _ in range(3):  # Newton: the roots of a polynomial are good to single precision only
        end -= np.polyval(cubic, end) / (np.polyval(np.polyder(cubic), end) or 1.0)
    return float(a + (end**2 - b**2) / (2 * feedback)), float(end)


def scalar_normative(
    time: np.ndarray,
    singular_value: float | int,
    *,
    rate: float | int = 1.0,
    a: float | int = 0.1,
    b: float | int = 0.1,
    q: float | int = 0.1,
    p: float | int = 0.1,
) -> ScalarFeedback:
    """Integrate a scalar mode whose feedback q p descends ½ (a − q p)².

    a' = b e, b' = q p e, q' = ρ (a − q p) p, p' = ρ (a − q p) q with e = s − a b, by an implicit
    Runge-Kutta method of relative tolerance 1e-10. It ends at a b = s and q p = a (equations: Hanut
    & Kadmon 2025, arXiv:2502.20580, for one mode).

    Parameters
    ----------
    time
        Increasing times ≥ 0, the last above 0, in units of the weights' time constant.
    singular_value
        s > 0.
    rate
        ρ, the feedback's rate over that of the weights.
    a, b, q, p
        Initial values.

    Returns
    -------
    ScalarFeedback
        a, b, q and p, each of the shape of `time`.

    Raises
    ------
    ValueError
        If times are none or do not increase, s is not positive, ρ is negative, or q = p = 0, which
        never learns.

    Examples
    --------
    >>> mode = scalar_normative(np.array([0.0, 200.0]), 2.0, rate=0.5)
    >>> (mode.a * mode.b)[-1].round(9), (mode.q * mode.p - mode.a)[-1].round(9) + 0.0
    (np.float64(2.0), np.float64(0.0))
    """
    at_least(0, time=time, rate=rate)
    if time.size == 0 or not time[-1] > 0 or not (np.diff(time) > 0).all():
        raise ValueError(f"time={time} must increase, to above 0")
    positive(singular_value=singular_value)
    if q == 0 and p == 0:
        raise ValueError("q=0 and p=0 must not both be zero: such feedback never learns")

    def change(_: float, state: np.ndarray) -> list[float]:
        a, b, q, p = state
        error, gap = singular_value - a * b, a - q * p
        return [b * error, q * p * error, rate * gap * p, rate * gap * q]

    answer = solve_ivp(
        change,
        (0.0, float(time[-1])),
        [a, b, q, p],
        method="Radau",
        t_eval=time,
        rtol=1e-10,
        atol=1e-13,
    )
    return ScalarFeedback(*answer.y)


def scalar_factored_kp(
    distance: np.ndarray | float | int,
    *,
    rate: float | int = 1.0,
    q: float | int = 0.1,
    p: float | int = 0.1,
) -> np.ndarray:
    """Return the feedback q p that the factored Kolen-Pollack rule has at a distance of the weight.

    q' = ρ a' p, p' = ρ a' q, so with x = ρ (a − a0): q = q0 cosh x + p0 sinh x, and p likewise; for
    q0 = p0 the product grows as exp(2 x). Positive feedback: nothing holds it at a (ours).

    Parameters
    ----------
    distance
        a − a0, how far the weight has moved.
    rate
        ρ, the feedback's rate over that of the weight.
    q, p
        Initial values.

    Returns
    -------
    ndarray
        q p, of the shape of `distance`.

    Examples
    --------
    >>> scalar_factored_kp(np.array([0.0, 1.0]), rate=0.5, q=1.0, p=1.0).round(4)
    array([1.    , 2.7183])
    """
    x = rate * np.asarray(distance, float)
    return np.array((q * np.cosh(x) + p * np.sinh(x)) * (p * np.cosh(x) + q * np.sinh(x)))
