"""The equations of linear learning in the frame of the task's modes, for whitened inputs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from neurofb.theory.linear_modes import check_modes

#: matrices of two-layer networks, any leading dims
Matrices = dict[str, np.ndarray]


class ModeCurves(NamedTuple):
    """Overlaps Λ (..., step, mode), and the numbers of steps at which they were taken."""

    overlap: np.ndarray
    step: np.ndarray


def in_mode_frame(
    weights: Sequence[np.ndarray],
    q: np.ndarray | None,
    p: np.ndarray | None,
    output_modes: np.ndarray,
    input_modes: np.ndarray,
) -> Matrices:
    """Rotate a two-layer network's matrices into the frame of the modes.

    W1 → W1 V, W2 → Uᵀ W2, P → P U, with U and V completed to whole orthogonal matrices; Q stays,
    and a dense feedback B (given as `q`, without `p`) becomes B U.

    Parameters
    ----------
    weights
        W1 (..., k, n) and W2 (..., m, k).
    q, p
        Q (..., k, r) and P (..., r, m); or B (..., k, m) and None; or None and None (BP).
    output_modes, input_modes
        Singular vectors U (..., m, d) and V (..., n, d), as columns.

    Returns
    -------
    dict[str, ndarray]
        "W1", "W2" and, as far as they are there, "Q", "P", "B".

    Raises
    ------
    ValueError
        If there are not two weights.

    Examples
    --------
    >>> frame = in_mode_frame([np.eye(2), np.eye(2)], None, None, np.eye(2, 1), -np.eye(2, 1))
    >>> (frame["W2"] @ frame["W1"])[0, 0]
    np.float64(-1.0)
    """
    if len(weights) != 2:
        raise ValueError(f"weights must be two, W1 and W2, not {len(weights)}")
    u, v = _completed(output_modes), _completed(input_modes)
    frame = {"W1": weights[0] @ v, "W2": np.swapaxes(u, -1, -2) @ weights[1]}
    if q is not None and p is not None:
        return frame | {"Q": np.array(q), "P": p @ u}
    return frame if q is None else frame | {"B": q @ u}


def integrate_modes(
    start: Matrices,
    singular_values: np.ndarray,
    rule: str,
    *,
    learning_rate: float | int = 2.5e-3,
    feedback_rate: float | int = 1e-3,
    feedback_decay: float | int = 0.999,
    weight_decay: float | int = 1e-5,
    num_steps: int = 5000,
    record_every: int = 10,
) -> ModeCurves:
    """Integrate the learning of two-layer linear networks with Σ_xx = I: the theory's curves.

    With E = S − W2 W1 and η the step (Euler, one step of gradient descent each):

    - W2' = E W1ᵀ − λ W2, W1' = B E − λ W1;
    - "BP": B = W2ᵀ; "FA": B fixed; "low-rank FA": B = Q P fixed;
    - "LDFA fixed P": Q' = W1 Eᵀ Pᵀ − λ Q, at W's own rate;
    - "LDFA Oja targets", "LDFA Oja error": that, and P' = P C (I − Pᵀ P) with C = S Sᵀ or E Eᵀ;
    - "LDFA normative": Q' = (W2ᵀ − Q P) Pᵀ, P' = Qᵀ (W2ᵀ − Q P);
    - "LDFA factored KP": Q' = W1 Eᵀ Pᵀ, P' = Qᵀ W1 Eᵀ.

    After Hanut & Kadmon (2025, arXiv:2502.20580), rotated into the modes (our derivation); nothing
    is clipped and no moment normalised, which the frame would change.

    Parameters
    ----------
    start
        Matrices in the modes' frame (`in_mode_frame`), any leading dims.
    singular_values
        s (..., d), the strengths of the modes; the others are zero.
    rule
        One of the names above.
    learning_rate, feedback_rate, feedback_decay, weight_decay, num_steps, record_every
        As for `neurofb.dynamics.LinearTraining`.

    Returns
    -------
    ModeCurves
        Λ_i = (W2 W1)_ii / s_i of shape (..., step, d), NaN from where a number is not finite, and
        the steps.

    Raises
    ------
    ValueError
        If there is no such rule, it misses a matrix, there is no mode, or one is not positive.

    Examples
    --------
    >>> start = {"W1": 0.01 * np.eye(2), "W2": 0.01 * np.eye(2)}
    >>> curves = integrate_modes(start, np.array([3.0, 1.0]), "BP", num_steps=900, record_every=300)
    >>> curves.overlap.round(2)
    array([[0.  , 0.  ],
           [0.  , 0.  ],
           [0.21, 0.  ],
           [0.96, 0.01]])
    """
    if rule not in _EQUATIONS:
        raise ValueError(f"rule={rule!r} must be one of {', '.join(_EQUATIONS)}")
    check_modes(singular_values)
    equations = _EQUATIONS[rule]
    names = ("W1", "W2", *equations.needs)
    missing = set(names) - set(start)
    if missing:
        raise ValueError(f"start of {rule!r} misses {', '.join(sorted(missing))}")
    state = {name: np.array(start[name], dtype=float) for name in names}
    m, n, d = state["W2"].shape[-2], state["W1"].shape[-1], singular_values.shape[-1]
    strengths = np.zeros((*singular_values.shape[:-1], m, n))
    strengths[..., np.arange(d), np.arange(d)] = singular_values
    rates = dict.fromkeys(names, feedback_rate) | {"W1": learning_rate, "W2": learning_rate}
    decays = {"W1": weight_decay, "W2": weight_decay}
    if equations.q_follows_weight:
        rates["Q"], decays["Q"] = learning_rate, weight_decay
    slowing = [name for name in equations.needs if name not in decays]
    curves, steps = [_overlap(state, singular_values)], [0]
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is a result
        for step in range(1, num_steps + 1):
            error = strengths - state["W2"] @ state["W1"]
            change = error @ _t(state["W1"])
            seen = Seen(state, change, error, strengths)
            changes = {"W2": change, "W1": equations.back(state, error), **equations.learn(seen)}
            for name, direction in changes.items():
                keep = 1 - rates[name] * decays.get(name, 0.0)
                state[name] = keep * state[name] + rates[name] * direction
            for name in slowing:
                rates[name] = rates[name] * feedback_decay
            if step % record_every == 0 or step == num_steps:
                curves.append(_overlap(state, singular_values))
                steps.append(step)
    overlap = np.stack(curves, axis=-2)
    kept = np.logical_and.accumulate(np.isfinite(overlap).all(-1, keepdims=True), axis=-2)
    return ModeCurves(np.where(kept, overlap, np.nan), np.array(steps))


class Seen(NamedTuple):
    """What a rule for Q and P may read: E, W2's own change E W1ᵀ, S, and the matrices."""

    state: Matrices
    change: np.ndarray
    error: np.ndarray
    strengths: np.ndarray


class _Equations(NamedTuple):
    """How the error goes back, how Q and P learn, which matrices that needs."""

    needs: tuple[str, ...]
    back: Callable[[Matrices, np.ndarray], np.ndarray]
    learn: Callable[[Seen], Matrices]
    q_follows_weight: bool = False


def _nothing(seen: Seen) -> Matrices:
    del seen
    return {}


def _fixed_p(seen: Seen) -> Matrices:
    return {"Q": _t(seen.state["P"] @ seen.change)}


def _oja(seen: Seen, moment: np.ndarray) -> Matrices:
    p = seen.state["P"]
    driven = p @ moment
    return _fixed_p(seen) | {"P": driven - driven @ _t(p) @ p}


def _oja_targets(seen: Seen) -> Matrices:
    return _oja(seen, seen.strengths @ _t(seen.strengths))


def _oja_error(seen: Seen) -> Matrices:
    return _oja(seen, seen.error @ _t(seen.error))


def _normative(seen: Seen) -> Matrices:
    q, p = seen.state["Q"], seen.state["P"]
    gap = _t(seen.state["W2"]) - q @ p
    return {"Q": gap @ _t(p), "P": _t(q) @ gap}


def _factored(seen: Seen) -> Matrices:
    return _fixed_p(seen) | {"P": _t(seen.change @ seen.state["Q"])}


def _through_transpose(state: Matrices, error: np.ndarray) -> np.ndarray:
    return _t(state["W2"]) @ error


def _through_b(state: Matrices, error: np.ndarray) -> np.ndarray:
    return state["B"] @ error


def _through_qp(state: Matrices, error: np.ndarray) -> np.ndarray:
    return state["Q"] @ (state["P"] @ error)


_EQUATIONS = {
    "BP": _Equations((), _through_transpose, _nothing),
    "FA": _Equations(("B",), _through_b, _nothing),
    "low-rank FA": _Equations(("Q", "P"), _through_qp, _nothing),
    "LDFA fixed P": _Equations(("Q", "P"), _through_qp, _fixed_p, True),
    "LDFA Oja targets": _Equations(("Q", "P"), _through_qp, _oja_targets, True),
    "LDFA Oja error": _Equations(("Q", "P"), _through_qp, _oja_error, True),
    "LDFA normative": _Equations(("Q", "P"), _through_qp, _normative),
    "LDFA factored KP": _Equations(("Q", "P"), _through_qp, _factored),
}


def _t(matrix: np.ndarray) -> np.ndarray:
    return np.swapaxes(matrix, -1, -2)


def _overlap(state: Matrices, singular_values: np.ndarray) -> np.ndarray:
    d = singular_values.shape[-1]
    diagonal = np.einsum("...ik,...ki->...i", state["W2"][..., :d, :], state["W1"][..., :d])
    return diagonal / singular_values


def _completed(vectors: np.ndarray) -> np.ndarray:
    """Complete orthonormal columns to an orthogonal matrix."""
    d = vectors.shape[-1]
    whole = np.linalg.svd(vectors, full_matrices=True)[0]
    return np.concatenate([vectors, whole[..., d:]], axis=-1)
