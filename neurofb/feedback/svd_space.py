"""SVD-space feedback from layer to layer (SSA-FA): fixed random factors in the place of U, s, V."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurofb.feedback.pathway import Pathway, Site
from neurofb.feedback.stage import Convolution, Stage
from neurofb.networks.svd_factors import checked_index
from neurofb.networks.svd_layers import SVDConv2d, SVDLinear
from neurofb.networks.unfolding import Unfolding


@dataclass(frozen=True, kw_only=True)
class SVDSpace:
    """SSA-FA: g = B_V diag(B_S) B_Uᵀ δ, with factors of the same shapes as the layer's own.

    For a layer that holds W = U diag(s) Vᵀ (`neurofb.networks.SVDLinear`, `SVDConv2d`). The factors
    are the leading r components of an independent He-normal draw of W's shape (He et al. 2015,
    eq. 10), where r is the layer's rank; a convolution's kernel is unfolded as the layer's. They
    are buffers: no gradient teaches them. Reads no weight.

    A training loop of your own must keep U and V orthonormal:
    `neurofb.training.SVDSpaceControl`. `train` does so if `TrainingConfig.svd_space` is set.

    After Roy et al. 2025, "Feedback Alignment Meets Low-Rank Manifolds", arXiv:2510.25594. Its full
    text was not at hand: that B has factors B_U, B_S, B_V is in its Fig. 1; that the error goes
    from layer to layer, and how B starts, is our reading.

    Raises
    ------
    ValueError
        If the layer is not factored (at attachment).

    Examples
    --------
    >>> from neurofb.feedback import attach
    >>> net = attach(torch.nn.Sequential(SVDLinear(6, 4, rank=2)), {"0": SVDSpace()})
    >>> pathway = net[0].pathway
    >>> [tuple(matrix.shape) for matrix in (pathway.B_U, pathway.B_S, pathway.B_V)]
    [(4, 2), (2,), (6, 2)]
    """

    rule: Literal["svd_space"] = "svd_space"

    def build(self, site: Site) -> Pathway:
        """Make the pathway of a layer."""
        layer = site.layer
        if not isinstance(layer, SVDLinear | SVDConv2d):
            raise ValueError(
                f"layer {site.name!r} is a {type(layer).__name__}, but the rule 'svd_space' needs "
                "factors: an SVDLinear or SVDConv2d (factorised= of a run, or "
                "neurofb.networks.factorise)"
            )
        draw = he_normal(layer, site.generator)
        u, s, vt = torch.linalg.svd(layer.to_matrix(draw), full_matrices=False)
        r, like = layer.rank, site.like
        factors = (u[:, :r].to(like), s[:r].to(like), vt[:r].mT.to(like))
        geometry = layer.geometry if isinstance(layer, SVDConv2d) else None
        return SVDSpacePathway(site.name, geometry, *factors)


class SVDSpacePathway(Pathway):
    """Takes the error back through the factors `B_U` (m, r), `B_S` (r,) and `B_V` (n, r)."""

    B_U: Tensor
    B_S: Tensor
    B_V: Tensor
    reads_weight = False

    def __init__(
        self,
        name: str,
        geometry: Unfolding | None,
        u: Float[Tensor, "m rank"],
        s: Float[Tensor, " rank"],
        v: Float[Tensor, "n rank"],
    ) -> None:
        super().__init__(name)
        self.geometry = geometry
        for key, value in (("B_U", u), ("B_S", s), ("B_V", v)):
            self.hold(key, value.contiguous().clone(), learned=False)

    @property
    def rule(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Name and rank, as `describe` prints them."""
        return f"svd_space r={self.B_S.numel()} (SSA-FA)"

    def kernel(self, weight: Tensor) -> Tensor:
        """Return B_U diag(B_S) B_Vᵀ in the layout of W."""
        del weight
        matrix = (self.B_U * self.B_S) @ self.B_V.mT
        return matrix if self.geometry is None else self.geometry.kernel(matrix)

    def backward(
        self,
        h: Tensor,
        delta: Tensor,
        weight: Tensor | None,
        stage: Stage,
        grad_weight: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Return B_V diag(B_S) B_Uᵀ δ; for a convolution by its two transposed convolutions."""
        u, s, v = (self.cast(name, delta.dtype) for name in ("B_U", "B_S", "B_V"))
        geometry = self.geometry
        if geometry is None:
            return ((delta @ u) * s) @ v.mT, ()
        first, second = Convolution(**geometry.first_map), Convolution(**geometry.second_map)
        z = second.back(delta, geometry.second(u), geometry.middle(h.shape, len(s)))
        return first.back(z, geometry.first(v * s), h), ()

    def copy_from_layer(self, layer: SVDLinear | SVDConv2d) -> None:
        """Set the factors to the layer's own, so that the error is that of backpropagation.

        Raises
        ------
        ValueError
            If the layer has other shapes.
        """
        with torch.no_grad():
            for name, factor in (("B_U", layer.U), ("B_S", layer.s), ("B_V", layer.V)):
                buffer = self.get_buffer(name)
                if buffer.shape != factor.shape:
                    raise ValueError(
                        f"layer={layer} has a factor of shape {tuple(factor.shape)}, but {name} of "
                        f"the pathway on {self.layer_name!r} is {tuple(buffer.shape)}"
                    )
                buffer.copy_(factor)

    def truncate(self, keep: Int[Tensor, " kept"] | Sequence[int]) -> None:
        """Keep these components, those that the layer keeps (`SVDLinear.truncate`).

        Raises
        ------
        ValueError
            If there is none, one is not there, or stands twice.
        """
        index = checked_index(keep, self.B_S.numel()).to(self.B_S.device)
        self.B_U, self.B_S = self.B_U[:, index].contiguous(), self.B_S[index]
        self.B_V = self.B_V[:, index].contiguous()

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object, **named: object
    ) -> None:
        """Take the factors of a state, of any rank: the buffers get its shapes first."""
        take_shapes(self, state_dict, prefix, ("B_U", "B_S", "B_V"))
        super()._load_from_state_dict(state_dict, prefix, *args, **named)


def he_normal(layer: SVDLinear | SVDConv2d, generator: torch.Generator) -> Tensor:
    """Draw a dense weight of a layer's shape from N(0, 2 / fan_in), in float64.

    Examples
    --------
    >>> he_normal(SVDLinear(5, 3, rank=2), torch.Generator().manual_seed(0)).shape
    torch.Size([3, 5])
    """
    if isinstance(layer, SVDConv2d):
        shape = layer.geometry.kernel_shape
    else:
        shape = layer.out_features, layer.in_features
    fan_in = torch.Size(shape[1:]).numel()
    return torch.randn(shape, generator=generator, dtype=torch.float64) * (2 / fan_in) ** 0.5


def take_shapes(
    pathway: Pathway, state: dict[str, Tensor], prefix: str, names: tuple[str, ...]
) -> None:
    """Give a pathway's buffers the last dimension that they have in a state, before it is loaded.

    Other dimensions are left as they are, so that torch refuses a state that does not fit.
    """
    for name in names:
        buffer, saved = pathway.get_buffer(name), state.get(f"{prefix}{name}")
        if saved is not None and saved.shape[:-1] == buffer.shape[:-1]:
            setattr(pathway, name, buffer.new_zeros(saved.shape))
