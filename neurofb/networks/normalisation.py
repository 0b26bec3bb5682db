"""Normalisation of activities between a linear map and its rectification, by name."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurofb.choices import check_choice

#: The kinds that `make_normalisation` knows.
Normalisation = Literal["none", "batch", "layer", "group", "centre"]


def make_normalisation(kind: Normalisation, channels: int, ndim: Literal[2, 4]) -> nn.Module:
    """Return a new normalisation layer that starts as the plain normalisation, gain 1 and shift 0.

    Only a weight's transport is ever replaced by feedback: errors go back through a normalisation
    exactly, since that needs nothing but the layer's own activities.

    Parameters
    ----------
    kind
        ``"batch"``: over the batch (and pixels), for each channel (Ioffe & Szegedy 2015,
        arXiv:1502.03167). ``"layer"``: over all channels (and pixels) of an image (Ba et al. 2016,
        arXiv:1607.06450). ``"group"``: the same for groups of channels, 8, 4, 2 or 1 of them: the
        most that divide `channels` and hold four or more each, for two units alone would always
        become +1 and −1 (Wu & He 2018, arXiv:1803.08494).
        ``"centre"``: only the batch's mean is removed, see `Centre`. ``"none"``: the identity.
    channels
        Units, or channels of maps.
    ndim
        Dimensions of the activities: 2 for (image, unit), 4 for (image, channel, y, x).

    Raises
    ------
    ValueError
        If the kind is unknown or `ndim` neither 2 nor 4.

    Examples
    --------
    >>> make_normalisation("group", 16, ndim=4)
    GroupNorm(4, 16, eps=1e-05, affine=True, bias=True)
    """
    check_choice("normalisation", kind, Normalisation)
    if ndim not in (2, 4):
        raise ValueError(f"ndim={ndim!r} must be 2 (image, unit) or 4 (image, channel, y, x)")
    if kind == "none":
        return nn.Identity()
    if kind == "centre":
        return Centre(channels)
    if kind == "batch":
        return nn.BatchNorm1d(channels) if ndim == 2 else nn.BatchNorm2d(channels)
    if kind == "layer":
        return nn.LayerNorm(channels) if ndim == 2 else nn.GroupNorm(1, channels)
    return nn.GroupNorm(_num_groups(channels), channels)


class Centre(nn.Module):
    """Subtracts each channel's mean over the batch (and pixels) and adds a learnt shift.

    What batch normalisation does without its division: it takes the mean out of the activities and,
    on the way back, out of the error, but leaves the scale of both. In evaluation the mean is a
    running one, as in batch normalisation.

    Parameters
    ----------
    channels
        Units, or channels of maps.
    momentum
        Weight of a new batch in the running mean.

    Raises
    ------
    ValueError
        If `channels` is below 1 or `momentum` outside (0, 1]; when called, if the shape is another
        than (image, channel) or (image, channel, y, x), or if there is but one value of a channel
        in training, from which nothing but zero would be left.

    Examples
    --------
    >>> Centre(2)(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).detach()
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    """

    running_mean: Tensor

    def __init__(self, channels: int, *, momentum: float = 0.1):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels={channels} must be an integer >= 1")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum={momentum} must be in (0, 1]")
        self.channels, self.momentum = channels, momentum
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))

    def reset_parameters(self) -> None:
        """Set the shift and the running mean to zero."""
        nn.init.zeros_(self.bias)
        self.running_mean.zero_()

    def forward(
        self, a: Float[Tensor, "image channel *place"]
    ) -> Float[Tensor, "image channel *place"]:
        """Return a − mean + shift."""
        if a.dim() not in (2, 4) or a.shape[1] != self.channels:
            raise ValueError(
                f"a.shape={tuple(a.shape)} must be (image, {self.channels}) or "
                f"(image, {self.channels}, y, x)"
            )
        mean = self._mean(a) if self.training else self.running_mean
        offset = mean - self.bias  # not rounded to half precision: a large mean is to leave wholly
        return (a - (offset if a.dim() == 2 else offset[:, None, None])).to(a.dtype)

    def extra_repr(self) -> str:
        """Return the settings, as a network prints them."""
        return f"{self.channels}, momentum={self.momentum}"

    def _mean(self, a: Tensor) -> Tensor:
        """Return the means of a batch, at least in float32, and take them into the running mean."""
        if a.numel() == a.shape[1]:
            raise ValueError(f"a.shape={tuple(a.shape)} must hold two values of each channel")
        dims = (0, 2, 3) if a.dim() == 4 else (0,)
        mean = a.mean(dims, dtype=torch.promote_types(a.dtype, torch.float32))
        with torch.no_grad():
            new = mean.to(self.running_mean.dtype)
            self.running_mean.mul_(1 - self.momentum).add_(new, alpha=self.momentum)
        return mean


def _num_groups(channels: int) -> int:
    """Return into how many groups channels are divided."""
    return next(n for n in (8, 4, 2, 1) if channels % n == 0 and (channels >= 4 * n or n == 1))
