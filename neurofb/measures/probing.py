"""Look into a network without leaving a trace: evaluation mode, early stop, one named layer."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neurofb.feedback import exact_backward
from neurofb.measures.support import Support, SupportTracker
from neurofb.networks import SVDConv2d


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What one image showed: the layer's tensors, its support, and an affine first module."""

    image: Tensor
    layer_input: Tensor | None
    layer_output: Tensor
    support: Support | None
    stem: nn.Module | None


class _Reached(Exception):
    """Raised inside a forward pass right at the layer, so that deeper parts are not computed."""


@contextlib.contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Evaluate a network and leave modes and random state as they were.

    Layers that act only in training (noise, dropout) are off; gradients are the exact ones of the
    forward function, whatever pathways are attached.
    """
    modes = [(module, module.training) for module in network.modules()]
    devices = {parameter.device for parameter in network.parameters() if parameter.is_cuda}
    try:
        network.eval()
        with torch.random.fork_rng(devices=list(devices)), exact_backward(network):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def unpadded(network: nn.Module) -> Iterator[None]:
    """Switch off the zero padding of all convolutions, so that they compute no border."""
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | SVDConv2d)]
    before = [module.padding for module in convolutions]
    try:
        for module in convolutions:
            module.padding = (0, 0)
        yield
    finally:
        for module, padding in zip(convolutions, before, strict=True):
            module.padding = padding  # pyright: ignore[reportAttributeAccessIssue]


def find_layer(network: nn.Module, layer: str) -> nn.Module:
    """Return the module of a dotted name.

    Raises
    ------
    ValueError
        If the network has no such layer.
    """
    modules = {name: module for name, module in network.named_modules() if name}
    if layer not in modules:
        raise ValueError(f"layer={layer!r} is not in the network; layers: {', '.join(modules)}")
    return modules[layer]


def trace_layer(network: nn.Module, layer: str, image: Tensor, *, stop: bool = False) -> Trace:
    """Run one image (1 channel y x) and note what reaches the layer and what leaves it.

    With ``stop`` the pass ends at the layer; without, the layer must be called exactly once.

    Raises
    ------
    ValueError
        If the image does not fit, or the layer is called never or more than once.
    """
    target = find_layer(network, layer)
    fired: list[str] = []
    stems: list[nn.Module] = []
    inputs: list[Tensor | None] = []
    outputs: list[tuple[Tensor, Support | None]] = []

    def note(name: str, module: nn.Module, args: tuple, output: object) -> None:
        fired.append(name)
        affine = isinstance(module, nn.Conv2d | nn.Linear)
        if affine and not outputs and args and args[0] is image:
            stems.append(module)
        if module is not target:
            return
        if not isinstance(output, Tensor):
            raise ValueError(f"layer={layer!r} returns {type(output).__name__}, not one tensor")
        support = tracker.of(output)
        fits = bool(args) and isinstance(args[0], Tensor)
        inputs.append(args[0].detach().clone() if fits else None)
        outputs.append((output.detach().clone(), support))
        if stop:
            raise _Reached

    handles = [
        module.register_forward_hook(
            lambda module, args, output, name=name: note(name, module, args, output)
        )
        for name, module in network.named_modules()
        if name
    ]
    try:
        with torch.no_grad(), SupportTracker(image) as tracker, contextlib.suppress(_Reached):
            network(image)
    except RuntimeError as error:
        shape = tuple(image.shape[1:])
        raise ValueError(f"input_shape={shape} does not fit the network: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    if len(outputs) != 1:
        times = "not reached" if not outputs else f"called {len(outputs)} times"
        raise ValueError(
            f"layer={layer!r} is {times} in forward, must be once; "
            f"layers that fired: {', '.join(dict.fromkeys(fired)) or 'none'}"
        )
    names = {id(module): name for name, module in network.named_modules()}
    single = len(stems) == 1 and fired.count(names[id(stems[0])]) == 1 and stems[0] is not target
    return Trace(
        image=image,
        layer_input=inputs[0],
        layer_output=outputs[0][0],
        support=outputs[0][1],
        stem=stems[0] if single else None,
    )


def run_to_layer(network: nn.Module, module: nn.Module, images: Tensor, *, output: bool) -> Tensor:
    """Run images up to a module; return its output, or its first input if not ``output``."""
    seen: list[Tensor] = []

    def before(_: nn.Module, args: tuple) -> None:
        seen.append(args[0])
        raise _Reached

    def after(_: nn.Module, args: tuple, result: Tensor) -> None:
        seen.append(result)
        raise _Reached

    if output:
        handle = module.register_forward_hook(after)
    else:
        handle = module.register_forward_pre_hook(before)
    try:
        with contextlib.suppress(_Reached):
            network(images)
    finally:
        handle.remove()
    return seen[0]


def unit_position(layer: str, module: nn.Module, output: Tensor) -> tuple[int, tuple[int, ...]]:
    """Return the unit axis of a layer's output and the index of the centre on the other axes.

    A map (1, unit, y, x) is read at its centre, a vector (1, unit) as it is, tokens
    (1, token, unit) of a linear layer at the middle token.

    Raises
    ------
    ValueError
        If the output has another number of dimensions.
    """
    if output.ndim == 2:
        return 1, ()
    if output.ndim == 4:
        return 1, (output.shape[2] // 2, output.shape[3] // 2)
    if output.ndim == 3 and isinstance(module, nn.Linear):
        return 2, (output.shape[1] // 2,)
    raise ValueError(
        f"layer={layer!r} has an output of shape {tuple(output.shape)}; units are defined for "
        "maps (image, unit, y, x), vectors (image, unit) and tokens of a linear layer"
    )


def at_position(output: Tensor, axis: int, position: tuple[int, ...]) -> Tensor:
    """Read a layer's output (image, …) at one position: (image, unit)."""
    if axis == 2:
        return output[:, position[0], :]
    return output[(slice(None), slice(None), *position)]


def network_kind(network: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and dtype that images for the network need."""
    for parameter in network.parameters():
        if parameter.is_floating_point():
            return parameter.device, parameter.dtype
    return torch.device("cpu"), torch.float32


def choose_units(units: object, num_units: int) -> list[int]:
    """Check a choice of units against the layer; None means all.

    Raises
    ------
    ValueError
        If a unit is not in the layer or stands twice.
    """
    if units is None:
        return list(range(num_units))
    chosen = [int(unit) for unit in units]  # type: ignore[attr-defined]
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"units={chosen} must name at least one unit, each once")
    if min(chosen) < 0 or max(chosen) >= num_units:
        raise ValueError(f"units={chosen} must lie in 0 … {num_units - 1}")
    return chosen
