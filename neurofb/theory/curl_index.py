"""How far curl descent is from a gradient: the curl index in closed form."""

import numpy as np
from jaxtyping import Float


def curl_index_of_flips(
    hessian: Float[np.ndarray, "*batch p p"], signs: Float[np.ndarray, "*batch p"]
) -> float | Float[np.ndarray, "*batch"]:
    """Return the curl index ‖A‖/‖J‖ of the field −D ∇L, D = diag(signs), from the Hessian of L.

    With J = −D H and A = (J − Jᵀ)/2: A_ij = −(d_i − d_j) H_ij / 2, so that only entries of H
    between parameters of different d count. For d = ±1 the squared index is the share of ‖H‖² in
    them; it is 0 for D = 1 and for D = −1 (ascent is a gradient too). Frobenius norms; our
    derivation from the rule of arXiv:2510.02765.

    Parameters
    ----------
    hessian
        Symmetric, of the loss with respect to the parameters.
    signs
        d: 1 for a parameter that learns, −1 for a flipped one; any number between for a flip of
        another strength, 0 for a frozen parameter.

    Returns
    -------
    float or ndarray
        Between 0 and 1, one a matrix; NaN where D H is zero.

    Raises
    ------
    ValueError
        If the shapes do not fit, H is not symmetric or holds NaN or infinity.

    Examples
    --------
    >>> saddle = np.array([[0.0, 1.0], [1.0, 0.0]])  # L = x y
    >>> curl_index_of_flips(saddle, np.array([1.0, -1.0]))
    1.0
    >>> curl_index_of_flips(saddle, np.array([1.0, 1.0]))
    0.0
    """
    if hessian.ndim < 2 or hessian.shape[-2:] != 2 * signs.shape[-1:]:
        raise ValueError(
            f"hessian of shape {hessian.shape} and signs of shape {signs.shape} must be "
            "(…, p, p) and (…, p)"
        )
    scale = np.abs(hessian).max(initial=0.0)
    if not np.isfinite(scale) or not np.isfinite(signs).all():
        raise ValueError("hessian and signs must hold finite numbers")
    if np.abs(hessian - np.swapaxes(hessian, -1, -2)).max(initial=0.0) > 1e-8 * scale:
        raise ValueError("hessian must be symmetric")
    rows, columns = signs[..., :, None], signs[..., None, :]
    square = np.square(hessian / (scale or 1.0))
    curl = np.sum(np.square((rows - columns) / 2) * square, axis=(-2, -1))
    whole = np.sum(np.square(rows) * square, axis=(-2, -1))
    with np.errstate(invalid="ignore"):
        index = np.sqrt(curl / whole)
    return float(index) if index.ndim == 0 else index
