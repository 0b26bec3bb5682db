"""Cutting the rank of a layer in training: its factors and the optimiser's memory of them."""

import torch
from torch import Tensor, nn

from neurofb.networks.svd_factors import SVDLayer


@torch.no_grad()
def strengths(layer: SVDLayer) -> Tensor:
    """Return |s| ‖u‖ ‖v‖ of each component: the norm of its part of W.

    Examples
    --------
    >>> from neurofb.networks import SVDLinear
    >>> layer = SVDLinear(4, 3, rank=2)
    >>> torch.allclose(strengths(layer), layer.s.abs())  # u and v start with unit norm
    True
    """
    return layer.s.abs() * layer.U.norm(dim=0) * layer.V.norm(dim=0)


def cut_layer(layer: SVDLayer, keep: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """Keep these components of a layer's factors and of the optimiser's state.

    The parameters stay the same objects, so the optimiser goes on with them.

    Parameters
    ----------
    layer
        The layer.
    keep
        Indices of the components that stay.
    optimiser
        Whose state of U, s and V, where it has the factors' shapes (momenta, second moments), is
        cut along the same index; step counts and other single numbers stay.

    Raises
    ------
    ValueError
        If the state holds tensors of other shapes (Adafactor's sums over rows). Nothing is changed.

    Examples
    --------
    >>> from neurofb.networks import SVDLinear
    >>> layer = SVDLinear(4, 3, rank=3)
    >>> optimiser = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    >>> layer(torch.ones(1, 4)).sum().backward()
    >>> optimiser.step()
    >>> cut_layer(layer, torch.tensor([0, 2]), optimiser)
    >>> layer.rank, optimiser.state[layer.U]["momentum_buffer"].shape
    (2, torch.Size([3, 2]))
    """
    factors: tuple[nn.Parameter, ...] = (layer.U, layer.s, layer.V)
    for factor in factors:
        check_state(optimiser, factor)
    shapes = [factor.shape for factor in factors]
    layer.truncate(keep)
    for factor, shape in zip(factors, shapes, strict=True):
        factor.grad = None
        state = optimiser.state.get(factor, {})
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == shape:
                state[name] = value.index_select(-1, keep.to(value.device))


def check_state(optimiser: torch.optim.Optimizer, factor: nn.Parameter) -> None:
    """Refuse an optimiser whose state of a factor cannot be cut along the factor's index.

    Raises
    ------
    ValueError
        If it holds a tensor that is neither of the factor's shape nor a single number.

    Examples
    --------
    >>> factor = nn.Parameter(torch.ones(3, 2))
    >>> check_state(torch.optim.Adam([factor]), factor)
    """
    for name, value in optimiser.state.get(factor, {}).items():
        if isinstance(value, Tensor) and value.numel() > 1 and value.shape != factor.shape:
            raise ValueError(
                f"rank_schedule: optimiser {type(optimiser).__name__} keeps {name!r} of shape "
                f"{tuple(value.shape)} for a factor of shape {tuple(factor.shape)}; a cut needs "
                "states of the factor's own shape, as of AdamW or SGD"
            )
