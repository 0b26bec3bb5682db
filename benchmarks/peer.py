"""BioTorch's published feedback-alignment layers in the place of a network's own.

Install them outside of the checkout (the layers need nothing but torch):

    pip install --no-deps --target FOLDER biotorch
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurofb import feedback as fb

NAME = "BioTorch FA"


def load(folder: Path | None) -> Any | None:
    """Return BioTorch's module of layers, or None (with a line that says so) if it is not there."""
    if folder is None:
        print("peer: no --peer FOLDER given, BioTorch is left out")
        return None
    sys.path.append(str(folder))
    try:
        return importlib.import_module("biotorch.layers.fa")
    except ImportError as error:
        print(f"peer: {error}; BioTorch is left out")
        return None


def replace_layers(layers: Any, like: nn.Module) -> Callable[[nn.Module], None]:
    """Return a function that puts BioTorch's layers where `like` carries pathways.

    Weights and biases stay the same. Its linear layer takes 2-D inputs only, so tokens are
    flattened for it, which copies nothing.
    """
    names = [name for name, _ in fb.feedback_layers(like)]

    def replace(network: nn.Module) -> None:
        for name in names:
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, _theirs(layers, network, name))

    return replace


class _Rows(nn.Module):
    """A layer of rows, for any leading dimensions."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for the rows of x."""
        return self.layer(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def _theirs(layers: Any, network: nn.Module, name: str) -> nn.Module:
    ours = network.get_submodule(name)
    if isinstance(ours, nn.Conv2d):
        theirs = layers.Conv2d(
            ours.in_channels,
            ours.out_channels,
            ours.kernel_size,
            stride=ours.stride,
            padding=ours.padding,
            bias=ours.bias is not None,
        )
    else:
        assert isinstance(ours, nn.Linear)
        theirs = layers.Linear(ours.in_features, ours.out_features, ours.bias is not None)
    with torch.no_grad():
        for key, value in ours.named_parameters(recurse=False):
            getattr(theirs, key).copy_(value)
    return theirs if isinstance(ours, nn.Conv2d) else _Rows(theirs)
