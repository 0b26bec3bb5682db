"""Closed forms of learning in two-layer linear networks, mode by mode."""

import numpy as np

from neurofb.theory.arguments import at_least


def saxe_mode(
    time: np.ndarray | float | int,
    singular_value: np.ndarray | float | int,
    start: np.ndarray | float | int,
    *,
    time_constant: float | int = 1.0,
) -> np.ndarray:
    """Return the overlap Λ(t) of a mode that backpropagation learns from a balanced, aligned start.

    Λ(t) = e / (e − 1 + s / a0) with e = exp(2 s t / τ) (Saxe, McClelland & Ganguli 2014,
    arXiv:1312.6120, their mode divided by s): a sigmoid whose delay grows with 1/s.

    Parameters
    ----------
    time
        t ≥ 0, in units of τ; for gradient descent of step η the number of steps times η, and τ = 1.
    singular_value
        s > 0, the mode's strength for inputs of unit covariance.
    start
        a0 > 0, the mode's initial product of weights, s Λ(0).
    time_constant
        τ.

    Returns
    -------
    ndarray
        Λ, of the shape that the arguments broadcast to.

    Raises
    ------
    ValueError
        If a singular value, a start or τ is not positive, or a time is negative or not finite.

    Examples
    --------
    >>> saxe_mode(np.array([0.0, 1.0, 2.0]), 3.0, 0.03).round(3)
    array([0.01 , 0.803, 0.999])
    """
    strength, first = np.asarray(singular_value, float), np.asarray(start, float)
    for name, value in (("singular_value", strength), ("start", first)):
        if not (value > 0).all():
            raise ValueError(f"{name}={value} must be positive")
    if not time_constant > 0:
        raise ValueError(f"time_constant={time_constant} must be positive")
    at_least(0, time=time)
    # the same with e divided out, so that nothing overflows
    decay = np.exp(-2 * strength * np.asarray(time, float) / time_constant)
    return np.array(1 / (1 + (strength / first - 1) * decay))


def fixed_feedback_endpoint(p: np.ndarray, singular_values: np.ndarray) -> np.ndarray:
    """Return the overlaps Λ_i = R_ii that learning ends with if P is fixed and weights start small.

    The rows of W1 stay in the span of the rows of P S, so that W2 W1 → S R with the projector
    R = (P S)⁺ (P S), whether Q learns or not. Σ Λ_i is the rank of P S: the right number of modes
    is learned, but not the right modes, unless P spans the leading ones (our derivation, for
    inputs of unit covariance; of the solutions of Hanut & Kadmon 2025, arXiv:2502.20580, Fig. 2).

    Parameters
    ----------
    p
        P in the frame of the modes (..., r, m): P U; its rows need not be independent.
    singular_values
        s (..., d) with d ≤ m.

    Returns
    -------
    ndarray
        Λ (..., d).

    Raises
    ------
    ValueError
        If there is no mode or one is not positive, or P has fewer columns than there are modes or
        holds what is not finite.

    Examples
    --------
    >>> fixed_feedback_endpoint(np.array([[0.0, 1.0, 0.0]]), np.array([3.0, 2.0]))
    array([0., 1.])
    >>> fixed_feedback_endpoint(np.array([[1.0, 1.0]]), np.array([2.0, 1.0])).round(3)
    array([0.8, 0.2])
    """
    d = check_modes(singular_values)
    if p.shape[-1] < d:
        raise ValueError(f"p of shape {p.shape} must have at least {d} columns, one a mode")
    if not np.isfinite(p).all():
        raise ValueError("p must hold finite numbers")
    driven = p[..., :d] * singular_values[..., None, :]
    floor = max(driven.shape[-2:]) * np.finfo(float).eps  # rows that only rounding tells apart
    projector = np.linalg.pinv(driven, rcond=floor) @ driven
    return np.diagonal(projector, axis1=-2, axis2=-1).copy()


def oja_flow(p: np.ndarray, moment: np.ndarray, time: float | int) -> np.ndarray:
    """Return Pᵀ P at a time of Oja's subspace flow P' = P C (I − Pᵀ P), from any P.

    Pᵀ P(t) = Aᵀ (I − P₀ P₀ᵀ + A Aᵀ)⁻¹ A with A = P₀ exp(C t) (our derivation; the flow is Oja's,
    1989, Int. J. Neural Systems 1, 61). The rows of A are brought to echelon form in the
    eigenvectors of C and scaled one by one, so that late times do not overflow.

    Parameters
    ----------
    p
        P₀ (r, m).
    moment
        C (m, m), symmetric, with no negative eigenvalue.
    time
        t ≥ 0, finite, in units of one over those of C.

    Returns
    -------
    ndarray
        (m, m). For t → ∞ the projector on the leading r eigenvectors that P₀ touches.

    Raises
    ------
    ValueError
        If C is not symmetric or has a negative eigenvalue (P then may leave in finite time), shapes
        do not fit, the time is negative or a number is not finite.

    Examples
    --------
    >>> flow = oja_flow(np.array([[0.6, 0.8]]), np.diag([2.0, 1.0]), 1e4)
    >>> np.allclose(flow, np.diag([1.0, 0.0]))
    True
    """
    if p.ndim != 2 or not np.isfinite(p).all():
        raise ValueError(f"p of shape {p.shape} must be (r, m), of finite numbers")
    if moment.shape != (p.shape[-1],) * 2:
        raise ValueError(f"moment of shape {moment.shape} must be {(p.shape[-1],) * 2}")
    if not np.allclose(moment, moment.T):
        raise ValueError("moment must be symmetric")
    at_least(0, time=time)
    values, vectors = np.linalg.eigh(moment)
    if values[0] < -1e-10 * np.abs(values).max():
        raise ValueError(f"moment must have no negative eigenvalue, not {values[0]:.4g}")
    values = np.maximum(values, 0.0)
    values, vectors = values[::-1], vectors[:, ::-1]  # largest first
    rotation, echelon = _echelon(p @ vectors)
    occupied = np.abs(echelon) > 1e-13 * max(np.abs(echelon).max(), 1e-300)
    echelon = np.where(occupied, echelon, 0.0)
    leading = np.where(occupied.any(1), values[occupied.argmax(1)], 0.0)
    # exp((λ_j − λ_leading) t), where there is anything to grow; λ_j is never above the leading one
    power = np.where(occupied, (values - leading[:, None]) * time, -np.inf)
    grown = echelon * np.exp(power)
    scale = np.exp(-leading * time)
    free = rotation.T @ (np.eye(len(p)) - p @ p.T) @ rotation
    inner = scale[:, None] * free * scale + grown @ grown.T
    answer = grown.T @ np.linalg.solve(inner, grown)
    return vectors @ answer @ vectors.T


def kolen_pollack_gap(
    gap: np.ndarray,
    num_steps: np.ndarray | int,
    *,
    learning_rate: float | int,
    weight_decay: float | int,
) -> np.ndarray:
    """Return the difference Q − W2ᵀ Pᵀ after steps of Kolen-Pollack learning with P fixed.

    W2 and Q receive the same change, seen through P, so of their difference the decay alone is
    left: (1 − η λ)ⁿ times its start (after Kolen & Pollack 1994; our derivation for Q P). So
    Q P → W2ᵀ Pᵀ P.

    Parameters
    ----------
    gap
        Q − W2ᵀ Pᵀ at the start, any shape, or its norm.
    num_steps
        n; an array broadcasts against the gap.
    learning_rate, weight_decay
        η, λ of both.

    Raises
    ------
    ValueError
        If η, λ or a number of steps is negative, or η λ is above 1.

    Examples
    --------
    >>> gap = kolen_pollack_gap(np.array([2.0]), 100, learning_rate=0.1, weight_decay=0.1)
    >>> gap.round(3)
    array([0.732])
    """
    at_least(0, num_steps=num_steps, learning_rate=learning_rate, weight_decay=weight_decay)
    kept = 1 - learning_rate * weight_decay
    if kept < 0:
        raise ValueError(
            f"learning_rate * weight_decay = {learning_rate * weight_decay} must be at most 1"
        )
    return np.array(gap * kept ** np.asarray(num_steps))


def check_modes(singular_values: np.ndarray) -> int:
    """Return the number of modes, or refuse none and ones that are not positive.

    Examples
    --------
    >>> check_modes(np.array([2.0, 1.0]))
    2
    """
    if singular_values.shape[-1] < 1 or not (singular_values > 0).all():
        raise ValueError(f"singular_values={singular_values} must be at least one, all positive")
    return singular_values.shape[-1]


def _echelon(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an orthogonal T and an echelon E with matrix = T E: each row starts further right."""
    echelon, rotation = matrix.astype(float).copy(), np.eye(len(matrix))
    row, floor = 0, 1e-13 * np.linalg.norm(matrix)
    for column in range(matrix.shape[1]):
        below = echelon[row:, column]
        norm = np.linalg.norm(below)
        if row == len(matrix) or norm <= floor:
            continue
        mirror = below.copy()
        mirror[0] += np.copysign(norm, below[0])
        mirror /= np.linalg.norm(mirror)
        echelon[row:] -= 2 * np.outer(mirror, mirror @ echelon[row:])
        rotation[:, row:] -= 2 * np.outer(rotation[:, row:] @ mirror, mirror)
        echelon[row + 1 :, column] = 0.0
        row += 1
    return rotation, echelon
