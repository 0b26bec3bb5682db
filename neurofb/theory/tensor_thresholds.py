"""Noise at which a tensor's phases change: easy, hard, impossible (our derivation)."""

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from scipy.optimize import brentq

if TYPE_CHECKING:
    from neurofb.theory.tensor_state_evolution import StateEvolution

_NUM_NOISES = 33
_NUM_REFINEMENTS = 4
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
    return Thresholds(low, _equal_evidence(theory, max(low, 1e-6 * high), high), high)


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
    low = 0.0 if first == 0 else _refine(theory, noises[first], noises[first - 1])
    high = _refine(theory, noises[last], noises[min(last + 1, len(noises) - 1)])
    return Thresholds(low, _equal_evidence(theory, max(low, noises[0]), high), high)


def _refine(theory: "StateEvolution", inside: float, outside: float) -> float:
    """Return the end of the bistable range between a noise inside and one outside of it."""
    for _ in range(_NUM_REFINEMENTS):
        noises = np.linspace(inside, outside, _NUM_NOISES)
        bistable = _bistable(theory, noises)
        bistable[0] = True
        last = int(np.argmin(bistable)) if not bistable.all() else len(noises) - 1
        inside, outside = noises[last - 1], noises[last]
    return float((inside + outside) / 2)


def _bistable(theory: "StateEvolution", noises: np.ndarray) -> np.ndarray:
    """Say at which noise the prior and the truth end at different fixed points."""
    error = [theory.tensor_error(theory.fixed_point(noises, start)) for start in _STARTS]
    return error[0] - error[1] > _DIFFERENT


_STARTS = ("prior", "truth")


def _equal_evidence(theory: "StateEvolution", low: float, high: float) -> float:
    """Return the noise at which both fixed points have the same free entropy."""

    def gap(noise: float) -> float:
        prior, truth = (
            theory.free_entropy(noise, theory.fixed_point(noise, start)) for start in _STARTS
        )
        return float(truth - prior)

    margin = 1e-9 * (high - low)
    ends = low + margin, high - margin
    if gap(ends[0]) <= 0 or gap(ends[1]) >= 0:  # a window of no width
        return float((low + high) / 2)
    return cast(float, brentq(gap, *ends, xtol=1e-14 * high))
