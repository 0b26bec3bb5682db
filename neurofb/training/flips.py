"""Flips in any network: gradients of flipped synapses are multiplied before the optimiser steps."""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neurofb.training.flip_spec import FlipSpec

#: layers whose weight is a matrix (a kernel) from inputs to outputs
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def flip_gradients(network: nn.Module, flips: Sequence[FlipSpec]) -> "GradientFlips":
    """Prepare the flips of a network's gradients; nothing is changed yet.

    The gradients are multiplied where `GradientFlips.apply` is called: once per update, after the
    last backward pass and before the optimiser's step; ``flips.on(optimiser)`` does so by itself.
    It acts on what stands in ``.grad`` then, so that accumulation over several backward passes, the
    averages of DistributedDataParallel, ``zero_grad``, gradient scaling and compiled networks all
    go together with it, and whatever else asks for gradients (a measure, `torch.autograd.grad`)
    gets the true ones.

    Plain SGD follows curl descent: θ ← θ - η D ∇L. Any other optimiser has another field: momentum
    and weight decay act after the flips (decay keeps its sign), Adam divides by root mean squares
    that no flip changes, and Muon mixes rows and columns. The theory of `neurofb.theory` is that of
    the flow dθ/dt = -D ∇L. Matrices of a pathway are not flipped, they learn as before.

    Parameters
    ----------
    network
        Any module, with or without pathways.
    flips
        Several may lie on one layer, one a side.

    Raises
    ------
    ValueError
        As `flip_masks`.

    Examples
    --------
    >>> network = nn.Linear(2, 1, bias=False)
    >>> flips = flip_gradients(network, [FlipSpec(layer="", indices=(0,))])
    >>> network(torch.tensor([[3.0, 4.0]])).sum().backward()
    >>> flips.apply()
    >>> network.weight.grad
    tensor([[-3.,  4.]])
    """
    return GradientFlips(dict(network.named_parameters()), flip_masks(network, flips))


def flip_masks(network: nn.Module, flips: Sequence[FlipSpec]) -> dict[str, Tensor]:
    """Return D for each parameter that is flipped: name → tensor that broadcasts to its shape.

    Parameters
    ----------
    network, flips
        As in `flip_gradients`.

    Raises
    ------
    ValueError
        If a pattern matches no linear layer or convolution, a layer is flipped twice on one side
        or its weight does not learn, or there are fewer neurons than are to be flipped.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> flip_masks(network, [FlipSpec(layer="1", count=1)])
    {'1.weight': tensor([[-1.,  1.,  1.]], dtype=torch.float64)}
    """
    names = {parameter: name for name, parameter in network.named_parameters()}
    masks: dict[str, Tensor] = {}
    done: set[tuple[nn.Parameter, str]] = set()
    for spec in flips:
        for layer_name, layer in _matching(network, spec.layer):
            weight = layer.weight
            if not isinstance(weight, nn.Parameter) or not weight.requires_grad:
                raise ValueError(f"layer={layer_name!r}: its weight is no parameter that learns")
            if (weight, spec.side) in done:
                raise ValueError(f"layer={layer_name!r} is flipped twice on its {spec.side} side")
            done.add((weight, spec.side))
            for parameter, mask in _masks(layer, spec):
                name = names[parameter]
                masks[name] = masks[name] * mask if name in masks else mask
    return masks


def flipped_neurons(network: nn.Module, flips: Sequence[FlipSpec]) -> list[FlipSpec]:
    """Return each flipped neuron as a flip of its own, with its layer and index.

    Parameters
    ----------
    network, flips
        As in `flip_gradients`.

    Raises
    ------
    ValueError
        As `flip_masks`.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    >>> neurons = flipped_neurons(network, [FlipSpec(layer="*", fraction=0.5)])
    >>> [(neuron.layer, neuron.indices) for neuron in neurons]
    [('0', (0,)), ('0', (1,)), ('1', (0,)), ('1', (1,))]
    """
    return [
        dataclasses.replace(
            spec, layer=name, fraction=None, count=None, seed=None, indices=(int(index),)
        )
        for spec in flips
        for name, layer in _matching(network, spec.layer)
        for index in torch.nonzero(spec.diagonal(_num_neurons(layer, spec.side)) != 1)
    ]


class GradientFlips:
    """The flips of a network's gradients: `apply` does them once, `on` before each step.

    Parameters
    ----------
    parameters
        Name → parameter; those without a mask are left alone.
    masks
        Name → D as a tensor that can be broadcast to the parameter's shape.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor]) -> None:
        self._pairs = [(parameters[name], mask) for name, mask in masks.items()]
        self._ready: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    @torch.no_grad()
    def apply(self) -> None:
        """Multiply the gradients by D in place; a parameter without a gradient stays without."""
        for place, (parameter, mask) in enumerate(self._pairs):
            gradient = parameter.grad
            if gradient is None:
                continue
            key = place, gradient.device, gradient.dtype
            if key not in self._ready:
                self._ready[key] = mask.to(device=gradient.device, dtype=gradient.dtype)
            gradient.mul_(self._ready[key])

    def on(self, optimiser: torch.optim.Optimizer) -> RemovableHandle:
        """Flip before each of the optimiser's steps, until the handle that is returned is removed.

        Raises
        ------
        ValueError
            In a step with a closure: that computes gradients after the flips (LBFGS needs one).
        """

        def flip(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            # the optimiser itself is the first argument
            if any(closure is not None for closure in (*arguments[1:], *keywords.values())):
                raise ValueError(
                    "closure: must be None where gradients are flipped, it computes them after the "
                    "flips; call backward() before step()"
                )
            self.apply()

        return optimiser.register_step_pre_hook(flip)


def _matching(network: nn.Module, pattern: str) -> list[tuple[str, Any]]:
    """Return name and layer of the linear layers and convolutions that a pattern means."""
    layers = {name: m for name, m in network.named_modules() if isinstance(m, _LAYERS)}
    if pattern in layers:
        return [(pattern, layers[pattern])]
    found = [pair for pair in layers.items() if fnmatch.fnmatchcase(pair[0], pattern)]
    if not found:
        raise ValueError(
            f"layer={pattern!r} matches no linear layer or convolution; those are: "
            f"{', '.join(layers) or 'none'}"
        )
    return found


def _masks(layer: Any, spec: FlipSpec) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the parameters of a layer that a flip acts on, and D in their shape."""
    weight, groups = layer.weight, getattr(layer, "groups", 1)
    kernel = (1,) * (weight.dim() - 2)
    diagonal = spec.diagonal(_num_neurons(layer, spec.side))
    if spec.side == "postsynaptic":
        bias = [] if layer.bias is None else [(layer.bias, diagonal)]
        return [(weight, diagonal.reshape(-1, 1, *kernel)), *bias]
    # the outputs of a group see its own inputs only
    rows = diagonal.reshape(groups, -1)
    rows = rows.repeat_interleave(weight.shape[0] // groups, 0) if groups > 1 else rows
    return [(weight, rows.reshape(*rows.shape, *kernel))]


def _num_neurons(layer: Any, side: str) -> int:
    """Return how many inputs or outputs (channels) a layer has."""
    num_outputs, num_inputs = layer.weight.shape[:2]
    return num_outputs if side == "postsynaptic" else num_inputs * getattr(layer, "groups", 1)
