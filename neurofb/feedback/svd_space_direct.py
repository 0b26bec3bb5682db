"""SVD-space feedback straight from a source (SSA-DFA): every layer learns from the output error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurofb.feedback.pathway import Pathway, Site
from neurofb.feedback.route import DirectRoute
from neurofb.feedback.route_map import check_route
from neurofb.feedback.svd_space import take_shapes
from neurofb.networks.svd_factors import checked_index, rank_of
from neurofb.networks.svd_layers import SVDConv2d, SVDLinear


@dataclass(frozen=True, kw_only=True)
class SVDSpaceDirect:
    """SSA-DFA: g = B_U[:, :q] diag(B_S) B_Vᵀ e at the module's input, with q = min(r, n_source).

    e is the error at the output of the source. B_U (n_in, r) is Q of the QR decomposition of a
    Gaussian matrix, B_V (n_source, q) too, and B_S (q,) holds the largest singular values of a
    Gaussian n_in × n_source matrix divided by √n_source. All are fixed. Reads no weight.

    B_U spans the target of the factors U of the layer that made the module's input (its name is the
    pathway's `follows`); r is therefore that layer's rank by default. Only the first q columns
    carry an error.

    A training loop of your own must keep U and V orthonormal:
    `neurofb.training.SVDSpaceControl`. `train` does so if `TrainingConfig.svd_space` is set.

    After Roy et al. 2025, arXiv:2510.25594 (see `SVDSpace`): the direct reading of its feedback
    factors, and their start, are ours.

    Parameters
    ----------
    source
        Name of the module from whose output the error comes. The module may be its own source: the
        readout, at whose input the last hidden layer learns.
    rank
        r: a number, or a share of n_in in (0, 1]; None takes the rank of the factored layer that
        ran last before the module with an output of the size of its input, or else n_source.
    spatial
        Of a map (image, channel, y, x) at the module's input: ``"flat"``, n_in is channels times
        pixels; ``"broadcast"``, n_in is channels, and every pixel gets the same error, divided by
        √pixels so that its norm does not depend on their number.
    match_energy
        Scale B_S to a root mean square of √2: g is as strong as through the transpose of a layer
        with He-normal weights, if q = n_source (a smaller q carries its share of e only). (Else it
        grows with √(n_in / n_source), about 5 for 256 units and 10 classes, which plain SGD does
        not bear.)

    Raises
    ------
    ValueError
        If the rank is not allowed, or the source unknown or not downstream (at attachment).

    Examples
    --------
    >>> from neurofb.feedback import attach
    >>> net = torch.nn.Sequential(SVDLinear(9, 8, rank=4), torch.nn.ReLU(), SVDLinear(8, 3, rank=3))
    >>> pathways = {"2": SVDSpaceDirect(source="2")}
    >>> pathway = attach(net, pathways, example_input=torch.zeros(2, 9))[2].pathway
    >>> pathway.B_U.shape, pathway.B_S.shape, pathway.B_V.shape, pathway.follows
    (torch.Size([8, 4]), torch.Size([3]), torch.Size([3, 3]), '0')
    """

    rule: Literal["svd_space_direct"] = "svd_space_direct"
    source: str = "readout"
    rank: int | float | None = None
    spatial: Literal["flat", "broadcast"] = "flat"
    match_energy: bool = False

    def __post_init__(self) -> None:
        if self.rank is not None:
            rank_of(self.rank, max(1, int(self.rank)))
        if self.spatial not in ("flat", "broadcast"):
            raise ValueError(f"spatial={self.spatial!r} must be 'flat' or 'broadcast'")

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a module."""
        own, other = check_route(site, self.source, itself=True)
        n_source = math.prod(other.output_shape[1:])
        is_map = self.spatial == "broadcast" and len(own.input_shape) == 4
        n_in = own.input_shape[1] if is_map else math.prod(own.input_shape[1:])
        follows, default = _follows(site)
        if self.rank is None:
            r = min(default or n_source, n_in)
        else:
            try:
                r = rank_of(self.rank, n_in)
            except ValueError as error:
                raise ValueError(f"layer {site.name!r}: {error}") from None
        q, generator, like = min(r, n_source), site.generator, site.like
        u, v = _orthonormal(n_in, r, generator), _orthonormal(n_source, q, generator)
        gaussian = torch.randn(n_in, n_source, generator=generator, dtype=torch.float64)
        s = torch.linalg.svdvals(gaussian)[:q] / n_source**0.5
        if self.match_energy:
            s = s * (2 / s.square().mean()).sqrt()
        factors = u.to(like), s.to(like), v.to(like)
        return SVDSpaceDirectPathway(site.name, self.source, follows, is_map, *factors)


class SVDSpaceDirectPathway(DirectRoute):
    """Takes the source's error through `B_V` (n_source, q), `B_S` (q,) and `B_U` (n_in, r)."""

    B_U: Tensor
    B_S: Tensor
    B_V: Tensor

    def __init__(
        self,
        name: str,
        source: str,
        follows: str | None,
        is_map: bool,
        u: Float[Tensor, "n_in rank"],
        s: Float[Tensor, " q"],
        v: Float[Tensor, "n_source q"],
    ) -> None:
        super().__init__(name)
        self.source, self.follows, self.is_map = source, follows, is_map
        for key, value in (("B_U", u), ("B_S", s), ("B_V", v)):
            self.hold(key, value.contiguous().clone(), learned=False)

    @property
    def rule(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name and ranks, as `describe` prints them."""
        return f"svd_space_direct r={self.B_U.shape[1]} q={self.B_S.numel()} (SSA-DFA)"

    def receive(self, h: Tensor, error: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return B_U[:, :q] diag(B_S) B_Vᵀ e in the shape of h."""
        u, s, v = (self.cast(name, error.dtype) for name in ("B_U", "B_S", "B_V"))
        rows = h[:, :, 0, 0] if self.is_map else h
        _, errors = self.flat(rows, error, (len(u), len(v)))
        g = ((errors @ v) * s) @ u[:, : len(s)].mT
        if self.is_map:
            pixels = h.shape[2] * h.shape[3]
            g = (g / pixels**0.5)[:, :, None, None].expand(h.shape)
        return g.reshape(h.shape).to(h.dtype), ()

    def truncate(self, keep: Int[Tensor, " kept"] | Sequence[int]) -> None:
        """Cut B_U along the index along which the factors U of the layer before are cut.

        The first q columns always stay, where they are: the error's way is never changed. After
        them come the others that are kept, as many as make ``max(q, len(keep))`` columns.

        Raises
        ------
        ValueError
            If there is none, one is not there, or stands twice.
        """
        index, q = checked_index(keep, self.B_U.shape[1]), self.B_S.numel()
        kept = torch.cat([torch.arange(q), index[index >= q]])[: max(q, len(index))]
        self.B_U = self.B_U[:, kept.to(self.B_U.device)].contiguous()

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object, **named: object
    ) -> None:
        """Take the factors of a state, of any rank: B_U gets its shape first."""
        take_shapes(self, state_dict, prefix, ("B_U",))
        super()._load_from_state_dict(state_dict, prefix, *args, **named)


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Return Q of the QR decomposition of a Gaussian matrix."""
    gaussian = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q


def _follows(site: Site) -> tuple[str | None, int | None]:
    """Return the factored layer that made a module's input, and its rank."""
    own = site.calls[site.name]
    size = math.prod(own.input_shape[1:])
    found: tuple[str | None, int | None] = None, None
    for name, call in sorted(site.calls.items(), key=lambda item: item[1].position):
        layer = site.modules.get(name)
        fits = call.position < own.position and math.prod(call.output_shape[1:]) == size
        if fits and isinstance(layer, SVDLinear | SVDConv2d):
            found = name, layer.rank
    return found
