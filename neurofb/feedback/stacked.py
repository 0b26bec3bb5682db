"""Pathways inside `torch.func.vmap`: several networks of one architecture run as one stack.

A skeleton, a copy of one network, is what `torch.func.functional_call` runs with the tensors of all
the networks. Its layers with a pathway hand their stacked tensors to one autograd operation, whose
backward pass does what each network's own layer does: vectorised over the networks where the rule
allows it, network after network where it does not.
"""

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import vmap

from neurofb.feedback.attach import feedback_layers
from neurofb.feedback.bypass import Bypass
from neurofb.feedback.exact import ExactPathway
from neurofb.feedback.fixed import Fixed
from neurofb.feedback.kolen_pollack import KolenPollack
from neurofb.feedback.layers import ThroughPathway
from neurofb.feedback.low_rank import LowRankPathway
from neurofb.feedback.normative import Normative
from neurofb.feedback.oja import Oja
from neurofb.feedback.pathway import Pathway
from neurofb.feedback.random import RandomPathway
from neurofb.feedback.route import DirectRoute
from neurofb.feedback.sign_symmetric import SignSymmetricPathway
from neurofb.feedback.stage import Dense, Stage
from neurofb.feedback.subspace import Subspace
from neurofb.feedback.svd_refresh import SvdRefresh

#: learning rules that are nothing but tensor operations, without a look at a value
_VECTORISED = (Fixed, KolenPollack, Normative, Oja, Subspace)


def why_not_stacked(network: nn.Module) -> str:
    """Return why the pathways of a network cannot run in a stack, naming layer and rule; "" if so.

    Examples
    --------
    >>> from neurofb.feedback import LowRank, SvdRefresh, attach
    >>> net = attach(nn.Sequential(nn.Linear(3, 2)), {"0": LowRank(rank=1, learning=SvdRefresh())})
    >>> why_not_stacked(net)
    "layer '0': the rule low_rank r=1 [svd_refresh] decomposes one network's weight at a time"
    """
    for name, layer in feedback_layers(network):
        pathway = layer.pathway
        where = f"layer {name!r}: the rule {pathway.rule}"
        if isinstance(layer, Bypass):
            return f"{where} lies on a factored layer, past its own graph"
        if isinstance(pathway, DirectRoute):
            return f"{where} takes a direct route, past the layers in between"
        if isinstance(getattr(pathway, "learning", None), SvdRefresh):
            return f"{where} decomposes one network's weight at a time"
    return ""


def stack_pathways(skeleton: nn.Module, networks: Sequence[nn.Module]) -> None:
    """Make a skeleton's layers with pathways run for all the networks, inside `torch.func.vmap`.

    Parameters
    ----------
    skeleton
        A copy of one of the networks; changed in place.
    networks
        The networks, in the order of the stack; their pathways count how often they fire.

    Raises
    ------
    ValueError
        If a pathway cannot run in a stack.

    Examples
    --------
    >>> from torch.func import functional_call, stack_module_state
    >>> from neurofb.feedback import Random, attach
    >>> nets = [attach(nn.Sequential(nn.Linear(3, 2)), {"0": Random()}) for _ in range(4)]
    >>> skeleton = copy.deepcopy(nets[0])
    >>> stack_pathways(skeleton, nets)
    >>> run = lambda p, b, x: functional_call(skeleton, (p, b), (x,))
    >>> vmap(run)(*stack_module_state(nets), torch.ones(4, 5, 3)).shape
    torch.Size([4, 5, 2])
    """
    if reason := why_not_stacked(skeleton):
        raise ValueError(f"the networks cannot be stacked: {reason}")
    for name, layer in feedback_layers(skeleton):
        own = [network.get_submodule(name).get_submodule("pathway") for network in networks]
        layer.__class__ = _stacked_class(type(layer))
        object.__setattr__(layer, "stack", PathwayStack(own))


class PathwayStack:
    """The pathways of one layer in all the networks.

    Parameters
    ----------
    pathways
        One a network, alike but for their numbers.

    Examples
    --------
    >>> PathwayStack([ExactPathway("0"), ExactPathway("0")]).names
    ()
    """

    def __init__(self, pathways: Sequence[Any]) -> None:
        first: Pathway = pathways[0]
        self.pathways: Sequence[Pathway] = pathways
        tensors = [*first.named_parameters(), *first.named_buffers()]
        self.names = tuple(name for name, _ in tensors)
        learned = {id(matrix): place for place, matrix in enumerate(first.learned)}
        #: for each tensor its place among the pseudo-gradients, None for one that has none
        self.places = [learned.get(id(tensor)) for _, tensor in tensors]
        self.one = _bare(first) if _vectorises(first) else None

    def backward(
        self,
        h: Tensor,
        delta: Tensor,
        weight: Tensor,
        stage: Stage,
        grad_weight: Tensor | None,
        own: Sequence[Tensor],
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return what `Pathway.backward` returns for each network, stacked.

        Parameters
        ----------
        h, delta, weight, stage, grad_weight
            As for `Pathway.backward`; tensors with a first dimension more, the network.
        own
            The pathways' tensors, stacked, in the order of `names`.
        """
        one = self.one
        if one is None:
            gradients = grad_weight if grad_weight is not None else [None] * len(h)
            parts = [
                pathway.backward(h[i], delta[i], weight[i], stage, gradients[i])
                for i, pathway in enumerate(self.pathways)
            ]
            result = torch.stack([error for error, _ in parts]), _stack([k for _, k in parts])
        else:

            def run(h: Tensor, delta: Tensor, weight: Tensor, *rest: Tensor) -> Any:
                one._buffers.update(zip(self.names, rest, strict=False))
                gradient = rest[-1] if len(rest) > len(self.names) else None
                return one.backward(h, delta, weight, stage, gradient)

            rest = own if grad_weight is None else (*own, grad_weight)
            result = vmap(run)(h, delta, weight, *rest)
            one.casts.clear()
        for pathway in self.pathways:
            pathway.fired += 1
        return result


class _Stacked(torch.autograd.Function):
    """A layer of all the networks at once: tensors with a first dimension more, the network."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stack: PathwayStack,
        stage: Stage,
        *own: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(h, weight, *own)
        ctx.stack, ctx.stage = stack, stage
        if isinstance(stage, Dense) and h.dim() == 3:  # vmap would take as long as the product
            out = h @ weight.mT
            return out if bias is None else out.add_(bias[:, None])
        return vmap(stage.apply, in_dims=(0, 0, None if bias is None else 0))(h, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, delta: Tensor
    ) -> tuple[Tensor | None, ...]:
        (h, weight, *own), stack = ctx.saved_tensors, ctx.stack
        needs_error, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_weight = grad_bias = error = None
        learned: Any = ()
        if needs_weight or needs_bias:
            grad_weight, grad_bias = _gradients(
                ctx.stage, h, delta, weight, needs_weight, needs_bias
            )
        if needs_error:
            error, learned = stack.backward(h, delta, weight, ctx.stage, grad_weight, own)
        places = stack.places if learned else [None] * len(own)
        of_own = (None if place is None else learned[place] for place in places)
        return error, grad_weight, grad_bias, None, None, *of_own


class _InVmap(torch.autograd.Function):
    """What a layer of the skeleton calls inside vmap; torch asks for the rule of the stack."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        raise RuntimeError("a stacked layer runs inside torch.func.vmap only")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Torch asks for this beside `vmap`."""

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any, in_dims: Sequence[int | None], *inputs: Any
    ) -> tuple[Tensor, int]:
        """Return the layer's output for all the networks."""
        moved = [
            _first(x, dim, info.batch_size) if isinstance(x, Tensor) else x
            for x, dim in zip(inputs, in_dims, strict=True)
        ]
        return _Stacked.apply(*moved), 0


class _OfStack(ThroughPathway):
    """Mixed into the class of a layer of the skeleton."""

    stack: PathwayStack

    def run(self, h: Tensor, weight: Tensor, bias: Tensor | None, stage: Stage) -> Tensor:
        """Run the layer of all the networks."""
        held = {**self.pathway._parameters, **self.pathway._buffers}
        own = [held[name] for name in self.stack.names]
        return _InVmap.apply(h, weight, bias, self.stack, stage, *own)


@cache
def _stacked_class(kind: type[nn.Module]) -> type[Any]:
    """Return the class of a layer of the skeleton, a subclass of what it was."""
    return type(f"Stacked{kind.__name__}", (_OfStack, kind), {})


def _vectorises(pathway: Pathway) -> bool:
    """Tell whether `Pathway.backward` can run inside vmap, and draws nothing."""
    learning = getattr(pathway, "learning", None)
    if isinstance(pathway, SignSymmetricPathway):
        return not pathway.redrawn
    if type(pathway) in (RandomPathway, LowRankPathway):
        return isinstance(learning, _VECTORISED) and not pathway.needs_targets
    return type(pathway) is ExactPathway


def _bare(pathway: Pathway) -> Pathway:
    """Return a copy whose tensors are all buffers, which can be exchanged for any tensor."""
    bare = copy.deepcopy(pathway)
    for name in list(bare._parameters):
        value = bare._parameters.pop(name)
        bare._buffers[name] = None if value is None else value.detach()
    return bare


def _gradients(
    stage: Stage, h: Tensor, delta: Tensor, weight: Tensor, of_weight: bool, of_bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return the stacked gradients of weight and bias, None for what is not asked for."""
    if isinstance(stage, Dense) and h.dim() == 3:
        return delta.mT @ h if of_weight else None, delta.sum(1) if of_bias else None

    def run(h: Tensor, delta: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        found = stage.gradients(h, delta, weight, of_weight, of_bias)
        return tuple(gradient for gradient in found if gradient is not None)

    found = iter(vmap(run)(h, delta, weight))
    return next(found) if of_weight else None, next(found) if of_bias else None


def _first(x: Tensor, dim: int | None, size: int) -> Tensor:
    """Return a tensor with the networks' dimension first."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def _stack(parts: Sequence[tuple[Tensor | None, ...]]) -> tuple[Tensor | None, ...]:
    """Stack what each network's pathway returned, tensor by tensor."""
    joined: list[Tensor | None] = []
    for tensors in zip(*parts, strict=True):
        given = [tensor for tensor in tensors if tensor is not None]
        joined.append(torch.stack(given) if given else None)
    return tuple(joined)
