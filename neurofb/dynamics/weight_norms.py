"""What keeps the weights of curl descent bounded: norms that a step does not change."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

NormPolicy = Literal["frobenius", "rows", "none"]


def norms(
    weight: Float[Tensor, "run row column"], policy: NormPolicy
) -> Float[Tensor, "run _ _"] | None:
    """Return the norms that a policy keeps: of each matrix, of each row, or none.

    Raises
    ------
    ValueError
        If a norm is zero: nothing keeps it.

    Examples
    --------
    >>> norms(torch.tensor([[[3.0, 4.0]]]), "frobenius")
    tensor([[[5.]]])
    """
    if policy == "none":
        return None
    dims = (-2, -1) if policy == "frobenius" else (-1,)
    found = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    if not bool((found > 0).all()):
        raise ValueError(f"norm={policy!r} cannot keep weights that are all zero; use 'none'")
    return found


def rescale_(
    weight: Float[Tensor, "run row column"], kept: Float[Tensor, "run _ _"] | None
) -> Float[Tensor, "run row column"]:
    """Rescale weights in place to the norms kept (see `norms`).

    Examples
    --------
    >>> rescale_(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[10.0]]]))
    tensor([[[6., 8.]]])
    """
    if kept is None:
        return weight
    dims = (-2, -1) if kept.shape[-2] == 1 else (-1,)
    now = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    return weight.mul_(kept / now)


def rescaled(
    weight: Float[Tensor, "run row column"], kept: Float[Tensor, "run _ _"] | None
) -> Float[Tensor, "run row column"]:
    """Return a rescaled copy (see `rescale_`), through which torch can differentiate.

    Examples
    --------
    >>> rescaled(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[10.0]]]))
    tensor([[[6., 8.]]])
    """
    if kept is None:
        return weight
    squares = weight.square().sum((-2, -1) if kept.shape[-2] == 1 else -1, keepdim=True)
    return weight * (kept / squares.sqrt())


def rescaled_tangent(
    weight: Float[Tensor, "run row column"],
    tangent: Float[Tensor, "run row column"],
    kept: Float[Tensor, "run _ _"] | None,
) -> tuple[Float[Tensor, "run row column"], Float[Tensor, "run row column"]]:
    """Return a rescaled copy and its derivative along a tangent, n (t − V ⟨V, t⟩ / ‖V‖²) / ‖V‖.

    Examples
    --------
    >>> along, across = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[-4.0, 3.0]]])
    >>> rescaled_tangent(along, along + across, torch.tensor([[[10.0]]]))[1]  # what is along stays
    tensor([[[-8.,  6.]]])
    """
    if kept is None:
        return weight, tangent
    dims = (-2, -1) if kept.shape[-2] == 1 else -1
    squares = weight.square().sum(dims, keepdim=True)
    along = (weight * tangent).sum(dims, keepdim=True) / squares
    factor = kept / squares.sqrt()
    return weight * factor, torch.addcmul(tangent, weight, along, value=-1).mul_(factor)
