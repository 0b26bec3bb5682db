"""The errors of a layer over a batch, laid out as a matrix."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from neurofb.choices import check_choice

ErrorView = Literal["channel", "sample", "pooled"]


def error_matrix(
    delta: Float[Tensor, "*shape"], view: ErrorView = "channel"
) -> Float[Tensor, "row column"]:
    """Return the errors (or activities) of a batch with one row a sample, pixel or token.

    ========  =====================  ============  ====================
    view      maps (N, C, H, W)      units (N, m)  tokens (N, T, D)
    ========  =====================  ============  ====================
    channel   (N H W, C)             (N, m)        (N T, D)
    sample    (N, C H W)             (N, m)        (N, T D)
    pooled    (N, C), sum over H, W  (N, m)        (N, D), sum over T
    ========  =====================  ============  ====================

    `pooled` is the error that a bias sees. Ranks of `channel` can be compared across resolutions
    and end at C; those of `sample` end at N.

    Parameters
    ----------
    delta
        Two dims are taken for image and unit, three for image, token and feature, four for image,
        channel, y and x. Any units.
    view
        The layout.

    Raises
    ------
    ValueError
        If `view` is none of these, or `delta` has another number of dims.

    Examples
    --------
    >>> import torch
    >>> views = ("channel", "sample", "pooled")
    >>> [tuple(error_matrix(torch.ones(2, 3, 4, 5), view).shape) for view in views]
    [(40, 3), (2, 60), (2, 3)]
    """
    check_choice("view", view, ErrorView)
    if delta.ndim not in (2, 3, 4):
        raise ValueError(
            f"delta of shape {tuple(delta.shape)} must have 2 dims (image, unit), 3 (image, token, "
            "feature) or 4 (image, channel, y, x)"
        )
    if view == "sample":
        return delta.flatten(1)
    last = delta.movedim(1, -1) if delta.ndim == 4 else delta
    if view == "pooled":
        return last.flatten(1, -2).sum(1) if delta.ndim > 2 else last
    return last.reshape(-1, last.shape[-1])
