"""Noise at which a tensor's phases change: easy, hard, impossible (our derivation)."""

import warnings
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from neurofb.theory.arguments import Numbers, at_least, positive

if TYPE_CHECKING:
    from neurofb.theory.tensor_state_evolution import StateEvolution

_NUM_NOISES = 33
_NUM_REFINEMENTS = 2
_NUM_SWEEPS = 5000
_DIFFERENT = 1e-4


class Thresholds(NamedTuple):
    """Noise variances at which phases change; all NaN if no noise has two fixed points.

    Parameters
    ----------
    algorithmic
        Below it message passing from the prior finds the good fixed point; 0: never.
    information
        Up to it the good fixed point has the larger free entropy.
    spinodal
        Up to it the good fixed point exists.

    Examples
    --------
    >>> Thresholds(0.15, 0.28, 0.29).spinodal
    0.29
    """

    algorithmic: float
    information: float
    spinodal: float


_NONE = Thresholds(np.nan, np.nan, np.nan)


def thresholds_of(theory: "StateEvolution") -> Thresholds:
    """Return the thresholds at rank one, from the folds of the curve of all fixed points."""
    folds = theory.curve.folds()
    if folds is None:
        return _NONE
    low, high = folds
    start, margin = max(low, 1e-6 * high), 1e-9 * (high - low)
    return Thresholds(low, _equal_evidence(theory, start + margin, high - margin), high)


def thresholds_by_iteration(theory: "StateEvolution") -> Thresholds:
    """Return the thresholds at any rank, from where two starts end at two fixed points.

    The noise is laid on a logarithmic grid, around the mean square of the signal, which is refined
    at both ends of the bistable range. A range narrower than a factor 1.1 may be overlooked.
    """
    scale = theory.second_moments.prod(0).sum()
    noises = scale * np.geomspace(1e-3, 10, 129)
    bistable = np.flatnonzero(_bistable(theory, noises))
    if len(bistable) == 0:
        return _NONE
    first, last = bistable[0], bistable[-1]
    low = _refine(theory, noises[first], noises[max(first - 1, 0)])
    high = _refine(theory, noises[last], noises[min(last + 1, len(noises) - 1)])
    ends = [float(np.mean(end)) for end in (low, high)]
    return Thresholds(
        ends[0] if first > 0 else 0.0, _equal_evidence(theory, low[0], high[0]), ends[1]
    )


def _refine(theory: "StateEvolution", inside: float, outside: float) -> tuple[float, float]:
    """Return noises inside and outside of the bistable range that are close to its end."""
    for _ in range(_NUM_REFINEMENTS):
        noises = np.linspace(inside, outside, _NUM_NOISES)
        bistable = _bistable(theory, noises)
        bistable[0] = True
        last = int(np.argmin(bistable)) if not bistable.all() else len(noises) - 1
        inside, outside = noises[last - 1], noises[last]
    return float(inside), float(outside)


def _bistable(theory: "StateEvolution", noises: np.ndarray) -> np.ndarray:
    """Say at which noise the prior and the truth end at different fixed points."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at a fold itself nothing comes to rest
        ends = [theory.fixed_point(noises, start, max_sweeps=_NUM_SWEEPS) for start in _STARTS]
    return theory.tensor_error(ends[0]) - theory.tensor_error(ends[1]) > _DIFFERENT


_STARTS = ("prior", "truth")


def _equal_evidence(theory: "StateEvolution", low: float, high: float) -> float:
    """Return the noise at which both fixed points have the same free entropy."""

    def gap(noise: float) -> float:
        prior, truth = (
            theory.free_entropy(noise, theory.fixed_point(noise, start)) for start in _STARTS
        )
        return float(truth - prior)

    if gap(low) <= 0 or gap(high) >= 0:  # a window of no width
        return float((low + high) / 2)
    return cast(float, brentq(gap, low, high, xtol=1e-14 * high))


def critical_mean(order: Numbers = 3, variance: Numbers = 1.0) -> Float[np.ndarray, "..."]:
    """Return the mean above which a cubic tensor of equal Gaussian priors has no hard phase.

    At rank one and order p, with s² the variance and A the precision, the folds are the roots
    a = s² A of (μ² + s²) a² + (2 μ² + (2 - p) s²) a + μ² = 0; they merge at μ = s (p - 2) /
    (2 √(p - 1)), 0.354 s for p = 3 (our derivation).

    Raises
    ------
    ValueError
        If the order is below 2 or the variance not positive and finite.

    Examples
    --------
    >>> critical_mean(np.array([2.0, 3.0, 4.0])).round(4)
    array([0.    , 0.3536, 0.5774])
    """
    at_least(2, order=np.asarray(order))
    (spread,) = positive(variance=variance)
    others = np.asarray(order, dtype=float) - 1
    return np.asarray(np.sqrt(spread) * (others - 1) / (2 * np.sqrt(others)))


def critical_noise(
    first_variance: Numbers,
    second_variance: Numbers,
    first_ratio: Numbers = 1.0,
    second_ratio: Numbers = 1.0,
    other_means: Numbers = 1.0,
) -> Float[np.ndarray, "..."]:
    """Return the noise below which two axes of zero mean leave it: Δ_c = s₁² s₂² Π μ² / √(n₁ n₂).

    At rank one, with all further axes of means μ. For a matrix it is the transition of Baik, Ben
    Arous and Péché; for a tensor it is the spectral transition of the tensor contracted with the
    other axes' means. It needs a start that breaks the symmetry (our derivation).

    Parameters
    ----------
    first_variance, second_variance
        s₁², s₂², of the entries of the two axes without mean.
    first_ratio, second_ratio
        Their sides over the geometric mean of all.
    other_means
        Product of the means of the other axes, 1 for a matrix.

    Raises
    ------
    ValueError
        If an argument is not positive and finite.

    Examples
    --------
    >>> critical_noise(1, 1, other_means=0.5)
    array(0.25)
    """
    first, second, ratio, other_ratio, means = positive(
        first_variance=first_variance,
        second_variance=second_variance,
        first_ratio=first_ratio,
        second_ratio=second_ratio,
        other_means=other_means,
    )
    return np.asarray(first * second * means**2 / np.sqrt(ratio * other_ratio))
