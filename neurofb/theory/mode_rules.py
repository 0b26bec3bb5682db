"""The rules of `neurofb.theory.integrate_modes`, as equations of two-layer linear networks.

They are written for themselves and share nothing with `neurofb.dynamics`, whose simulations they
are to test. Shapes: W1 (k, n), W2 (m, k), Q (k, r), P (r, m), B (k, m), any leading dims.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

#: matrices of two-layer networks by name, any leading dims
Matrices = dict[str, np.ndarray]


def transposed(matrix: np.ndarray) -> np.ndarray:
    """Return the transpose of the last two dims.

    Examples
    --------
    >>> transposed(np.zeros((5, 2, 3))).shape
    (5, 3, 2)
    """
    return np.swapaxes(matrix, -1, -2)


class Seen(NamedTuple):
    """What a rule for Q and P may read, behind any leading dims.

    Parameters
    ----------
    state
        The matrices by name, in the frame of the modes.
    change
        W2's own direction of change, E W1ᵀ (m, k).
    error
        E = S − W2 W1 (m, n).
    strengths
        S (m, n), the singular values on its diagonal.
    """

    state: Matrices
    change: np.ndarray
    error: np.ndarray
    strengths: np.ndarray


class Equations(NamedTuple):
    """A rule: how the error goes back, how Q and P learn, which matrices that needs.

    Parameters
    ----------
    needs
        Names of the feedback's matrices.
    back
        (matrices, E) → W1's direction of change B E (k, n).
    learn
        Directions of change of those matrices that learn.
    q_follows_weight
        Whether Q has the rate and the decay of W (Kolen-Pollack), and not the feedback's rate.
    """

    needs: tuple[str, ...]
    back: Callable[[Matrices, np.ndarray], np.ndarray]
    learn: Callable[[Seen], Matrices]
    q_follows_weight: bool = False


def _nothing(seen: Seen) -> Matrices:
    del seen
    return {}


def _fixed_p(seen: Seen) -> Matrices:
    return {"Q": transposed(seen.state["P"] @ seen.change)}


def _oja(seen: Seen, moment: np.ndarray) -> Matrices:
    p = seen.state["P"]
    driven = p @ moment
    return _fixed_p(seen) | {"P": driven - driven @ transposed(p) @ p}


def _oja_targets(seen: Seen) -> Matrices:
    return _oja(seen, seen.strengths @ transposed(seen.strengths))


def _oja_error(seen: Seen) -> Matrices:
    return _oja(seen, seen.error @ transposed(seen.error))


def _normative(seen: Seen) -> Matrices:
    q, p = seen.state["Q"], seen.state["P"]
    gap = transposed(seen.state["W2"]) - q @ p
    return {"Q": gap @ transposed(p), "P": transposed(q) @ gap}


def _factored(seen: Seen) -> Matrices:
    return _fixed_p(seen) | {"P": transposed(seen.change @ seen.state["Q"])}


def _through_transpose(state: Matrices, error: np.ndarray) -> np.ndarray:
    return transposed(state["W2"]) @ error


def _through_b(state: Matrices, error: np.ndarray) -> np.ndarray:
    return state["B"] @ error


def _through_qp(state: Matrices, error: np.ndarray) -> np.ndarray:
    return state["Q"] @ (state["P"] @ error)


EQUATIONS = {
    "BP": Equations((), _through_transpose, _nothing),
    "FA": Equations(("B",), _through_b, _nothing),
    "low-rank FA": Equations(("Q", "P"), _through_qp, _nothing),
    "LDFA fixed P": Equations(("Q", "P"), _through_qp, _fixed_p, True),
    "LDFA Oja targets": Equations(("Q", "P"), _through_qp, _oja_targets, True),
    "LDFA Oja error": Equations(("Q", "P"), _through_qp, _oja_error, True),
    "LDFA normative": Equations(("Q", "P"), _through_qp, _normative),
    "LDFA factored KP": Equations(("Q", "P"), _through_qp, _factored),
}
