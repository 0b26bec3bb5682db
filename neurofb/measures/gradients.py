"""Gradients of many units with respect to the image, averaged over images.

Per image only the nonlinear part of the network is differentiated. The layer itself and the first
layer are usually affine, and the mean over images passes through an affine map, so each of the
two costs one backward per unit instead of one per unit and image.
"""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurofb.measures.probing import Trace, at_position, run_to_layer


def mean_gradient(
    network: nn.Module,
    layer: nn.Module,
    trace: Trace,
    images: Iterable[Float[Tensor, "image channel y x"]],
    units: list[int],
    axis: int,
    position: tuple[int, ...],
) -> Float[Tensor, "unit channel y x"]:
    """Average d output[unit, position] / d image over images that arrive in chunks.

    Every unit is computed by itself, so its map does not depend on the other units, and memory
    depends on the size of a chunk but not on their number.

    Parameters
    ----------
    network, layer, trace
        The network, a module of it, and what `trace_layer` saw on images of this size.
    images
        Chunks of images.
    units, axis, position
        Units of the layer, the axis they lie on, and where on the other axes they are read.
    """
    entry = trace.layer_input
    shortcut = entry is not None and _is_affine(layer, entry)
    anchor_like = entry if shortcut and entry is not None else trace.layer_output
    hot = _one_hot(trace.layer_output, units, axis, position)
    weights = _through(layer, anchor_like, hot) if shortcut else hot
    stem = trace.stem
    if stem is not None and not _is_affine(stem, trace.image):
        stem = None
    total_image = hot.new_zeros((len(units), *trace.image.shape[1:]), dtype=torch.float64)
    total_stem: Tensor | None = None
    count = 0
    for chunk in images:
        count += len(chunk)
        leaf = chunk.detach().clone().requires_grad_(True)
        with _cut(stem) as stem_out, torch.enable_grad():
            anchor = run_to_layer(network, layer, leaf * 1, output=not shortcut)
        if not anchor.requires_grad:
            continue
        sources = (leaf, *stem_out)
        for index, weight in enumerate(weights):
            grads = torch.autograd.grad(
                anchor, sources, weight.expand_as(anchor), retain_graph=True, allow_unused=True
            )
            if grads[0] is not None:
                total_image[index] += grads[0].sum(0, dtype=torch.float64)
            if len(grads) > 1 and grads[1] is not None:
                part = grads[1].sum(0, dtype=torch.float64)
                if total_stem is None:
                    total_stem = part.new_zeros((len(units), *part.shape))
                total_stem[index] += part
    if count == 0:
        raise ValueError("images are empty; at least one image is needed")
    answer = total_image / count
    if total_stem is not None and stem is not None:
        answer += _through(stem, trace.image, (total_stem / count).to(trace.image.dtype))
    return answer.to(trace.image.dtype)


def response(
    network: nn.Module,
    layer: nn.Module,
    images: Float[Tensor, "image channel y x"],
    units: list[int],
    axis: int,
    position: tuple[int, ...],
) -> Float[Tensor, "image unit"]:
    """Return the layer's output of the units at one position for every image."""
    with torch.no_grad():
        output = run_to_layer(network, layer, images, output=True)
    return at_position(output, axis, position)[:, units]


def _one_hot(output: Tensor, units: list[int], axis: int, position: tuple[int, ...]) -> Tensor:
    """Return for each unit the output's gradient of that unit at the position."""
    hot = output.new_zeros((len(units), *output.shape[1:]))
    at_position(hot, axis, position)[range(len(units)), units] = 1.0
    return hot


def _through(
    module: nn.Module, at: Tensor, cotangents: Float[Tensor, "unit ..."]
) -> Float[Tensor, "unit ..."]:
    """Pull cotangents of a module's output back to its input, one unit at a time."""
    leaf = at.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        output = module(leaf)
    return torch.cat(
        [
            torch.autograd.grad(output, leaf, cotangent[None], retain_graph=True)[0]
            for cotangent in cotangents
        ]
    )


def _is_affine(module: nn.Module, at: Tensor) -> bool:
    """Check f(a + b) - f(a) - f(b) + f(0) = 0 for a convolution or linear layer."""
    if not isinstance(module, nn.Conv2d | nn.Linear) or not at.is_floating_point():
        return False
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(at.shape, generator=generator).to(at) for _ in range(2))
    with torch.no_grad():
        parts = [module(value) for value in (first + second, first, second, first * 0)]
    residue = (parts[0] - parts[1] - parts[2] + parts[3]).abs().max()
    scale = max(float(part.abs().max()) for part in parts)
    return float(residue) <= 100 * torch.finfo(at.dtype).eps * max(scale, 1e-12)


@contextlib.contextmanager
def _cut(stem: nn.Module | None) -> Iterator[list[Tensor]]:
    """Make the output of a module a leaf of the graph; the list receives it."""
    seen: list[Tensor] = []

    def hook(_: nn.Module, args: tuple, output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_(True))
        return seen[0] * 1

    if stem is None:
        yield seen
        return
    handle = stem.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()
