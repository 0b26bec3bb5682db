"""A convolution's kernel as a matrix, and the two small convolutions of its factors."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: How a kernel (c_out, c_in, ky, kx) becomes a matrix.
UnfoldingKind = Literal["separable", "channel"]


@dataclass(frozen=True, kw_only=True)
class Unfolding:
    """How one convolution's kernel is unfolded to an m × n matrix W = U diag(s) Vᵀ.

    ``"separable"``: rows are (c_out, kx), columns (c_in, ky); the convolution becomes a vertical
    one, ky × 1 from c_in to r channels, and a horizontal one, 1 × kx from r to c_out (Jaderberg et
    al. 2014, arXiv:1405.3866; the unfolding of Yang et al. 2020, arXiv:2004.09031). ``"channel"``:
    rows are c_out, columns (c_in, ky, kx); the convolution becomes one of the same kernel size to r
    channels, and a 1 × 1. Both are exact at any stride, padding with zeros and dilation.

    Parameters
    ----------
    kind
        One of these two.
    kernel_shape
        (c_out, c_in, ky, kx).
    stride, padding, dilation
        Of the convolution, for y and x.

    Raises
    ------
    ValueError
        If the kind is unknown.

    Examples
    --------
    >>> Unfolding(kernel_shape=(8, 4, 3, 5)).matrix_shape
    (40, 12)
    """

    kind: UnfoldingKind = "separable"
    kernel_shape: tuple[int, int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.kind not in ("separable", "channel"):
            raise ValueError(f"unfolding={self.kind!r} must be 'separable' or 'channel'")

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Sizes m and n."""
        c_out, c_in, ky, kx = self.kernel_shape
        return (c_out * kx, c_in * ky) if self.kind == "separable" else (c_out, c_in * ky * kx)

    def matrix(self, kernel: Float[Tensor, "c_out c_in ky kx"]) -> Float[Tensor, "m n"]:
        """Return a kernel as a matrix."""
        if self.kind == "separable":
            kernel = kernel.permute(0, 3, 1, 2)
        return kernel.reshape(self.matrix_shape)

    def kernel(self, matrix: Float[Tensor, "m n"]) -> Float[Tensor, "c_out c_in ky kx"]:
        """Return a matrix as a kernel, the inverse of `matrix`.

        Examples
        --------
        >>> unfolding = Unfolding(kernel_shape=(3, 2, 3, 5))
        >>> kernel = torch.randn(3, 2, 3, 5)
        >>> torch.equal(unfolding.kernel(unfolding.matrix(kernel)), kernel)
        True
        """
        c_out, c_in, ky, kx = self.kernel_shape
        if self.kind == "separable":
            return matrix.reshape(c_out, kx, c_in, ky).permute(0, 2, 3, 1).contiguous()
        return matrix.reshape(self.kernel_shape)

    def first(self, v: Float[Tensor, "n rank"]) -> Float[Tensor, "rank c_in ky k1"]:
        """Return the kernel of the first convolution, whose matrix is Vᵀ."""
        _, c_in, ky, kx = self.kernel_shape
        return v.mT.reshape(v.shape[1], c_in, ky, 1 if self.kind == "separable" else kx)

    def second(self, u: Float[Tensor, "m rank"]) -> Float[Tensor, "c_out rank 1 k2"]:
        """Return the kernel of the second convolution, whose matrix is U."""
        c_out, _, _, kx = self.kernel_shape
        k2 = kx if self.kind == "separable" else 1
        return u.reshape(c_out, k2, u.shape[1]).permute(0, 2, 1)[:, :, None]

    @property
    def first_map(self) -> dict[str, Any]:
        """Stride, padding and dilation of the first convolution."""
        return self._settings(0) if self.kind == "separable" else self._settings(0, 1)

    @property
    def second_map(self) -> dict[str, Any]:
        """Stride, padding and dilation of the second convolution."""
        return self._settings(1) if self.kind == "separable" else self._settings()

    def middle(self, shape: torch.Size | tuple[int, ...], rank: int) -> torch.Size:
        """Return the shape between the two convolutions, for an input (image, c_in, y, x).

        Examples
        --------
        >>> Unfolding(kernel_shape=(8, 4, 3, 3), stride=(2, 2)).middle((5, 4, 9, 9), rank=2)
        torch.Size([5, 2, 4, 9])
        """
        sizes = list(shape[2:])
        for axis in (0,) if self.kind == "separable" else (0, 1):
            reach = self.dilation[axis] * (self.kernel_shape[2 + axis] - 1)
            sizes[axis] = (sizes[axis] + 2 * self.padding[axis] - reach - 1) // self.stride[
                axis
            ] + 1
        return torch.Size([shape[0], rank, *sizes])

    def _settings(self, *axes: int) -> dict[str, Any]:
        """Return the settings on the axes (0 is y) on which a convolution has an extent."""
        neutral = {"stride": 1, "padding": 0, "dilation": 1}
        return {
            name: tuple(getattr(self, name)[axis] if axis in axes else none for axis in (0, 1))
            for name, none in neutral.items()
        }


def plain_padding(layer: nn.Conv2d) -> tuple[int, int]:
    """Return the padding for y and x, or refuse a convolution that two factors cannot replace.

    Raises
    ------
    ValueError
        If the convolution has groups, or a padding that is uneven or not with zeros.

    Examples
    --------
    >>> plain_padding(nn.Conv2d(3, 4, (3, 5), padding="same"))
    (1, 2)
    """
    even = any(d * (k - 1) % 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    same, valid = layer.padding == "same", layer.padding == "valid"
    padding = (0, 0) if valid or same else pair(layer.padding)
    if same:
        reach = [d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        padding = reach[0], reach[1]
    if layer.groups != 1 or (same and even) or (any(padding) and layer.padding_mode != "zeros"):
        raise ValueError(
            f"layer={layer} cannot be factored: groups={layer.groups} must be 1, and padding="
            f"{layer.padding!r} ({layer.padding_mode}) even on both sides and with zeros"
        )
    return padding


def pair(value: Any) -> tuple[int, int]:
    """Return a setting for y and x, of one number or of two.

    Examples
    --------
    >>> pair(3)
    (3, 3)
    """
    y, x = (value, value) if isinstance(value, int) else value
    return int(y), int(x)
