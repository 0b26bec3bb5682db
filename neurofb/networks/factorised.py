"""A network whose layers hold the factors of their weights, and the way back."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from torch import nn

from neurofb.networks.svd_factors import rank_of
from neurofb.networks.svd_layers import SVDConv2d, SVDLinear
from neurofb.networks.unfolding import Unfolding, UnfoldingKind, pair

_CARRIES = (
    "layer {!r} carries a pathway or sends its error; neurofb.feedback.detach(network) takes "
    "pathways off"
)


@dataclass(frozen=True, kw_only=True)
class Factorised:
    """Settings of `factorise`: the layers of a run start as truncated SVDs of their weights.

    Parameters
    ----------
    rank
        Of each layer: an integer (cut to what the layer allows), or a float in (0, 1], the share of
        min(m, n) of its m × n matrix, rounded down, at least 1. A first convolution of one channel
        has a matrix with min(m, n) = 3 for kernels of 3 × 3 (channels × height of the kernel by
        default), so half of it is rank 1: leave that layer out of `layers`.
    last_rank
        The same for the last layer of the network; 1.0 keeps its rank full.
    layers
        Names or patterns (``*``, ``?``, ``[…]``; ``*`` goes across dots) of linear layers and
        convolutions.
    unfolding
        How kernels of convolutions are unfolded (`neurofb.networks.unfolding.Unfolding`).

    Raises
    ------
    ValueError
        If a value is out of its range.

    Examples
    --------
    >>> network = Factorised(rank=0.5).apply(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3)))
    >>> [layer.rank for layer in network]
    [4, 3]
    """

    rank: int | float = 0.5
    last_rank: int | float = 1.0
    layers: tuple[str, ...] = ("*",)
    unfolding: UnfoldingKind = "separable"

    def __post_init__(self) -> None:
        for name in ("rank", "last_rank"):
            value = getattr(self, name)
            number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not (number or (isinstance(value, float) and 0 < value <= 1)):
                raise ValueError(f"{name}={value!r} must be an integer >= 1, or a share in (0, 1]")
        if not self.layers or isinstance(self.layers, str):
            raise ValueError(f"layers={self.layers!r} must be a tuple of names or patterns")
        Unfolding(kind=self.unfolding, kernel_shape=(1, 1, 1, 1))

    def apply(self, network: nn.Module) -> nn.Module:
        """Replace the network's layers in place, and return it.

        Raises
        ------
        ValueError
            As `factorise`.
        """
        return factorise(network, self.rank, self.last_rank, self.layers, self.unfolding)

    def ranks(self, network: nn.Module) -> dict[str, int]:
        """Return the rank of every layer of a plain network that is to be factored, by name.

        Raises
        ------
        ValueError
            If a pattern matches no linear layer or convolution inside, or there are pathways.

        Examples
        --------
        >>> Factorised(rank=0.5).ranks(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3)))
        {'0': 4, '1': 3}
        """
        for name, module in network.named_modules():
            if hasattr(type(module), "plain"):  # `neurofb.feedback.attach` gave it this class
                raise ValueError(_CARRIES.format(name))
        plain = {n: m for n, m in network.named_modules() if _is_plain(m)}
        found: dict[str, int] = {}
        for pattern in self.layers:
            names = [name for name in plain if name and fnmatch.fnmatchcase(name, pattern)]
            if not names:
                raise ValueError(
                    f"layers: {pattern!r} matches no linear layer or convolution inside of the "
                    f"network; those are: {', '.join(filter(None, plain)) or 'none'}"
                )
            for name in names:
                size = self.last_rank if name == next(reversed(plain)) else self.rank
                full = min(matrix_shape(plain[name], self.unfolding))
                found[name] = rank_of(min(size, full) if isinstance(size, int) else size, full)
        return {name: found[name] for name in plain if name in found}


def factorise(
    network: nn.Module,
    rank: int | float,
    last_rank: int | float = 1.0,
    layers: Sequence[str] = ("*",),
    unfolding: UnfoldingKind = "separable",
) -> nn.Module:
    """Replace linear layers and convolutions by the truncated SVD of their weights, in place.

    Each becomes an `SVDLinear` or `SVDConv2d` under its name, with its bias; at full rank the
    network computes the same up to rounding. Plain gradient steps do not keep U and V orthonormal:
    a training loop of your own needs `neurofb.training.SVDSpaceControl` around each step.

    Parameters
    ----------
    network
        Any module without pathways.
    rank, last_rank, layers, unfolding
        As in `Factorised`. The last layer is the last in the modules' order, `layers` or not.

    Raises
    ------
    ValueError
        If a pattern matches no linear layer or convolution, the network is itself one, carries
        pathways, or a convolution cannot be factored. The network is then unchanged.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    >>> factorise(network, rank=2, layers=("0",))
    Sequential(
      (0): SVDLinear(8, 6, rank=2)
      (1): ReLU()
      (2): Linear(in_features=6, out_features=3, bias=True)
    )
    """
    settings = Factorised(rank=rank, last_rank=last_rank, layers=tuple(layers), unfolding=unfolding)
    made: dict[nn.Module, nn.Module] = {}
    for name, r in settings.ranks(network).items():
        layer = network.get_submodule(name)
        try:
            if isinstance(layer, nn.Conv2d):
                made[layer] = SVDConv2d.from_dense(layer, r, unfolding)
            elif isinstance(layer, nn.Linear):
                made[layer] = SVDLinear.from_dense(layer, r)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from None
    return _swap(network, made)


def fold(network: nn.Module, *, dense: bool = False) -> nn.Module:
    """Replace factored layers by plain ones that compute the same with fewer weights, in place.

    A layer with r (m + n) ≥ m n becomes dense, another the product of two plain layers, V and
    U diag(s), in an `nn.Sequential`. (A separable convolution with a stride in x can still take
    more operations: its vertical half sees every column.)

    Parameters
    ----------
    network
        A network with `SVDLinear` and `SVDConv2d`, without pathways.
    dense
        Whether every layer becomes dense.

    Raises
    ------
    ValueError
        If a factored layer carries a pathway, or the network is itself one.

    Examples
    --------
    >>> network = factorise(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3)), rank=2)
    >>> fold(network)
    Sequential(
      (0): Sequential(
        (0): Linear(in_features=8, out_features=2, bias=False)
        (1): Linear(in_features=2, out_features=6, bias=True)
      )
      (1): Linear(in_features=6, out_features=3, bias=True)
    )
    """
    made: dict[nn.Module, nn.Module] = {}
    for name, layer in network.named_modules():
        if not isinstance(layer, SVDLinear | SVDConv2d):
            continue
        if not name:
            raise ValueError("network is itself a factored layer; use its to_dense()")
        if type(layer) not in (SVDLinear, SVDConv2d):
            raise ValueError(_CARRIES.format(name))
        made[layer] = layer.to_dense() if dense or not layer.saves else _pair_of(layer)
    return _swap(network, made)


def factored_layers(network: nn.Module) -> dict[str, SVDLinear | SVDConv2d]:
    """Return the factored layers of a network by name, in the modules' order.

    Examples
    --------
    >>> list(factored_layers(factorise(nn.Sequential(nn.Linear(8, 3)), rank=2)))
    ['0']
    """
    found = network.named_modules()
    return {name: layer for name, layer in found if isinstance(layer, SVDLinear | SVDConv2d)}


def matrix_shape(layer: nn.Linear | nn.Conv2d, unfolding: UnfoldingKind) -> tuple[int, int]:
    """Return m and n of the matrix to which a plain layer's weight is unfolded.

    Examples
    --------
    >>> matrix_shape(nn.Conv2d(4, 8, (3, 5)), "separable")
    (40, 12)
    """
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    shape = layer.out_channels, layer.in_channels // layer.groups, *pair(layer.kernel_size)
    return Unfolding(kind=unfolding, kernel_shape=shape).matrix_shape


def _pair_of(layer: SVDLinear | SVDConv2d) -> nn.Sequential:
    """Return two plain layers whose product is the factored one."""
    v, u = layer.V.detach().clone(), (layer.U * layer.s).detach()
    rank, has_bias = layer.rank, layer.bias is not None
    if isinstance(layer, SVDLinear):
        first = nn.Linear(layer.in_features, rank, bias=False, device="meta")
        second = nn.Linear(rank, layer.out_features, bias=has_bias, device="meta")
        kernels = v.mT.contiguous(), u
    else:
        geometry = layer.geometry
        kernels = geometry.first(v).contiguous(), geometry.second(u).contiguous()
        sizes = [(k.shape[2], k.shape[3]) for k in kernels]
        maps = geometry.first_map, geometry.second_map
        first = nn.Conv2d(layer.in_channels, rank, sizes[0], **maps[0], bias=False, device="meta")
        second = nn.Conv2d(
            rank, layer.out_channels, sizes[1], **maps[1], bias=has_bias, device="meta"
        )
    first.weight, second.weight = nn.Parameter(kernels[0]), nn.Parameter(kernels[1])
    if layer.bias is not None:
        second.bias = nn.Parameter(layer.bias.detach().clone())
    return nn.Sequential(first, second).train(layer.training)


def _swap(network: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """Put new modules into the places of old ones, wherever these stand."""
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in made:
                setattr(parent, name, made[child])
    return network


def _is_plain(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether a module is of these classes themselves: a subclass may compute something else."""
    return type(module) in (nn.Linear, nn.Conv2d)
