"""Linear and convolution layers whose error goes back through a pathway.

A layer becomes one of these by a change of class, in place: it stays the same object with the same
parameters, hooks and names, and its forward pass computes the same bits.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neurofb.feedback.bypass import FeedbackSVDConv2d, FeedbackSVDLinear
from neurofb.feedback.pathway import Pathway
from neurofb.feedback.phase import WEIGHT_GRADIENT
from neurofb.feedback.route import FeedbackLayer
from neurofb.feedback.stage import Stage, padding_before, stage_of
from neurofb.networks.svd_layers import SVDConv2d, SVDLinear


class _Backward(torch.autograd.Function):
    """W h + b forwards; backwards exact gradients of W and b, and the pathway's error for h."""

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pathway: Pathway,
        stage: Stage,
        *learned: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(h, weight)
        ctx.pathway, ctx.stage, ctx.num_learned = pathway, stage, len(learned)
        out = stage.apply(h, weight, bias)
        if h.dim() in (2, 4):
            return out
        # Else torch may return a view, which an in-place activation could not overwrite.
        return torch.ops.aten._unsafe_view(out, out.shape)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, delta: Tensor
    ) -> tuple[Tensor | None, ...]:
        h, weight = ctx.saved_tensors
        needs_error, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        error, learned = None, (None,) * ctx.num_learned
        with WEIGHT_GRADIENT:
            grad_weight, grad_bias = ctx.stage.gradients(h, delta, weight, needs_weight, needs_bias)
        if needs_error:
            error, learned = ctx.pathway.backward(h, delta, weight, ctx.stage, grad_weight)
            ctx.pathway.fired += 1
        return error, grad_weight, grad_bias, None, None, *learned


class ThroughPathway(FeedbackLayer):
    """What a linear layer and a convolution with a pathway share."""

    weight: Tensor

    def through_pathway(self, h: Tensor, bias: Tensor | None, stage: Stage) -> Tensor:
        """Run the layer; the backward pass will go through the pathway."""
        weight = self.weight
        device = h.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            h, weight = _cast(h, dtype), _cast(weight, dtype)
            bias = None if bias is None else _cast(bias, dtype)
        with torch.autocast(device, enabled=False):
            return self.run(h, weight, bias, stage)

    def run(self, h: Tensor, weight: Tensor, bias: Tensor | None, stage: Stage) -> Tensor:
        """Run the layer on tensors of the right dtype; a stack of networks does it otherwise."""
        return _Backward.apply(h, weight, bias, self.pathway, stage, *self.pathway.learned)


class FeedbackLinear(ThroughPathway, nn.Linear):
    """A linear layer with a pathway."""

    plain = nn.Linear

    def forward(self, input: Tensor) -> Tensor:
        """Return W h + b."""
        if self.exact:
            return nn.Linear.forward(self, input)
        return self.through_pathway(input, self.bias, stage_of(self))


class FeedbackConv2d(ThroughPathway, nn.Conv2d):
    """A convolution with a pathway; any stride, padding, padding mode, dilation and groups."""

    plain = nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:
        """Return W * h + b."""
        if self.exact:
            return nn.Conv2d.forward(self, input)
        stage, pad = stage_of(self), padding_before(self)
        if pad is not None:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            input = F.pad(input, pad, mode=mode)
        if input.dim() == 3:
            return self.through_pathway(input[None], self.bias, stage)[0]
        return self.through_pathway(input, self.bias, stage)


#: layer class -> class with a pathway; exact types only, a subclass may compute something else
FEEDBACK_CLASSES: dict[type[nn.Module], type[FeedbackLayer]] = {
    nn.Linear: FeedbackLinear,
    nn.Conv2d: FeedbackConv2d,
    SVDLinear: FeedbackSVDLinear,
    SVDConv2d: FeedbackSVDConv2d,
}


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast as autocast does: float64 stays as it is."""
    return x if x.dtype == torch.float64 else x.to(dtype)
