"""State of factored layers: their ranks, how orthonormal their factors are, how spread s is."""

import torch
import xarray as xr
from torch import Tensor, nn

from neurofb import labels
from neurofb.networks.factorised import factored_layers
from neurofb.networks.svd_factors import SVDLayer


def factor_state(network: nn.Module) -> xr.Dataset:
    """Measure the factors of each layer with W = U diag(s) Vᵀ.

    With σ_i = |s_i| ‖u_i‖ ‖v_i‖, the norm of the part that component i adds to W:

    ``rank``
        Number of components r.
    ``full_rank``
        min(m, n), what a dense layer has.
    ``orthonormality_residual_u``, ``orthonormality_residual_v``
        ‖Uᵀ U − 1‖ (Frobenius), 0 for orthonormal columns; NaN once a factor is not finite.
    ``energy``
        ‖W‖², also where the factors are not orthonormal; Σ s² where they are. What a cut, or all
        the training up to an epoch, has left of it is the ratio to an earlier epoch's.
    ``spread``
        (Σ σ²)² / Σ σ⁴, the participation ratio of the σ²: r if all components weigh the same, 1 if
        there is one that counts.

    Parameters
    ----------
    network
        With at least one `SVDLinear` or `SVDConv2d`.

    Returns
    -------
    xr.Dataset
        Dim ``layer`` in the order of the modules; float64.

    Raises
    ------
    ValueError
        If the network has no factored layer.

    Examples
    --------
    >>> from neurofb.networks import SVDLinear
    >>> state = factor_state(nn.Sequential(SVDLinear(8, 6, rank=3)))
    >>> state["rank"].values, bool(state["orthonormality_residual_u"] < 1e-6)
    (array([3]), True)
    """
    layers = factored_layers(network)
    if not layers:
        raise ValueError("network has no factored layer (SVDLinear, SVDConv2d)")
    rows = [_measure(layer) for layer in layers.values()]
    variables = {
        name: labels.variable("layer", [row[name] for row in rows], *about)
        for name, about in _VARIABLES.items()
    }
    return xr.Dataset(
        variables,
        coords={"layer": labels.coordinate("layer", list(layers))},
        attrs=labels.provenance(title="state of the factors U, s, V of each layer"),
    )


_RESIDUAL = "orthonormality residual of"
_VARIABLES: dict[str, tuple[str, str]] = {
    "rank": ("1", "rank of the layer's weight"),
    "full_rank": ("1", "full rank of the layer's weight"),
    "orthonormality_residual_u": ("1", f"{_RESIDUAL} U, ‖UᵀU − 1‖"),
    "orthonormality_residual_v": ("1", f"{_RESIDUAL} V, ‖VᵀV − 1‖"),
    "energy": ("1", "energy of the weight, ‖W‖²"),
    "spread": ("1", "number of components that count, participation ratio of the σ²"),
}


@torch.no_grad()
def _measure(layer: SVDLayer) -> dict[str, float | int]:
    """Return the variables of one layer."""
    u, s, v = (factor.detach().double() for factor in (layer.U, layer.s, layer.V))
    gram_u, gram_v = u.mT @ u, v.mT @ v
    squares = s.square() * gram_u.diagonal() * gram_v.diagonal()
    return {
        "rank": layer.rank,
        "full_rank": min(layer.matrix_shape),
        "orthonormality_residual_u": _residual(gram_u),
        "orthonormality_residual_v": _residual(gram_v),
        "energy": float((s @ (gram_u * gram_v) @ s).clamp_min(0)),
        "spread": float(squares.sum().square() / squares.square().sum()),
    }


def _residual(gram: Tensor) -> float:
    """Return the Frobenius distance of a Gram matrix from the identity."""
    return float((gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).norm())
