"""Compute cost of a training step, counted operation by operation while it runs.

`neurofb.measures.analytic_cost` has what the equations need, without running the backward pass.
"""

import contextlib
import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from neurofb import feedback as fb
from neurofb.feedback.match import layer_type
from neurofb.feedback.phase import Phase, listening
from neurofb.labels import coordinate, variable
from neurofb.measures.flops import operation_flops

#: what a training step consists of
PHASES = (
    "forward",
    "error",
    "weight_gradient",
    "pathway_learning",
    "svd_refresh",
    "optimiser",
)
KINDS = ("product", "elementwise")


def compute_cost(
    network: nn.Module,
    images: Float[Tensor, "image *rest"],
    labels: Int[Tensor, " label"],
    optimiser: torch.optim.Optimizer | None = None,
) -> xr.Dataset:
    """Count the FLOPs and the bytes of one training step, by phase.

    The step runs on a copy: network, optimiser and random state stay as they are. (Counting op by
    op instead of by torch's profiler, which sees no FLOPs in fused attention or in the backward
    pass of convolutions, follows Hanut & Kadmon's (2025) later scripts.)

    Parameters
    ----------
    network
        Any classifier, with pathways or without, in the mode (train, eval) that is to be counted.
    images, labels
        One batch; the loss is the cross-entropy.
    optimiser
        The optimiser of the network's parameters; without it that phase is 0.

    Returns
    -------
    xr.Dataset
        Over ``phase`` and ``kind``:

        - ``flops``: of kind ``product`` are matrix products, convolutions, attention and
          factorisations, two FLOPs a multiply-add, by formula (`neurofb.measures.flops`); of kind
          ``elementwise`` is everything else, one FLOP for each element of the output or of the
          largest input, whichever are more (so a sum counts what is summed, a copy what is copied).
        - ``bytes``: all tensors that an operation reads and all that it writes; views are free.

        Phases: *forward* with the loss; *error*, all of the backward pass that is in no other
        phase: the error through layers, normalisations, activations and attention;
        *weight_gradient*, of linear layers and convolutions; *pathway_learning*, the
        pseudo-gradients of the feedback matrices; *svd_refresh* and whatever else happens every n
        passes, divided by n; *optimiser*. In a layer that cannot carry a pathway (in
        `nn.MultiheadAttention`) the weight gradient counts as error.

    Raises
    ------
    ValueError
        If there are no images, or not one label an image.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> cost = compute_cost(net, torch.ones(5, 8), torch.zeros(5, dtype=torch.int64))
    >>> cost.flops.sel(kind="product").to_series().astype(int).to_dict()["weight_gradient"]
    1920
    """
    if len(images) == 0 or labels.shape != (len(images),):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} must be one for each of {len(images)} images, "
            "and at least one"
        )
    twin, its_optimiser = copy.deepcopy((network, optimiser))
    _split_plain_layers(twin)
    devices = [images.device] if images.is_cuda else []
    with torch.random.fork_rng(devices), torch.enable_grad(), listening() as phases:
        counter = _Counter(phases)
        if its_optimiser is not None:  # it makes its state in its first step
            _step(twin, images, labels, its_optimiser, None)
        for _, layer in fb.feedback_layers(twin):
            layer.pathway.fired = 0  # so that what happens every n passes happens now
        _step(twin, images, labels, its_optimiser, counter)
    return _dataset(counter)


class _Counter(TorchDispatchMode):
    """Adds up what every operation costs, under the phase in which it runs."""

    def __init__(self, phases: list[Phase]) -> None:
        super().__init__()
        self.phases, self.base = phases, "forward"
        self.flops: dict[tuple[str, str], float] = defaultdict(float)
        self.bytes: dict[tuple[str, str], float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.is_view or func.overloadpacket in _FREE:
            return out
        read, written = _tensors((args, kwargs)), _tensors(out)
        if not written:
            written = _tensors(_mutated(func, args, kwargs))
        flops, kind = operation_flops(func, args, kwargs, out), "product"
        if flops is None:
            largest = max((t.numel() for t in read), default=0)
            flops, kind = max(sum(t.numel() for t in written), largest), "elementwise"
        phase = self.phases[-1] if self.phases else Phase(self.base)
        key = (phase.name, kind)
        self.flops[key] += flops / phase.every
        size = sum(t.numel() * t.element_size() for t in (*read, *written))
        self.bytes[key] += size / phase.every
        return out


aten = torch.ops.aten
#: allocations, and a view that does not call itself one
_FREE = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten._unsafe_view}


def _step(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimiser: torch.optim.Optimizer | None,
    counter: _Counter | None,
) -> None:
    """Run one training step, counted or not."""
    network.zero_grad(set_to_none=True)
    fb.present_targets(network, labels)
    counter = counter or _Counter([])
    with counter:
        loss = F.cross_entropy(network(images), labels)
        _announce(loss, set(fb.pathway_parameters(network)), counter)
        loss.backward()
        counter.base = "optimiser"
        if optimiser is not None:
            optimiser.step()


def _split_plain_layers(network: nn.Module) -> None:
    """Put exact pathways on plain layers, whose two gradients autograd computes in one node."""
    for name, module in network.named_modules():
        if layer_type(module) in (nn.Linear, nn.Conv2d):
            with contextlib.suppress(ValueError):  # inside of nn.MultiheadAttention
                fb.attach(network, {name: fb.Exact()})


def _announce(loss: Tensor, matrices: set[nn.Parameter], counter: _Counter) -> None:
    """Let every node of the graph say, before it runs, to which phase it belongs."""

    def say(phase: str) -> Any:
        def hook(_: Any) -> None:
            counter.base = phase

        return hook

    for node in _nodes(loss.grad_fn):
        phase = "error"
        if _to_parameter(node) or (node.name() in _PRODUCTS and _only_parameters(node)):
            phase = "weight_gradient"
        if getattr(node, "variable", None) in matrices:
            phase = "pathway_learning"
        node.register_prehook(say(phase))


_PRODUCTS = ("AddmmBackward0", "MmBackward0", "ConvolutionBackward0")
_LAYOUTS = ("TBackward0", "TransposeBackward0", "ViewBackward0", "ToCopyBackward0")


def _nodes(root: Any) -> Iterator[Any]:
    """Yield every node of a graph once."""
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        yield node
        after = {n for n, _ in node.next_functions if n is not None} - seen
        seen |= after
        waiting.extend(after)


def _only_parameters(node: Any) -> bool:
    """Whether a node's gradients are those of parameters, so that it propagates no error."""
    return all(_to_parameter(n) for n, _ in node.next_functions if n is not None)


def _to_parameter(node: Any) -> bool:
    """Whether a node does no more than hand a gradient to a parameter."""
    while node.name() in _LAYOUTS:
        node = node.next_functions[0][0]
    return node is not None and hasattr(node, "variable")


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _mutated(func: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> list[Any]:
    """Return the arguments that an operation without results writes to."""
    written = []
    given = list(args)
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(given[i] if i < len(given) else kwargs.get(argument.name))
    return written


def _dataset(counter: _Counter) -> xr.Dataset:
    def table(found: dict[tuple[str, str], float]) -> list[list[float]]:
        return [[found[phase, kind] for kind in KINDS] for phase in PHASES]

    dims = ("phase", "kind")
    return xr.Dataset(
        {
            "flops": variable(dims, table(counter.flops), "1", "floating-point operations"),
            "bytes": variable(dims, table(counter.bytes), "byte", "bytes read and written"),
        },
        coords={"phase": coordinate("phase", PHASES), "kind": coordinate("kind", KINDS)},
    )
