"""The errors that meet a low-rank pathway's 1×1 factor, and the subspace of that factor."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from neurofb.feedback.factors import ConvolutionFactors, Factors
from neurofb.feedback.low_rank import LowRankPathway
from neurofb.feedback.pathway import Pathway


def through_channel_factor(
    pathway: Pathway, at_input: Tensor, at_output: Tensor | None
) -> Iterator[tuple[Float[Tensor, "row n"], Float[Tensor, "n rank"]]]:
    """Yield, for every group, the errors that meet a low-rank map's 1×1 factor, and its directions.

    Parameters
    ----------
    pathway
        Any pathway; nothing is yielded for one without factors.
    at_input
        The exact error at the module's input: what Q sees if the spatial kernel is in P.
    at_output
        The error at the layer's output (at the source for a direct pathway): what P sees.
    """
    found = channel_directions(pathway)
    if found is None:
        return
    factors, directions = found
    errors = at_output if factors.channel_factor == "P" else at_input
    if errors is None:
        return
    groups, n, _ = directions.shape
    if isinstance(factors, ConvolutionFactors):
        errors = error_rows(errors, True)
    split = errors.reshape(-1, groups, n)
    for group in range(groups):
        yield split[:, group], directions[group]


def channel_directions(
    pathway: Pathway,
) -> tuple[Factors, Float[Tensor, "group n rank"]] | None:
    """Return the factors of a low-rank pathway, and its 1×1 factor's directions as columns."""
    if not isinstance(pathway, LowRankPathway):
        return None
    factors = pathway.factors
    return factors, factors.basis(getattr(pathway, factors.channel_factor))


def error_rows(
    errors: Float[Tensor, "*shape"], of_convolution: bool
) -> Float[Tensor, "row channel"]:
    """Return one row an image, pixel or token; four dims are taken for image, channel, y, x.

    Examples
    --------
    >>> import torch
    >>> error_rows(torch.zeros(2, 3, 4, 5), True).shape
    torch.Size([40, 3])
    """
    last = errors.movedim(-3, -1) if of_convolution or errors.dim() == 4 else errors
    return last.reshape(-1, last.shape[-1])
