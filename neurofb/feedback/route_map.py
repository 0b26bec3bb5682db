"""From where to where a direct route goes, and the shape of its dense map."""

import math
from dataclasses import dataclass

from torch import nn

from neurofb.feedback.pathway import Site
from neurofb.feedback.stage import Convolution, Dense, Stage, padding_before
from neurofb.feedback.trace import Call
from neurofb.networks.svd_layers import SVDConv2d


@dataclass(frozen=True)
class RouteMap:
    """The dense map of a route, as a stage from the module's input to the source's output.

    `kernel_shape` is (n_source, n_in) for flattened units, and (c_source, c_in, ky, kx) from a map
    to the input of a convolution.
    """

    stage: Stage
    kernel_shape: tuple[int, ...]


def route_map(site: Site, source: str) -> RouteMap:
    """Return the map from a source to a module's input, or say why there is none.

    Raises
    ------
    ValueError
        If no example input was given, the source does not run, not behind the module or more than
        once, or the shapes do not fit.
    """
    own, other = check_route(site, source)
    h, e = own.input_shape, other.output_shape
    if not (isinstance(site.stage, Convolution) and len(e) == 4):
        return RouteMap(Dense(), (math.prod(e[1:]), math.prod(h[1:])))
    assert isinstance(site.layer, nn.Conv2d | SVDConv2d)
    if padding_before(site.layer) is not None or len(h) != 4:
        raise ValueError(
            f"layer {site.name!r}: a direct pathway from the map of {source!r} needs samples and "
            "padding with zeros, equal on both sides"
        )
    if own.output_shape[2:] != e[2:]:
        raise ValueError(
            f"layer {site.name!r}: the map of source {source!r} is {tuple(e[2:])} but must be "
            f"{tuple(own.output_shape[2:])}, as the layer's own output"
        )
    stage = Convolution(site.stage.stride, site.stage.padding, site.stage.dilation)
    return RouteMap(stage, (e[1], h[1], *site.weight.shape[2:]))


def check_route(site: Site, source: str, *, itself: bool = False) -> tuple[Call, Call]:
    """Return the calls of a module and of its source in the traced forward pass.

    Parameters
    ----------
    site, source
        The module, and the name of its source.
    itself
        Whether the module may be its own source: its output's error then goes to its input.

    Raises
    ------
    ValueError
        If no example input was given, the source does not run, not behind the module or more than
        once, or they have not equally many samples.
    """
    own, other = _calls(site, source, itself)
    h, e = own.input_shape, other.output_shape
    if h[:1] != e[:1] or len(h) < 2 or len(e) < 2:
        raise ValueError(
            f"layer {site.name!r}: its input {tuple(h)} and the output {tuple(e)} of source "
            f"{source!r} must have equally many samples (first dimension)"
        )
    return own, other


def _calls(site: Site, source: str, itself: bool) -> tuple[Call, Call]:
    """Return the two calls, each the only one, the source's later."""
    if not site.calls:
        raise ValueError(
            f"layer {site.name!r}: a direct pathway needs example_input=, a batch for which "
            "the shapes of the layer and of its source are traced"
        )
    if source not in site.calls:
        ran = ", ".join(name for name in site.calls if name)
        raise ValueError(
            f"layer {site.name!r}: source={source!r} does not run in the forward pass; "
            f"modules that do: {ran}"
        )
    own, other = site.calls[site.name], site.calls[source]
    for name, call in ((site.name, own), (source, other)):
        if call.count != 1:
            raise ValueError(
                f"layer {name!r} runs {call.count} times in a forward pass; a direct pathway "
                "needs its layer and its source to run once"
            )
    inside = f"{source}.".startswith(f"{site.name}.") or f"{site.name}.".startswith(f"{source}.")
    if (other.position <= own.position or inside) and not (itself and source == site.name):
        raise ValueError(f"layer {site.name!r}: source={source!r} is not downstream of the layer")
    return own, other
