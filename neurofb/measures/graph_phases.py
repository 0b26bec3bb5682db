"""To which phase of a training step each node of its graph belongs."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from neurofb.networks.svd_factors import SVDLayer


@runtime_checkable
class Counter(Protocol):
    """What is told which phase runs."""

    def start(self, phase: str) -> None:
        """Begin with a node."""
        ...

    def book_again(self, gradients: list[Tensor], phase: str) -> None:
        """Put what made some of a node's gradients under another phase."""
        ...


@contextmanager
def ends_of_factored_layers(network: nn.Module) -> Iterator[set[Any]]:
    """Inside, collect the node with which each SVD layer's part of the graph ends.

    Examples
    --------
    >>> with ends_of_factored_layers(nn.Linear(3, 2)) as ends:
    ...     len(ends)
    0
    """
    ends: set[Any] = set()

    def note(_: nn.Module, __: Any, out: Tensor) -> None:
        ends.add(out.grad_fn)

    layers = [module for module in network.modules() if isinstance(module, SVDLayer)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield ends
    finally:
        for hook in hooks:
            hook.remove()


def nodes_of_factors(network: nn.Module, nodes: Iterable[Any], ends: set[Any]) -> set[Any]:
    """Return the nodes from which nothing is reached but the parameters of one SVD layer.

    Parameters
    ----------
    network
        That made the graph.
    nodes
        All nodes of the graph.
    ends
        Those with which the layers' parts end; behind them it is no longer the layer's.

    Examples
    --------
    >>> nodes_of_factors(nn.Linear(3, 2), [], set())
    set()
    """
    layers = [module for module in network.modules() if isinstance(module, SVDLayer)]
    owners = {p: layer for layer in layers for p in layer.parameters(recurse=False)}
    owner: dict[Any, SVDLayer | None] = {}
    waiting = list(nodes) if layers else []
    while waiting:
        node = waiting[-1]
        after = [n for n, _ in node.next_functions if n is not None]
        missing = [n for n in after if n not in owner]
        if missing and node not in owner:
            waiting.extend(missing)
            continue
        waiting.pop()
        found = {None if n in ends else owner[n] for n in after}
        own = owners.get(getattr(node, "variable", None))  # pyright: ignore[reportArgumentType]
        owner[node] = found.pop() if len(found) == 1 else own
    return {node for node, layer in owner.items() if layer is not None}


def announce(
    loss: Tensor, network: nn.Module, ends: set[Any], matrices: set[nn.Parameter], counter: Counter
) -> None:
    """Let every node of a loss' graph say, before it runs, to which phase it belongs.

    A node that makes gradients of factors and an error too says afterwards which are the former.

    Parameters
    ----------
    loss, network
        The loss, and what made it.
    ends
        As `ends_of_factored_layers` has collected them.
    matrices
        The feedback's that learn.
    counter
        Is told.
    """
    nodes = list(_nodes(loss.grad_fn))
    factors = nodes_of_factors(network, nodes, ends)

    def say(phase: str) -> Any:
        def hook(_: Any) -> None:
            counter.start(phase)

        return hook

    def part(places: list[int]) -> Any:
        def hook(gradients: Any, _: Any) -> None:
            made = [gradients[i] for i in places if gradients[i] is not None]
            counter.book_again(made, "weight_gradient")

        return hook

    for node in nodes:
        phase = "error"
        if node in factors:
            phase = "weight_gradient"
        elif any(n in factors for n, _ in node.next_functions) and node.name() in _PRODUCTS:
            after = enumerate(n for n, _ in node.next_functions)
            node.register_hook(part([i for i, n in after if n in factors]))
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
