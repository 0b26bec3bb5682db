"""Networks whose weights follow from a seed, by the field's standard initialisations."""

import math
from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import nn
from torch.nn import init

from neurofb.choices import check_choice
from neurofb.networks.normalisation import Centre

#: The initialisations that `build_from_seed` knows.
Initialisation = Literal["torch", "glorot", "he", "he_normal", "truncated_normal"]

_Network = TypeVar("_Network", bound=nn.Module)


def build_from_seed(
    make: Callable[[], _Network], *, seed: int, initialisation: Initialisation = "torch"
) -> _Network:
    """Make a network on the CPU and draw all its weights, in the modules' order, from one seed.

    Normalisation layers start as identities; parameters that belong to no layer (tokens, position
    embeddings) start from a normal distribution of standard deviation 0.02, cut off at ±2. The
    global random state is neither read nor changed.

    Parameters
    ----------
    make
        Constructs the network; whatever it draws is discarded.
    seed
        Determines the weights.
    initialisation
        Of linear layers and convolutions. ``"torch"``: torch's default, weights and biases uniform
        within ±1/√(inputs of a unit). ``"glorot"``: Glorot-uniform weights, zero biases (Glorot &
        Bengio 2010; Keras' default). ``"he"``: normal kernels of variance 2 / (outputs of an input)
        and zero biases for convolutions (He et al. 2015, arXiv:1502.01852, eq. 14), torch's default
        for linear layers, as torchvision does for ResNets. ``"he_normal"``: normal weights of
        variance 2 / (inputs of a unit) and zero biases, for both (eq. 10 there).
        ``"truncated_normal"``: normal weights of standard deviation 0.02, cut off at ±2, and zero
        biases (Dosovitskiy et al. 2021 and timm, for transformers).

    Raises
    ------
    ValueError
        If the initialisation is unknown.

    Examples
    --------
    >>> one, other = (build_from_seed(lambda: nn.Linear(3, 2), seed=7) for _ in range(2))
    >>> torch.equal(one.weight, other.weight)
    True
    """
    check_choice("initialisation", initialisation, _DRAW)
    with torch.device("meta"):
        network = make()
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                _DRAW[initialisation](module, generator)
            elif isinstance(module, _NORMALISATIONS):
                module.reset_parameters()
            else:
                for parameter in module.parameters(recurse=False):
                    init.trunc_normal_(parameter, std=0.02, generator=generator)
    return network


def _torch(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    if layer.bias is not None:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        init.uniform_(layer.bias, -bound, bound, generator=generator)


def _glorot(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    init.xavier_uniform_(layer.weight, generator=generator)
    _zero_bias(layer)


def _he(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    if isinstance(layer, nn.Linear):
        _torch(layer, generator)
        return
    init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    _zero_bias(layer)


def _he_normal(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu", generator=generator)
    _zero_bias(layer)


def _truncated_normal(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    init.trunc_normal_(layer.weight, std=0.02, generator=generator)
    _zero_bias(layer)


def _zero_bias(layer: nn.Linear | nn.Conv2d) -> None:
    if layer.bias is not None:
        init.zeros_(layer.bias)


_NORMALISATIONS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, Centre)

_DRAW: dict[str, Callable[[nn.Linear | nn.Conv2d, torch.Generator], None]] = {
    "torch": _torch,
    "glorot": _glorot,
    "he": _he,
    "he_normal": _he_normal,
    "truncated_normal": _truncated_normal,
}
