"""Curl descent near a solution of a given two-layer linear network: the matrix that decides.

Let δ = W2 W1 - T be the error of the map, (K, M), and Σ the covariance of the inputs. Along
dW1/dt = -∂L/∂W1 D1 and dW2/dt = -∂L/∂W2 D2 it obeys, with the weights of that time, exactly

    dδ/dt = -(δ Σ W1ᵀ D2 W1 + W2 W2ᵀ δ Σ D1).

Near a solution the weights may be taken as constant, up to terms of second order in δ. In the frame
of the eigenvectors of W2 W2ᵀ, with eigenvalues sₖ, the rows of δ separate: each relaxes by -Xₖ Σ
with Xₖ = sₖ D1 + W1ᵀ D2 W1 (our derivation). All eigenvalues are real, and Σ changes rates but
never signs (Sylvester's law of inertia).
"""

import numpy as np
from jaxtyping import Float


def reduced_matrix(
    w1: Float[np.ndarray, "hidden input"],
    w2: Float[np.ndarray, "*output hidden"],
    d1: Float[np.ndarray, " input"],
    d2: Float[np.ndarray, " hidden"],
) -> Float[np.ndarray, "*output input input"]:
    """Return X = s D1 + W1ᵀ D2 W1, with s = ‖W2‖²; of several outputs one Xₖ for each sₖ.

    Parameters
    ----------
    w1, w2
        Weights at a solution. ``w2`` of shape (hidden,) is one output.
    d1, d2
        Diagonals of D1 and D2: the factor by which the updates of the synapses *from* each input,
        and from each hidden neuron, are multiplied; -1 for a flipped one.

    Returns
    -------
    ndarray
        Symmetric; (input, input), or (output, input, input) with the smallest sₖ first.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a number is not finite.

    Examples
    --------
    >>> w1, w2 = np.array([[1.0, 2.0]]), np.array([3.0])
    >>> reduced_matrix(w1, w2, np.array([-1.0, 1.0]), np.array([1.0]))
    array([[-8.,  2.],
           [ 2., 13.]])
    """
    _check_shapes(w1, w2, d1, d2)
    shared = w1.T @ (d2[:, None] * w1)
    if w2.ndim == 1:
        return w2 @ w2 * np.diag(d1) + shared
    return np.linalg.eigvalsh(w2 @ w2.T)[:, None, None] * np.diag(d1) + shared


def linearised_eigenvalues(
    w1: Float[np.ndarray, "hidden input"],
    w2: Float[np.ndarray, "*output hidden"],
    d1: Float[np.ndarray, " input"],
    d2: Float[np.ndarray, " hidden"],
    *,
    input_covariance: Float[np.ndarray, "input input"] | None = None,
) -> Float[np.ndarray, " eigenvalue"]:
    """Return all rates at which errors grow (positive) or decay near a solution, largest first.

    They are the eigenvalues of -Xₖ Σ. With fewer outputs than hidden neurons and weights of full
    rank they are all that is not zero in the spectrum of the full Jacobian of the flow; its other
    eigenvalues, 0, are motion along the solutions.

    Parameters
    ----------
    w1, w2, d1, d2
        As in `reduced_matrix`.
    input_covariance
        Σ, positive definite; ``None``: the identity.

    Returns
    -------
    ndarray
        Per time (steps times learning rate), one a pair of input and output.

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is not finite, or Σ is not symmetric and positive
        definite.

    Examples
    --------
    >>> w1, w2 = np.array([[1.0, 2.0]]), np.array([3.0])
    >>> linearised_eigenvalues(w1, w2, np.array([-1.0, 1.0]), np.array([1.0])).round(3)
    array([  8.189, -13.189])
    """
    matrix = reduced_matrix(w1, w2, d1, d2)
    if input_covariance is not None:
        sigma = input_covariance
        if sigma.shape != (len(d1), len(d1)) or not np.allclose(sigma, sigma.T):
            raise ValueError(
                f"input_covariance of shape {sigma.shape} must be symmetric, ({len(d1)}, {len(d1)})"
            )
        values, vectors = np.linalg.eigh(sigma)
        if values[0] <= 0:
            raise ValueError(
                f"input_covariance must be positive definite, its smallest eigenvalue is "
                f"{values[0]}"
            )
        root = (vectors * np.sqrt(values)) @ vectors.T  # X Σ is similar to Σ^½ X Σ^½
        matrix = root @ matrix @ root
    return np.sort(-np.linalg.eigvalsh(matrix).ravel())[::-1]


def _check_shapes(w1: np.ndarray, w2: np.ndarray, d1: np.ndarray, d2: np.ndarray) -> None:
    """Refuse weights and signs that do not belong to one network."""
    num_hidden, num_inputs = w1.shape
    expected = {"d1": (d1, num_inputs), "d2": (d2, num_hidden)}
    for name, (values, length) in expected.items():
        if len(values) != length:
            raise ValueError(f"{name} has {len(values)} entries and must have {length}")
    for name, values in {"w1": w1, "w2": w2, "d1": d1, "d2": d2}.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must hold finite numbers")
    if w2.ndim not in (1, 2) or w2.shape[-1] != num_hidden:
        raise ValueError(
            f"w2 of shape {w2.shape} must be ({num_hidden},) or (num_outputs, {num_hidden})"
        )
