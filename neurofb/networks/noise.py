"""Gaussian noise as a layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GaussianNoise(nn.Module):
    """Add independent Gaussian noise in training mode; do nothing in evaluation mode.

    Draws from torch's global generator, as `torch.nn.Dropout` does; `neurofb.training.train` seeds
    it at every step and gives the caller's state back.

    Parameters
    ----------
    std
        Standard deviation, in the units of the input.

    Raises
    ------
    ValueError
        If `std` is negative or not finite.

    Examples
    --------
    >>> noise = GaussianNoise(std=0.3).eval()
    >>> noise(torch.ones(2))
    tensor([1., 1.])
    """

    def __init__(self, std: float):
        super().__init__()
        if not 0 <= std < float("inf"):
            raise ValueError(f"std={std!r} must be a finite number >= 0")
        self.std = std

    def forward(self, h: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the input, noisy in training mode."""
        if not self.training or self.std == 0:
            return h
        return h + self.std * torch.randn_like(h)

    def extra_repr(self) -> str:
        """Show the standard deviation when the network is printed."""
        return f"std={self.std}"
