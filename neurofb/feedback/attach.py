"""Put pathways on the layers of a network, take them off, look past them."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from neurofb.feedback.direct import Direct
from neurofb.feedback.direct_random import DirectRandom
from neurofb.feedback.exact import Exact
from neurofb.feedback.layers import FEEDBACK_CLASSES
from neurofb.feedback.low_rank import LowRank
from neurofb.feedback.match import layer_type, matching
from neurofb.feedback.pathway import Pathway, Site
from neurofb.feedback.random import Random
from neurofb.feedback.route import (
    DirectRoute,
    FeedbackLayer,
    Receiver,
    Rerouted,
    Source,
    mixed,
)
from neurofb.feedback.sign_symmetric import SignSymmetric
from neurofb.feedback.stage import stage_of
from neurofb.feedback.svd_space import SVDSpace
from neurofb.feedback.svd_space_direct import SVDSpaceDirect
from neurofb.feedback.trace import Call, trace
from neurofb.networks.svd_factors import SVDLayer

#: The settings of a pathway. A new rule is one file and one name here.
PathwaySpec = (
    Exact | Random | SignSymmetric | LowRank | Direct | DirectRandom | SVDSpace | SVDSpaceDirect
)


def attach(
    network: nn.Module,
    pathways: Mapping[str, PathwaySpec],
    *,
    example_input: Tensor | None = None,
    seed: int = 0,
) -> nn.Module:
    """Replace the error's way back through layers of a network; the forward pass stays the same.

    Parameters
    ----------
    network
        Any module. Its `nn.Linear` and `nn.Conv2d` layers can carry a pathway, and every module
        a direct one (`Direct`, `DirectRandom`). It is changed in place: the modules stay the same
        objects, with the same parameters.
    pathways
        Layer name (as in ``network.named_modules()``) or pattern with ``*``, ``?``, ``[…]`` (it
        means layers; for a direct pathway, if it matches none, the outermost modules it matches) →
        pathway. The pathway on a layer carries the error from that layer's output (a direct one:
        from its source) to the layer's *input*. Layers not named keep backpropagation.
    example_input
        A batch for one forward pass, by which shapes and the order of layers are checked; needed
        for direct pathways.
    seed
        For the start of the feedback matrices. A layer's matrices depend on the seed and on the
        layer's name only.

    Returns
    -------
    nn.Module
        The network itself.

    Raises
    ------
    ValueError
        For an unknown name, a pattern that matches nothing, a layer named twice or already
        carrying a pathway, a module that is not supported, a rank that the layer does not allow,
        a layer that never runs, a source that is not downstream. The network is then unchanged.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> net = attach(net, {"2": LowRank(rank=2)})
    >>> net[2].pathway.Q.shape, net[2].pathway.P.shape
    (torch.Size([16, 2]), torch.Size([2, 4]))
    """
    if not isinstance(pathways, Mapping):
        raise ValueError(f"pathways={pathways!r} must map layer names to pathways")
    calls = {} if example_input is None else trace(network, example_input)
    chosen = _choose(network, pathways, calls)
    built: dict[str, Pathway] = {}
    modules = dict(network.named_modules())
    for name, spec in chosen.items():
        layer = network.get_submodule(name)
        site = Site(name, layer, stage_of(layer), _mix(seed, name), calls, modules)
        built[name] = spec.build(site)
    for name, pathway in built.items():
        _put(network.get_submodule(name), pathway)
    for pathway in built.values():
        if isinstance(pathway, DirectRoute):
            _send(network.get_submodule(str(pathway.source)), pathway)
    return network


def detach(network: nn.Module) -> nn.Module:
    """Take all pathways off: every layer is the plain layer again, with its present weights.

    Examples
    --------
    >>> net = attach(nn.Sequential(nn.Linear(3, 2)), {"0": Random()})
    >>> type(detach(net)[0])
    <class 'torch.nn.modules.linear.Linear'>
    """
    for module in list(network.modules()):
        while isinstance(module, Rerouted):
            object.__setattr__(module, "__class__", type(module).plain)
            for name in ("pathway", "routes", "exact"):
                if hasattr(module, name):
                    delattr(module, name)
    return network


@contextmanager
def exact_backward(network: nn.Module) -> Iterator[nn.Module]:
    """Inside, gradients are autograd's own, although pathways are attached.

    For whatever asks about the forward function: receptive fields, alignment with backpropagation.

    Examples
    --------
    >>> import torch
    >>> net = attach(nn.Sequential(nn.Linear(3, 2)), {"0": Random()})
    >>> x = torch.ones(1, 3, requires_grad=True)
    >>> with exact_backward(net):
    ...     net(x).sum().backward()
    >>> torch.equal(x.grad[0], net[0].weight.sum(0))
    True
    """
    changed = [module for module in network.modules() if isinstance(module, Rerouted)]
    before = [module.exact for module in changed]
    for module in changed:
        module.exact = True
    try:
        yield network
    finally:
        for module, exact in zip(changed, before, strict=True):
            module.exact = exact


def feedback_layers(network: nn.Module) -> list[tuple[str, FeedbackLayer]]:
    """Return name and layer of every layer that carries a pathway.

    Examples
    --------
    >>> feedback_layers(nn.Linear(3, 2))
    []
    """
    return [(n, m) for n, m in network.named_modules() if isinstance(m, FeedbackLayer)]


def pathway_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the feedback matrices that an optimiser moves, for a parameter group of their own.

    Examples
    --------
    >>> net = attach(nn.Sequential(nn.Linear(8, 4)), {"0": LowRank(rank=2)})
    >>> [tuple(matrix.shape) for matrix in pathway_parameters(net)]
    [(8, 2), (2, 4)]
    """
    return [matrix for _, layer in feedback_layers(network) for matrix in layer.pathway.learned]


def fired(network: nn.Module) -> dict[str, int]:
    """Return how many backward passes went through each pathway.

    A pathway of the first layer never fires in training: nothing asks for the error at the images.

    Examples
    --------
    >>> fired(attach(nn.Sequential(nn.Linear(3, 2)), {"0": Random()}))
    {'0': 0}
    """
    return {name: layer.pathway.fired for name, layer in feedback_layers(network)}


def _choose(
    network: nn.Module, pathways: Mapping[str, PathwaySpec], calls: Mapping[str, Call]
) -> dict[str, PathwaySpec]:
    """Resolve names and patterns; refuse whatever cannot be right."""
    chosen: dict[str, PathwaySpec] = {}
    for pattern, spec in pathways.items():
        for name in matching(network, pattern, spec):
            if isinstance(network.get_submodule(name), FeedbackLayer):
                raise ValueError(
                    f"layer {name!r} carries a pathway already; detach the network first"
                )
            if not isinstance(spec, Direct | DirectRandom | SVDSpaceDirect):
                _check_layer(network, name)
            if name in chosen:
                raise ValueError(f"layer {name!r} is matched twice, the second time by {pattern!r}")
            if calls and name not in calls:
                raise ValueError(
                    f"layer {name!r} never runs in the forward pass of example_input, so its "
                    "pathway would not act (is its weight used by a function or a fused module?)"
                )
            chosen[name] = spec
    return chosen


def _check_layer(network: nn.Module, name: str) -> None:
    """Refuse a module whose error cannot be rerouted, by name."""
    module = network.get_submodule(name)
    parent = network.get_submodule(name.rpartition(".")[0])
    kinds = " or ".join(kind.__name__ for kind in FEEDBACK_CLASSES)
    reason = ""
    if isinstance(parent, nn.MultiheadAttention) or isinstance(module, nn.MultiheadAttention):
        reason = " (nn.MultiheadAttention uses its weights in one fused function)"
    if layer_type(module) not in FEEDBACK_CLASSES or reason:
        raise ValueError(
            f"layer {name!r} is a {type(module).__name__}{reason}; only a plain {kinds} can carry "
            "a pathway (any module a direct one)"
        )
    own = dict(module.named_parameters(recurse=False))
    if "weight" not in own and not isinstance(module, SVDLayer):
        raise ValueError(
            f"layer {name!r}: its weight is not a parameter but computed by a hook (weight_norm?); "
            "only a plain weight can carry a pathway"
        )


def _put(layer: nn.Module, pathway: Pathway) -> None:
    """Change a module's class in place; a source of other pathways stays one."""
    if isinstance(pathway, DirectRoute):
        layer.__class__ = mixed(Receiver, type(layer))
    else:
        kind: type[nn.Module] = FEEDBACK_CLASSES[layer_type(layer)]
        if isinstance(layer, Source):
            kind = mixed(Source, kind)
        object.__setattr__(layer, "__class__", kind)
    assert isinstance(layer, FeedbackLayer)
    layer.pathway, layer.exact = pathway, False


def _send(module: nn.Module, route: DirectRoute) -> None:
    """Make a module a source of a direct route."""
    if not isinstance(module, Source):
        module.__class__ = mixed(Source, type(module))
        assert isinstance(module, Source)
        module.routes, module.exact = [], False
    module.routes.append(route)


def _mix(seed: int, name: str) -> int:
    """Return a seed for one layer."""
    return (seed * 0x9E3779B97F4A7C15 + zlib.crc32(name.encode())) % 2**63
