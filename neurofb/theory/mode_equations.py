"""The equations of linear learning in the frame of the task's modes, for whitened inputs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neurofb.theory.arguments import at_least, within_one
from neurofb.theory.linear_modes import check_modes
from neurofb.theory.mode_rules import EQUATIONS, Matrices, Seen, transposed


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
        If there is no such rule, it misses a matrix or shapes do not fit each other, there is no
        mode, one is not positive or they are more than W1 and W2 allow, or a setting is not in its
        range.

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
    if rule not in EQUATIONS:
        raise ValueError(f"rule={rule!r} must be one of {', '.join(EQUATIONS)}")
    check_modes(singular_values)
    equations = EQUATIONS[rule]
    names = ("W1", "W2", *equations.needs)
    missing = set(names) - set(start)
    if missing:
        raise ValueError(f"start of {rule!r} misses {', '.join(sorted(missing))}")
    at_least(0, num_steps=num_steps, learning_rate=learning_rate, feedback_rate=feedback_rate)
    at_least(0, weight_decay=weight_decay)
    at_least(1, record_every=record_every)
    within_one(feedback_decay=feedback_decay)
    state = {name: np.array(start[name], dtype=float) for name in names}
    m, n, d = state["W2"].shape[-2], state["W1"].shape[-1], singular_values.shape[-1]
    _check_shapes(state, d)
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
            change = error @ transposed(state["W1"])
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


def _check_shapes(state: Matrices, d: int) -> None:
    """Refuse matrices that do not fit each other, or have no room for the modes."""
    (k, n), m = state["W1"].shape[-2:], state["W2"].shape[-2]
    r = state["Q"].shape[-1] if "Q" in state else 0
    wanted = {"W1": (k, n), "W2": (m, k), "Q": (k, r), "P": (r, m), "B": (k, m)}
    for name, matrix in state.items():
        if matrix.shape[-2:] != wanted[name]:
            raise ValueError(f"start: {name} of shape {matrix.shape} must end in {wanted[name]}")
    if d > min(m, n):
        raise ValueError(f"singular_values: {d} must be at most {min(m, n)}, the smaller of m, n")


def _overlap(state: Matrices, singular_values: np.ndarray) -> np.ndarray:
    d = singular_values.shape[-1]
    diagonal = np.einsum("...ik,...ki->...i", state["W2"][..., :d, :], state["W1"][..., :d])
    return diagonal / singular_values


def _completed(vectors: np.ndarray) -> np.ndarray:
    """Complete orthonormal columns to an orthogonal matrix."""
    d = vectors.shape[-1]
    whole = np.linalg.svd(vectors, full_matrices=True)[0]
    return np.concatenate([vectors, whole[..., d:]], axis=-1)
