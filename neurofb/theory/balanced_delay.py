"""Balanced network: the feedback loop with a delay, linear and in units of the membrane time.

An estimate that is fed back with gain B after a delay d obeys y' = -y - B y(t - d) + noise. Here is
its variance under white noise (the delay integral of Küchler and Mensch), the gain at which it
begins to oscillate, and the gain with the least variance. All of this is
our derivation: arXiv:2006.14178 is known to us by its abstract and the caption of its Figure 1.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from neurofb.theory.arguments import Numbers, at_least, bisect, positive

#: Above this product of rate and delay the hyperbolic functions are written as exponentials.
_LARGE = 5.0


def delay_integral(loop_gain: Numbers, delay: Numbers = 0.0) -> Float[np.ndarray, "..."]:
    """Return the variance of y' = -y - B y(t - d) + white noise of unit strength.

    I(B, d) = ∫ dω/2π 1 / |1 + iω + B e^(-iωd)|² = [1 + (B/q) sin qd] / (2 [1 + B cos qd]) with
    q² = B² - 1 (Küchler and Mensch 1992; sinh and cosh for B < 1; (1 + d)/4 at B = 1).

    Parameters
    ----------
    loop_gain
        B = balance times gain, at least 0.
    delay
        d, in membrane time constants, at least 0.

    Returns
    -------
    ndarray
        Variance, broadcast over the arguments (0-d for numbers); infinite from the critical gain
        on, where the loop oscillates.

    Raises
    ------
    ValueError
        If an argument is negative or not finite.

    Examples
    --------
    >>> delay_integral(np.array([0.0, 1.0, 3.0])).tolist()  # without delay: 1 / (2 (1 + B))
    [0.5, 0.25, 0.125]
    >>> delay_integral(7.1276, np.array([0.1, 0.3])).round(5).tolist()
    [0.12879, inf]
    """
    b, d = _checked(loop_gain, delay)
    one, sine, cosine = _waves(b, d)
    stable = b < critical_balance(d)[0]
    below = np.where(stable, one + b * cosine, 1.0)
    return np.asarray(np.where(stable, (one + b * sine) / (2 * below), np.inf))


def critical_balance(
    delay: Numbers, gain: Numbers = 1.0
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Return the balance at which a delayed loop begins to oscillate, and how fast it does.

    The first root of 1 + λ + B e^(-λd) crosses at ω d + arctan ω = π with B = √(1 + ω²). For short
    delays B d goes to π/2, and the period to 4 d.

    Parameters
    ----------
    delay
        d, in membrane time constants, at least 0.
    gain
        β, mean slope of the neurons: B = b β. Positive.

    Returns
    -------
    balance, angular_frequency : ndarray
        b_c = B_c / β, and ω_c in radians per membrane time constant; both infinite without delay.

    Raises
    ------
    ValueError
        If a delay is negative, or a gain not positive.

    Examples
    --------
    >>> balance, angular_frequency = critical_balance(0.1)
    >>> balance.round(4).item(), angular_frequency.round(4).item()
    (16.3506, 16.3199)
    """
    at_least(0, delay=delay)
    (beta,) = positive(gain=gain)
    d, beta = np.broadcast_arrays(np.asarray(delay, dtype=float), beta)
    safe = np.where(d > 0, d, 1.0)
    omega = bisect(lambda w: w * safe + np.arctan(w) < np.pi, np.zeros_like(safe), np.pi / safe)
    omega = np.where(d > 0, omega, np.inf)
    return np.asarray(np.sqrt(1 + omega**2) / beta), np.asarray(omega)


def optimal_balance(delay: Numbers, gain: Numbers = 1.0) -> Float[np.ndarray, "..."]:
    """Return the balance with the least variance of a delayed loop under white noise.

    The zero of ∂I/∂B. For short delays B d goes to y with cos y = y, and the variance to
    1.532 d: the best standard deviation grows as the root of the delay.

    Parameters
    ----------
    delay, gain
        As in `critical_balance`.

    Returns
    -------
    ndarray
        b* = B* / β; infinite without delay.

    Raises
    ------
    ValueError
        As `critical_balance`.

    Examples
    --------
    >>> optimal_balance(np.array([0.1, 1.0])).round(4).tolist()
    [7.1276, 0.4878]
    """
    critical, _ = critical_balance(delay)
    d = np.broadcast_to(np.asarray(delay, dtype=float), critical.shape)
    (beta,) = positive(gain=gain)
    safe = np.where(d > 0, d, 1.0)
    highest = np.where(d > 0, critical, 1.0)

    def falls(b: Any) -> Any:
        one, sine, cosine = _waves(b, safe)
        x = (b**2 - 1) * safe**2
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = (safe * cosine - sine) / (b**2 - 1)
        slope_sine = b * np.where(np.abs(x) < 1e-4, -(safe**3) / 3 * (1 - x / 10), ratio)
        slope_top = sine + b * slope_sine
        slope_below = cosine - b**2 * safe * sine
        return slope_top * (one + b * cosine) < (one + b * sine) * slope_below

    best = bisect(falls, np.zeros_like(safe), highest)
    return np.asarray(np.where(d > 0, best, np.inf) / beta)


def correlation_transform(
    rate: Float[np.ndarray, " rate"], loop_gain: float | int, delay: float | int = 0.0
) -> Float[np.ndarray, " rate"]:
    """Return the Laplace transform of the autocovariance of y' = -y - B y(t - d) + noise.

    The autocovariance solves K' = -K - B K(|τ - d|) with K(0) = I and K'(0+) = -1/2, so that it is
    I cos qτ - sin(qτ)/2q up to the delay, and ∫₀^∞ K e^(-sτ) dτ is
    [I - B ∫₀^d K(u) e^(-s(d-u)) du] / (1 + s + B e^(-sd)). With it the answer to noise of any
    correlation e^(-s|τ|) is closed.

    Parameters
    ----------
    rate
        s, shape (rate,), at least 1.
    loop_gain, delay
        Numbers, as in `delay_integral`, below the critical gain.

    Returns
    -------
    ndarray
        Shape (rate,).

    Raises
    ------
    ValueError
        As `delay_integral`, or if a rate is below 1.

    Examples
    --------
    >>> correlation_transform(np.array([1.0, 3.0]), 3.0)  # without delay: 1 / (2 (1+B) (1+B+s))
    array([0.025     , 0.01785714])
    """
    at_least(1, rate=rate)
    b, d = (float(each) for each in _checked(loop_gain, delay))
    variance = float(delay_integral(b, d))
    s, decay = rate, np.exp(-rate * d)
    if b < 1 and np.sqrt(1 - b**2) * d > _LARGE:
        kappa = np.sqrt(1 - b**2)
        small = np.exp(-kappa * d)
        denominator = small + b * (1 + small**2) / 2
        growing = -((1 - kappa) + b * small) / (4 * kappa * denominator)
        falling = variance / 2 + 1 / (4 * kappa)
        difference = np.where(s > kappa, s - kappa, 1.0)
        falls = np.where(s > kappa, (small - decay) / difference, d * decay)
        past = growing * -np.expm1(-(s + kappa) * d) / (s + kappa) + falling * falls
    else:
        q = np.sqrt(complex(b**2 - 1))
        sine = d * np.sinc(q * d / np.pi).real
        cosine = np.cos(q * d).real
        squares = s**2 + b**2 - 1
        squares = np.where(squares > 0, squares, 1.0)
        of_cosine = (s * cosine + (b**2 - 1) * sine - s * decay) / squares
        of_sine = (s * sine - cosine + decay) / squares
        past = variance * of_cosine - of_sine / 2
    return np.asarray((variance - b * past) / (1 + s + b * decay))


def _waves(b: Any, d: Any) -> tuple[Any, Any, Any]:
    """Return 1, sin(qd)/q and cos(qd), for B < 1 all three times e^(-|q|d)."""
    x = np.sqrt(np.abs(b**2 - 1)) * d
    e = np.where(b < 1, np.exp(-x), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        hyperbolic = np.where(x > 0, -np.expm1(-2 * x) / (2 * x), 1.0)
    sine = d * np.where(b < 1, hyperbolic, np.sinc(x / np.pi))
    return e, sine, np.where(b < 1, (1 + e**2) / 2, np.cos(x))


def _checked(loop_gain: Numbers, delay: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays of one shape."""
    at_least(0, loop_gain=loop_gain, delay=delay)
    arrays = (np.asarray(each, dtype=float) for each in (loop_gain, delay))
    b, d = np.broadcast_arrays(*arrays)
    return b, d
