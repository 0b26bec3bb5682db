"""Compute cost of a training step, counted operation by operation while it runs.

`neurofb.measures.analytic_cost` has what the equations need, without running the backward pass.
"""

import contextlib
import copy
from collections import defaultdict
from collections.abc import Iterable
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
from neurofb.measures.graph_phases import announce, ends_of_factored_layers

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
        `nn.MultiheadAttention`) the weight gradient counts as error. In a layer of factors δ U
        serves the gradients and, under backpropagation, the error: it counts as error where an
        error goes on through U, else as weight gradient.

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
        #: of the node that runs: where an operation's outputs lie, and what it has added
        self.recent: list[tuple[list[int], tuple[str, str], float, float]] = []
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
        size = sum(t.numel() * t.element_size() for t in (*read, *written))
        flops, size = flops / phase.every, size / phase.every
        self.flops[key] += flops
        self.bytes[key] += size
        # A convolution's three gradients are two products and, the vector, a sum.
        products = [t for t in written if t.dim() > 1] or written
        self.recent.append(([t.data_ptr() for t in products], key, flops, size))
        return out

    def start(self, phase: str) -> None:
        """Begin with a node of the graph."""
        self.base = phase
        self.recent.clear()

    def book_again(self, gradients: list[Tensor], phase: str) -> None:
        """Put what made some of a node's gradients under another phase, by its share of outputs."""
        places = {gradient.data_ptr() for gradient in gradients}
        for outputs, (old, kind), flops, size in reversed(self.recent):
            share = len(places.intersection(outputs)) / max(1, len(outputs))
            places.difference_update(outputs)
            for table, amount in ((self.flops, flops), (self.bytes, size)):
                table[old, kind] -= share * amount
                table[phase, kind] += share * amount


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
        with ends_of_factored_layers(network) as ends:
            loss = F.cross_entropy(network(images), labels)
        announce(loss, network, ends, set(fb.pathway_parameters(network)), counter)
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
