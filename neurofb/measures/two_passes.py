"""The same batch back through copies of a network twice: by its pathways, and exactly."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from neurofb.feedback import exact_backward, feedback_layers, present_targets
from neurofb.measures.maps import is_map


@dataclass(eq=False)
class Call:
    """One call of a module: its input, and the errors at its output and at its input.

    `error` is what this call alone sends back to the input, not what other modules that share the
    input add. Both errors are None where no gradient flows.
    """

    h: Tensor | None
    delta: Tensor | None = None
    error: Tensor | None = None


#: the calls of every module in the order of the forward pass
Calls = dict[str, list[Call]]


@dataclass(frozen=True, kw_only=True)
class TwoPasses:
    """Two copies of a network in training mode; the network itself is never touched.

    The copies keep what a step changes in place (running statistics, refreshed matrices, counts);
    gradients add up in the `.grad` of their parameters.

    Attributes
    ----------
    learning
        The copy whose errors take their pathways.
    exact
        The copy whose gradients are those of backpropagation.
    """

    learning: nn.Module
    exact: nn.Module

    @classmethod
    def of(cls, network: nn.Module) -> "TwoPasses":
        """Copy a network twice.

        Raises
        ------
        ValueError
            If it cannot be copied.
        """
        try:
            learning, exact = (copy.deepcopy(network).train() for _ in range(2))
        except RuntimeError as error:
            raise ValueError(
                f"network of class {type(network).__name__} cannot be copied: {error}"
            ) from error
        learning.zero_grad(set_to_none=True)
        exact.zero_grad(set_to_none=True)
        return cls(learning=learning, exact=exact)

    def run(
        self,
        images: Float[Tensor, "image *shape"],
        labels: Int[Tensor, " image"],
        share: float = 1.0,
    ) -> tuple[Calls, Calls]:
        """Send a batch forwards and its error back through both copies, with the same noise.

        Parameters
        ----------
        images, labels
            The batch.
        share
            Factor of the loss (the mean cross-entropy), for a batch that is a part of a larger.

        Returns
        -------
        tuple
            What was seen with pathways, and what with the exact backward pass.

        Raises
        ------
        ValueError
            If a label is no class of the network.
        """
        devices = {p.device for p in self.learning.parameters() if p.is_cuda}
        present_targets(self.learning, labels)
        with torch.random.fork_rng(devices=list(devices)):
            calls = _run(self.learning, images, labels, share)
        with exact_backward(self.exact):
            return calls, _run(self.exact, images, labels, share)


def _run(network: nn.Module, images: Tensor, labels: Tensor, share: float) -> Calls:
    """Run one copy, forwards and backwards."""
    with _watched(network) as calls:
        logits = network(images.clone())
        low, high = (int(end) for end in labels.aminmax())
        if low < 0 or high >= logits.shape[1]:
            raise ValueError(
                f"labels from {low} to {high} must be classes of the network, 0 to "
                f"{logits.shape[1] - 1}"
            )
        wide = logits if logits.dtype == torch.float64 else logits.float()
        (share * functional.cross_entropy(wide, labels)).backward()
    return calls


@contextlib.contextmanager
def _watched(network: nn.Module) -> Iterator[Calls]:
    """Record the calls of all maps, of what carries a pathway, and of pathways' sources."""
    carriers = dict(feedback_layers(network))
    sources = {str(layer.pathway.source) for layer in carriers.values()}
    calls: Calls = {}
    handles = []
    for name, module in network.named_modules():
        if is_map(module) or name in carriers or name in sources:
            watch = _Watch(calls, name)
            handles.append(module.register_forward_pre_hook(watch.enter, with_kwargs=True))
            handles.append(module.register_forward_hook(watch.leave))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _Watch:
    """The hooks of one module."""

    calls: Calls
    name: str

    def enter(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Give the module an alias of its first input, where the error of this call alone comes."""
        x = args[0] if args else next(iter(named.values()), None)
        call = Call(x.detach() if isinstance(x, Tensor) else None)
        self.calls.setdefault(self.name, []).append(call)
        if not isinstance(x, Tensor) or not x.requires_grad:
            return None
        alias = x.view_as(x)
        alias.register_hook(_keep(call, "error"))
        if args:
            return (alias, *args[1:]), named
        return args, {**named, next(iter(named)): alias}

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """Ask for the error at the module's output."""
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(_keep(self.calls[self.name][-1], "delta"))


def _keep(call: Call, where: Literal["delta", "error"]) -> Callable[[Tensor], None]:
    """Return a hook that keeps a gradient."""

    def hook(gradient: Tensor) -> None:
        setattr(call, where, gradient.detach())

    return hook
