"""One linear map of a network, forwards and backwards: the arithmetic that every pathway shares.

A kernel has the layout of torch's own weights: ``(out, in)`` for `Dense` and
``(out, in / groups, ky, kx)`` for `Convolution`. Three products are enough for every rule:

- `apply`: W h (and the bias), the forward map;
- `back`: Wᵀ δ, an error taken back through the map;
- `product`: δ hᵀ summed over the batch (and over pixels), a weight gradient.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


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
        like: torch.Size | None = None,
    ) -> Float[Tensor, "*batch n_in"]:
        """Return Wᵀ δ; `like` (the shape of the input) is not needed here."""
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
        like: torch.Size,
    ) -> Float[Tensor, "batch c_in y x"]:
        """Return the transposed convolution of δ, of the input's shape `like`."""
        # The values of the input are not read for this output; no memory is touched.
        x = delta.new_empty(1).expand(like)
        return self._backward(delta, x, kernel, 0)

    def product(
        self,
        x: Float[Tensor, "batch c_in y x"],
        delta: Float[Tensor, "batch c_out y2 x2"],
        shape: torch.Size,
    ) -> Float[Tensor, "c_out c_group ky kx"]:
        """Return the gradient of a kernel of this `shape` for input x and error δ."""
        kernel = delta.new_empty(1).expand(shape)
        return self._backward(delta, x, kernel, 1)

    def rows(self, x: Float[Tensor, "batch c y x"]) -> Float[Tensor, "row c"]:
        """Return one row a sample and pixel (no copy if `x` is channels_last)."""
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])

    def _backward(self, delta: Tensor, x: Tensor, kernel: Tensor, wanted: Literal[0, 1]) -> Tensor:
        """Call the kernel that autograd itself uses, for the input (0) or the weight (1)."""
        gradients = torch.ops.aten.convolution_backward(
            delta,
            x,
            kernel,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            (0, 0),
            self.groups,
            (wanted == 0, wanted == 1, False),
        )
        return gradients[wanted]


Stage = Dense | Convolution


def stage_of(layer: nn.Module) -> Stage:
    """Return the forward map of a linear layer or a convolution (behind `padding_before`).

    Examples
    --------
    >>> stage_of(nn.Conv2d(3, 4, 5, padding=2)).padding
    (2, 2)
    """
    if not isinstance(layer, nn.Conv2d):
        return Dense()
    pad_x, _, pad_y, _ = _padding(layer)
    padding = (0, 0) if padding_before(layer) else (pad_y, pad_x)
    return Convolution(_pair(layer.stride), padding, _pair(layer.dilation), layer.groups)


def padding_before(layer: nn.Conv2d) -> list[int] | None:
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


def _padding(layer: nn.Conv2d) -> list[int]:
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
