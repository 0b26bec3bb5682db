"""Factored layers whose error goes back through a pathway: the layer's own graph is bypassed.

The module runs on its input without its past. What arrives at its output goes two ways: into the
module's own graph, which gives the exact gradients of U, s, V and the bias, and through the
pathway, which gives the error at the input. W is formed only if the pathway reads it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurofb.feedback.route import FeedbackLayer
from neurofb.feedback.stage import stage_of
from neurofb.networks.svd_layers import SVDConv2d, SVDLinear


class Bypass(FeedbackLayer):
    """What the factored layers with a pathway share; mixed into their classes."""

    #: returns W; the factored layer has it
    dense_weight: Callable[[], Tensor]

    def around(self, h: Tensor, out: Tensor) -> Tensor:
        """Return the output of the module's own graph, which sends its error to h by the pathway.

        Parameters
        ----------
        h
            The module's input.
        out
            What the module made of ``h.detach()``.
        """
        return _Around.apply(out, h, self, *self.pathway.learned)


class FeedbackSVDLinear(Bypass, SVDLinear):
    """A factored linear layer with a pathway."""

    plain = SVDLinear

    def forward(self, h: Tensor) -> Tensor:
        """Return W h + b."""
        if self.exact or not (torch.is_grad_enabled() and h.requires_grad):
            return SVDLinear.forward(self, h)
        return self.around(h, SVDLinear.forward(self, h.detach()))


class FeedbackSVDConv2d(Bypass, SVDConv2d):
    """A factored convolution with a pathway."""

    plain = SVDConv2d

    def forward(self, h: Tensor) -> Tensor:
        """Return W * h + b."""
        if self.exact or not (torch.is_grad_enabled() and h.requires_grad):
            return SVDConv2d.forward(self, h)
        if h.dim() == 3:
            return self.forward(h[None])[0]
        return self.around(h, SVDConv2d.forward(self, h.detach()))


class _Around(torch.autograd.Function):
    """The identity for a module's output; backwards δ for its graph, the pathway's error for h."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, h: Tensor, layer: Bypass, *learned: Tensor) -> Tensor:
        ctx.save_for_backward(h)
        ctx.layer, ctx.num_learned = layer, len(learned)
        # Nothing behind a linear map needs its output: it may be overwritten in place.
        return torch.ops.aten._unsafe_view(out, out.shape)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, delta: Tensor
    ) -> tuple[Tensor | None, ...]:
        layer, pathway = ctx.layer, ctx.layer.pathway
        (h,) = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return delta, None, None, *(None,) * ctx.num_learned
        weight = layer.dense_weight().detach().to(delta.dtype) if pathway.reads_weight else None
        error, learned = pathway.backward(h.to(delta.dtype), delta, weight, stage_of(layer), None)
        pathway.fired += 1
        return delta, error.to(h.dtype), None, *learned
