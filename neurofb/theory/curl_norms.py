"""Curl descent near a solution when every step keeps the Frobenius norm of each layer.

Rescaling undoes the growth of the norms, and so moves the error δ along the teacher T = W2 W1. For
one output and E = δ Σ this adds T (⟨T, E D1⟩ / ‖W1‖² + ⟨W2 D2 W1, E⟩ / ‖W2‖²) to dδ/dt, and errors
relax by -X' instead of -X of `neurofb.theory.reduced_matrix` (our derivation):

    X' = X - Tᵀ (T D1) / ‖W1‖² - Tᵀ (W2 D2 W1) / ‖W2‖².

The last term takes one of the N directions of the readout away from learning. With hidden flips
alone solutions are *less* stable for it; with readout flips they can be more. Both terms are of
rank one: they do not move the edge of the spectrum of a large network.
"""

import numpy as np
from jaxtyping import Complex, Float

from neurofb.theory.curl_matrix import reduced_matrix


def eigenvalues_with_norms(
    w1: Float[np.ndarray, "hidden input"],
    w2: Float[np.ndarray, " hidden"],
    d1: Float[np.ndarray, " input"],
    d2: Float[np.ndarray, " hidden"],
) -> Complex[np.ndarray, " input"]:
    """Return the rates at which errors grow near a solution, norms kept; largest real part first.

    Parameters
    ----------
    w1, w2, d1, d2
        As in `neurofb.theory.reduced_matrix`, of one output.

    Returns
    -------
    ndarray
        Per time (steps times learning rate) and unit of input variance (Σ a multiple of the
        identity). The matrix is not symmetric: they need not be real.

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is not finite, or the weights of a layer are all zero.

    Examples
    --------
    >>> w1, w2 = np.array([[1.0, 0.5], [0.2, -1.0]]), np.array([0.6, 0.8])
    >>> eigenvalues_with_norms(w1, w2, np.ones(2), np.ones(2)).real.round(3)
    array([-0.639, -2.462])
    """
    matrix = reduced_matrix(w1, w2, d1, d2)
    if w2.ndim != 1 or not w1.any() or not w2.any():
        raise ValueError(
            f"w2 of shape {w2.shape} must be (hidden,), and neither layer all zero: norms are kept"
        )
    product = w2 @ w1
    matrix = matrix - np.outer(product, d1 * product) / (w1**2).sum()
    matrix = matrix - np.outer(product, (d2 * w2) @ w1) / (w2 @ w2)
    values = -np.linalg.eigvals(matrix).astype(complex)
    return values[np.argsort(-values.real)]
