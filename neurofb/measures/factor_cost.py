"""What a network costs with dense layers and with layers of rank r: computed, nothing is run."""

import math
from typing import Any, Protocol, runtime_checkable

import torch
import xarray as xr
from torch import nn

from neurofb.feedback.trace import Call, trace
from neurofb.labels import coordinate, variable
from neurofb.networks import Factorised
from neurofb.networks.factorised import matrix_shape
from neurofb.networks.unfolding import Unfolding, pair, plain_padding

_VARIABLES = {
    "rows": "rows m of the layer's matrix",
    "columns": "columns n of the layer's matrix",
    "rank": "rank r of the factored layer (NaN if it stays dense)",
    "break_even_rank": "rank at which factored and dense layer have equally many weights",
    "parameters_dense": "weights and biases of the dense layer",
    "parameters_factored": "numbers in U, s, V and bias of the factored layer",
    "macs_dense": "multiply-adds of the dense layer for an image",
    "macs_factored": "multiply-adds of the factored layer for an image",
    "training_macs_dense": "multiply-adds of the dense layer in training, for an image",
    "training_macs_factored": "multiply-adds of the factored layer in training, for an image",
    "activations_dense": "numbers kept of an image for the dense layer's backward pass",
    "activations_factored": "numbers kept of an image for the factored layer's backward pass",
}


@runtime_checkable
class NetworkSettings(Protocol):
    """The settings of any network of `neurofb.networks`."""

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        ...

    @property
    def image_size(self) -> int:
        """Pixels of an image's side."""
        ...

    def build(self, seed: int) -> nn.Module:
        """Make the network."""
        ...


def factor_cost(settings: NetworkSettings, factorised: Factorised) -> xr.Dataset:
    """Compare a network's dense layers with their factored forms: parameters, operations, memory.

    A linear layer needs m n multiply-adds and r (m + n + 1) when it is factored, and has as
    many weights: equal at r = m n / (m + n + 1). (For a convolution s is multiplied into V
    once a batch; that is left out, and the two convolutions are counted at their own pixels.) A
    training step is forward pass, weight gradients and error at the input by backpropagation; no
    error is counted for a layer that sees the images. The factored one forms δ U, which serves U's
    and V's gradients and the error alike. For the backward pass a dense layer keeps its input, a
    factored one the r numbers (a map of r channels) between its factors too.

    Parameters
    ----------
    settings
        Of a network (`neurofb.networks.MLPConfig` and the others).
    factorised
        Which layers are factored, and to which rank.

    Returns
    -------
    xr.Dataset
        Dim ``layer``: every linear layer and convolution, in the order in which they run; a layer
        that stays dense has the same cost twice. ``other_parameters`` are those of normalisations,
        tokens and the like. Products outside of layers are not counted.

    Raises
    ------
    ValueError
        If a pattern of `factorised` matches no layer.

    Examples
    --------
    >>> from neurofb.networks import MLPConfig
    >>> mlp = MLPConfig(image_size=28, in_channels=1, hidden=(256, 256), normalisation="none")
    >>> cost = factor_cost(mlp, Factorised(rank=0.5))
    >>> int(cost.parameters_dense.sum()), int(cost.parameters_factored.sum())
    (269322, 202104)
    >>> cost.break_even_rank.values.round(2)
    array([192.8 , 127.75,   9.59])
    """
    network = settings.build(0)
    images = torch.zeros(1, settings.in_channels, settings.image_size, settings.image_size)
    calls, ranks = trace(network, images), factorised.ranks(network)
    first = min(calls[name].position for name in calls if _layer(network, name) is not None)
    rows: dict[str, dict[str, Any]] = {}
    for name in sorted(calls, key=lambda name: calls[name].position):
        layer, call = _layer(network, name), calls[name]
        if layer is not None:
            rank = ranks.get(name)
            rows[name] = _costs(layer, call, rank, factorised, call.position > first)
    counted = sum(int(row["parameters_dense"]) for row in rows.values())
    other = sum(p.numel() for p in network.parameters()) - counted
    variables = {
        key: variable("layer", [row[key] for row in rows.values()], "1", long_name)
        for key, long_name in _VARIABLES.items()
    }
    variables["other_parameters"] = variable((), other, "1", "parameters of no linear map")
    return xr.Dataset(variables, {"layer": coordinate("layer", list(rows))})


def _layer(network: nn.Module, name: str) -> nn.Linear | nn.Conv2d | None:
    """Return a linear map of a network, None for any other module."""
    module = network.get_submodule(name)
    return module if isinstance(module, nn.Linear | nn.Conv2d) else None


def _costs(
    layer: nn.Linear | nn.Conv2d, call: Call, rank: int | None, how: Factorised, error: bool
) -> dict[str, Any]:
    """Return the variables of one layer; `error` says whether it sends one further back."""
    m, n = matrix_shape(layer, how.unfolding)
    bias = 0 if layer.bias is None else layer.bias.numel()
    # rows that are multiplied with the weight: 1, tokens, or output pixels
    outputs = math.prod(call.output_shape[1:]) // _units(layer)
    inputs = math.prod(call.input_shape[1:])
    dense = outputs * layer.weight.numel()
    found: dict[str, Any] = {
        "rows": m,
        "columns": n,
        "rank": math.nan if rank is None else rank,
        "break_even_rank": m * n / (m + n + 1),
        "parameters_dense": layer.weight.numel() + bias,
        "macs_dense": dense,
        "training_macs_dense": (2 + error) * dense,
        "activations_dense": inputs,
    }
    if rank is None:
        same = {k.replace("_dense", "_factored"): v for k, v in found.items() if "_dense" in k}
        return found | same
    if isinstance(layer, nn.Linear):
        first, second, middle, scale = outputs * rank * n, outputs * rank * m, outputs * rank, 1
    else:
        kernel_shape = layer.out_channels, layer.in_channels, *pair(layer.kernel_size)
        geometry = Unfolding(
            kind=how.unfolding,
            kernel_shape=kernel_shape,
            stride=pair(layer.stride),
            padding=plain_padding(layer),
            dilation=pair(layer.dilation),
        )
        middle, scale = math.prod(geometry.middle(call.input_shape, rank)[1:]), 0
        first, second = middle * n, outputs * rank * m
    forward = first + second + scale * middle
    # δ U, U's gradient and V's; the products of δ U with s and with h V; the error at the input
    backward = 2 * second + first + 2 * scale * middle + error * first
    return found | {
        "parameters_factored": rank * (m + n + 1) + bias,
        "macs_factored": forward,
        "training_macs_factored": forward + backward,
        "activations_factored": inputs + middle,
    }


def _units(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
