"""Linear layers and convolutions that hold their weight as U diag(s) Vᵀ and never form it."""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional, init

from neurofb.networks.svd_factors import SVDLayer
from neurofb.networks.unfolding import Unfolding, UnfoldingKind, pair, plain_padding

_Layer = TypeVar("_Layer", bound=SVDLayer)
_Dense = TypeVar("_Dense", nn.Linear, nn.Conv2d)


class SVDLinear(SVDLayer):
    """A linear layer y = ((h V) ∘ s) Uᵀ + b: r (m + n) multiply-adds a sample instead of m n.

    Parameters
    ----------
    in_features, out_features
        n and m.
    rank
        r: a number, or a float in (0, 1], the share of min(m, n).
    bias
        Whether there is a bias; it starts at zero.
    weight
        The dense weight (m, n) whose truncated SVD is the start; dtype and device are taken from
        it. By default one is drawn as for `nn.Linear`.
    generator
        What draws it; by default torch's global one, as for any layer of torch.

    Raises
    ------
    ValueError
        If the rank is not allowed.

    Examples
    --------
    >>> layer = SVDLinear(8, 6, rank=0.5, generator=torch.Generator().manual_seed(0))
    >>> layer.rank, layer(torch.ones(2, 8)).shape
    (3, torch.Size([2, 6]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int | float,
        bias: bool = True,
        *,
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        start = _drawn((out_features, in_features), generator) if weight is None else weight
        self._start(start, rank, out_features * bias)

    @classmethod
    def from_dense(cls, layer: nn.Linear, rank: int | float) -> "SVDLinear":
        """Return the layer with the truncated SVD of another's weight, and its bias.

        Examples
        --------
        >>> dense = nn.Linear(4, 3)
        >>> torch.allclose(SVDLinear.from_dense(dense, 1.0).dense_weight(), dense.weight, atol=1e-6)
        True
        """
        sizes, has_bias = (layer.in_features, layer.out_features), layer.bias is not None
        return _like(layer, cls(*sizes, rank, has_bias, weight=layer.weight))

    def to_dense(self) -> nn.Linear:
        """Return the dense layer that computes the same."""
        size = self.in_features, self.out_features
        return _dense(nn.Linear(*size, self.bias is not None, device="meta"), self)

    def to_matrix(self, weight: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
        """Return the weight."""
        return weight

    def from_matrix(self, matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
        """Return the matrix."""
        return matrix

    def forward(self, h: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """Return W h + b."""
        return functional.linear((h @ self.V) * self.s, self.U, self.bias)

    def extra_repr(self) -> str:
        """Return what the layer is printed with."""
        return f"{self.in_features}, {self.out_features}, rank={self.rank}"


class SVDConv2d(SVDLayer):
    """A convolution as two, with r channels between them; see `Unfolding` for the two ways.

    It has the attributes of `nn.Conv2d` (groups is 1, the padding is with zeros).

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, bias
        As for `nn.Conv2d`; the bias starts at zero.
    rank
        r: a number, or a float in (0, 1], the share of min(m, n) of the unfolded kernel.
    unfolding
        ``"separable"`` (vertical, then horizontal) or ``"channel"`` (k × k, then 1 × 1).
    weight, generator
        As for `SVDLinear`.

    Raises
    ------
    ValueError
        If the rank or the unfolding is not allowed.

    Examples
    --------
    >>> layer = SVDConv2d(4, 6, 3, rank=5, padding=1)
    >>> layer.U.shape, layer.V.shape, layer(torch.ones(2, 4, 8, 8)).shape
    (torch.Size([18, 5]), torch.Size([12, 5]), torch.Size([2, 6, 8, 8]))
    """

    groups = 1
    padding_mode = "zeros"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        rank: int | float,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        *,
        unfolding: UnfoldingKind = "separable",
        weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = pair(kernel_size), pair(stride)
        self.padding, self.dilation = pair(padding), pair(dilation)
        self.unfolding: UnfoldingKind = unfolding
        shape = out_channels, in_channels, *self.kernel_size
        start = _drawn(shape, generator) if weight is None else weight
        self._start(start, rank, out_channels * bias)

    @property
    def geometry(self) -> Unfolding:
        """How the kernel is unfolded, and the settings of the two convolutions."""
        return Unfolding(
            kind=self.unfolding,
            kernel_shape=(self.out_channels, self.in_channels, *self.kernel_size),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )

    @classmethod
    def from_dense(
        cls, layer: nn.Conv2d, rank: int | float, unfolding: UnfoldingKind = "separable"
    ) -> "SVDConv2d":
        """Return the layer with the truncated SVD of another's kernel, and its bias.

        Raises
        ------
        ValueError
            If the convolution has groups, or a padding that is uneven or not with zeros.

        Examples
        --------
        >>> dense, x = nn.Conv2d(2, 3, 3, stride=2), torch.ones(1, 2, 7, 7)
        >>> torch.allclose(SVDConv2d.from_dense(dense, 1.0)(x), dense(x), atol=1e-5)
        True
        """
        made = cls(
            layer.in_channels,
            layer.out_channels,
            pair(layer.kernel_size),
            rank,
            pair(layer.stride),
            plain_padding(layer),
            pair(layer.dilation),
            layer.bias is not None,
            unfolding=unfolding,
            weight=layer.weight,
        )
        return _like(layer, made)

    def to_dense(self) -> nn.Conv2d:
        """Return the dense convolution that computes the same."""
        empty = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            bias=self.bias is not None,
            device="meta",
        )
        return _dense(empty, self)

    def to_matrix(self, weight: Float[Tensor, "c_out c_in ky kx"]) -> Float[Tensor, "m n"]:
        """Return a kernel, unfolded."""
        return self.geometry.matrix(weight)

    def from_matrix(self, matrix: Float[Tensor, "m n"]) -> Float[Tensor, "c_out c_in ky kx"]:
        """Return a matrix, folded to a kernel."""
        return self.geometry.kernel(matrix)

    def forward(self, h: Float[Tensor, "*batch c_in y x"]) -> Float[Tensor, "*batch c_out y2 x2"]:
        """Return W * h + b."""
        geometry = self.geometry
        first, second = geometry.first(self.V * self.s), geometry.second(self.U)
        z = functional.conv2d(h, first, **geometry.first_map)
        return functional.conv2d(z, second, self.bias, **geometry.second_map)

    def extra_repr(self) -> str:
        """Return what the layer is printed with."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"rank={self.rank}, stride={self.stride}, padding={self.padding}, {self.unfolding}"
        )


def _drawn(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Return a dense weight as torch's own layers start with."""
    return init.kaiming_uniform_(torch.empty(shape), a=5**0.5, generator=generator)


def _like(dense: nn.Linear | nn.Conv2d, layer: _Layer) -> _Layer:
    """Give a factored layer the bias of a dense one, its mode, and whether it learns."""
    for factor in (layer.U, layer.s, layer.V):
        factor.requires_grad_(dense.weight.requires_grad)
    if layer.bias is not None and dense.bias is not None:
        layer.bias.data.copy_(dense.bias)
        layer.bias.requires_grad_(dense.bias.requires_grad)
    return layer.train(dense.training)


def _dense(empty: _Dense, layer: SVDLayer) -> _Dense:
    """Fill a dense layer made on the meta device from a factored one."""
    learns = layer.U.requires_grad
    empty.weight = nn.Parameter(layer.dense_weight().detach(), requires_grad=learns)
    if layer.bias is not None:
        empty.bias = nn.Parameter(layer.bias.detach().clone(), layer.bias.requires_grad)
    return empty.train(layer.training)
