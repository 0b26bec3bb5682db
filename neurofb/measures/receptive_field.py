"""Receptive fields of the units of any network, from gradients or from spikes."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from neurofb import labels
from neurofb.choices import check_choice
from neurofb.measures.gradients import mean_gradient
from neurofb.measures.probing import (
    Trace,
    at_position,
    choose_units,
    find_layer,
    network_kind,
    trace_layer,
    undisturbed,
    unit_position,
    unpadded,
)
from neurofb.measures.spike_triggered import spike_triggered_average

Method = Literal["probe", "data", "data_mean", "sta", "lindsey2019"]

#: A unit whose largest weight is below this is dead.
DEAD_BELOW = 1e-8


def receptive_field(
    network: nn.Module,
    layer: str,
    *,
    input_shape: Sequence[int] = (1, 24, 24),
    units: Iterable[int] | None = None,
    method: Method = "probe",
    num_probes: int = 64,
    probe_std: float = 0.3,
    seed: int = 0,
    data: Float[Tensor, "image channel y x"] | None = None,
    ridge: float = 0.0,
    batch_size: int = 64,
) -> xr.Dataset:
    """Map what drives the units of a layer: the mean gradient of their pre-activation.

    A convolution's unit is its channel at the centre of the map, a linear layer's unit is an
    output. Maps are cropped to the exact theoretical support. Where everything before the layer is
    convolutional or pointwise, images of the size of the support are enough and free of border
    effects, also if the support is larger than the image (``canvas`` says which size was used).
    The network (weights, buffers, modes, gradients) and the random state are left as they were.

    Parameters
    ----------
    network, layer
        Any module that maps images to something, and the dotted name of a module inside it.
    input_shape
        Size of the network's images: channel, y, x.
    units
        Units to map; all by default. A unit's map does not depend on the choice.
    method
        ``"probe"``: gradient averaged over Gaussian noise images, E[∂z/∂x].
        ``"data"``: the same over the images of `data`; ``"data_mean"``: at their mean.
        ``"sta"``: spike-triggered average, whitened: Cov⁻¹ E[(x - μ) z], over Gaussian noise or
        `data`. By Stein's lemma it tends to the ``"probe"`` map for Gaussian noise.
        ``"lindsey2019"``: the literal recipe of Lindsey et al. 2019 (arXiv:1901.00945): gradient
        of the post-ReLU activation at a black image, divided by its RMS + 1e-5; units silent on
        black are dead.
    num_probes, probe_std, seed
        Gaussian noise images: how many, their standard deviation (input units), their seed.
    data
        Images for the methods that need them.
    ridge
        For ``"sta"``: added to the covariance, as a fraction of its mean eigenvalue.
    batch_size
        Images per chunk; bounds the memory.

    Returns
    -------
    xr.Dataset
        ``receptive_field(unit, channel, y, x)`` in output units per input unit, with y and x in
        pixels from the unit's centre, and ``status(unit)``: ok, dead (no weight above 1e-8) or
        truncated (the support leaves the image, what lies outside is missing).

    Raises
    ------
    ValueError
        If an argument does not fit, the layer is not called exactly once, or a map is not finite.

    Examples
    --------
    >>> conv = torch.nn.Conv2d(1, 2, 3, padding=1)
    >>> rf = receptive_field(torch.nn.Sequential(conv), "0", input_shape=(1, 8, 8), num_probes=4)
    >>> rf.receptive_field.dims, rf.receptive_field.shape, rf.status.values.tolist()
    (('unit', 'channel', 'y', 'x'), (2, 1, 3, 3), ['ok', 'ok'])
    >>> bool(np.allclose(rf.receptive_field, conv.weight.detach(), atol=1e-6))
    True
    """
    shape = _check(input_shape, method, num_probes, probe_std, data, ridge, batch_size)
    module = find_layer(network, layer)
    device, dtype = network_kind(network)
    with undisturbed(network), contextlib.ExitStack() as stack:
        blank = torch.zeros((1, *shape), device=device, dtype=dtype)
        trace = trace_layer(network, layer, blank)
        may_grow = method == "probe" or (method == "sta" and data is None)
        view = _choose_view(network, layer, module, trace, blank, may_grow)
        lean = _without_borders(network, layer, view)
        if lean is not None:
            stack.enter_context(unpadded(network))
            view = lean
        chosen = choose_units(units, view.trace.layer_output.shape[view.axis])
        canvas = (shape[0], *view.canvas)
        images: Iterable[Tensor]
        if method == "lindsey2019":
            images = [torch.zeros((1, *canvas))]
        elif data is not None and method != "probe":
            data = data.mean(0, keepdim=True) if method == "data_mean" else data
            crop = data[..., view.crop[0], view.crop[1]]
            images = (crop[i : i + batch_size] for i in range(0, len(crop), batch_size))
        else:
            images = gaussian_probes(num_probes, canvas, probe_std, seed, batch_size)
        images = (chunk.to(device, dtype) for chunk in images)
        where = (chosen, view.axis, view.position)
        if method == "sta":
            known = None if data is not None else probe_std**2
            maps = spike_triggered_average(network, module, images, *where, known, ridge)
        else:
            maps = mean_gradient(network, module, view.trace, images, *where)
    if method == "lindsey2019":
        silent = at_position(view.trace.layer_output, view.axis, view.position)[0, chosen] <= 0
        maps[silent] = 0.0
        area = shape[0] * shape[1] * shape[2]
        rms = (maps.flatten(1).square().sum(1) / area).sqrt()
        maps = maps / (rms + 1e-5)[:, None, None, None]
    maps = maps[..., view.window[0], view.window[1]]
    if not torch.isfinite(maps).all():
        raise ValueError(f"layer={layer!r} has receptive fields that are not finite")
    return _label(maps, chosen, view, layer, method, num_probes, probe_std, seed, shape)


def gaussian_probes(
    num_probes: int, shape: Sequence[int], std: float, seed: int, batch_size: int
) -> Iterator[Float[Tensor, "probe channel y x"]]:
    """Draw Gaussian noise images in chunks; each probe is the same for any chunk size.

    Examples
    --------
    >>> [tuple(chunk.shape) for chunk in gaussian_probes(5, (1, 3, 3), 0.3, 0, 4)]
    [(4, 1, 3, 3), (1, 1, 3, 3)]
    """
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, num_probes, batch_size):
        count = min(batch_size, num_probes - start)
        yield torch.stack(
            [std * torch.randn(tuple(shape), generator=generator) for _ in range(count)]
        )


@dataclass(frozen=True, kw_only=True)
class _View:
    """Which images are shown, where the unit is read, and what part of the image is its map."""

    trace: Trace
    axis: int
    position: tuple[int, ...]
    canvas: tuple[int, int]  # size of the images shown
    crop: tuple[slice, slice]  # the part of a full image that is shown
    window: tuple[slice, slice]  # the part of the canvas that is the map
    centre: tuple[float, float]  # the unit's centre in the window
    truncated: bool


def _choose_view(
    network: nn.Module, layer: str, module: nn.Module, full: Trace, blank: Tensor, may_grow: bool
) -> _View:
    """Show images of the size of the support where that is exact, else full images."""
    size = (int(blank.shape[2]), int(blank.shape[3]))
    axis, position = unit_position(layer, module, full.layer_output)
    support = full.support if len(position) == 2 else None
    everything = (slice(0, size[0]), slice(0, size[1]))
    if support is None:
        maps = full.layer_output.shape[2:] if len(position) == 2 else size
        cells = position if len(position) == 2 else ((size[0] - 1) / 2, (size[1] - 1) / 2)
        centre = [(cells[a] + 0.5) * size[a] / maps[a] - 0.5 for a in (0, 1)]
        return _View(
            trace=full,
            axis=axis,
            position=position,
            canvas=size,
            crop=everything,
            window=everything,
            centre=(centre[0], centre[1]),
            truncated=False,
        )
    first = [support.start[a] + position[a] * support.jump[a] for a in (0, 1)]
    inside = all(first[a] >= 0 and first[a] + support.size[a] <= size[a] for a in (0, 1))
    if support.size_free and (inside or may_grow):
        cell = [-(support.start[a] // support.jump[a]) for a in (0, 1)]
        skip = [support.start[a] + cell[a] * support.jump[a] for a in (0, 1)]
        canvas = (skip[0] + support.size[0], skip[1] + support.size[1])
        small = _trace_if_possible(network, layer, blank.new_zeros((*blank.shape[:2], *canvas)))
        if small is not None and small.support == support:
            corner = [first[a] - skip[a] for a in (0, 1)]
            return _View(
                trace=small,
                axis=axis,
                position=(cell[0], cell[1]),
                canvas=canvas,
                crop=_slices(corner, [corner[a] + canvas[a] for a in (0, 1)]),
                window=_slices(skip, canvas),
                centre=((support.size[0] - 1) / 2, (support.size[1] - 1) / 2),
                truncated=False,
            )
    low = [max(first[a], 0) for a in (0, 1)]
    high = [min(first[a] + support.size[a], size[a]) for a in (0, 1)]
    centre = [first[a] + (support.size[a] - 1) / 2 - low[a] for a in (0, 1)]
    return _View(
        trace=full,
        axis=axis,
        position=position,
        canvas=size,
        crop=everything,
        window=_slices(low, high),
        centre=(centre[0], centre[1]),
        truncated=not inside,
    )


def _without_borders(network: nn.Module, layer: str, view: _View) -> _View | None:
    """Leave out the parts of maps that the unit does not see, if that gives the same output.

    On an image of the size of the support, a chain of convolutions without padding shrinks to the
    unit alone. Whether it does, and gives the same, is tried; where not (a sum over branches, a
    stride) the padding stays.
    """
    support, blank = view.trace.support, view.trace.image
    exact = support is not None and support.size == view.canvas == blank.shape[2:]
    if not exact or support is None or support.start == (0, 0):
        return None
    noise = torch.randn((4, *blank.shape[1:]), generator=torch.Generator().manual_seed(0))
    noise = noise.to(blank)
    padded = trace_layer(network, layer, noise, stop=True).layer_output
    padded = at_position(padded, view.axis, view.position)
    with unpadded(network):
        lean = _trace_if_possible(network, layer, noise)
        if lean is None or lean.layer_output.shape[2:] != (1, 1):
            return None
        difference = (lean.layer_output[..., 0, 0] - padded).abs().max()
        if difference > 1e-4 * padded.abs().max():
            return None
        trace = trace_layer(network, layer, blank, stop=True)
    return replace(view, trace=trace, position=(0, 0))


def _slices(low: Sequence[int], high: Sequence[int]) -> tuple[slice, slice]:
    return slice(low[0], high[0]), slice(low[1], high[1])


def _trace_if_possible(network: nn.Module, layer: str, image: Tensor) -> Trace | None:
    """Trace an image of another size, if the network takes it."""
    try:
        return trace_layer(network, layer, image, stop=True)
    except (ValueError, RuntimeError, AssertionError):
        return None


def _check(
    input_shape: Sequence[int],
    method: str,
    num_probes: int,
    probe_std: float,
    data: Tensor | None,
    ridge: float,
    batch_size: int,
) -> tuple[int, int, int]:
    """Check the arguments and return the image size."""
    shape = tuple(int(size) for size in input_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"input_shape={shape} must be three positive numbers: channel, y, x")
    check_choice("method", method, Method)
    if num_probes < 1:
        raise ValueError(f"num_probes={num_probes} must be at least 1")
    if not 0 < probe_std < float("inf"):
        raise ValueError(f"probe_std={probe_std} must be positive and finite")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    if not 0 <= ridge < float("inf"):
        raise ValueError(f"ridge={ridge} must be at least 0 and finite")
    if method in ("data", "data_mean") and data is None:
        raise ValueError(f"method={method!r} needs data: a tensor (image, channel, y, x)")
    if data is not None and (data.ndim != 4 or len(data) == 0 or tuple(data.shape[1:]) != shape):
        raise ValueError(f"data of shape {tuple(data.shape)} must be (image, {shape})")
    return shape[0], shape[1], shape[2]


def _label(
    maps: Tensor,
    units: list[int],
    view: _View,
    layer: str,
    method: str,
    num_probes: int,
    probe_std: float,
    seed: int,
    shape: tuple[int, int, int],
) -> xr.Dataset:
    """Give the maps their names, units and status."""
    dead = maps.flatten(1).abs().amax(1).cpu().numpy() < DEAD_BELOW
    status = np.where(dead, "dead", "truncated" if view.truncated else "ok")
    height, width = maps.shape[2:]
    return xr.Dataset(
        {
            "receptive_field": labels.variable(
                ("unit", "channel", "y", "x"), maps, "1", f"receptive field ({method})"
            ),
            "status": labels.variable("unit", status, "1", "status of the unit"),
        },
        coords={
            "unit": labels.coordinate("unit", units),
            "channel": labels.coordinate("channel", np.arange(shape[0])),
            "y": labels.coordinate("y", np.arange(height) - view.centre[0]),
            "x": labels.coordinate("x", np.arange(width) - view.centre[1]),
        },
        attrs={
            "layer": layer,
            "method": method,
            "num_probes": num_probes,
            "probe_std": probe_std,
            "seed": seed,
            "image_size": f"{shape[1]} x {shape[2]}",
            "canvas": f"{view.canvas[0]} x {view.canvas[1]}",
            "num_dead": int(dead.sum()),
        },
    )
