"""The forward pass of several networks of one architecture as one."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from neurofb.feedback import feedback_layers
from neurofb.feedback.stacked import stack_pathways
from neurofb.training.stacked_noise import Streams, stack_noise


class StackedForward:
    """The forward pass of several networks as one, by `torch.func.vmap`.

    Parameters
    ----------
    networks
        Of one architecture, in training mode.
    device
        Where they are.

    Attributes
    ----------
    streams, draws
        The networks' random numbers, and whether any are drawn.
    needs_targets
        Whether a pathway must be shown the classes.

    Examples
    --------
    >>> networks = [nn.Linear(3, 2) for _ in range(4)]
    >>> forward = StackedForward(networks, torch.device("cpu"))
    >>> forward(*join_tensors(networks), torch.ones(4, 5, 3)).shape
    torch.Size([4, 5, 2])
    """

    def __init__(self, networks: Sequence[nn.Module], device: torch.device) -> None:
        skeleton = copy.deepcopy(networks[0]).train()
        stack_pathways(skeleton, networks)
        self.streams = Streams(device)
        self.draws = stack_noise(skeleton, self.streams)
        self.needs_targets = any(
            layer.pathway.needs_targets for _, layer in feedback_layers(skeleton)
        )
        for module in skeleton.modules():
            module.__class__ = _CLASSES.get(type(module), type(module))
        skeleton.to("meta")  # whatever is not handed over must not go unnoticed

        def run(parameters: dict[str, Any], buffers: dict[str, Any], images: Tensor) -> Tensor:
            return functional_call(skeleton, (parameters, buffers), (images,))

        self._run = vmap(run)

    def __call__(
        self, parameters: dict[str, nn.Parameter], buffers: dict[str, Tensor], images: Tensor
    ) -> Tensor:
        """Return the logits, shape (network, image, class)."""
        return self._run(parameters, buffers, images)


def join_tensors(
    networks: Sequence[nn.Module],
) -> tuple[dict[str, nn.Parameter], dict[str, Tensor]]:
    """Stack the parameters and the buffers of networks, which become views of the stacks.

    Examples
    --------
    >>> networks = [nn.Linear(3, 2), nn.Linear(3, 2)]
    >>> parameters, _ = join_tensors(networks)
    >>> with torch.no_grad():
    ...     _ = parameters["bias"].fill_(7.0)
    >>> networks[1].bias
    Parameter containing:
    tensor([7., 7.], requires_grad=True)
    """
    parameters, buffers = {}, {}
    for name, parameter in networks[0].named_parameters():
        joint = _join([network.get_parameter(name) for network in networks])
        parameters[name] = nn.Parameter(joint, requires_grad=parameter.requires_grad)
    for name, _ in networks[0].named_buffers():
        buffers[name] = _join([network.get_buffer(name) for network in networks])
    return parameters, buffers


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors and let each be a view of the stack."""
    joint = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, part in zip(tensors, joint.unbind(), strict=True):
        tensor.data = part
    return joint


class _Linear(nn.Linear):
    """A linear layer whose gradient comes in the layout of its weight, also under vmap."""

    def forward(self, input: Tensor) -> Tensor:
        """Return W h + b."""
        device = input.device.type
        h, weight, bias = _cast(device, input, self.weight, self.bias)
        with torch.autocast(device, enabled=False):
            if h.dim() != 2:
                return functional.linear(h, weight, bias)
            out = (weight @ h.mT).mT.contiguous()
            return out if bias is None else out + bias


class _Conv2d(nn.Conv2d):
    """A convolution that casts by itself: under vmap autocast leaves the bias as it is."""

    def forward(self, input: Tensor) -> Tensor:
        """Return W * h + b."""
        device = input.device.type
        h, weight, bias = _cast(device, input, self.weight, self.bias)
        with torch.autocast(device, enabled=False):
            return self._conv_forward(h, weight, bias)


class _Normalises(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose statistics stay in float32 under autocast, as they do without vmap."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised activities."""
        dtype = input.dtype
        if dtype not in (torch.bfloat16, torch.float16):
            return super().forward(input)
        return super().forward(input.float()).to(dtype)


class _BatchNorm1d(_Normalises, nn.BatchNorm1d):
    """For samples of one dimension."""


class _BatchNorm2d(_Normalises, nn.BatchNorm2d):
    """For maps."""


def _cast(device: str, h: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Any, ...]:
    """Cast as autocast does, if it is on: float64 stays as it is."""
    if not torch.is_autocast_enabled(device) or h.dtype == torch.float64:
        return h, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return h.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


#: layer class -> its class in a stack; exact types only, a subclass may compute something else
_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _Linear,
    nn.Conv2d: _Conv2d,
    nn.BatchNorm1d: _BatchNorm1d,
    nn.BatchNorm2d: _BatchNorm2d,
}
