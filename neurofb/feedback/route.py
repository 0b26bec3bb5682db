"""Direct routes of the error: from a source to the input of any earlier module.

The module gets its input cut out of the graph; the source's node in the graph hands the error
straight to what was cut off. So autograd computes nothing for the input of the module: neither the
gradient at its first layer, nor anything in between.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neurofb.feedback.pathway import Pathway
from neurofb.networks.svd_factors import SVDLayer


class Rerouted(nn.Module):
    """Base of every module that `attach` has changed by giving it another class."""

    #: inside `exact_backward` gradients are autograd's
    exact: bool
    #: the class before
    plain: ClassVar[type[nn.Module]]


class FeedbackLayer(Rerouted):
    """A module that carries a pathway; `attach` makes them, nobody constructs one."""

    pathway: Pathway


class DirectRoute(Pathway):
    """Base of the pathways that bring a source's error to a module's input.

    The source calls `receive` once per backward pass, in place of `Pathway.backward`.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: the input that was cut off in a forward pass whose source has not run yet
        self.waiting: list[Tensor] = []
        self.has_run = False

    def cut(self, x: Tensor) -> Tensor:
        """Return x without its past, which waits for the source."""
        self.has_run = True
        # Whatever still waits here is of a pass that was broken off.
        self.waiting = [x] if x.requires_grad else []
        return x.detach()

    def take(self) -> list[Tensor]:
        """Hand what waits to the source: one tensor, none if nothing before the module learns."""
        if not self.has_run:
            raise ValueError(
                f"layer {self.layer_name!r} did not run before its source {self.source!r} in a "
                "forward pass; a direct pathway needs each of them exactly once, the source "
                "downstream of the layer"
            )
        waiting, self.waiting, self.has_run = self.waiting, [], False
        return waiting

    def forward(self, x: Tensor) -> Tensor:
        """Return x: an `nn.Sequential` that is the receiver runs its pathway as its last part."""
        return x

    def flat(self, h: Tensor, error: Tensor, sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the input and the error with one row a sample.

        Raises
        ------
        ValueError
            If they do not have the sizes for which the pathway was attached.
        """
        rows, errors = h.to(error.dtype).flatten(1), error.flatten(1)
        if (rows.shape[1], errors.shape[1]) != sizes:
            raise ValueError(
                f"layer {self.layer_name!r}: {rows.shape[1]} inputs and {errors.shape[1]} units of "
                f"source {self.source!r} a sample, but attached for {sizes[0]} and {sizes[1]}"
            )
        return rows, errors

    def receive(self, h: Tensor, error: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return the error for h, in its shape and dtype, and the pseudo-gradients.

        Parameters
        ----------
        h
            The module's input, as it was cut off.
        error
            The gradient at the source's output, of the same number of samples.
        """
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "waiting": [], "has_run": False}


class Receiver(FeedbackLayer):
    """Mixed into the class of a module whose input gets its error by a direct route."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the module on its first input, cut off from its past."""
        if self.exact or not torch.is_grad_enabled():
            return super().forward(*inputs, **named)
        route = cast(DirectRoute, self.pathway)
        if inputs:
            return super().forward(route.cut(inputs[0]), *inputs[1:], **named)
        first = next(iter(named))
        return super().forward(**{**named, first: route.cut(named[first])})


class Source(Rerouted):
    """Mixed into the class of a module whose error is sent to others."""

    #: the pathways that are sent the error at this module's output
    routes: list[DirectRoute]

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the module; its output's node will teach what was cut off."""
        out = super().forward(*inputs, **named)
        if self.exact or not torch.is_grad_enabled():
            return out
        taken = [(route, x) for route in self.routes for x in route.take()]
        if not taken:
            return out
        routes = [route for route, _ in taken]
        learned = [matrix for route in routes for matrix in route.learned]
        is_linear = isinstance(self, nn.Linear | nn.Conv2d | SVDLayer)
        return _Send.apply(out, routes, is_linear, *(x for _, x in taken), *learned)


class _Send(torch.autograd.Function):
    """The identity for a source's output; backwards the error goes to every receiver as well."""

    @staticmethod
    def forward(
        ctx: Any, out: Tensor, routes: Sequence[DirectRoute], plain: bool, *tensors: Tensor
    ) -> Tensor:
        ctx.routes = routes
        ctx.save_for_backward(*tensors[: len(routes)])
        if plain:  # nothing behind a linear map needs its output: it may be overwritten in place
            return torch.ops.aten._unsafe_view(out, out.shape)
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, error: Tensor
    ) -> tuple[Tensor | None, ...]:
        arriving: list[Tensor | None] = []
        learned: list[Tensor | None] = []
        for route, h in zip(ctx.routes, ctx.saved_tensors, strict=True):
            g, gradients = route.receive(h, error)
            arriving.append(g)
            learned.extend(gradients)
            route.fired += 1
        return error, None, None, *arriving, *learned


@cache
def mixed(role: type[Rerouted], kind: type[nn.Module]) -> type[nn.Module]:
    """Return the class of a module in a role, a subclass of what it was.

    Examples
    --------
    >>> mixed(Source, nn.Linear).__name__
    'SourceLinear'
    """
    return type(f"{role.__name__}{kind.__name__}", (role, kind), {"plain": kind})
