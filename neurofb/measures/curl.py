"""How far a learning rule is from a gradient: the curl index of its update."""

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from neurofb import labels
from neurofb.measures.jacobian import ByAutograd, ByDifference, Derivative, Field, linearise
from neurofb.measures.jacobian import jacobian as whole_jacobian

_TEXTS = {
    "curl_index": "curl index: share of the Jacobian's norm that is antisymmetric",
    "standard_error": "standard error of the curl index, over random probes",
    "squared_index": "square of the curl index (may be estimated below 0)",
    "squared_standard_error": "standard error of the squared curl index",
    "jacobian_norm": "Frobenius norm of the update's Jacobian",
}


def curl_index(
    field: Field,
    theta: Float[Tensor, " p"],
    *,
    num_probes: int | None = None,
    seed: int = 0,
    derivative: Derivative = "autograd",
) -> xr.Dataset:
    """Measure the curl index ‖A‖/‖J‖ of a field θ → v(θ) at a point; 0 for a gradient.

    J = ∂v/∂θ, A = (J − Jᵀ)/2, Frobenius norms. A field is the gradient of some function of θ (on
    a domain without holes) if A is 0 everywhere; then the index is 0. It is 1 for a pure rotation,
    and near 1/√2 for a large Jacobian of independent random numbers. A rule that is not a gradient
    descends no loss, whatever else it does.

    **The index depends on the coordinates.** Other units for some parameters, a learning rate for
    each layer, momentum or Adam change it: plain descent at two different rates has
    J = −diag(rate) H and an index above 0. Compare rules in the same parameters.

    Parameters
    ----------
    field
        v(θ), the update that a rule makes (minus what it hands to an optimiser), as a function of
        all parameters as one vector. `neurofb.measures.update_field` makes it of a network.
    theta
        Where, shape (p,).
    num_probes
        None forms J (up to 10 000 parameters). Else the number of random probes z = ±1 of
        Hutchinson's estimator, of which each costs a product J z and one Jᵀ z (``"autograd"``;
        4 ‖A‖² = E|J z − Jᵀ z|²), or two products J z (``"difference"``; Jᵀ is not at hand, so that
        2 ‖A‖² = ‖J‖² − tr J² = E[|J z|² − zᵀ J J z]). Both are our derivation.
    seed
        Of the probes.
    derivative
        How J is found (`neurofb.measures.jacobian.linearise`): ``"autograd"``, or ``"difference"``
        for a rule of which only the values are known, such as the pathways of a network; θ in
        float64.

    Returns
    -------
    xr.Dataset
        ``curl_index`` and its ``standard_error`` (of a ratio of means by the delta method; 0
        without probes), ``squared_index`` and ``squared_standard_error`` (from which the others
        follow: the square is without bias near 0, where its root is not), ``jacobian_norm``. NaN if
        J is 0.

    Raises
    ------
    ValueError
        If there are fewer than 2 probes, too many parameters, or as in `linearise`.

    Examples
    --------
    >>> rotation = lambda x: torch.stack([-x[1], x[0]])
    >>> curl_index(rotation, torch.tensor([1.0, 2.0])).curl_index.item()
    1.0
    >>> found = curl_index(lambda x: -(x**3), torch.randn(50), num_probes=8)
    >>> found.curl_index.item(), found.standard_error.item()
    (0.0, 0.0)
    """
    if num_probes is None:
        squared, jacobian_norm = _exact(whole_jacobian(field, theta, derivative))
        error = 0.0
    else:
        if num_probes < 2:
            raise ValueError(f"num_probes={num_probes} must be at least 2, or None for all of J")
        near = linearise(field, theta, derivative)
        squared, error, jacobian_norm = _estimate(near, theta, num_probes, seed)
    index = max(squared, 0.0) ** 0.5 if squared == squared else squared
    # the root of what is estimated near 0 is off by no more than the root of the error
    of_root = min(error / (2 * index), error**0.5) if index > 0 else error**0.5
    values = dict(zip(_TEXTS, (index, of_root, squared, error, jacobian_norm), strict=True))
    return xr.Dataset(
        {name: labels.variable((), value, "1", _TEXTS[name]) for name, value in values.items()},
        attrs={
            "title": "curl index",
            "num_parameters": theta.numel(),
            "num_probes": 0 if num_probes is None else num_probes,
            "derivative": derivative,
        },
    )


def _exact(matrix: Float[Tensor, "p p"]) -> tuple[float, float]:
    """Return the squared index of a Jacobian, and its norm."""
    scale = matrix.abs().max()
    if float(scale) == 0:
        return float("nan"), 0.0
    matrix = matrix / scale  # squares neither overflow nor vanish
    norm = torch.linalg.matrix_norm(matrix)
    curl = torch.linalg.matrix_norm(matrix - matrix.mT) / 2
    return float((curl / norm).square()), float(norm * scale)


def _estimate(
    near: ByAutograd | ByDifference, theta: Tensor, num_probes: int, seed: int
) -> tuple[float, float, float]:
    """Return the squared index by probes, its standard error, and the norm of J."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(num_probes):
        bits = torch.randint(0, 2, (len(theta),), generator=generator)
        z = (2 * bits - 1).to(theta)
        rows.append(_probe(near, z))
    curls, wholes = torch.stack(rows, dim=1).double().cpu()
    mean = float(wholes.mean())
    if mean == 0:
        return float("nan"), 0.0, 0.0
    squared = float(curls.mean()) / mean
    spread = float((curls - squared * wholes).std()) / mean
    return squared, spread / num_probes**0.5, mean**0.5


def _probe(near: ByAutograd | ByDifference, z: Tensor) -> Float[Tensor, " 2"]:
    """Return unbiased estimates of ‖A‖² and ‖J‖² from one probe."""
    forward = near.times(z)
    if isinstance(near, ByAutograd):
        back = near.transposed(z)
        curl = (forward - back).square().sum() / 4
        return torch.stack([curl, (forward.square().sum() + back.square().sum()) / 2])
    whole = forward.square().sum()
    return torch.stack([(whole - z @ near.times(forward)) / 2, whole])
