"""One linear map of a network, forwards and backwards: the arithmetic that every pathway shares.

A kernel has the layout of torch's own weights: ``(out, in)`` for `Dense` and
``(out, in / groups, ky, kx)`` for `Convolution`. Three products are enough for every rule:

- `apply`: W h (and the bias), the forward map;
- `back`: Wᵀ δ, an error taken back through the map;
- `product`: δ hᵀ summed over the batch (and over pixels), a weight gradient.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from neurofb.networks.svd_layers import SVDConv2d

#: Below this number of channels convolutions are rearranged, because libraries would pad them.
FEW_CHANNELS = 16


@dataclass(frozen=True)
class Dense:
    """The map of a linear layer, for any leading batch dimensions.

    Examples
    --------
    >>> import torch
    >>> Dense().back(torch.ones(5, 2), torch.ones(2, 3)).shape
    torch.Size([5, 3])
    """

    def apply(
        self,
        x: Float[Tensor, "*batch n_in"],
        kernel: Float[Tensor, "n_out n_in"],
        bias: Float[Tensor, " n_out"] | None = None,
    ) -> Float[Tensor, "*batch n_out"]:
        """Return W x + b."""
        return F.linear(x, kernel, bias)

    def back(
        self,
        delta: Float[Tensor, "*batch n_out"],
        kernel: Float[Tensor, "n_out n_in"],
        like: torch.Size | Tensor | None = None,
    ) -> Float[Tensor, "*batch n_in"]:
        """Return Wᵀ δ; `like` (the input or its shape) is not needed here."""
        del like
        return delta @ kernel

    def product(
        self,
        x: Float[Tensor, "*batch n_in"],
        delta: Float[Tensor, "*batch n_out"],
        shape: torch.Size,
    ) -> Float[Tensor, "n_out n_in"]:
        """Return δ xᵀ summed over the batch; `shape` is the kernel's."""
        del shape
        return self.rows(delta).T @ self.rows(x)

    def gradients(
        self,
        x: Float[Tensor, "*batch n_in"],
        delta: Float[Tensor, "*batch n_out"],
        kernel: Float[Tensor, "n_out n_in"],
        of_kernel: bool,
        of_bias: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of kernel and bias, None for what is not asked for."""
        grad_kernel = self.product(x, delta, kernel.shape) if of_kernel else None
        return grad_kernel, self.rows(delta).sum(0) if of_bias else None

    def rows(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "row n"]:
        """Return one row a sample."""
        return x.reshape(-1, x.shape[-1])


@dataclass(frozen=True)
class Convolution:
    """The map of a 2-D convolution with zero padding.

    Parameters
    ----------
    stride, padding, dilation
        One integer for y and one for x each.
    groups
        Number of groups of channels that do not mix.

    Examples
    --------
    >>> import torch
    >>> delta, kernel = torch.ones(1, 2, 4, 4), torch.ones(2, 3, 3, 3)
    >>> Convolution((1, 1), (1, 1), (1, 1), 1).back(delta, kernel, torch.Size([1, 3, 4, 4])).shape
    torch.Size([1, 3, 4, 4])
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def apply(
        self,
        x: Float[Tensor, "*batch c_in y x"],
        kernel: Float[Tensor, "c_out c_group ky kx"],
        bias: Float[Tensor, " c_out"] | None = None,
    ) -> Float[Tensor, "*batch c_out y2 x2"]:
        """Return W * x + b."""
        return F.conv2d(x, kernel, bias, self.stride, self.padding, self.dilation, self.groups)

    def back(
        self,
        delta: Float[Tensor, "batch c_out y2 x2"],
        kernel: Float[Tensor, "c_out c_group ky kx"],
        like: torch.Size | Tensor,
    ) -> Float[Tensor, "batch c_in y x"]:
        """Return the transposed convolution of δ; `like` is the input or its shape."""
        if min(kernel.shape[:2]) < FEW_CHANNELS and self._is_simple(kernel):
            return self._back_few(delta, kernel)
        if isinstance(like, Tensor):
            return self._backward(delta, like, kernel, (True, False, False))[0]
        # The values of the input are not read for this output; no memory is touched.
        layout = torch.contiguous_format
        if delta.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        x = torch.empty(like, dtype=delta.dtype, device=delta.device, memory_format=layout)
        return self._backward(delta, x, kernel, (True, False, False))[0]

    def product(
        self,
        x: Float[Tensor, "batch c_in y x"],
        delta: Float[Tensor, "batch c_out y2 x2"],
        shape: torch.Size,
    ) -> Float[Tensor, "c_out c_group ky kx"]:
        """Return the gradient of a kernel of this `shape` for input x and error δ."""
        return self._backward(delta, x, delta.new_empty(shape), (False, True, False))[1]

    def gradients(
        self,
        x: Float[Tensor, "batch c_in y x"],
        delta: Float[Tensor, "batch c_out y2 x2"],
        kernel: Float[Tensor, "c_out c_group ky kx"],
        of_kernel: bool,
        of_bias: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of kernel and bias, None for what is not asked for."""
        _, grad_kernel, grad_bias = self._backward(delta, x, kernel, (False, of_kernel, of_bias))
        return grad_kernel, grad_bias

    def rows(self, x: Float[Tensor, "batch c y x"]) -> Float[Tensor, "row c"]:
        """Return one row a sample and pixel (no copy if `x` is channels_last)."""
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])

    def _is_simple(self, kernel: Tensor) -> bool:
        """Whether the way back is itself a plain convolution, with padding of at least 0."""
        reach = [
            gap * (size - 1) for gap, size in zip(self.dilation, kernel.shape[2:], strict=True)
        ]
        unit = self.stride == (1, 1) and self.groups == 1
        return unit and reach[0] >= self.padding[0] and reach[1] >= self.padding[1]

    def _back_few(self, delta: Tensor, kernel: Tensor) -> Tensor:
        """Return the transposed convolution as a convolution with the flipped kernel.

        CPU libraries pad channels to 16 in a backward pass, but not the input of a forward pass.
        Their output they pad: few output channels are therefore computed as one channel for every
        column of the kernel, and the columns are shifted and summed by a second convolution.
        """
        flipped = kernel.flip(2, 3).transpose(0, 1)
        few, channels, ky, kx = flipped.shape
        (dy, dx), (pad_y, pad_x) = self.dilation, self.padding
        pad_y, pad_x = dy * (ky - 1) - pad_y, dx * (kx - 1) - pad_x
        padded = few < FEW_CHANNELS <= channels and delta.device.type == "cpu"
        if not (padded and kx > 1 and delta.dtype == torch.float32):
            return F.conv2d(delta, flipped, None, 1, (pad_y, pad_x), self.dilation)
        columns = flipped.permute(0, 3, 1, 2).reshape(few * kx, channels, ky, 1)
        parts = F.conv2d(delta, columns, None, 1, (pad_y, 0), (dy, 1))
        shifts = torch.eye(few * kx, dtype=delta.dtype).reshape(few, kx, few * kx)
        return F.conv2d(parts, shifts.mT[:, :, None], None, 1, (0, pad_x), (1, dx))

    def _backward(
        self, delta: Tensor, x: Tensor, kernel: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Any, Any, Any]:
        """Call what autograd itself calls, for the input, the kernel and the bias as wanted."""
        return torch.ops.aten.convolution_backward(
            delta,
            x,
            kernel,
            [delta.shape[1]],
            self.stride,
            self.padding,
            self.dilation,
            False,
            (0, 0),
            self.groups,
            wanted,
        )


Stage = Dense | Convolution


def stage_of(layer: nn.Module) -> Stage:
    """Return the forward map of a linear layer or a convolution (behind `padding_before`).

    Examples
    --------
    >>> stage_of(nn.Conv2d(3, 4, 5, padding=2)).padding
    (2, 2)
    """
    if not isinstance(layer, nn.Conv2d | SVDConv2d):
        return Dense()
    pad_x, _, pad_y, _ = _padding(layer)
    padding = (0, 0) if padding_before(layer) else (pad_y, pad_x)
    return Convolution(_pair(layer.stride), padding, _pair(layer.dilation), layer.groups)


def padding_before(layer: nn.Conv2d | SVDConv2d) -> list[int] | None:
    """Return the padding (in the order of `F.pad`) that a convolution cannot do by itself.

    Examples
    --------
    >>> padding_before(nn.Conv2d(3, 4, 2, padding="same"))
    [0, 1, 0, 1]
    """
    left, right, above, below = pad = _padding(layer)
    if not any(pad) or (layer.padding_mode == "zeros" and left == right and above == below):
        return None
    return pad


def _padding(layer: nn.Conv2d | SVDConv2d) -> list[int]:
    """Return left, right, above and below padding."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding == "same":
        ky, kx = layer.kernel_size
        dy, dx = _pair(layer.dilation)
        total_y, total_x = dy * (ky - 1), dx * (kx - 1)
        return [total_x // 2, total_x - total_x // 2, total_y // 2, total_y - total_y // 2]
    pad_y, pad_x = _pair(layer.padding)
    return [pad_x, pad_x, pad_y, pad_y]


def _pair(value: Any) -> tuple[int, int]:
    y, x = value
    return int(y), int(x)
