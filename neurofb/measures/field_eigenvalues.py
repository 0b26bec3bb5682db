"""Eigenvalues of a learning rule's Jacobian: which directions run away."""

from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs
from torch import Tensor

from neurofb import labels
from neurofb.measures.jacobian import Derivative, Field, linearise

#: up to this number of parameters all eigenvalues are computed
DENSE = 500


def largest_real_eigenvalue(
    field: Field,
    theta: Float[Tensor, " p"],
    *,
    num_eigenvalues: int = 1,
    derivative: Derivative = "autograd",
    seed: int = 0,
    max_iterations: int = 300,
) -> xr.Dataset:
    """Measure the eigenvalues of a field's Jacobian J with the largest real parts.

    Where the update is 0, a positive real part says that the flow dθ/dt = v(θ) leaves; an imaginary
    part that it turns, with that many radians a unit of time (of a gradient's J all are real). Up
    to 500 parameters all eigenvalues are computed, above by Arnoldi's method (ARPACK) from products
    J z.

    Parameters
    ----------
    field, theta, derivative
        As in `neurofb.measures.jacobian.linearise`.
    num_eigenvalues
        How many, at most p − 2 where Arnoldi's method is used.
    seed
        Of the vector that Arnoldi's method starts from.
    max_iterations
        Restarts of Arnoldi's method. Where it has not found an eigenvalue by then, there is NaN.

    Returns
    -------
    xr.Dataset
        ``eigenvalue_real`` and ``eigenvalue_imaginary`` (eigenvalue), largest real part first;
        ``complex_share``, the share of all eigenvalues that are not real (|imaginary| above 1e-6 of
        the largest modulus), NaN with Arnoldi's method.

    Raises
    ------
    ValueError
        If `num_eigenvalues` is out of range, or as in `linearise`.

    Examples
    --------
    >>> spiral = lambda x: torch.stack([0.5 * x[0] - x[1], x[0] + 0.5 * x[1]])
    >>> found = largest_real_eigenvalue(spiral, torch.zeros(2))
    >>> found.eigenvalue_real.values, found.complex_share.item()
    (array([0.5]), 1.0)
    """
    p = theta.numel()
    largest = p if p <= DENSE else p - 2
    if not 1 <= num_eigenvalues <= largest:
        raise ValueError(f"num_eigenvalues={num_eigenvalues} must be from 1 to {largest}")
    near = linearise(field, theta, derivative)
    share = np.nan
    if p <= DENSE:
        values: Any = np.linalg.eigvals(near.matrix().double().cpu().numpy())
        scale = np.abs(values).max()
        share = float(np.mean(np.abs(values.imag) > 1e-6 * scale)) if scale > 0 else 0.0
    else:

        def times(z: np.ndarray) -> np.ndarray:
            vector = torch.from_numpy(np.ascontiguousarray(z.ravel())).to(theta)
            return near.times(vector).double().cpu().numpy()

        values = _arnoldi(times, p, num_eigenvalues, seed, max_iterations)
    order = np.lexsort((-values.imag, -values.real))[:num_eigenvalues]
    missing = np.full(num_eigenvalues - len(order), np.nan)
    real, imaginary = (
        np.concatenate([part[order], missing]) for part in (values.real, values.imag)
    )
    number = np.arange(num_eigenvalues)
    text = "part of the eigenvalue of the update's Jacobian"
    return xr.Dataset(
        {
            "eigenvalue_real": labels.variable("eigenvalue", real, "1", f"real {text}"),
            "eigenvalue_imaginary": labels.variable(
                "eigenvalue", imaginary, "1", f"imaginary {text}"
            ),
            "complex_share": labels.variable((), share, "1", "share of eigenvalues not real"),
        },
        coords={"eigenvalue": labels.coordinate("eigenvalue", number)},
        attrs={"title": "eigenvalues of the update's Jacobian", "derivative": derivative},
    )


def _arnoldi(times: Any, p: int, number: int, seed: int, max_iterations: int) -> Any:
    """Return the eigenvalues found, fewer than asked for if the method did not converge."""
    start = np.random.default_rng(seed).standard_normal(p)
    operator = LinearOperator(shape=(p, p), matvec=times, dtype=np.float64)  # pyright: ignore
    # more vectors than ARPACK's own choice: many eigenvalues of a network lie near 0
    kept = min(p, max(2 * number + 1, 40))
    try:
        return eigs(
            operator,
            k=number,
            which="LR",
            v0=start,
            ncv=kept,
            maxiter=max_iterations,
            tol=1e-8,  # pyright: ignore[reportArgumentType]
            return_eigenvectors=False,
        )
    except ArpackNoConvergence as error:
        return np.asarray(error.eigenvalues)
