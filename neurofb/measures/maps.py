"""Linear maps of a network as measures see them: weight and gradient as one dense matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from neurofb.feedback.stage import Dense, padding_before, stage_of
from neurofb.networks.svd_factors import SVDLayer
from neurofb.networks.svd_layers import SVDConv2d


def is_map(module: nn.Module) -> bool:
    """Tell whether a module is a linear layer or a convolution, with or without a pathway.

    Those that keep their weight as factors count too.

    Examples
    --------
    >>> is_map(nn.Linear(2, 3)), is_map(nn.ReLU())
    (True, False)
    """
    return isinstance(module, nn.Linear | nn.Conv2d | SVDLayer)


def is_convolution(module: nn.Module) -> bool:
    """Tell whether a module is a convolution, dense or factored.

    Examples
    --------
    >>> is_convolution(nn.Conv2d(2, 3, 1)), is_convolution(nn.Linear(2, 3))
    (True, False)
    """
    return isinstance(module, nn.Conv2d | SVDConv2d)


def dense_weight(module: nn.Module) -> Float[Tensor, "n_out n_in"]:
    """Return the weight W of a map, a convolution's with (channel, y, x) as one dim.

    Examples
    --------
    >>> dense_weight(nn.Conv2d(2, 4, 3)).shape
    torch.Size([4, 18])
    """
    weight = module.dense_weight() if isinstance(module, SVDLayer) else module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().flatten(1)


def weight_gradient(
    module: nn.Module, pairs: Sequence[tuple[Tensor, Tensor]]
) -> Float[Tensor, "n_out n_in"]:
    """Return δ hᵀ summed over images, pixels or tokens: the gradient with respect to W itself.

    It needs no W, so a layer that keeps factors of W has it as well.

    Parameters
    ----------
    module
        A map (`is_map`).
    pairs
        Input h and error δ at the output, of each call.

    Returns
    -------
    Tensor
        A convolution's with (channel, y, x) as one dim.

    Raises
    ------
    ValueError
        If there are no pairs.

    Examples
    --------
    >>> weight_gradient(nn.Linear(3, 2), [(torch.ones(5, 3), torch.ones(5, 2))])
    tensor([[5., 5., 5.],
            [5., 5., 5.]])
    """
    total: Tensor | None = None
    for h, delta in pairs:
        wide = torch.promote_types(torch.promote_types(h.dtype, delta.dtype), torch.float32)
        part = _product(module, h.to(wide), delta.to(wide)).flatten(1)
        total = part if total is None else total + part
    if total is None:
        raise ValueError("pairs=[] must hold at least one call")
    return total


def _product(module: nn.Module, h: Tensor, delta: Tensor) -> Tensor:
    """Return the gradient of one call."""
    layer = _plain(module) if isinstance(module, SVDConv2d) else module
    if not isinstance(layer, nn.Conv2d):
        return Dense().product(h, delta, torch.Size())
    if h.ndim == 3:
        h, delta = h[None], delta[None]
    pad = padding_before(layer)
    if pad is not None:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        h = functional.pad(h, pad, mode=mode)
    kernel = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
    return stage_of(layer).product(h, delta, torch.Size(kernel))


def _plain(layer: SVDConv2d) -> nn.Conv2d:
    """Return a convolution without memory that has the settings of a factored one."""
    return nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        device="meta",
    )
